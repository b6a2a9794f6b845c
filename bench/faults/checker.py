"""Knows the exact state and last list that each shopper must have, and counts what is otherwise.

Pure: what was sent (``Ledger``) and what the topics hold at the end go in, counts come out. It
works out by itself what ``stream.shoppers.state`` should have come to, and reads the changelog's
JSON by itself: what the product refuses to read is looked into here all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from models.errors import WeftError
from stream.contracts.codec import PublishedList, ShopperEvent, decode_recommendation

#: In the order of their ranks; written out, since the checker works by itself.
TOPICS: Final = ("clicks", "purchases", "searches", "erasures")

#: Where a step stands in a shopper's sequence: (ts, the topic's rank, offset).
Place = tuple[int, int, int]
#: A record's place on the broker: (topic, partition, offset).
Source = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class State:
    """A changelog's record: the last offset of each topic, (place, kind, item_id, query) of each
    step, (place, item_id) of each purchase, and the time of an erasure.
    """

    offsets: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    bought: list[tuple[Any, ...]] = field(default_factory=list)
    erased_at: int | None = None


@dataclass(slots=True)
class Shopper:
    """What was sent of one shopper, and where it landed: (action, topic's rank, offset)."""

    landed: list[tuple[ShopperEvent, int, int]] = field(default_factory=list)

    def offsets(self) -> dict[str, int]:
        """The last offset of each source topic."""
        found: dict[str, int] = {}
        for _, rank, offset in self.landed:
            found[TOPICS[rank]] = max(offset, found.get(TOPICS[rank], -1))
        return found

    def erased_at(self) -> int | None:
        """The time up to which the shopper is forgotten."""
        return max((a.ts for a, rank, _ in self.landed if TOPICS[rank] == "erasures"), default=None)

    def steps(self) -> dict[Place, ShopperEvent]:
        """The sequence: each event_id once (its first record), nothing up to an erasure."""
        until = self.erased_at()
        found: dict[Place, ShopperEvent] = {}
        ids: set[str] = set()
        for action, rank, offset in sorted(self.landed, key=lambda each: each[1:]):
            if TOPICS[rank] == "erasures" or (until is not None and action.ts <= until):
                continue
            if action.event_id is not None:
                if action.event_id in ids:
                    continue
                ids.add(action.event_id)
            found[action.ts, rank, offset] = action
        return found


@dataclass(slots=True)
class Ledger:
    """Everything that the broker took of us."""

    shoppers: dict[bytes, Shopper] = field(default_factory=dict)
    bad: set[Source] = field(default_factory=set)
    held: dict[bytes, bytes] = field(default_factory=dict)  # states that were there before
    #: each good record's (key, topic's rank, offset, epoch s), in the order of landing
    times: list[tuple[bytes, int, int, float]] = field(default_factory=list)

    def landed(self, action: ShopperEvent, topic: str, offset: int, at: float = 0.0) -> None:
        """A good record, sent at epoch second ``at``, is on the broker."""
        key, rank = action.user_id.encode(), TOPICS.index(topic)
        self.shoppers.setdefault(key, Shopper()).landed.append((action, rank, offset))
        self.times.append((key, rank, offset, at))


@dataclass(slots=True)
class Kept:
    """A compacted topic as its readers hold it: the newest value of each key.

    ``farthest`` has the value of each key whose offsets reach farthest: where it is not the newest
    one, something overwrote newer work.
    """

    newest: dict[bytes, bytes | None] = field(default_factory=dict)
    farthest: dict[bytes, tuple[int, ...]] = field(default_factory=dict)

    def put(self, key: bytes, value: bytes | None, reach: tuple[int, ...]) -> None:
        """The key's next record; ``reach``: the offsets that it knows, a topic each."""
        self.newest[key] = value
        self.farthest[key] = max(reach, self.farthest.get(key, ()), key=sum)


@dataclass(slots=True)
class Verdict:
    """The counts. Only ``events``, ``once``, ``left_out`` and the expected letters may be over 0
    in a sound system, and ``letters_again``: a dead letter may be written twice.
    """

    shoppers: int = 0
    held: int = 0
    events: int = 0  # good records that the broker took
    once: int = 0  # of them those that stand in their shopper's sequence once
    left_out: int = 0  # rightly not in a sequence: an event_id's second record, or forgotten
    lost: int = 0  # not in the sequence, or an erasure without effect
    duplicated: int = 0  # twice in the sequence, or an event_id's second record in it
    wrong_states: int = 0  # shoppers whose state is not exactly what it must be, in any way
    stale: int = 0  # shoppers whose last list is not of all their events, or is not there
    overwritten_states: int = 0  # of the wrong ones those where newer work was overwritten
    overwritten_lists: int = 0  # of the stale ones, likewise
    letters_expected: int = 0
    letters_missing: int = 0
    letters_unexpected: int = 0  # good records among the dead letters
    letters_again: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether the promise was kept."""
        broken = self.lost + self.duplicated + self.wrong_states + self.stale
        return broken + self.letters_missing + self.letters_unexpected == 0

    def say(self, words: str) -> None:
        """Keeps an example, of the first few."""
        if len(self.examples) < 10:
            self.examples.append(words)


def check(ledger: Ledger, states: Kept, lists: Kept, letters: Iterable[Source]) -> Verdict:
    """Compares what must be with what is."""
    verdict = Verdict(shoppers=len(ledger.shoppers), held=len(ledger.held))
    for key, shopper in ledger.shoppers.items():
        _check_state(verdict, key, shopper, states)
        _check_list(verdict, key, shopper, lists)
    for key, value in ledger.held.items():
        if states.newest.get(key) != value:
            verdict.wrong_states += 1
            verdict.lost += 1
            verdict.say(f"{key.decode()}: a state from before the run is not what it was")
    _check_letters(verdict, ledger.bad, letters)
    return verdict


def _check_state(verdict: Verdict, key: bytes, shopper: Shopper, states: Kept) -> None:
    steps = shopper.steps()
    verdict.events += len(shopper.landed)
    verdict.left_out += len(shopper.landed) - len(steps)
    state = _state(states.newest.get(key))
    found = Counter(row[:3] for row in state.rows)
    lost = steps.keys() - found.keys()
    more = {place: n for place, n in found.items() if n > 1 or place not in steps}
    verdict.lost += len(lost)
    if state.erased_at != shopper.erased_at():
        verdict.lost += 1
    verdict.once += sum(found[place] == 1 for place in steps)
    verdict.duplicated += sum(n - (place in steps) for place, n in more.items())
    if _is_exact(state, shopper, steps):
        return
    verdict.wrong_states += 1
    behind = _reach(state.offsets)
    if sum(behind) < sum(states.farthest.get(key, ())):
        verdict.overwritten_states += 1
    verdict.say(
        f"{key.decode()}: lost {sorted(lost)}, too many {more}, offsets {state.offsets} "
        f"for {shopper.offsets()}"
    )


def _is_exact(state: State, shopper: Shopper, steps: Mapping[Place, ShopperEvent]) -> bool:
    rows = [(*p, a.kind and a.kind.value, a.item_id, a.query) for p, a in sorted(steps.items())]
    bought = [(*row[:3], row[4]) for row in rows if row[3] == "purchase"]
    return (
        state.rows == rows
        and state.bought == bought
        and state.offsets == shopper.offsets()
        and state.erased_at == shopper.erased_at()
    )


def _check_list(verdict: Verdict, key: bytes, shopper: Shopper, lists: Kept) -> None:
    value = lists.newest.get(key)
    shown = _list(key, value)
    if not shopper.steps() and key in lists.newest and value is None:
        return  # forgotten: the list is a tombstone
    if shown is None or not shown.recommendation.items:
        verdict.stale += 1
        verdict.say(f"{key.decode()}: no list")
    elif dict(shown.as_of.offsets) != shopper.offsets():
        verdict.stale += 1
        if sum(_reach(shown.as_of.offsets)) < sum(lists.farthest.get(key, ())):
            verdict.overwritten_lists += 1
        verdict.say(
            f"{key.decode()}: the list is as of {dict(shown.as_of.offsets)}, "
            f"the events {shopper.offsets()}"
        )


def _check_letters(verdict: Verdict, bad: set[Source], letters: Iterable[Source]) -> None:
    found = Counter(letters)
    verdict.letters_expected = len(bad)
    verdict.letters_missing = len(bad - found.keys())
    verdict.letters_unexpected = len(found.keys() - bad)
    verdict.letters_again = found.total() - len(found)
    for source in sorted(bad - found.keys())[:3]:
        verdict.say(f"no dead letter of {source}")
    for source in sorted(found.keys() - bad)[:3]:
        verdict.say(f"a good record among the dead letters: {source}")


def reach_of_state(value: bytes | None) -> tuple[int, ...]:
    """The offsets that a changelog's record knows, a topic each; () of one that has none."""
    return _reach(_state(value).offsets)


def reach_of_list(key: bytes, value: bytes | None) -> tuple[int, ...]:
    """The offsets that a list knows; () of a tombstone."""
    shown = _list(key, value)
    return _reach(shown.as_of.offsets) if shown else ()


def _reach(offsets: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(offsets.get(topic, -1) + 1 for topic in TOPICS)


def _state(value: bytes | None) -> State:
    """What is no JSON object is no state: all of its events count as lost."""
    try:
        record = orjson.loads(value or b"{}")
        rows, bought = ([tuple(row) for row in record.get(name, ())] for name in ("s", "b"))
        return State(dict(record.get("o", {})), rows, bought, record.get("x"))
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return State()


def _list(key: bytes, value: bytes | None) -> PublishedList | None:
    try:
        return decode_recommendation(key, value)
    except WeftError:
        return None
