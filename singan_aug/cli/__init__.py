"""The command line: parses, calls, renders. One module for each command or family of commands.

Exit codes: 0 all well, 1 some image or entry failed and is named, 2 wrong usage, 130 interrupted, 143 terminated
(SIGTERM).
"""

from singan_aug.cli._app import app as app

from singan_aug.cli import preview as preview  # isort: skip  (the order of the commands in --help)
from singan_aug.cli import advise as advise  # isort: skip
from singan_aug.cli import fit as fit  # isort: skip
from singan_aug.cli import draw as draw  # isort: skip
from singan_aug.cli import tasks as tasks  # isort: skip
from singan_aug.cli import tasks_drawn as tasks_drawn  # isort: skip
from singan_aug.cli import export as export  # isort: skip
from singan_aug.cli import listing as listing  # isort: skip
from singan_aug.cli import store as store  # isort: skip
from singan_aug.cli import report as report  # isort: skip
from singan_aug.cli import upkeep as upkeep  # isort: skip
from singan_aug.cli import carry as carry  # isort: skip
from singan_aug.cli import score as score  # isort: skip
from singan_aug.cli import study as study  # isort: skip
from singan_aug.cli import bank as bank  # isort: skip
from singan_aug.cli import demo as demo  # isort: skip
