"""Deliberate bugs, each a small patch inside a worker's process: the bench has to find them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from faust.transport.drivers import aiokafka as driver

from stream.contracts.codec import ShopperEvent
from stream.kafka.delivery import KafkaDelivery
from stream.shoppers.faust_patches import PatchedConsumer
from stream.shoppers.offset_check import OffsetWatch, Partition, Verdict
from stream.shoppers.processor import ShopperProcessor
from stream.shoppers.stalls import StallWatch
from stream.shoppers.state import Applied, ShopperState


def ack_before_delivery() -> None:
    """An event is acked when it is taken: a crash before its batch's delivery loses it."""
    take = ShopperProcessor.take

    def acked_at_once(self: ShopperProcessor, arrival: Any) -> None:
        arrival.ack()
        take(self, arrival)

    ShopperProcessor.take = acked_at_once  # type: ignore[method-assign]


def offset_not_stored() -> None:
    """A state does not know its last offset: a redelivered event is applied again."""
    apply = ShopperState.apply

    def forgetful(self: ShopperState, topic: str, offset: int, event: ShopperEvent) -> Applied:
        self.offsets = {name: last for name, last in self.offsets.items() if name != topic}
        return apply(self, topic, offset, event)

    ShopperState.apply = forgetful  # type: ignore[method-assign]


def unpatched_drain() -> None:
    """Faust's own drain, which drops messages around a rebalance, and nobody watching offsets.

    Nor the partitions' ends: that alone would bring the dropped ones back.
    """

    def trusting(_self: OffsetWatch, _partition: Partition, _offset: int) -> Verdict:
        return Verdict.TAKE

    async def blind(_self: StallWatch) -> None:
        """Sees no partition that stands still."""

    StallWatch.look = blind  # type: ignore[method-assign,assignment]
    PatchedConsumer._drain_messages = driver.Consumer._drain_messages  # type: ignore[method-assign]
    OffsetWatch.see = trusting  # type: ignore[method-assign,assignment]


def unfenced() -> None:
    """A worker that was stopped and resumed may still write: to its former partitions too."""

    def nothing(_self: KafkaDelivery, _name: str, _partitions: Collection[int]) -> None:
        """Nobody is fenced, and nothing goes out in a transaction."""

    KafkaDelivery.own = nothing  # type: ignore[method-assign,assignment]


def none() -> None:
    """The product as it is."""


BUGS: Final[dict[str, Callable[[], None]]] = {
    "none": none,
    "ack-before-delivery": ack_before_delivery,
    "offset-not-stored": offset_not_stored,
    "unpatched-drain": unpatched_drain,
    "unfenced": unfenced,
}
