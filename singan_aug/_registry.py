"""A named set of interchangeable parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from singan_aug.errors import ConfigError

__all__ = ["Registry"]

Part = TypeVar("Part")


class Registry(Generic[Part]):
    """Parts by name: a config names one, the room that owns the kind of part registers it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._parts: dict[str, Part] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorator that adds a part under `name`; a name taken already is a ValueError."""

        def add(part: Part) -> Part:
            if name in self._parts:
                raise ValueError(f"{self._kind} {name!r} is registered already")
            self._parts[name] = part
            return part

        return add

    @contextmanager
    def with_part(self, name: str, part: Part) -> Iterator[None]:
        """`part` under `name` for the time being: for experiments, and their tests."""
        self.register(name)(part)
        try:
            yield
        finally:
            del self._parts[name]

    def __getitem__(self, name: str) -> Part:
        if name not in self._parts:
            raise ConfigError(f"expected a {self._kind} out of {', '.join(sorted(self._parts))}, got {name!r}")
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parts))
