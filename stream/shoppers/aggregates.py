"""What the states of all shoppers say together: what is popular, and where searches led.

Both count shoppers, not events, and hold none of them. Popularity counts a shopper once an item and
day: the state that has taken an event in holds the shopper's other steps of that day, so it says
whether the item is new to the day. Where it cannot say so for sure, because the state is full of
steps of that day or later ones, or was erased on it, the event does not count: in order of time,
that is a day's 50th step and what follows. The query memory takes a choice twice as it takes one.

So counts that are made anew from the states are those that were there before, as far as the states
still hold the steps. What fell out of a full state is forgotten with it, and of a day that filled a
state it is the last 50 steps that count then, not the first 49.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from models.recommend.popularity import STEPS_A_DAY, Popularity
from models.recommend.query_memory import QueryMemory
from stream.contracts.codec import ShopperEvent
from stream.shoppers.state import STEPS_KEPT, ShopperState

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Aggregates:
    """Learns event by event, and can be made anew from the states alone."""

    popularity: Popularity
    memory: QueryMemory | None

    def learn(self, state: ShopperState, topic: str, offset: int, event: ShopperEvent) -> None:
        """One event, which is new to the ``state`` that has taken it in."""
        if event.item_id is not None and _is_first(state, event.item_id, event.ts):
            self.popularity.add(event.item_id, event.ts)
        self.remember(state, topic, offset, event)

    def remember(self, state: ShopperState, topic: str, offset: int, event: ShopperEvent) -> None:
        """The same for the query memory alone. A search that comes late led what is there."""
        if self.memory is not None:
            for query, item_id, ts in state.led_from(topic, offset, event.ts):
                self.memory.add(query, item_id, ts, event.user_id)

    def learn_all(self, user_id: str, state: ShopperState) -> None:
        """All that a state still holds."""
        for item_id, day in dict.fromkeys((row[4], row[0] // _DAY_MS) for row in state.rows):
            if item_id is not None and not _is_erased(state, day):
                self.popularity.add(item_id, day * _DAY_MS)
        if self.memory is not None:
            for query, item_id, ts in state.led():
                self.memory.add(query, item_id, ts, user_id)

    def clear(self) -> None:
        """Forgets everything: it is about to be learnt anew."""
        self.popularity.clear()
        if self.memory is not None:
            self.memory.clear()


def _is_erased(state: ShopperState, day: int) -> bool:
    """Whether steps of the day may be gone: they counted, and would count again."""
    return state.erased_at is not None and state.erased_at // _DAY_MS >= day


def _is_first(state: ShopperState, item_id: str, ts: int) -> bool:
    """Whether the step at ``ts`` is for sure the shopper's first of that day on the item."""
    day, rows = ts // _DAY_MS, state.rows
    if _is_erased(state, day) or (len(rows) >= STEPS_KEPT and rows[0][0] // _DAY_MS >= day):
        return False
    found = 0
    for row in reversed(rows):  # the newest days are the last
        if row[0] // _DAY_MS < day:
            break
        found += row[4] == item_id and row[0] // _DAY_MS == day
    return found == 1


class FirstOfDay:
    """The same of shoppers without a state, whose events come in the order of time.

    For a replay, of shoppers who are not asked: all together by time, or one after the other. What
    is held are one day's steps, some 100 bytes each.
    """

    def __init__(self) -> None:
        self._day = -1
        self._steps: dict[str, list[str | None]] = {}  # by shopper: items, None for a search

    def is_first(self, user_id: str, item_id: str | None, ts: int) -> bool:
        """Whether popularity counts this event; a search (None) is a step, and never counts."""
        if (day := ts // _DAY_MS) != self._day:
            self._day = day
            self._steps.clear()
        steps = self._steps.setdefault(user_id, [])
        if len(steps) >= STEPS_A_DAY:
            return False
        first = item_id is not None and item_id not in steps
        steps.append(item_id)
        return first

    def dump(self) -> str:
        """All that is held, as JSON; see ``restore``."""
        return json.dumps([self._day, self._steps])

    def restore(self, told: str) -> None:
        """Becomes what ``dump`` told of."""
        self._day, self._steps = json.loads(told)
