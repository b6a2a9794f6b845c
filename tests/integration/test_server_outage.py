"""A Qdrant server in every kind of trouble, under a shopper processor: waited out, nothing dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson

from models.domain import Item
from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream.index.port import Owner
from stream.index.server import ServerIndex
from stream.index.server_client import connect
from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings
from stream.shoppers.state import loads
from testbed.stand_ins import HashEncoder
from tests.integration.test_dead_letters import letters, produce, running, until
from tests.qdrant_http import FakeQdrant, fake_qdrant

EVENTS, T0 = 20, 1_700_000_000_000
ENCODER = HashEncoder(dim=32)

#: What is done to the server, and whether it is worse than slow.
TROUBLES: dict[str, tuple[Callable[[FakeQdrant], None], bool]] = {
    "500": (lambda server: server.failures.extend([500] * 10_000), True),
    "503": (lambda server: server.failures.extend([503] * 10_000), True),
    "429": (lambda server: server.failures.extend([429] * 10_000), True),
    "drops": (lambda server: setattr(server, "spoils", "drop"), True),
    "cuts": (lambda server: setattr(server, "spoils", "cut"), True),
    "a proxy's page": (lambda server: setattr(server, "spoils", "page"), True),
    "too slow": (lambda server: setattr(server, "delay", 5.0), True),
    "slow": (lambda server: setattr(server, "delay", 0.3), False),
}


def recommender(server: FakeQdrant) -> Recommender:
    """Over five dresses on the server, which has three seconds for each call."""
    client = connect(server.url, timeout=3)
    index = ServerIndex(client, "weft-items", ENCODER.name, ENCODER.dim, Owner("", "", "weft"))
    items = [Item(f"i{n}", f"linen dress {n}", T0) for n in range(5)]
    index.upsert(items, list(ENCODER.encode([item.text for item in items])))
    return Recommender(index, ZeroShotSpace(ENCODER), Popularity(7), None, 0.0, 3, 5)


def clicks(user: str) -> list[bytes]:
    rows = ({"user_id": user, "ts": T0 + n, "item_id": f"i{n % 5}"} for n in range(EVENTS))
    return [orjson.dumps(row) for row in rows]


def test_a_server_in_any_trouble_is_waited_out_and_no_event_is_dead(tmp_path: Path) -> None:
    async def through(settings: Settings, server: FakeQdrant) -> None:
        async with running(settings, recommender(server)) as processor:
            counters, sent = processor.counters, 0
            for name, (trouble, away) in TROUBLES.items():
                print(name)  # shown where the test fails
                trouble(server)
                await asyncio.to_thread(produce, settings, "clicks", name.encode(), *clicks(name))
                if away:
                    await until(lambda: processor.waits_for == "IndexUnavailable")
                    await asyncio.sleep(0.5)
                    assert counters.acked == sent
                    server.failures, server.spoils, server.delay = [], "", 0.0
                sent += EVENTS
                await until(lambda: counters.acked == sent)  # noqa: B023 - awaited here
                assert (processor.waits_for, counters.dead) == ("", 0)
                assert len(loads(processor._table[name.encode()]).rows) == EVENTS
        assert await asyncio.to_thread(letters, settings) == []

    with EmbeddedBroker() as broker, fake_qdrant() as server:
        asyncio.run(through(Settings(kafka=broker.bootstrap, data_dir=tmp_path), server))
