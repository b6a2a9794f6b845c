"""The seven topics, and which partition a key belongs to."""

from __future__ import annotations

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
    def changelog(self) -> str:
        """The compacted topic that holds the newest state of every shopper."""
        return f"{self.group}-{self.prefix}shoppers-changelog"
