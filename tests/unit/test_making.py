"""Folders made once survive kills, races and damage."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models import atomic_folder
from models.errors import MissingWeights
from testbed.waiting import eventually

OF = {"sha256": "abc", "format": "1"}

#: Makes the folder named first, slowly, noting in the file named second that it began.
SLOW = """
import sys, time
from pathlib import Path
from models import atomic_folder

def make(fresh):
    (fresh / "part").write_text("half")
    with open(sys.argv[2], "a") as notes:
        notes.write("began\\n")
    time.sleep(float(sys.argv[3]))
    (fresh / "part").write_text("whole")

atomic_folder.once(Path(sys.argv[1]), {"sha256": "abc", "format": "1"}, make, print)
"""


def writing(words: str) -> Callable[[Path], None]:
    def make(fresh: Path) -> None:
        (fresh / "part").write_text(words)
        (fresh / "inner").mkdir()
        (fresh / "inner" / "part").write_text(words)

    return make


def refusing(_fresh: Path) -> None:
    raise AssertionError("it was there already")


def slow(folder: Path, notes: Path, seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SLOW, str(folder), str(notes), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert atomic_folder.once(folder, OF, writing("x"), print) == folder
    atomic_folder.once(folder, OF, refusing, print)
    made = atomic_folder.look(folder)
    assert made is not None
    assert made.undamaged
    assert set(made.sha256) == {"part", "inner/part"}


def test_a_folder_made_of_something_else_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    atomic_folder.once(folder, {**OF, "format": "0"}, writing("old"), print)
    atomic_folder.once(folder, OF, writing("new"), print)
    assert (folder / "part").read_text() == "new"


@pytest.mark.parametrize("damage", ["short", "gone", "no manifest", "odd manifest"])
def test_a_folder_that_is_not_whole_is_made_anew(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "made"
    atomic_folder.once(folder, OF, writing("good"), print)
    if damage == "short":
        (folder / "part").write_text("go")
    elif damage == "gone":
        (folder / "inner" / "part").unlink()
    elif damage == "no manifest":
        (folder / atomic_folder.MANIFEST).unlink()
    else:
        (folder / atomic_folder.MANIFEST).write_text('{"files": []}')
    atomic_folder.once(folder, OF, writing("good"), print)
    made = atomic_folder.look(folder)
    assert made is not None
    assert made.undamaged


def test_a_flipped_bit_is_found_by_the_thorough_check(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    atomic_folder.once(folder, OF, writing("good"), print)
    (folder / "part").write_text("goof")
    atomic_folder.once(folder, OF, refusing, print)
    atomic_folder.once(folder, OF, writing("good"), print, thorough=True)
    assert (folder / "part").read_text() == "good"


def test_a_failed_making_leaves_the_old_folder_and_no_litter(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    atomic_folder.once(folder, {**OF, "format": "0"}, writing("old"), print)
    with pytest.raises(AssertionError):
        atomic_folder.once(folder, OF, refusing, print)
    assert (folder / "part").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"made", ".made.lock"}


def test_a_making_that_is_killed_half_way_is_done_anew(tmp_path: Path) -> None:
    folder, notes = tmp_path / "made", tmp_path / "notes"
    killed = slow(folder, notes, 60)
    eventually(notes.exists)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not folder.exists()
    atomic_folder.once(folder, OF, writing("whole"), print)
    assert (folder / "part").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"made", ".made.lock", "notes"}


def test_of_two_processes_started_at_once_one_makes_and_one_waits(tmp_path: Path) -> None:
    folder, notes = tmp_path / "made", tmp_path / "notes"
    both = [slow(folder, notes, 1), slow(folder, notes, 1)]
    assert [process.wait() for process in both] == [0, 0]
    assert notes.read_text() == "began\n"
    assert (folder / "part").read_text() == "whole"


def test_a_disk_that_refuses_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MissingWeights, match="WEFT_DATA_DIR"):
        atomic_folder.once(tmp_path / "file" / "made", OF, writing("x"), print)
