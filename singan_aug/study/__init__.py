"""A user study: can people tell fakes from real images? One page to play, and the confusion of those who played."""

from singan_aug.study.answers import Confusion, read_answers, score_answers
from singan_aug.study.page import Study, make_study

__all__ = ["Confusion", "Study", "make_study", "read_answers", "score_answers"]
