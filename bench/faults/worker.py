"""A worker's shopper half as a process of its own: real Faust, real Kafka, the fakes of
``testbed.stand_ins`` where the models would be, an index that can be told to fail.

    python -m bench.faults.worker BOOTSTRAP GROUP FOLDER NAME SESSION_TIMEOUT BUG

FOLDER holds ``items.json`` and, while the index is to fail or to be slow, a file ``index`` with
that word in it; ``bundle`` says which one is to serve. While NAME is to be killed in its delivery,
``NAME.kill`` has the point (``bench.faults.kill_points``). What happens is told in
FOLDER/NAME.jsonl, an object a line. SIGTERM leaves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.faults import kill_points
from bench.faults.bugs import BUGS
from models.domain import Item
from models.errors import IndexUnavailable
from models.ports import FloatArray, Hit, Stored
from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream import settings as weft_settings
from stream.kafka.delivery import KafkaDelivery
from stream.serving import Live, Serving
from stream.settings import Settings, kafka_config
from stream.shoppers.app import ShopperApp
from stream.shoppers.offset_check import KafkaGapReader
from stream.shoppers.processor import ShopperProcessor
from testbed.stand_ins import HashEncoder, MemoryIndex

#: Stand-ins for two bundles, by the dimension of their vectors.
BUNDLES: Final = ("64", "32")


class SwitchedIndex(MemoryIndex):
    """An index that fails, takes a second a call or does not answer, while a file says so."""

    def __init__(self, switch: Path) -> None:
        super().__init__()
        self._switch = switch

    def get(self, item_ids: Sequence[str]) -> dict[str, Stored]:
        self._obey()
        return super().get(item_ids)

    def search(self, vectors: FloatArray, limit: int) -> list[list[Hit]]:
        self._obey()
        return super().search(vectors, limit)

    def newest(self, limit: int) -> list[Item]:
        self._obey()
        return super().newest(limit)

    def _obey(self) -> None:
        try:
            word = self._switch.read_text()
        except FileNotFoundError:
            return
        if word == "fail":
            raise IndexUnavailable("the bench has taken the index away")
        if word == "hold":
            while self._switch.exists():
                time.sleep(0.02)
        else:
            time.sleep(1.0)


def serving(folder: Path, popularity: Popularity, bundle: str) -> Serving:
    """The fakes over the items of ``folder``; ``bundle`` is the dimension of their vectors, so that
    vectors of two bundles in one batch would fail.
    """
    encoder = HashEncoder(int(bundle))
    index = SwitchedIndex(folder / "index")
    rows = json.loads((folder / "items.json").read_text())
    items = [Item(item_id, title or item_id, 1_000_000_000_000) for item_id, title in rows]
    index.upsert(items, list(encoder.encode([item.text for item in items])))
    space = ZeroShotSpace(encoder)
    made = Recommender(index, space, popularity, None, 0.0, 10, 20)
    return Serving(bundle, space.label, None, space, index, made, 0.0)


def wished(folder: Path) -> str:
    """The bundle that is to serve."""
    try:
        return (folder / "bundle").read_text() or BUNDLES[0]
    except FileNotFoundError:
        return BUNDLES[0]


async def follow(live: Live, folder: Path, popularity: Popularity, told: Told) -> None:
    """Switches to the bundle that is wished for, beside the batches; until cancelled."""
    while True:
        if (bundle := wished(folder)) != live.current.bundle:
            other = await asyncio.to_thread(serving, folder, popularity, bundle)
            await asyncio.to_thread(live.switch, other)
            told("switched", bundle=bundle)
        await asyncio.sleep(0.1)


class Told:
    """What the bench reads: started, ready (with the shoppers that are held), the counters."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", buffering=1)

    def __call__(self, what: str, **more: object) -> None:
        self._file.write(json.dumps({"at": time.time(), "what": what, **more}) + "\n")


async def tell(app: ShopperApp, processor: ShopperProcessor, told: Told) -> None:
    """Watches until cancelled."""
    ready, counted = False, 0.0
    while True:
        if ready != app.ready.is_set():
            ready = app.ready.is_set()
            told("ready" if ready else "revoked", shoppers=len(app.table))
        if time.monotonic() > counted + 1.0:
            counted = time.monotonic()
            counters = processor.counters
            told(
                "counters",
                events=counters.events,
                rewinds=counters.rewinds,
                stalls=counters.stalls,
                again=counters.again,
                lost=counters.lost,
            )
        await asyncio.sleep(0.02)


async def serve(settings: Settings, folder: Path, name: str) -> int:
    """Serves until SIGTERM (0) or until something ends it (1)."""
    popularity = Popularity(7)
    app = ShopperApp(settings, partitions=4)
    delivery = KafkaDelivery(kafka_config(settings), settings.partitioner)
    live = Live(serving(folder, popularity, wished(folder)))
    processor = ShopperProcessor(settings, app.table, live, popularity, delivery, 4)
    app.attach(processor, KafkaGapReader(kafka_config(settings)), delivery)
    told = Told(folder / f"{name}.jsonl")
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    running = asyncio.create_task(processor.run())
    beside = [
        asyncio.create_task(tell(app, processor, told)),
        asyncio.create_task(follow(live, folder, popularity, told)),
    ]
    await app.start()
    told("started")
    while not (running.done() or leave.is_set()) and app.crashed() is None:
        await asyncio.sleep(0.1)
    print("ended", app.crashed(), running, flush=True)
    for task in beside:
        task.cancel()
    if leave.is_set():
        await app.stop()
        told("left")
        return 0
    return 1  # a supervisor starts it again


def main() -> None:
    bootstrap, group, folder, name, session_timeout, bug = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    BUGS[bug]()
    kill_points.install(Path(folder) / f"{name}.kill")
    settings = weft_settings.load(
        {},
        kafka=bootstrap,
        group=group,
        data_dir=Path(folder) / name,
        session_timeout=float(session_timeout),
        batch_size=512,
    )
    sys.exit(asyncio.run(serve(settings, Path(folder), name)))


if __name__ == "__main__":
    main()
