"""What may stand in a list: in stock, each item once, and by default not bought already.

And one matter of taste: what the shopper has looked at lately comes after what is new to them, so
that a list shows more than the way back. Where goods are bought again, what was bought may be shown
and stands where its score says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from models.domain import History, Item


@dataclass(frozen=True, slots=True)
class Rules:
    """The shop's rules. Each field is the setting of that name (``stream.settings``).

    A rule on an item alone goes into ``permitted``, one on the items of a list together into
    ``_fits``. ``bought``: "hide" what a shopper bought, or "show" it again where its score says.
    """

    bought: str = "hide"

    def hidden(self, history: History) -> frozenset[str]:
        """The items that a shopper's list may not have."""
        return frozenset() if self.bought == "show" else history.bought

    def put_off(self, history: History) -> frozenset[str]:
        """The items that come after all that is new: those looked at lately.

        What was bought and may be shown again is a candidate like any other.
        """
        return seen(history) - history.bought if self.bought == "show" else seen(history)

    def permitted(self, items: Iterable[Item], history: History) -> list[int]:
        """Positions of the ``items`` that may be shown to a shopper, each by itself, in order."""
        barred = self.hidden(history)
        return [n for n, item in enumerate(items) if item.in_stock and item.item_id not in barred]

    def chosen(
        self, items: Sequence[Item], history: History, shown: Sequence[Item], room: int
    ) -> list[int]:
        """Positions of the first ``room`` of ``items`` that may follow the ``shown`` in a list."""
        beside, kept = list(shown), list[int]()
        for position in self.permitted(items, history):
            if len(kept) == room:
                break
            if self._fits(items[position], beside):
                beside.append(items[position])
                kept.append(position)
        return kept

    def _fits(self, item: Item, beside: Sequence[Item]) -> bool:
        """Whether a list that has ``beside`` may have ``item`` too."""
        return all(item.item_id != other.item_id for other in beside)


def seen(history: History) -> frozenset[str]:
    """The items of a shopper's recent steps, whether the catalogue knows them or not."""
    return frozenset(step.item_id for step in history.steps if step.item_id is not None)


def split_by_seen(
    items: Sequence[Item], positions: Iterable[int], seen: Collection[str]
) -> tuple[list[int], list[int]]:
    """``positions`` of items new to the shopper, and those of items that were ``seen`` lately."""
    new: list[int] = []
    again: list[int] = []
    for position in positions:
        (again if items[position].item_id in seen else new).append(position)
    return new, again
