"""What the states of all shoppers say together: what is popular, and where searches led."""

from __future__ import annotations

from dataclasses import dataclass

from models.recommend.popularity import Popularity
from models.recommend.query_memory import QueryMemory
from stream.contracts.codec import ShopperEvent
from stream.shoppers.state import ShopperState


@dataclass(frozen=True, slots=True)
class Derived:
    """Learns event by event, and can be made anew from the states alone."""

    popularity: Popularity
    memory: QueryMemory | None

    def learn(self, state: ShopperState, topic: str, offset: int, event: ShopperEvent) -> None:
        """One event, which is new to the ``state`` that has taken it in."""
        if event.item_id is None:
            return
        self.popularity.add(event.item_id, event.ts)
        if self.memory is not None and (query := state.led_by(topic, offset, event.ts)):
            self.memory.add(query, event.item_id, event.ts)

    def learn_all(self, state: ShopperState) -> None:
        """All that a state still holds."""
        for ts, _rank, _offset, _kind, item_id, _query in state.rows:
            if item_id is not None:
                self.popularity.add(item_id, ts)
        if self.memory is not None:
            for query, item_id, ts in state.led():
                self.memory.add(query, item_id, ts)

    def clear(self) -> None:
        """Forgets everything: it is about to be learnt anew."""
        self.popularity.clear()
        if self.memory is not None:
            self.memory.clear()
