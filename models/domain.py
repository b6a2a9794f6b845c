"""The domain's own types. Everything else is said in these words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self

_EMPTY: Mapping[str, str] = MappingProxyType({})


class Kind(StrEnum):
    """How a step of a history came to be: a row a kind, (value, number, verb, of an item or not).

    The value stands in states and lists, the number in prepared logs and bundles: neither may ever
    change. 0 is no kind (it pads). ``stream.contracts.topics`` says which topic brings which kind.
    """

    number: int
    #: What the shopper did, as prompts, reasons and pages say it.
    verb: str
    #: Whether a step of it names an item (and perhaps the query that led there), or a query alone.
    of_item: bool

    CLICK = "click", 1, "clicked", True
    PURCHASE = "purchase", 2, "bought", True
    SEARCH = "search", 3, "searched for", False

    def __new__(cls, value: str, number: int = 0, verb: str = "", of_item: bool = True) -> Self:
        """A member of its row (the defaults let type checkers take ``Kind(value)``)."""
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.number, kind.verb, kind.of_item = number, verb, of_item
        return kind


#: Numbers of kinds lie below this.
KIND_NUMBERS: Final = 1 + max(kind.number for kind in Kind)


@dataclass(frozen=True, slots=True)
class Item:
    """One product of the catalogue, as its newest update described it. ``ts`` is epoch ms."""

    item_id: str
    title: str
    ts: int
    category: str | None = None
    brand: str | None = None
    colour: str | None = None
    description: str | None = None
    price: float | None = None
    currency: str | None = None
    image_url: str | None = None
    url: str | None = None
    in_stock: bool = True
    attributes: Mapping[str, str] = field(default_factory=lambda: _EMPTY)

    @property
    def text(self) -> str:
        """What the title encoder and the prompt read; empty when the item says nothing at all.

        The title, or where that is blank, category, brand and attributes.
        """
        if title := self.title.strip():
            return title
        parts = [self.category, self.brand, *self.attributes.values()]
        return " ".join(part.strip() for part in parts if part and part.strip())


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a shopper's sequence. A click or purchase has ``item_id``, a search ``query``.

    A click may have both: the search that led to it.
    """

    kind: Kind
    ts: int
    item_id: str | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """A shopper as the models see one: steps oldest first, and the items that were bought."""

    steps: tuple[Step, ...] = ()
    bought: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One line of a list: the reason is a sentence grounded in the shopper's own events."""

    item_id: str
    score: float
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A list, best first. ``reranked`` says whether the LLM's score took part in the order.

    ``owed`` says that the LLM should have, and had no time or failed: worth another go. (A list
    of popular items has nothing for it to score, so it is neither.)
    """

    items: tuple[RecommendedItem, ...]
    reranked: bool
    model: str
    owed: bool = False
