"""The seven topics, and which partition a key belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PRODUCTS: Final = "products"
CLICKS: Final = "clicks"
PURCHASES: Final = "purchases"
SEARCHES: Final = "searches"
ERASURES: Final = "erasures"
RECOMMENDATIONS: Final = "recommendations"
DEAD_LETTERS: Final = "dead-letters"

#: What a shopper does; each is partitioned by user_id, alike.
SHOPPER_TOPICS: Final = (CLICKS, PURCHASES, SEARCHES, ERASURES)
ALL_TOPICS: Final = (PRODUCTS, *SHOPPER_TOPICS, RECOMMENDATIONS, DEAD_LETTERS)
#: Kafka may keep only the newest record of each key.
COMPACTED: Final = frozenset({PRODUCTS, RECOMMENDATIONS})

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


def config_of(topic: str) -> Mapping[str, str | int]:
    """How Weft creates a topic; where it says nothing, the broker's defaults hold."""
    if topic == DEAD_LETTERS:
        return _LETTERS
    return _COMPACTION if topic in COMPACTED else {}


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
