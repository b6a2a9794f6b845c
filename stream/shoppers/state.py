"""One shopper's state: what it holds, how an event changes it, and its bytes.

Pure: the Faust table and its changelog hold ``dumps``' bytes, a record a shopper. The state
is the same whatever the order in which events of different topics arrive, and a record that
is delivered again changes nothing: ``offsets`` names, per source topic, the last one applied.
(A shopper's records of one topic all lie in one partition, so the topic's name suffices.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from operator import lt
from types import NoneType
from typing import Any, Final, TypeVar

import orjson

from models.domain import History, Kind, Step
from models.errors import UnreadableState
from models.recommend.query_memory import FOLLOWED_STEPS, leading_query
from stream.contracts.codec import ShopperEvent
from stream.contracts.fields import EXACT
from stream.contracts.topics import RANKS

VERSION: Final = 1
STEPS_KEPT: Final = 50
BOUGHT_KEPT: Final = 500
EVENT_IDS_KEPT: Final = 200


#: (ts, topic's rank, offset, kind, item_id, query): a tuple so that it sorts as the promise says.
Row = tuple[int, int, int, str, str | None, str | None]
#: (ts, topic's rank, offset, item_id) of a purchase.
_Bought = tuple[int, int, int, str]

_R = TypeVar("_R", bound=tuple[Any, ...])

_KNOWN_RANKS: Final = frozenset(RANKS.values())
#: A step has an item, or an item and the query that led to it, or is a search.
_SHAPES: Final = frozenset(
    {(kind.value, str, query) for kind in Kind if kind.of_item for query in (str, NoneType)}
    | {(kind.value, NoneType, str) for kind in Kind if not kind.of_item}
)


class Applied(StrEnum):
    """What an event did to a state."""

    NEW = "new"
    AGAIN = "again"  # a redelivered record, or an event_id seen before
    TOO_OLD = "too old"  # not later than the shopper's erasure
    ERASED = "erased"


@dataclass(slots=True)
class ShopperState:
    """A shopper's rolling sequence and what is needed to keep it exact.

    An erased shopper's state is the marker {erased_at, offsets}: nothing else is left.
    """

    offsets: dict[str, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    bought: list[_Bought] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    rerank_due: bool = False
    erased_at: int | None = None

    def apply(self, topic: str, offset: int, event: ShopperEvent) -> Applied:
        """Takes one event in, at its place by (ts, topic, offset)."""
        if offset <= self.offsets.get(topic, -1):
            return Applied.AGAIN
        self.offsets = {**self.offsets, topic: offset}
        if event.kind is None:
            return self._erase(event.ts)
        if self.erased_at is not None and event.ts <= self.erased_at:
            return Applied.TOO_OLD
        if event.event_id is not None:
            if event.event_id in self.event_ids:
                return Applied.AGAIN
            self.event_ids = [*self.event_ids, event.event_id][-EVENT_IDS_KEPT:]
        place = (event.ts, RANKS[topic], offset)
        step = (*place, event.kind.value, event.item_id, event.query)
        self.rows = _inserted(self.rows, step, STEPS_KEPT)
        if event.kind is Kind.PURCHASE and event.item_id is not None:
            self.bought = _inserted(self.bought, (*place, event.item_id), BOUGHT_KEPT)
        return Applied.NEW

    def _erase(self, ts: int) -> Applied:
        self.erased_at = max(ts, self.erased_at or 0)
        self.rows = [row for row in self.rows if row[0] > self.erased_at]
        self.bought = [row for row in self.bought if row[0] > self.erased_at]
        self.event_ids = []
        self.rerank_due = False
        return Applied.ERASED

    def copy(self) -> ShopperState:
        """One that can be changed while this one stays as it is: it shares what is in it.

        For ``apply`` makes new lists, and never changes one.
        """
        return ShopperState(
            self.offsets, self.rows, self.bought, self.event_ids, self.rerank_due, self.erased_at
        )

    @property
    def is_marker(self) -> bool:
        """Whether nothing but the memory of an erasure is left."""
        return self.erased_at is not None and not self.rows and not self.bought

    @property
    def newest_ts(self) -> int:
        """The newest step's time in epoch ms; 0 without steps."""
        return self.rows[-1][0] if self.rows else 0

    def history(self) -> History:
        """What the models are asked with."""
        return History(
            tuple(Step(Kind(row[3]), row[0], row[4], row[5]) for row in self.rows),
            frozenset(row[3] for row in self.bought),
        )

    def led(self) -> Iterator[tuple[str, str, int]]:
        """(query, item_id, ts) of each step that a query led to."""
        return self._led(range(len(self.rows)))

    def led_from(self, topic: str, offset: int, ts: int) -> Iterator[tuple[str, str, int]]:
        """The same of the step of this record and of those that it may have led to.

        Nothing where the step is not kept.
        """
        place = (ts, RANKS[topic], offset)
        at = bisect_left(self.rows, place, key=lambda row: row[:3])
        there = at < len(self.rows) and self.rows[at][:3] == place
        last = min(at + FOLLOWED_STEPS + 1, len(self.rows)) if there else at
        return self._led(range(at, last))

    def _led(self, places: range) -> Iterator[tuple[str, str, int]]:
        for at in places:
            row = self.rows[at]
            if row[4] is not None and (query := self._leading(at)):
                yield query, row[4], row[0]

    def _leading(self, at: int) -> str | None:
        rows = self.rows[max(0, at - FOLLOWED_STEPS) : at + 1]
        *before, step = (Step(Kind(row[3]), row[0], row[4], row[5]) for row in rows)
        return leading_query(step, before)

    def dumps(self) -> bytes:
        """The record of the changelog."""
        record: dict[str, object] = {"v": VERSION, "o": self.offsets}
        if self.rows:
            record["s"] = self.rows
        if self.bought:
            record["b"] = self.bought
        if self.event_ids:
            record["e"] = self.event_ids
        if self.rerank_due:
            record["d"] = True
        if self.erased_at is not None:
            record["x"] = self.erased_at
        return orjson.dumps(record)


def loads(data: bytes | None, *, ours: bool = False) -> ShopperState:
    """The state behind ``dumps``' bytes; a new one for None.

    Raises ``UnreadableState`` where the bytes are not a state of a version that we know; nothing
    else, whatever the bytes. A state that comes out is sound: no use of it fails later. With
    ``ours`` the bytes were checked before, or written here: of them only the version is looked at.
    """
    if not data:
        return ShopperState()
    try:
        record = orjson.loads(data)
        version = record["v"]
        if version == VERSION:
            state = ShopperState(
                offsets=record["o"],
                rows=[tuple(row) for row in record.get("s", ())],
                bought=[tuple(row) for row in record.get("b", ())],
                event_ids=record.get("e", []),
                rerank_due=record.get("d", False),
                erased_at=record.get("x"),
            )
            if type(version) is int and (ours or _is_sound(state)):
                return state
        if type(version) is not int or version == VERSION:
            raise TypeError
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableState(
            "the changelog holds a record that is no shopper's state; is another program "
            "writing to it?"
        ) from error
    raise UnreadableState(
        f"the changelog holds state of version {version}, this release reads {VERSION}; "
        "run the release that wrote it, or a newer one"
    )


def _is_sound(state: ShopperState) -> bool:
    """Whether it has the shape that ``apply`` makes. Once a shopper after a start: kept quick."""
    return (
        type(state.offsets) is dict
        and state.offsets.keys() <= RANKS.keys()
        and all(map(_is_number, state.offsets.values()))
        and _are_rows(state.rows, 6)
        and _are_rows(state.bought, 4)
        and type(state.event_ids) is list
        and set(map(type, state.event_ids)) <= {str}
        and type(state.rerank_due) is bool
        and (state.erased_at is None or _is_number(state.erased_at))
    )


def _are_rows(rows: Sequence[tuple[Any, ...]], width: int) -> bool:
    """Whether each is (ts, rank, offset, …) and ``width`` long, in order and none twice."""
    if not rows:
        return True
    if set(map(len, rows)) != {width}:
        return False
    ts, ranks, offsets, *rest = zip(*rows, strict=True)  # column by column: a third of the time
    if set(map(type, chain(ts, ranks, offsets))) != {int}:
        return False
    places = list(zip(ts, ranks, offsets, strict=True))
    if not (set(ranks) <= _KNOWN_RANKS and all(map(lt, places, places[1:]))):
        return False
    if not all(map(_is_number, (ts[0], ts[-1], min(offsets), max(offsets)))):  # and those between
        return False
    if width == 4:
        return set(map(type, rest[0])) == {str}
    kinds, items, queries = rest
    if set(map(type, kinds)) != {str}:
        return False
    return set(zip(kinds, map(type, items), map(type, queries), strict=True)) <= _SHAPES


def _is_number(value: object) -> bool:
    """Whether it is a time or an offset; beyond ``EXACT`` it could not be sent on."""
    return type(value) is int and 0 <= value <= EXACT


def _inserted(rows: list[_R], row: _R, keep: int) -> list[_R]:
    """The newest ``keep`` of the sorted ``rows`` and ``row`` at its place."""
    place: int = len(rows)
    if rows and row[:3] < rows[-1][:3]:  # else the usual case: newer than all
        place = bisect_left(rows, row[:3], key=lambda each: each[:3])
    return [*rows[:place], row, *rows[place:]][-keep:]
