"""A worker's shopper half that ends as `weft worker` does: SIGTERM is a clean stop.

    python -m tests.faults.rolling_process BOOTSTRAP GROUP DATA_DIR

As ``worker_process``, which is there to be killed, with the order of ``stream.worker.Worker.stop``:
out of the group first, then what serves, then its threads and the producer.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream import settings as weft_settings
from stream.kafka.delivery import KafkaDelivery
from stream.settings import kafka_config
from stream.shoppers.app import ShopperApp
from stream.shoppers.offset_check import KafkaGapReader
from stream.shoppers.processor import ShopperProcessor
from testbed.stand_ins import HashEncoder, MemoryIndex
from tests.faults.worker_process import catalogue


async def main(bootstrap: str, group: str, data_dir: Path) -> None:
    settings = weft_settings.load(
        {}, kafka=bootstrap, group=group, data_dir=data_dir, session_timeout=6.0, batch_size=64
    )
    asked_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_end.set)
    encoder, index, items = HashEncoder(), MemoryIndex(), catalogue()
    index.upsert(items, list(encoder.encode([item.text for item in items])))
    popularity = Popularity(7)
    recommender = Recommender(index, ZeroShotSpace(encoder), popularity, None, 0.0, 10, 20)
    app = ShopperApp(settings, partitions=4)
    config = kafka_config(settings)
    delivery = KafkaDelivery(config, settings.partitioner)
    processor = ShopperProcessor(settings, app.table, recommender, popularity, delivery, 4)
    app.attach(processor, KafkaGapReader(config), delivery)
    serving = asyncio.create_task(processor.run())
    await app.start()
    while not asked_to_end.is_set() and not serving.done() and app.crashed() is None:
        await asyncio.sleep(0.05)
        if processor.counters.acked:
            (data_dir / "serves").touch()
    clean = asked_to_end.is_set()
    await app.stop()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    processor.close()
    delivery.close()
    print("ended", clean, processor.counters, flush=True)
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
