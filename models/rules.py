"""What may stand in a list: in stock, each item once, and by default not bought already.

And one matter of taste: what the shopper has looked at lately comes after what is new to them, so
that a list shows more than the way back. Where goods are bought again, what was bought may be shown
and stands where its score says. (Caps, boosts and pins by the shop belong here too.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from models.domain import History, Item


def seen(history: History) -> frozenset[str]:
    """The items of a shopper's recent steps, whether the catalogue knows them or not."""
    return frozenset(step.item_id for step in history.steps if step.item_id is not None)


def hidden(history: History, *, show_bought: bool) -> frozenset[str]:
    """The items that a shopper's list may not have."""
    return frozenset() if show_bought else history.bought


def put_off(history: History, *, show_bought: bool) -> frozenset[str]:
    """The items that come after all that is new: those looked at lately.

    What was bought and may be shown again is a candidate like any other.
    """
    return seen(history) - history.bought if show_bought else seen(history)


def permitted(items: Iterable[Item], hidden: Collection[str]) -> list[int]:
    """Positions of the ``items`` that may be shown, in their order; of a repeated id the first."""
    taken: set[str] = set()
    kept = []
    for position, item in enumerate(items):
        if item.in_stock and item.item_id not in hidden and item.item_id not in taken:
            taken.add(item.item_id)
            kept.append(position)
    return kept


def split_by_seen(
    items: Sequence[Item], positions: Iterable[int], seen: Collection[str]
) -> tuple[list[int], list[int]]:
    """``positions`` of items new to the shopper, and those of items that were ``seen`` lately."""
    new: list[int] = []
    again: list[int] = []
    for position in positions:
        (again if items[position].item_id in seen else new).append(position)
    return new, again
