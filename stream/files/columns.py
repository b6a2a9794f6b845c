"""The column map: which column of a file is which field, in what unit its time is told.

A map is a list with commas, an entry a field:

- ``user_id=customer_id``: the field is the column of that name;
- ``ts=t_dat:date``, ``ts=timestamp:s``: a time, with its unit (``ms`` where none is told);
- ``type==purchase``: the field is this value in every row.

Fields that it does not name are columns of their own name, as without it. An entry that holds a
comma goes between double quotes, as in CSV.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

import orjson

from models.errors import InvalidField, InvalidFile, InvalidSettings
from stream.contracts.declaration import CONTRACTS, PRODUCT
from stream.contracts.fields import Field, Json, Text
from stream.contracts.topics import SHOPPER_TOPICS, TOPICS

#: A time's units: epoch milliseconds (the contracts' own, so nothing is converted), epoch seconds,
#: an ISO 8601 date with or without a time.
UNITS: Final = ("ms", "s", "date")
_TIME: Final = "ts"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _declared(*topics: str) -> tuple[tuple[Field, ...], ...]:
    shapes = (CONTRACTS[topic].value for topic in topics)
    return tuple(shape.fields for shape in shapes if shape is not None)


_TYPE_WORDS: Final = ", ".join(TOPICS[topic].word for topic in SHOPPER_TOPICS)
_TYPE: Final = Field("type", Text(256), _TYPE_WORDS, required=True)
_LOG: Final = _declared(*SHOPPER_TOPICS)


@dataclass(frozen=True, slots=True)
class Fields:
    """What rows of one sort may hold, and which fields every row has."""

    noun: str
    kinds: Mapping[str, Field]
    always: frozenset[str]


#: Rows of a shopper log, and rows of a catalogue (whose ``ts`` may be absent).
EVENTS: Final = Fields(
    "an event",
    {each.name: each for each in (_TYPE, *(each for shape in _LOG for each in shape))},
    frozenset({"type", "user_id", "ts"}),
)
PRODUCTS: Final = Fields(
    "a product", {each.name: each for each in PRODUCT}, frozenset({"item_id", "title"})
)


@dataclass(frozen=True, slots=True)
class Columns:
    """A column map, checked against the fields that there are."""

    fields: Fields
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "ms"

    @classmethod
    def parse(cls, text: str, fields: Fields) -> Self:
        """The map that ``text`` writes. Raises ``InvalidSettings``."""
        columns: dict[str, str] = {}
        constants: dict[str, Any] = {}
        unit = "ms"
        for entry in _entries(text):
            name, sign, told = entry.partition("=")
            name, told = name.strip(), told.strip()
            if not (name and sign and told):
                raise _wrong(f"{entry!r} is no entry: write field=column or field==value")
            if name not in fields.kinds:
                names = ", ".join(fields.kinds)
                raise _wrong(f"{name!r} is no field of {fields.noun}; there are {names}")
            if name in columns or name in constants:
                raise _wrong(f"{name} is named twice")
            if told.startswith("="):
                constants[name] = _constant(fields.kinds[name], told[1:].strip())
            elif name == _TIME:
                columns[name], unit = _with_unit(told)
            else:
                columns[name] = told
        return cls(fields, columns, constants, unit)

    def __str__(self) -> str:
        """What it does, for a key of data that were read by it; not in the syntax of ``parse``."""
        told = {**self.columns, **{f"{name}=": value for name, value in self.constants.items()}}
        return f"{self.fields.noun} {sorted(told.items())} {self.unit}"

    def mapper(self, names: Iterable[str] | None, timed: Collection[str], path: object) -> Mapper:
        """What makes a row of the file one of ours, in place.

        ``names``: all columns of the file, or None where each row has its own (JSON Lines);
        ``timed``: those whose values are epoch ms whatever the map says. Raises ``InvalidFile``
        where a column is missing.
        """
        if names is not None:
            require(self.columns.values(), names, path)
        unit = "ms" if self.columns.get(_TIME) in timed else self.unit
        return Mapper(self, unit)

    def look(self, row: Json, path: object) -> None:
        """Whether the first row of JSON Lines has what every row must. Raises ``InvalidFile``."""
        needed = [column for name, column in self.columns.items() if name in self.fields.always]
        require(needed, row, path)


class Mapper:
    """A column map that knows its file. Called with a row; raises ``ValueError`` in words."""

    __slots__ = ("_constants", "_pairs", "_texts", "_unit")

    def __init__(self, columns: Columns, unit: str) -> None:
        self._pairs = tuple(columns.columns.items())
        self._texts = frozenset(
            name for name in columns.columns if isinstance(columns.fields.kinds[name].kind, Text)
        )
        self._constants = dict(columns.constants)
        self._unit = unit

    def __call__(self, row: Json) -> Json:
        """The row with the map's fields; what the map does not name stays."""
        values = [(name, row.get(column)) for name, column in self._pairs]  # two may be swapped
        for name, value in values:
            if value is None:
                row.pop(name, None)
            elif name == _TIME and value != "" and self._unit != "ms":
                row[name] = milliseconds(value, self._unit)
            elif name in self._texts and type(value) is int:
                row[name] = str(value)  # an id that a file holds as a number
            else:
                row[name] = value
        row.update(self._constants)
        return row


def milliseconds(value: object, unit: str) -> int:
    """Epoch milliseconds of a time in ``unit`` (``s`` or ``date``), a text or a number.

    A date is its midnight, and a time without a zone is taken for UTC: the log's own order is
    what counts. Raises ``ValueError`` in words that do not hold the value.
    """
    if unit == "date":
        return _of_date(value)
    number: object = value
    if isinstance(value, str):
        try:
            number = int(value)
        except ValueError:
            number = _float(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError("ts is not a number of seconds")
    if isinstance(number, int):
        return number * 1000
    if not math.isfinite(number * 1000):
        raise ValueError("ts must be finite")
    return round(number * 1000)


def require(wanted: Iterable[str], names: Iterable[str], path: object) -> None:
    """Says which of the columns are not there, and what is. Raises ``InvalidFile``."""
    there = list(names)
    missing = [column for column in dict.fromkeys(wanted) if column not in there]
    if missing:
        noun = "column" if len(missing) == 1 else "columns"
        has = ", ".join(repr(name)[1:-1] for name in there[:40]) + (", …" if there[40:] else "")
        raise InvalidFile(f"{path} has no {noun} {', '.join(missing)}; it has {has or 'none'}")


def column_map(text: str | None, fields: Fields) -> Columns | None:
    """The map of a command's option, None without one. Raises ``InvalidSettings``."""
    return None if text is None else Columns.parse(text, fields)


def _entries(text: str) -> list[str]:
    try:
        (entries,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise _wrong("it must be one line: field=column,field=column") from None
    return [entry for entry in entries if entry.strip()]


def _constant(of: Field, told: str) -> Any:
    """The value, of the field's type."""
    if not told:
        raise _wrong(f"{of.name} has no value: write {of.name}==VALUE")
    if of.name in (_TIME, "user_id", "item_id"):
        raise _wrong(f"{of.name} cannot be the same in every row")
    try:
        value = told if isinstance(of.kind, Text) else orjson.loads(told)
        return of.kind(value, of.name)
    except (orjson.JSONDecodeError, InvalidField) as error:
        raise _wrong(f"{of.name}=={told} cannot be: {error}") from None


def _with_unit(told: str) -> tuple[str, str]:
    column, sign, unit = told.rpartition(":")
    if not sign:
        return told, "ms"
    if unit not in UNITS or not column:
        raise _wrong(
            f"{unit!r} is no unit of time: write {_TIME}=COLUMN:UNIT with {', '.join(UNITS)} "
            "(epoch milliseconds, epoch seconds, an ISO date or date and time)"
        )
    return column, unit


def _of_date(value: object) -> int:
    try:
        if not isinstance(value, str):
            raise ValueError
        at = datetime.fromisoformat(value.strip())
        since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise ValueError("ts is not an ISO date, e.g. 2020-09-22 or 2020-09-22T10:30") from None
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _wrong(words: str) -> InvalidSettings:
    return InvalidSettings(f"columns: {words}")
