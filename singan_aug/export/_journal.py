"""What of an export is done: a file of JSON lines in its folder, by which a later run knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from singan_aug.errors import ConfigError
from singan_aug.export._files import write_text

__all__ = ["Journal"]

JOURNAL = Path(".singan-aug-export.jsonl")  # settings, then a line for each image that is done

Entry = dict[str, Any]  # an image, its size, its variants with their names and labels


class Journal:
    """The images that are done, by their path in the dataset."""

    def __init__(self, out: Path, settings: Mapping[str, Any], force: bool) -> None:
        """Raises `ConfigError` where the folder holds something else, unless `force` is set."""
        self.path = out / JOURNAL
        self.done: dict[str, Entry] = {}
        head = json.loads(json.dumps({"singan-aug export": 1, **settings}))
        lines = self._lines()
        if not force and lines and lines[0] == head:
            self.done = {line["image"]: line for line in lines[1:] if _is_entry(line) and self._is_there(line)}
        elif not force and out.is_dir() and any(out.iterdir()):
            what = "an export with other settings" if lines else "files"
            raise ConfigError(
                f"expected {out} to be empty, got {what}: name another folder, or pass --force to write over"
            )
        out.mkdir(parents=True, exist_ok=True)
        # Anew, without lines that are damaged or were cut short.
        write_text(out, JOURNAL, "".join(json.dumps(line) + "\n" for line in [head, *self.done.values()]))

    def _lines(self) -> list[Any]:
        lines = []
        if self.path.is_file():
            for line in self.path.read_text(errors="replace").splitlines():
                try:
                    lines.append(json.loads(line))
                except (ValueError, RecursionError):
                    continue  # cut short by a run that was killed, or damaged: that image is drawn again
        return lines

    def _is_there(self, entry: Entry) -> bool:
        image = self.path.parent / entry["image"]
        return all(image.with_name(variant["name"]).is_file() for variant in entry["variants"])

    def add(self, entry: Entry) -> None:
        """An image is done, its files are written."""
        self.done[entry["image"]] = entry
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def _is_entry(line: Any) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("image"), str):
        return False
    size, variants = line.get("size"), line.get("variants")
    return (
        isinstance(size, list)
        and len(size) == 2
        and all(isinstance(side, int) for side in size)
        and isinstance(variants, list)
        and all(_is_variant(each) for each in variants)
    )


def _is_variant(each: Any) -> bool:
    if not isinstance(each, dict) or not isinstance(each.get("name"), str) or Path(each["name"]).name != each["name"]:
        return False
    return isinstance(each.get("labels"), list) and all(isinstance(label, dict) for label in each["labels"])
