"""A worker whose disk is full: it says so at its start, or goes on without what it would keep.

(The embedded index on a disk that fills up: ``tests/integration/test_index_edge.py``.)
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.encoder.cache import CachedEncoder
from models.errors import IndexFull, InvalidSettings
from stream.doctor import examine
from stream.findings import Status
from stream.index.edge import EdgeIndex
from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings
from stream.shoppers.app import ShopperApp
from stream.worker import Worker
from testbed.stand_ins import HashEncoder
from tests.integration.test_dead_letters import produce, running, until

CLICK = b'{"user_id": "ana", "ts": 1700000000000, "item_id": "i1"}'


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system without a free byte or inode, but for Faust's folders."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=40", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes Linux and root")
    try:
        (disk / "faust" / "v1" / "tables").mkdir(parents=True)
        fill(disk)
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    for size in (4_096, 0):
        with contextlib.suppress(OSError):
            for number in range(1_000):
                (disk / f"filler-{size}-{number}").write_bytes(b"x" * size)
    with pytest.raises(OSError, match="No space left"):
        (disk / "another").touch()


def test_doctor_says_that_a_disk_is_full(disk: Path) -> None:
    found = {f.part: f for f in examine(Settings(kafka="127.0.0.1:9", data_dir=disk), 1.0)}
    assert found["disk"].status is Status.MISSING
    assert "make room" in found["disk"].words


def test_a_worker_that_cannot_begin_on_a_full_disk_says_what_to_do(disk: Path) -> None:
    with pytest.raises(IndexFull, match="make room"):
        EdgeIndex(disk / "index", "hash-32", 32)
    (disk / "faust" / "v1" / "tables").rmdir()
    (disk / "last").touch()  # in its place
    app = ShopperApp(Settings(data_dir=disk), 4)
    with pytest.raises(InvalidSettings, match=r"No space left.*WEFT_DATA_DIR"):
        asyncio.run(app.start())


def test_on_a_disk_that_became_full_events_are_served_and_nothing_ends(disk: Path) -> None:
    said: list[str] = []

    async def main(settings: Settings) -> None:
        async with running(settings) as processor:
            await asyncio.to_thread(produce, settings, "clicks", b"ana", CLICK)
            await until(lambda: processor.counters.acked == 1)
            assert processor.counters.lists == 1
            worker = Worker(settings)
            worker.shoppers = processor
            worker._say_alive()
            assert not (disk / "alive").exists()

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=disk)))
    cached = CachedEncoder(HashEncoder(dim=32), disk / "vectors.sqlite", said.append)
    assert np.isclose(np.linalg.norm(cached.encode(["linen dress"])), 1, atol=1e-3)
    assert len(said) == 1
