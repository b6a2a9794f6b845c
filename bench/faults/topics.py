"""Reads whole topics to their end, as a reader that only sees what is committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from bench.faults.checker import Kept, Ledger, Source, reach_of_list, reach_of_state
from bench.faults.schedule import PARTITIONS
from stream.kafka.topic_reader import TopicReader
from stream.settings import load


class Told(NamedTuple):
    """A record that was read; ``at`` is when it was made, epoch s."""

    key: bytes
    value: bytes | None
    partition: int
    at: float
    headers: dict[str, bytes]


def everything(bootstrap: str, topic: str) -> Iterator[Told]:
    """Every record of the topic now; raises ``BrokerUnavailable`` where the broker is silent."""
    client = {"group.id": "bench-faults-checker", "isolation.level": "read_committed"}
    with TopicReader(load({}, kafka=bootstrap), topic, client) as reader:
        reader.begin(dict.fromkeys(range(PARTITIONS), 0))
        yield from map(_told, reader.to_the_end())


def _told(message: Any) -> Told:  # as a consumer gives it: nothing is None that a record has
    at = message.timestamp()[1] / 1000
    headers = dict(message.headers() or ())
    return Told(message.key() or b"", message.value(), message.partition(), at, headers)


def states(bootstrap: str, changelog: str) -> Kept:
    """The newest state of each shopper."""
    kept = Kept()
    for message in everything(bootstrap, changelog):
        kept.put(message.key, message.value, reach_of_state(message.value))
    return kept


@dataclass(slots=True)
class Lists:
    """The newest list of each shopper, and when lists of each partition were made (epoch s)."""

    kept: Kept = field(default_factory=Kept)
    models: Counter[str] = field(default_factory=Counter)  # lists by the space that made them
    times: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    #: each shopper's lists: (epoch s, the offsets that it knows, a topic each)
    made: dict[bytes, list[tuple[float, tuple[int, ...]]]] = field(default_factory=dict)

    def waits(self, ledger: Ledger) -> Iterator[tuple[float, float]]:
        """Of each good event (epoch s, seconds to the first list that knows it was produced).

        A reader sees that list when its transaction is committed, some milliseconds later.

        Leaves out those that no list knows: of a shopper who was forgotten in the same batch.
        """
        for key, rank, offset, sent_at in ledger.times:
            known = [at for at, reach in self.made.get(key, ()) if reach and reach[rank] > offset]
            if known:
                yield sent_at, min(known) - sent_at

    def again_after(self, at: float) -> float | None:
        """Seconds from ``at`` until every partition had a list; None: one never had."""
        firsts = [min((t for t in times if t > at), default=None) for times in self.times]
        known = [first - at for first in firsts if first is not None]
        return max(known) if len(known) == PARTITIONS else None


def lists(bootstrap: str) -> Lists:
    """Reads the recommendations topic."""
    found = Lists()
    for message in everything(bootstrap, "recommendations"):
        key, value, at = message.key, message.value, message.at
        reach = reach_of_list(key, value)
        found.kept.put(key, value, reach)
        found.times[message.partition].append(at)
        found.made.setdefault(key, []).append((at, reach))
        if value is not None:
            found.models[orjson.loads(value)["model"]] += 1
    return found


def letters(bootstrap: str) -> list[Source]:
    """Where each dead letter says that it comes from."""
    found = []
    for message in everything(bootstrap, "dead-letters"):
        told = message.headers
        place = int(told["weft-partition"]), int(told["weft-offset"])
        found.append((told["weft-topic"].decode(), *place))
    return found
