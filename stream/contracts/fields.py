"""The kinds of field that a contract is made of: each checks a JSON value and states its schema.

A kind is called with a decoded JSON value and the field's name, and returns the value to keep or
raises ``InvalidField``. Its words never hold the value itself: it may be a shopper's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Protocol

from models.errors import InvalidField

Json = dict[str, Any]

#: The greatest whole number that every JSON reader keeps exact (RFC 8259, section 6).
EXACT: Final = 2**53 - 1

_NAMES = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class Kind(Protocol):
    """What a field may hold."""

    def __call__(self, value: Any, name: str) -> Any:
        """The value to keep. Raises ``InvalidField``."""

    @property
    def schema(self) -> Json:
        """The same in JSON Schema 2020-12, as far as that can say it."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string of ``low`` to ``high`` UTF-8 bytes; control characters are data like any other."""

    high: int
    low: int = 0

    def __call__(self, value: Any, name: str) -> str:
        if type(value) is not str:
            raise _wrong(name, "text", value)
        length = len(value)
        # A character takes at most four bytes, so most strings need no encoding to be measured.
        if length * 4 > self.high and (length > self.high or len(value.encode()) > self.high):
            raise InvalidField(f"{name} is longer than {self.high} bytes: shorten it")
        if length < self.low:
            raise InvalidField(f"{name} is empty")
        return value

    @property
    def schema(self) -> Json:
        low = {"minLength": self.low} if self.low else {}
        return {"type": "string", **low, "maxLength": self.high, "x-max-bytes": self.high}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``low`` to ``high``; 3.0 is one, as in JSON Schema."""

    low: int
    high: int = EXACT

    def __call__(self, value: Any, name: str) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise _wrong(name, "a whole number", value)
        if not self.low <= value <= self.high:
            raise InvalidField(f"{name} must be from {self.low} to {self.high}")
        return value

    @property
    def schema(self) -> Json:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number, of at least ``low``."""

    low: float | None = None

    def __call__(self, value: Any, name: str) -> float:
        if type(value) is not float and type(value) is not int:
            raise _wrong(name, "a number", value)
        if not math.isfinite(value):
            raise InvalidField(f"{name} must be finite")
        if self.low is not None and value < self.low:
            raise InvalidField(f"{name} must be at least {self.low}")
        return value

    @property
    def schema(self) -> Json:
        return {"type": "number"} if self.low is None else {"type": "number", "minimum": self.low}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false, nothing that merely looks like it."""

    def __call__(self, value: Any, name: str) -> bool:
        if type(value) is not bool:
            raise _wrong(name, "true or false", value)
        return value

    @property
    def schema(self) -> Json:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Texts:
    """An object of at most ``count`` names to texts; numbers, true and false become texts."""

    high: int
    count: int

    def __call__(self, value: Any, name: str) -> dict[str, str]:
        if type(value) is not dict:
            raise _wrong(name, "an object", value)
        if len(value) > self.count:
            raise InvalidField(f"{name} has more than {self.count} entries")
        key_kind, text = Text(256), Text(self.high)
        return {
            key_kind(key, f"a name in {name}"): text(_as_text(entry), f"a value in {name}")
            for key, entry in value.items()
            if entry is not None
        }

    @property
    def schema(self) -> Json:
        entry = {"type": ["string", "number", "boolean", "null"], "maxLength": self.high}
        names = {"maxLength": 256}
        return {
            "type": "object",
            "maxProperties": self.count,
            "propertyNames": names,
            "additionalProperties": entry,
        }


@dataclass(frozen=True, slots=True)
class Wholes:
    """An object of names to whole numbers of at least 0."""

    def __call__(self, value: Any, name: str) -> dict[str, int]:
        if type(value) is not dict:
            raise _wrong(name, "an object", value)
        whole = Whole(0)
        return {key: whole(entry, f"a value in {name}") for key, entry in value.items()}

    @property
    def schema(self) -> Json:
        return {"type": "object", "additionalProperties": Whole(0).schema}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object: its name, what it may hold, what it means."""

    name: str
    kind: Kind
    words: str
    required: bool = False

    @property
    def schema(self) -> Json:
        """The kind's schema with the words; an optional field may be null, which is as absent."""
        schema = dict(self.kind.schema)
        if not self.required:
            schema["type"] = [schema["type"], "null"]
        return {**schema, "description": self.words}


@dataclass(frozen=True, slots=True)
class Object:
    """An object with fields; further ones are ignored. Returns those that are not null."""

    fields: tuple[Field, ...]

    def __call__(self, value: Any, name: str = "the value") -> Json:
        if type(value) is not dict:
            raise _wrong(name, "an object", value)
        get = value.get
        kept: Json = {}
        for field in self.fields:
            entry = get(field.name)
            if entry is not None:
                kept[field.name] = field.kind(entry, field.name)
            elif field.required:
                raise InvalidField(f"{field.name} is missing")
        return kept

    @property
    def schema(self) -> Json:
        return {
            "type": "object",
            "properties": {field.name: field.schema for field in self.fields},
            "required": [field.name for field in self.fields if field.required],
            "additionalProperties": True,
        }


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of at most ``count`` objects."""

    entry: Object
    count: int

    def __call__(self, value: Any, name: str) -> list[Json]:
        if type(value) is not list:
            raise _wrong(name, "a list", value)
        if len(value) > self.count:
            raise InvalidField(f"{name} has more than {self.count} entries")
        return [self.entry(entry, f"an entry of {name}") for entry in value]

    @property
    def schema(self) -> Json:
        return {"type": "array", "maxItems": self.count, "items": self.entry.schema}


def _as_text(value: Any) -> Any:
    """A shop's attribute as text: 38 -> "38", true -> "true"; lists and objects stay themselves."""
    if value is True or value is False:
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _wrong(name: str, wanted: str, value: Any) -> InvalidField:
    got = _NAMES.get(type(value), "something else")
    if type(value) is float and wanted == "a whole number":
        got = "a fraction"
    return InvalidField(f"{name} must be {wanted}, not {got}")
