"""What the embedded index promises beside the contract of every index: it lives in a folder."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.domain import Item
from models.errors import IndexFull, IndexIncompatible, IndexInUse, InvalidSettings
from stream.index.edge import RESERVE, EdgeIndex
from stream.index.points import Position
from testbed.stand_ins import HashEncoder

ENCODER = HashEncoder(dim=32)
PLACE = Position("cluster/products", {0: 17, 3: 5})


def opened(folder: Path, *, reserve: int = RESERVE) -> EdgeIndex:
    return EdgeIndex(folder, ENCODER.name, ENCODER.dim, reserve=reserve)


def put(index: EdgeIndex, *titles: str) -> None:
    items = [Item(f"i-{title}", title, 1_700_000_000_000) for title in titles]
    index.upsert(items, list(ENCODER.encode(titles)))


def test_a_new_index_has_no_place_and_keeps_the_one_it_is_given(tmp_path: Path) -> None:
    index = opened(tmp_path)
    assert index.position() is None
    index.keep_position(PLACE)
    index.close()
    index = opened(tmp_path)
    assert index.position() == PLACE
    index.clear()
    assert index.position() is None
    index.close()


def test_clearing_removes_every_item_and_the_index_goes_on(tmp_path: Path) -> None:
    index = opened(tmp_path)
    put(index, *(f"shirt {n}" for n in range(300)))
    index.clear()
    assert index.count() == 0
    put(index, "linen dress")
    assert index.search(ENCODER.encode(["linen dress"]), 5)[0][0].item.title == "linen dress"
    index.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.integration.test_index_edge import PLACE, opened, put
index = opened(Path(sys.argv[1]))
put(index, "before the place was kept")
index.keep_position(PLACE)
put(index, *(f"after it {n}" for n in range(200)))
index.delete(["i-after it 7"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing_that_was_written_and_frees_the_folder(
    tmp_path: Path,
) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    index = opened(tmp_path)
    assert index.position() == PLACE
    assert index.count() == 200
    found = index.search(ENCODER.encode(["after it 199"]), 1)[0][0]
    assert found.item.title == "after it 199"
    assert index.get(["i-after it 7"]) == {}
    index.close()


def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    index = opened(tmp_path)
    with pytest.raises(IndexInUse, match=f"process {os.getpid()} .*WEFT_DATA_DIR"):
        opened(tmp_path)
    put(index, "unharmed")
    index.close()
    opened(tmp_path).close()


@pytest.mark.parametrize(
    ("encoder", "dim", "said"),
    [("another", 32, "its encoder is 'hash-32'"), (ENCODER.name, 64, "its dim is 32")],
)
def test_an_index_of_another_encoder_is_refused(
    tmp_path: Path, encoder: str, dim: int, said: str
) -> None:
    opened(tmp_path).close()
    with pytest.raises(IndexIncompatible, match=f"{said}.*delete that folder"):
        EdgeIndex(tmp_path, encoder, dim)
    opened(tmp_path).close()  # the refusal released the folder


@pytest.mark.parametrize("manifest", ['{"format": 0, "encoder": "hash-32", "dim": 32}', "[]", "{"])
def test_an_index_of_an_older_version_or_a_damaged_one_is_refused(
    tmp_path: Path, manifest: str
) -> None:
    opened(tmp_path).close()
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(IndexIncompatible, match="delete that folder"):
        opened(tmp_path)


@pytest.mark.parametrize("position", ["{", '{"source": "x"}', '{"source": "x", "offsets": [1]}'])
def test_a_damaged_place_is_refused_not_guessed(tmp_path: Path, position: str) -> None:
    index = opened(tmp_path)
    (tmp_path / "position.json").write_text(position)
    with pytest.raises(IndexIncompatible, match=r"position\.json"):
        index.position()
    index.close()


def test_damaged_points_are_refused_with_what_to_do(tmp_path: Path) -> None:
    index = opened(tmp_path)
    put(index, "linen dress")
    index.close()
    (tmp_path / "points" / "edge_config.json").write_text("{")
    with pytest.raises(IndexIncompatible, match="delete that folder"):
        opened(tmp_path)


def test_a_making_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "manifest.json").unlink()  # it is written last
    index = opened(tmp_path)
    assert index.count() == 0
    assert json.loads((tmp_path / "manifest.json").read_text())["dim"] == 32
    index.close()


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(IndexFull, match="WEFT_DATA_DIR"):
        opened(tmp_path, reserve=2**60)
    index = opened(tmp_path)
    put(index, "linen dress")
    index.close()
    with pytest.raises(IndexFull):
        opened(tmp_path, reserve=2**60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 300 MB, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes Linux and root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_an_error_of_ours_and_loses_nothing_that_was_written(
    small_disk: Path,
) -> None:
    rng = np.random.default_rng(0)

    def batch(number: int) -> tuple[list[Item], list[np.ndarray]]:
        rows = rng.normal(size=(256, 384)).astype(np.float32)
        items = [Item(f"{number}-{n}", "x" * 500, 1_700_000_000_000) for n in range(256)]
        return items, list(rows)

    index = EdgeIndex(small_disk / "index", "wide", 384)

    def fill() -> None:
        for number in itertools.count():
            index.upsert(*batch(number))
            written.append(number)

    written: list[int] = []
    with pytest.raises(IndexFull, match="make room"):
        fill()
    assert len(written) > 1
    assert index.count() >= len(written) * 256
    index.keep_position(PLACE)
    index.close()
    with pytest.raises(IndexFull):
        EdgeIndex(small_disk / "index", "wide", 384)
    subprocess.run(["mount", "-o", "remount,size=600m", str(small_disk)], check=True)
    index = EdgeIndex(small_disk / "index", "wide", 384)
    assert index.position() == PLACE
    assert index.count() >= len(written) * 256
    index.upsert(*batch(5_000))
    assert index.get(["5000-0"])["5000-0"].vector is not None
    index.close()


def test_a_folder_that_cannot_be_made_is_a_matter_of_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSettings, match="WEFT_DATA_DIR"):
        opened(tmp_path / "file" / "index")


def test_the_space_of_removed_items_is_given_back_when_it_is_opened(tmp_path: Path) -> None:
    def used() -> int:
        segments = (tmp_path / "points" / "segments").rglob("*")
        return sum(path.stat().st_blocks * 512 for path in segments if path.is_file())

    index = EdgeIndex(tmp_path, "wide", 384)
    rows = list(np.random.default_rng(0).normal(size=(1_000, 384)).astype(np.float32))
    for turn in range(6):
        items = [Item(f"{turn}-{n}", "x" * 200, 1_700_000_000_000) for n in range(1_000)]
        index.upsert(items, rows)
        if turn < 5:
            index.delete([item.item_id for item in items])
    index.close()
    before = used()
    index = EdgeIndex(tmp_path, "wide", 384)
    assert index.count() == 1_000
    assert index.search(np.array([rows[3]]), 1)[0][0].item.item_id == "5-3"
    index.close()
    assert used() < 0.6 * before
