"""The index away under load, on the embedded broker: what is taken, and how it goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson

from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings
from stream.shoppers.app import ShopperApp
from stream.shoppers.state import loads
from testbed.stand_ins import HashEncoder, MemoryIndex
from tests.integration.test_dead_letters import produce, running, until

SHOPPERS, EVENTS = 30, 400


def clicks(user: str) -> list[bytes]:
    rows = ({"user_id": user, "ts": 1_700_000_000_000 + n, "item_id": "i0"} for n in range(EVENTS))
    return [orjson.dumps(row) for row in rows]


def test_with_the_index_away_little_is_taken_no_time_is_spent_and_it_goes_on_by_itself(
    tmp_path: Path,
) -> None:
    index = MemoryIndex()
    models = Recommender(index, ZeroShotSpace(HashEncoder()), Popularity(7), None, 0.0, 10, 20)
    index.outage = 1_000_000_000

    async def main(settings: Settings) -> None:
        async with running(settings, models) as processor:
            for n in range(SHOPPERS):
                await asyncio.to_thread(produce, settings, "clicks", b"u%d" % n, *clicks(f"u{n}"))
            await until(lambda: processor.counters.events >= settings.batch_size)
            asked, began = index.outage, time.monotonic()
            await asyncio.sleep(2.0)
            assert processor.counters.events <= 2 * settings.batch_size
            # 5 tries a second at the most, and ever fewer; a loop without a wait makes thousands
            most = 1 + 5 * (time.monotonic() - began)
            assert asked - index.outage <= most
            assert processor.counters.acked == processor.counters.dead == 0
            index.outage = 0
            await until(lambda: processor.counters.acked == SHOPPERS * EVENTS)
            assert processor.counters.again == 0
            for n in range(SHOPPERS):
                state = loads(processor._table[b"u%d" % n])
                last = 1_700_000_000_000 + EVENTS - 1
                assert (len(state.rows), state.newest_ts) == (50, last)

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=tmp_path)))


def test_an_outage_of_days_does_not_make_a_worker_leave_its_group(tmp_path: Path) -> None:
    """Past this time aiokafka leaves, and joins no more while nothing is taken."""

    async def main() -> None:
        app = ShopperApp(Settings(data_dir=tmp_path), 4).app
        assert app.conf.broker_max_poll_interval >= 7 * 86_400

    asyncio.run(main())
