"""Partitions arrive: their states are read from the changelog, and the loop has its turns."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace

import pytest
from confluent_kafka import Producer
from faust.types import TP

from models.domain import Kind
from models.errors import UnequalPartitions
from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream import settings as weft_settings
from stream.contracts.codec import ShopperEvent
from stream.contracts.partitioner import all_in, murmur2, murmur2_all, partition_of
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.delivery import KafkaDelivery
from stream.settings import Settings, kafka_config
from stream.shoppers.app import ShopperApp
from stream.shoppers.offset_check import KafkaGapReader
from stream.shoppers.processor import ShopperProcessor
from stream.shoppers.state import ShopperState
from stream.shoppers.states import States
from testbed.stand_ins import HashEncoder, MemoryIndex

PARTITIONS = 4
T0 = 1_700_000_000_000


def keys(count: int) -> list[bytes]:
    return [f"shopper-{number}".encode() for number in range(count)]


def publish(settings: Settings, topic: str, count: int, partitioner: str) -> None:
    """A state a shopper on the changelog."""
    state = ShopperState()
    state.apply("clicks", 0, ShopperEvent(Kind.CLICK, "u", T0, "i1"))
    producer = Producer({"bootstrap.servers": settings.kafka})
    for key in keys(count):
        place = partition_of(key, PARTITIONS, partitioner)
        producer.produce(topic, state.dumps(), key, place)
        producer.poll(0)
    assert producer.flush(20) == 0


class Restoring:
    """An app that holds every partition of the changelog; only Faust's consumer is not there."""

    def __init__(self, settings: Settings) -> None:
        self.app = ShopperApp(settings, PARTITIONS, embedded=True)
        held = {TP(self.app._names.changelog, p) for p in range(PARTITIONS)}
        self.app.app.consumer = SimpleNamespace(assignment=lambda: held)
        config = kafka_config(settings)
        self.delivery = KafkaDelivery(config, settings.partitioner)
        popularity = Popularity(7)
        space = ZeroShotSpace(HashEncoder())
        recommender = Recommender(MemoryIndex(), space, popularity, None, 0.0, 3, 5)
        self.processor = ShopperProcessor(
            settings, self.app.table, recommender, popularity, self.delivery, PARTITIONS
        )
        self.app.attach(self.processor, KafkaGapReader(config), self.delivery)

    async def restore(self) -> None:
        """Until all is derived."""
        await self.app._restore()
        assert self.app._deriving is not None
        await self.app._deriving

    def close(self) -> None:
        self.processor.close()
        self.delivery.close()


class Turns:
    """Counts what the loop's thread calls between two turns of the loop, in Python and in C."""

    def __init__(self) -> None:
        self.most = self._calls = 0

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        self._calls += event in ("call", "c_call")
        if event == "call" and frame.f_code.co_name == "_run_once":
            self.most = max(self.most, self._calls)
            self._calls = 0


def most_calls_a_turn(tmp_path: Path, count: int) -> int:
    with EmbeddedBroker() as broker:
        settings = weft_settings.load({}, kafka=broker.bootstrap, data_dir=tmp_path)
        turns = Turns()

        async def main() -> int:
            restoring = Restoring(settings)
            publish(settings, restoring.app._names.changelog, count, settings.partitioner)
            partition_of.cache_clear()  # as in a worker that has just started
            await asyncio.sleep(0)
            sys.setprofile(turns)
            try:
                await restoring.restore()
            finally:
                sys.setprofile(None)
            restoring.close()
            assert restoring.app.ready.is_set()
            return len(restoring.app.table)

        assert asyncio.run(main()) == count
    return turns.most


def test_the_loop_does_no_more_at_a_time_for_many_shoppers_than_for_few(tmp_path: Path) -> None:
    most_calls_a_turn(tmp_path, 100)  # what is done once is done
    few = most_calls_a_turn(tmp_path, 1_000)
    assert most_calls_a_turn(tmp_path, 10_000) < 2 * few


def test_states_of_another_partitioner_are_refused_before_the_table_changes(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        settings = weft_settings.load({}, kafka=broker.bootstrap, data_dir=tmp_path)

        async def main() -> int:
            restoring = Restoring(settings)
            publish(settings, restoring.app._names.changelog, 50, "consistent_random")
            with pytest.raises(UnequalPartitions, match="another WEFT_GROUP"):
                await restoring.restore()
            restoring.close()
            return len(restoring.app.table)

        assert asyncio.run(main()) == 0


def test_a_call_of_before_a_rebalance_restores_nothing_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust leaves a callback running that a rebalance overtook: two come for the same partitions.

    By the second one the owed lists are being served from the states, which would be taken apart on
    another thread meanwhile.
    """
    taken_apart: list[bool] = []
    restored = States.restored

    def told(self: States, read: Mapping[int, dict[bytes, bytes]]) -> None:
        taken_apart.append(running.app.ready.is_set())
        restored(self, read)

    monkeypatch.setattr(States, "restored", told)
    with EmbeddedBroker() as broker:
        settings = weft_settings.load({}, kafka=broker.bootstrap, data_dir=tmp_path)
        running = Restoring(settings)

        async def main() -> None:
            publish(settings, running.app._names.changelog, 50, settings.partitioner)
            await asyncio.gather(running.app._on_recovered(), running.app._on_recovered())
            assert taken_apart == [False]
            await running.app._on_revoked(None, set())
            await running.app._on_recovered()
            assert taken_apart == [False, False]
            assert running.app.ready.is_set()
            assert len(running.app.table) == 50

        asyncio.run(main())
        running.close()


def odd_keys() -> Iterable[bytes]:
    yield b"a"
    for length in range(1, 30):
        yield bytes(range(256 - length, 256))
        yield b"\0" * length
        yield "größe/42 👗".encode()[:length]
    yield b"x" * 256


def test_hashing_all_keys_at_once_gives_what_hashing_each_gives() -> None:
    all_keys = [*odd_keys(), *keys(500)]
    assert murmur2_all(all_keys).tolist() == [murmur2(key) for key in all_keys]
    assert murmur2_all([]).tolist() == []


@pytest.mark.parametrize("partitioner", ["murmur2_random", "consistent_random"])
def test_a_key_of_another_partition_is_found_among_many(partitioner: str) -> None:
    own = [key for key in keys(200_000) if partition_of(key, 7, partitioner) == 3]
    other = next(key for key in keys(50) if partition_of(key, 7, partitioner) != 3)
    assert all_in(3, own, 7, partitioner)
    assert not all_in(3, [*own, other], 7, partitioner)
    assert not all_in(3, [other, *own], 7, partitioner)
    assert all_in(3, [], 7, partitioner)


def test_hashing_all_by_an_unknown_partitioner_is_refused() -> None:
    with pytest.raises(ValueError, match="random"):
        all_in(0, [b"a"], 4, "random")
