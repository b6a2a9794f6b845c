"""A worker's shopper half as a process of its own, to be killed: real Faust, real Kafka,
the fakes of ``testbed.stand_ins`` where the models would be.

    python -m tests.faults.worker_process BOOTSTRAP GROUP DATA_DIR
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from models.domain import Item
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

ITEMS = 500
WORDS = ("linen", "midi", "dress", "denim", "jacket", "wool", "coat", "silk", "blouse", "boots")


def catalogue() -> list[Item]:
    """Items i0..i499 with titles of three words."""
    titles = [
        f"{WORDS[n % 10]} {WORDS[n // 10 % 10]} {WORDS[n // 100 % 10]} {n}" for n in range(ITEMS)
    ]
    return [Item(f"i{n}", title, 1_700_000_000_000) for n, title in enumerate(titles)]


async def main(bootstrap: str, group: str, data_dir: Path) -> None:
    settings = weft_settings.load(
        {}, kafka=bootstrap, group=group, data_dir=data_dir, session_timeout=6.0, batch_size=512
    )
    encoder = HashEncoder()
    index = MemoryIndex()
    items = catalogue()
    index.upsert(items, list(encoder.encode([item.text for item in items])))
    popularity = Popularity(7)
    recommender = Recommender(index, ZeroShotSpace(encoder), popularity, None, 0.0, 10, 20)
    app = ShopperApp(settings, partitions=4)
    delivery = KafkaDelivery(kafka_config(settings), settings.partitioner)
    processor = ShopperProcessor(settings, app.table, recommender, popularity, delivery, 4)
    app.attach(processor, KafkaGapReader(kafka_config(settings)), delivery)
    serving = asyncio.create_task(processor.run())
    await app.start()
    print("started", flush=True)
    while not serving.done() and app.crashed() is None:
        await asyncio.sleep(1.0)
        print(processor.counters, flush=True)
    print("ended", app.crashed(), serving, flush=True)
    sys.exit(1)  # as a supervisor would see it: start it again


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
