"""plan_dataset(): which images have no pyramid yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from singan_aug._checks import check_config, check_count
from singan_aug.annotations import Masks, MaskSource, counted, find_masks
from singan_aug.config import FitConfig
from singan_aug.dataset._events import Outcome, Plan, Todo
from singan_aug.dataset._find import each_path, find_images
from singan_aug.dataset._shard import Shard, checked, in_shard
from singan_aug.errors import ConfigError, ImageError, LabelError
from singan_aug.images import LoadedImage, map_images, no_images, refuse_constant
from singan_aug.presets import fast
from singan_aug.pyramid.sizes import working_size
from singan_aug.store import Store, make_key, open_store

__all__ = ["plan_dataset"]


def plan_dataset(
    paths: Path | str | Iterable[Path | str],
    store: Store | Path | str | None = None,
    config: FitConfig | None = None,
    *,
    masks: Path | str | None = None,
    limit: int | None = None,
    choose: Callable[[Sequence[Path]], Sequence[Path]] | None = None,
    retry_failed: bool = False,
    shard: Shard | None = None,
) -> Plan:
    """Decode every image, fingerprint it and look it up.

    Raises `ImageError` where there are no images, and as `annotations.find_masks` does.

    `masks` names a folder or an annotation file with the images' masks, as `annotations.find_masks` takes it; by
    default they are looked for beside the images, where pyramids of this config can carry one; "none" takes every file
    for an image. `limit` bounds how many images are looked at; of those `choose` gives the ones to fit, in the order of
    fitting. Images whose fit failed before, by themselves and not for want of room on the disk, are failed unless they
    are to be tried again.
    Of images of other shards is only told how many there are.
    """
    store, config, beside = open_store(store), check_config(config or fast()), None
    if str(masks) == "none":
        masks, beside = None, Masks({}, frozenset())
    elif masks is not None and not config.carries_masks:
        raise ConfigError(
            'expected a preset whose pyramids carry masks, such as "fast", got one that generates all scales'
        )
    if shard:
        checked(shard, shard)
    if limit is not None:
        check_count("limit", limit)
    roots = each_path(paths)
    found = find_images(roots)
    if beside is None:
        beside = find_masks(found.images, roots, None if masks is None else Path(masks))
    if masks is None and not config.carries_masks:
        beside = Masks({}, beside.not_images)
    of = beside.of
    images = [path for path in found.images if path not in beside.not_images][:limit]
    if not images and not found.unreadable:
        raise no_images(*roots, others=found.ignored + len(found.images))
    images = images if choose is None else list(choose(images))
    others = len(images)
    images = [path for path in images if shard is None or in_shard(path, shard)]
    others -= len(images)
    looked = map_images(lambda path, image: _look(path, image, of.get(path), store, config, retry_failed), images)
    todo: dict[str, Todo] = {}
    left_out = sum(len(broken) for _, broken in looked)
    known = [Outcome(path, "failed", message=reason) for path, reason in found.unreadable]
    for item, _ in looked:
        if isinstance(item, Outcome):
            known.append(item)
        elif item.key in todo:
            known.append(Outcome(item.path, "duplicate", item.key, f"same image as {todo[item.key].path}", item.notes))
        else:
            todo[item.key] = item
    without_mask = sum(path not in of for path in images) if of or masks is not None else None
    return Plan(tuple(todo.values()), tuple(known), found.ignored, without_mask, left_out, beside.notes, others)


def _look(
    path: Path,
    image: LoadedImage | ImageError,
    mask: MaskSource | None,
    store: Store,
    config: FitConfig,
    retry_failed: bool,
) -> tuple[Todo | Outcome, tuple[str, ...]]:
    """What there is to do about an image, and the objects that its mask leaves out."""
    if isinstance(image, ImageError):
        return Outcome(path, "failed", message=str(image)), ()
    try:
        height, width, channels = image.pixels.shape
        key = str(make_key(image.pixels, config, mask and mask.read((height, width))))
        broken = mask.left_out((height, width)) if mask else ()
        notes = (*image.notes, *([f"{counted(len(broken), 'object')} left out: {broken[0]}"] if broken else ()))
        if key in store:
            return Outcome(path, "present", key, notes=notes), broken
        failure = None if retry_failed else store.failures.of(key)
        if failure:
            message = f"{failure[0]} (at {failure[1]}; --retry-failed tries it again)"
            return Outcome(path, "failed", key, message, notes), broken
        size = working_size((height, width), config)
        refuse_constant(image.pixels)
        return Todo(path, key, size, channels, notes, mask), broken
    except (ImageError, LabelError) as error:
        return Outcome(path, "failed", message=str(error)), ()
