"""Part: the base of a config's parts, and of the config itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer, model_validator

from singan_aug.errors import ConfigError

__all__ = ["INVALID", "Part", "changed_values", "values_of"]

INVALID = "invalid FitConfig: "


class Part(BaseModel):
    """A frozen, validated value. Raises `ConfigError` that names the leaf, what was expected and what was got."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    def ruled_out(self) -> Mapping[str, str]:
        """Leaves of this part, and of parts in it, that do not apply: by name, and because of what."""
        return {}

    @model_validator(mode="after")
    def _only_what_applies(self) -> Part:
        given = self.model_fields_set.union(*(part.model_fields_set for _, part in self if isinstance(part, Part)))
        for name, why in self.ruled_out().items():
            if name in given:
                raise ValueError(f"{name} does not apply with {why}")
        return self

    @model_serializer(mode="plain")
    def _serialised(self) -> dict[str, Any]:
        return values_of(self)

    def leaves(self) -> dict[str, Any]:
        """All leaves that apply, by name."""
        return _flat(values_of(self))


def values_of(part: Part, outer: frozenset[str] = frozenset(), *, changed_only: bool = False) -> dict[str, Any]:
    """The leaves that apply, nested as the parts are; with `changed_only` those that differ from their defaults."""
    ruled_out = outer | part.ruled_out().keys()
    values: dict[str, Any] = {}
    for name, value in part:
        default = type(part).model_fields[name].default
        if isinstance(value, Part):
            inner = values_of(value, ruled_out, changed_only=changed_only)
            if inner or not changed_only or default is None:  # that generated and copied are there tells something
                values[name] = inner
        elif value is not None and name not in ruled_out and not (changed_only and value == default):
            values[name] = value
    return values


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value) if isinstance(value, dict) else {name: value})
    return flat


def changed_values(part: Part, changes: Mapping[str, Any], outer: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The values of a part with changes, without those that apply no longer, unless they are among the changes."""
    own = values_of(part, changed_only=True)
    kept = {name: changes.get(name, value) for name, value in part if name in changes or name in own}
    ruled_out = outer | type(part).model_construct(**kept).ruled_out().keys()
    values = {name: value for name, value in kept.items() if name in changes or name not in ruled_out}
    return values | {name: changed_values(value, changes, ruled_out) for name, value in part if isinstance(value, Part)}


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "value_error":  # of a part in it, or of fields together
            lines.append(message.removeprefix(INVALID))
        else:
            lines.append(f"{field}: {message}, got {problem['input']!r}" if field else message)
    return INVALID + "; ".join(lines)
