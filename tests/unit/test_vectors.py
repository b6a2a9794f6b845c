"""Vectors on disk: kept across restarts, bounded, and never in the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.encoder.cache import CachedEncoder
from models.ports import FloatArray
from testbed.stand_ins import HashEncoder

TITLES = [f"dress number {n}" for n in range(40)]


class Named(HashEncoder):
    """A HashEncoder by another name; ``shape`` it shares."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vectors.sqlite"


def quiet(words: str) -> None:
    raise AssertionError(f"there was nothing to say, but: {words}")


def rows(file: Path) -> int:
    with sqlite3.connect(file) as connection:
        (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
    return int(count)


def test_a_restart_encodes_nothing_again(file: Path) -> None:
    first = CachedEncoder(HashEncoder(), file, quiet)
    before = first.encode(TITLES)
    first.close()
    inner = HashEncoder()
    second = CachedEncoder(inner, file, quiet)
    assert np.array_equal(second.encode(TITLES), before)
    assert (inner.encoded, second.encoded, second.reused) == (0, 0, 40)


def test_a_text_given_twice_is_encoded_once(file: Path) -> None:
    inner = HashEncoder()
    cached = CachedEncoder(inner, file, quiet)
    vectors = cached.encode(["a", "b", "a", "a"])
    assert inner.encoded == 2
    assert (cached.encoded, cached.reused) == (2, 2)
    assert np.array_equal(vectors[0], vectors[3])


def test_only_new_texts_are_encoded(file: Path) -> None:
    inner = HashEncoder()
    cached = CachedEncoder(inner, file, quiet)
    cached.encode(TITLES[:30])
    cached.encode(TITLES)
    assert inner.encoded == 40


def test_float16_costs_less_than_a_millionth_of_cosine(file: Path) -> None:
    exact = HashEncoder(384).encode(TITLES)
    kept = CachedEncoder(HashEncoder(384), file, quiet).encode(TITLES)
    assert (exact * kept).sum(axis=1).min() > 1 - 1e-6


def test_two_encoders_share_a_file_but_no_vector(file: Path) -> None:
    CachedEncoder(Named("one"), file, quiet).encode(TITLES)
    other = Named("two")
    CachedEncoder(other, file, quiet).encode(TITLES)
    assert other.encoded == 40
    assert rows(file) == 80


def test_the_oldest_go_first_when_it_is_full(file: Path) -> None:
    inner = HashEncoder()
    cached = CachedEncoder(inner, file, quiet, most=25)
    for start in range(0, 40, 10):
        cached.encode(TITLES[start : start + 10])
    assert rows(file) == 25
    cached.encode(TITLES[-25:])
    assert inner.encoded == 40
    cached.encode(TITLES[:1])
    assert inner.encoded == 41


@pytest.mark.parametrize("damage", [b"this is no database" * 100, b""])
def test_a_damaged_file_is_set_aside_and_begun_anew(file: Path, damage: bytes) -> None:
    file.write_bytes(damage)
    said: list[str] = []
    cached = CachedEncoder(HashEncoder(), file, said.append)
    cached.encode(TITLES)
    cached.close()
    assert len(said) == (1 if damage else 0)  # an empty file is a new database
    assert file.with_name("vectors.sqlite.damaged").exists() == bool(damage)
    again = CachedEncoder(HashEncoder(), file, quiet)
    again.encode(TITLES)
    assert again.reused == 40


def test_a_file_damaged_while_open_costs_a_warning_and_no_vector(file: Path) -> None:
    said: list[str] = []
    cached = CachedEncoder(HashEncoder(384), file, said.append)
    titles = [f"coat number {n}" for n in range(2000)]
    cached.encode(titles)
    cached.close()
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(8192)
        opened.write(b"\xa5" * (size - 8192))  # all pages but the first two
    cached = CachedEncoder(HashEncoder(384), file, said.append)
    for _ in range(3):
        assert np.array_equal(
            cached.encode(titles),
            CachedEncoder(HashEncoder(384), file.with_name("fresh.sqlite"), quiet).encode(titles),
        )
    assert len(said) == 1
    assert cached.reused == 4000


def test_a_damaged_row_is_encoded_anew_and_mended(file: Path) -> None:
    CachedEncoder(HashEncoder(), file, quiet).encode(TITLES)
    nan = np.full(64, np.nan, dtype=np.float16).tobytes()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE vectors SET vector = ? WHERE id = 3", (nan,))
        connection.execute("UPDATE vectors SET vector = x'00' WHERE id = 7")
        connection.execute("UPDATE vectors SET vector = zeroblob(128) WHERE id = 9")
    cached = CachedEncoder(HashEncoder(), file, quiet)
    expected = CachedEncoder(HashEncoder(), file.with_name("other.sqlite"), quiet).encode(TITLES)
    assert np.array_equal(cached.encode(TITLES), expected)
    assert cached.encoded == 3
    cached.encode(TITLES)
    assert cached.encoded == 3


def test_where_nothing_can_be_written_titles_are_encoded_with_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said: list[str] = []
    cached = CachedEncoder(HashEncoder(), tmp_path / "file" / "vectors.sqlite", said.append)
    for _ in range(3):
        assert cached.encode(TITLES).shape == (40, 64)
    assert cached.encoded == 120
    assert len(said) == 1


def test_a_full_disk_stops_nothing_and_what_is_kept_is_still_used(file: Path) -> None:
    said: list[str] = []
    CachedEncoder(HashEncoder(384), file, quiet).encode(TITLES)
    cached = CachedEncoder(HashEncoder(384), file, said.append)
    cached._open.execute("PRAGMA max_page_count = 1")  # SQLite's own "disk is full"
    many = [f"{title}, {n}" for title in TITLES for n in range(20)]
    for _ in range(2):
        assert cached.encode(many).shape == (800, 384)
    assert len(said) == 1
    assert "full" in said[0]
    assert cached.encoded == 1600
    cached.encode(TITLES)
    assert cached.reused == 40


def test_a_file_locked_by_another_is_done_without(file: Path) -> None:
    said: list[str] = []
    cached = CachedEncoder(HashEncoder(), file, said.append)
    other = sqlite3.connect(file)
    other.execute("BEGIN IMMEDIATE")
    assert cached.encode(TITLES).shape == (40, 64)
    other.rollback()
    other.close()
    assert "locked" in said[0]
    cached.encode(TITLES)
    assert rows(file) == 40


def test_many_threads_share_one(file: Path) -> None:
    cached = CachedEncoder(HashEncoder(), file, quiet)
    expected = CachedEncoder(HashEncoder(), file.with_name("other.sqlite"), quiet).encode(TITLES)

    def encode(start: int) -> FloatArray:
        chosen: Sequence[str] = TITLES[start:] + TITLES[:start]
        return np.roll(cached.encode(chosen), start, axis=0)

    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(encode, list(range(40)) * 4):
            assert np.array_equal(found, expected)
    assert rows(file) == 40


def test_after_closing_it_still_encodes(file: Path) -> None:
    cached = CachedEncoder(HashEncoder(), file, quiet)
    cached.close()
    assert cached.encode(TITLES).shape == (40, 64)
    cached.close()
