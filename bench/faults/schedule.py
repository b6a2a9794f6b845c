"""What happens in a run, and when: every record sent, and every fault. Of the seed alone."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

import orjson

from bench.faults.actions import Shop, actions
from bench.faults.kill_points import KillPoint
from models.domain import Kind
from stream.contracts.codec import MAX_BYTES, ShopperEvent
from stream.contracts.partitioner import partition_of
from stream.contracts.topics import topic_of

PARTITIONS: Final = 4
PARTITIONER: Final = "murmur2_random"
#: (a 10-minute run's, a 60-minute run's); between them and below, in proportion.
_SCALE: Final = {
    "kills": (12, 50),
    "rebalances": (5, 20),
    "broker": (1, 5),
    "index": (1, 5),
    "zombies": (2, 8),
    "bundles": (2, 8),
}
_BAD: Final = (10_000, 100_000)
_SHOPPERS_DO: Final = (Kind.CLICK, Kind.PURCHASE, Kind.SEARCH)


class FaultKind(StrEnum):
    """What is done to the system."""

    KILL = "kill"  # SIGKILL of a worker, which a supervisor starts again
    KILL_IN_BATCH = "kill in a batch"  # the same with a batch in hand: the index was slow before
    KILL_BEFORE_COMMIT = "kill before commit"  # at points of a delivery: see ``kill_points``
    KILL_AFTER_COMMIT = "kill after commit"
    KILL_BETWEEN = "kill between partitions"
    KILL_BETWEEN_REVERSED = "kill between partitions, reversed"
    ZOMBIE = "zombie"  # SIGSTOP in a batch until past the session timeout, then SIGCONT
    REBALANCE = "rebalance"  # a further worker joins, works for a while and leaves
    BROKER_RESTART = "broker restart"  # an orderly stop, and the start some seconds later
    BROKER_GONE = "broker gone"  # SIGKILL, and the start some seconds later
    INDEX_FAILS = "index fails"
    INDEX_SLOW = "index slow"  # each call takes a second
    BUNDLE = "bundle switched"  # each worker goes over to another space and index, in the middle


#: The kills that a worker carries out itself, at that point of its next delivery.
KILL_POINTS: Final = {
    FaultKind.KILL_BEFORE_COMMIT: KillPoint.BEFORE_COMMIT,
    FaultKind.KILL_AFTER_COMMIT: KillPoint.AFTER_COMMIT,
    FaultKind.KILL_BETWEEN: KillPoint.BETWEEN,
    FaultKind.KILL_BETWEEN_REVERSED: KillPoint.BETWEEN_REVERSED,
}
KILLS: Final = (FaultKind.KILL_IN_BATCH, *KILL_POINTS, FaultKind.KILL)


@dataclass(frozen=True, slots=True)
class Fault:
    """At ``at`` seconds, for ``lasts`` seconds, to the worker number ``victim`` where one is."""

    at: float
    kind: FaultKind
    lasts: float
    victim: int


@dataclass(frozen=True, slots=True)
class Sent:
    """One record to send at ``at`` seconds; ``action`` is None for a bad message.

    ``partition`` -1: by its key.
    """

    at: float
    topic: str
    key: bytes | None
    value: bytes | None
    action: ShopperEvent | None
    partition: int = -1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much happens in a run of ``minutes``."""

    minutes: float
    kills: int
    rebalances: int
    broker: int
    index: int
    zombies: int
    bundles: int
    bad: int
    rate: int  # good events a second

    @property
    def seconds(self) -> float:
        """The run's length."""
        return 60 * self.minutes

    @property
    def good(self) -> int:
        """Good events."""
        return round(self.seconds * self.rate)


def sizes(
    minutes: float, rate: int, only: frozenset[str] = frozenset(), dense: float = 1.0
) -> Sizes:
    """What a run of ``minutes`` holds, ``dense`` times as many faults as usual.

    ``only`` names the counts that are not 0, none: all.
    """

    def scaled(ten: int, sixty: int) -> int:
        if minutes <= 10:
            return max(1, round(dense * ten * minutes / 10))
        return round(dense * (ten + (sixty - ten) * (minutes - 10) / 50))

    counts = {n: scaled(*pair) if not only or n in only else 0 for n, pair in _SCALE.items()}
    bad = scaled(*_BAD) if not only or "bad" in only else 0
    return Sizes(minutes=minutes, bad=bad, rate=rate, **counts)


def faults(planned: Sizes, seed: int, session_timeout: float, workers: int) -> list[Fault]:
    """The faults in their order: each in a slot of its own, at a random point of it."""
    rng = random.Random(f"faults {seed}")
    kinds = [KILLS[n % len(KILLS)] for n in range(planned.kills)]
    kinds += [FaultKind.REBALANCE] * planned.rebalances
    kinds += [FaultKind.ZOMBIE] * planned.zombies
    both = (FaultKind.BROKER_GONE, FaultKind.BROKER_RESTART)
    kinds += [both[(n + seed) % 2] for n in range(planned.broker)]
    both = (FaultKind.INDEX_FAILS, FaultKind.INDEX_SLOW)
    kinds += [both[(n + seed) % 2] for n in range(planned.index)]
    kinds += [FaultKind.BUNDLE] * planned.bundles
    rng.shuffle(kinds)
    slot = (planned.seconds - 2.0) / max(1, len(kinds))
    return [
        Fault(
            2.0 + slot * (number + rng.uniform(0.0, 0.6)),
            kind,
            _lasts(kind, rng, session_timeout),
            rng.randrange(workers),
        )
        for number, kind in enumerate(kinds)
    ]


def _lasts(kind: FaultKind, rng: random.Random, session_timeout: float) -> float:
    """Seconds: of a kill, until the supervisor starts the worker again."""
    if kind in KILLS:
        return rng.uniform(0.0, 3.0)
    if kind is FaultKind.ZOMBIE:
        return session_timeout + rng.uniform(2.0, 5.0)
    if kind is FaultKind.REBALANCE:
        return rng.uniform(8.0, 14.0)
    return rng.uniform(4.0, 10.0)


def storm(planned: Sizes, seed: int) -> tuple[float, float]:
    """From when to when, in seconds, half of the bad messages come: a minute of a long run."""
    begins = random.Random(f"storm {seed}").uniform(planned.seconds / 4, planned.seconds / 2)
    return begins, begins + min(60.0, planned.seconds / 6)


def records(shop: Shop, planned: Sizes, seed: int) -> Iterator[Sent]:
    """Every record in its order: the good ones at a steady rate, whatever else comes.

    Half of the bad ones come in one storm on one topic, the rest at any time on any.
    """
    rng = random.Random(f"records {seed}")
    begins, ends = storm(planned, seed)
    stormy = planned.bad // 2
    within = [begins + (ends - begins) * number / stormy for number in range(stormy)]
    anywhere = sorted(rng.uniform(0.0, planned.seconds) for _ in range(planned.bad - stormy))
    good = islice(actions(shop, seed), planned.good)
    return heapq.merge(
        (_good(number / planned.rate, action) for number, action in enumerate(good)),
        (_bad(at, rng.choice(_SHOPPERS_DO), rng) for at in anywhere),
        (_bad(at, Kind.CLICK, rng) for at in within),
        key=lambda record: record.at,
    )


def _good(at: float, action: ShopperEvent) -> Sent:
    fields = {"user_id": action.user_id, "ts": action.ts, "item_id": action.item_id}
    fields |= {"query": action.query, "event_id": action.event_id}
    value = orjson.dumps({name: value for name, value in fields.items() if value is not None})
    return Sent(at, topic_of(action.kind), action.user_id.encode(), value, action)


def _bad(at: float, kind: Kind, rng: random.Random) -> Sent:
    """A record that must become a dead letter, of any of the ways to be wrong."""
    key = f"bad{rng.randrange(1000)}".encode()
    good = {"user_id": key.decode(), "ts": 1_700_000_000_000, "item_id": "i1", "query": "linen"}
    value: bytes | None
    partition = -1
    way = rng.choices(("json", "field", "type", "null", "partition", "long"), (9, 9, 9, 9, 9, 0.2))
    match way[0]:
        case "json":
            value = b"\xff{not json"
        case "field":
            value = orjson.dumps({"user_id": key.decode()})
        case "type":
            value = orjson.dumps(good | {"ts": "yesterday"})
        case "null":
            value = None
        case "long":
            value = orjson.dumps(good | {"x": "x" * MAX_BYTES})
        case _:
            value = orjson.dumps(good)
            partition = (partition_of(key, PARTITIONS, PARTITIONER) + 1) % PARTITIONS
    return Sent(at, topic_of(kind), key, value, None, partition)
