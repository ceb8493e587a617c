"""
How a key and a section of the ini file are described.

A section is a frozen dataclass, a key one of its fields; the field's metadata says all there is to know about it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Any, NamedTuple, TypeVar, overload

from sslintercept.config.units import Unit

T = TypeVar("T")


class Key(NamedTuple):
    """A key of a section."""

    name: str
    unit: Unit[object]
    default: str | None
    """as text; C{None}: unset, or required"""
    doc: str
    """one line: what it means"""
    example: str
    """what the reference shows when there is no default"""
    required: bool

    @property
    def allowed(self) -> str:
        """The values it takes, in words."""
        return self.unit.allowed


def described(
    unit: Unit[T], default: str | None, doc: str, *, example: str = "", required: bool = False
) -> Mapping[str, object]:
    """The metadata of a field that is a key."""
    return {"key": Key("", unit, default, doc, example, required)}


@overload
def setting(unit: Unit[T], default: str, doc: str) -> T: ...
@overload
def setting(unit: Unit[T], default: None, doc: str, *, example: str) -> T | None: ...
def setting(unit: Unit[T], default: str | None, doc: str, *, example: str = "") -> object:
    """
    A field that is a key with a default. To the type checker it is a value, as L{dataclasses.field} is.

    Made without the reader, paths keep their default's relative form.
    """
    value = None if default is None else unit(default)
    return field(default=value, metadata=described(unit, default, doc, example=example))


class Section(NamedTuple):
    """A section, or with C{named} a kind of section: C{[kind:NAME]}."""

    name: str
    settings: type[Any]  # Any: each section has its own dataclass
    doc: str
    example: str = ""
    """a name for the reference; only named sections have one"""

    @property
    def named(self) -> bool:
        """Whether there may be several, each with a name."""
        return bool(self.example)

    @property
    def attribute(self) -> str:
        """Its name among the attributes of L{Settings}."""
        return self.name.replace("-", "_")

    @property
    def heading(self) -> str:
        """As it is written in the file."""
        return f"[{self.name}:NAME]" if self.named else f"[{self.name}]"

    @property
    def keys(self) -> tuple[Key, ...]:
        """Its keys in the order of the reference."""
        fields = dataclasses.fields(self.settings)
        return tuple(f.metadata["key"]._replace(name=f.name) for f in fields if "key" in f.metadata)
