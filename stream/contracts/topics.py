"""The table of topics: what a record of each is to a shopper's history, and how it is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from models.domain import Kind

PRODUCTS: Final = "products"
CLICKS: Final = "clicks"
PURCHASES: Final = "purchases"
SEARCHES: Final = "searches"
ERASURES: Final = "erasures"
RECOMMENDATIONS: Final = "recommendations"
DEAD_LETTERS: Final = "dead-letters"

_DAY_MS: Final = 86_400_000
_COMPACTION: Final[Mapping[str, str | int]] = {
    "cleanup.policy": "compact",
    # what a forgotten shopper's newest record has replaced is gone within about a week
    "max.compaction.lag.ms": 7 * _DAY_MS,
    # a reader that was away for so long still meets the removals
    "delete.retention.ms": 14 * _DAY_MS,
}
_LETTERS: Final[Mapping[str, str | int]] = {
    "cleanup.policy": "delete",
    "retention.ms": 14 * _DAY_MS,
    "retention.bytes": 1 << 30,  # of each partition
    "max.message.bytes": 2 << 20,  # room for what was refused for its length
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    ``rank``: of a topic of what shoppers do, else None; records of one ``ts`` are ordered by it.
    It stands in every shopper's state: it may never change, and a new topic takes the next one.
    ``kind``: the step that a record becomes; None for a shopper topic that adds none (erasures).
    ``types``: what a log's file calls such a row in its column ``type``, Weft's own word first.
    ``config``: how Weft creates it; where it says nothing, the broker's defaults hold.
    """

    name: str
    rank: int | None = None
    kind: Kind | None = None
    types: tuple[str, ...] = ()
    config: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """What a list's ``trigger`` and a log's column ``type`` call its records."""
        return self.types[0]


TABLE: Final = (
    Topic(PRODUCTS, config=_COMPACTION),
    Topic(CLICKS, 0, Kind.CLICK, ("click", "fav", "cart")),
    Topic(PURCHASES, 1, Kind.PURCHASE, ("purchase",)),
    Topic(SEARCHES, 2, Kind.SEARCH, ("search",)),
    Topic(ERASURES, 3, None, ("erasure",)),
    Topic(RECOMMENDATIONS, config=_COMPACTION),
    Topic(DEAD_LETTERS, config=_LETTERS),
)

TOPICS: Final = {topic.name: topic for topic in TABLE}
ALL_TOPICS: Final = tuple(TOPICS)
#: By name, the rank of each topic of what shoppers do; all are partitioned by user_id, alike.
RANKS: Final = {topic.name: topic.rank for topic in TABLE if topic.rank is not None}
SHOPPER_TOPICS: Final = tuple(RANKS)
#: What Weft reads and can refuse; the others it writes.
SOURCES: Final = (PRODUCTS, *SHOPPER_TOPICS)
#: The topic that a row of a log's file goes to, by its ``type``.
TOPIC_OF_TYPE: Final = {word: topic.name for topic in TABLE for word in topic.types}


def topic_of(kind: Kind | None) -> str:
    """The shopper topic whose records are ``kind``; None: erasures."""
    return _TOPIC_OF[kind]


_TOPIC_OF: Final = {topic.kind: topic.name for topic in TABLE if topic.rank is not None}


#: How Weft creates the changelog.
CHANGELOG_CONFIG: Final = _COMPACTION
#: How it creates the control topic: each worker repeats its report there, and only closed segments
#: are compacted, so they are closed by the hour.
CONTROL_CONFIG: Final[Mapping[str, str | int]] = {**_COMPACTION, "segment.ms": 3_600_000}


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names on the broker: a prefix lets several shops share one."""

    prefix: str = ""
    group: str = "weft"

    def of(self, topic: str) -> str:
        """The broker's name of one of ``ALL_TOPICS``."""
        return self.prefix + topic

    def plain(self, name: str) -> str:
        """The reverse of ``of``."""
        return name.removeprefix(self.prefix)

    @property
    def member(self) -> str:
        """The consumer group: shops that share a broker by prefixes have one each."""
        return self.prefix + self.group

    @property
    def changelog(self) -> str:
        """The compacted topic that holds the newest state of every shopper."""
        return f"{self.group}-{self.prefix}shoppers-changelog"

    @property
    def control(self) -> str:
        """The compacted topic of which only partition 0 is used: which bundle is to serve."""
        return f"{self.group}-{self.prefix}bundle"
