"""The file that a worker's health check looks at."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings
from stream.worker import Worker


def test_the_health_file_is_fresh_in_an_outage_names_it_and_grows_old_when_a_batch_hangs(
    weights_dir: Path,
) -> None:
    alive = weights_dir / "alive"
    alive.write_text("what an earlier worker said")

    def touched(worker: Worker) -> bool:
        before = alive.stat().st_mtime_ns
        time.sleep(0.01)
        worker.check()
        return alive.stat().st_mtime_ns > before

    async def main(settings: Settings) -> None:
        worker = Worker(settings)
        await worker.start()
        try:
            await worker.ready()
            assert touched(worker)
            assert alive.read_text() == ""
            worker.shoppers.waits_for = "IndexUnavailable"
            assert touched(worker)
            assert alive.read_text() == "IndexUnavailable"
            worker.shoppers._began = time.monotonic() - 301.0
            assert not touched(worker)
            worker.shoppers._began, worker.shoppers.waits_for = None, ""
            assert touched(worker)
            assert alive.read_text() == ""
        finally:
            await worker.stop()

    with EmbeddedBroker() as broker:
        settings = Settings(
            kafka=broker.bootstrap, data_dir=weights_dir, rerank="never", bundle="none", threads=1
        )
        asyncio.run(main(settings))
