"""What training reads of two files, and what it leaves out of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.errors import InvalidFile
from stream.files.training_rows import held_out_categories, sources

CATEGORIES = {"i0": "Dress", "i1": "Coat", "i2": "Socks, tights", "i3": None}


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    file = tmp_path / "catalog.jsonl"
    rows = [{"item_id": i, "title": i, "category": c} for i, c in CATEGORIES.items()]
    lines = [json.dumps({n: v for n, v in row.items() if v is not None}) for row in rows]
    file.write_text("\n".join(lines), "utf-8")
    return file


@pytest.fixture
def events(tmp_path: Path) -> Path:
    file = tmp_path / "events.jsonl"
    rows = [
        {"type": "click", "user_id": "u", "item_id": item_id, "ts": 1_600_000_000_000 + n}
        for n, item_id in enumerate([*CATEGORIES, "unknown"])
    ]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return file


def test_held_out_are_the_events_and_not_the_products(catalog: Path, events: Path) -> None:
    told = sources(catalog, events, lambda _: None, held_out=["Coat", "Socks, tights"])
    assert [item.item_id for item in told.items()] == list(CATEGORIES)
    assert [event.item_id for event in told.events()] == ["i0", "i3", "unknown"]
    assert told.key != sources(catalog, events, lambda _: None).key


def test_categories_are_named_or_so_many_drawn_by_the_seed(catalog: Path) -> None:
    assert held_out_categories(catalog, ["Socks, tights", "Coat"], 0) == ("Coat", "Socks, tights")
    drawn = [held_out_categories(catalog, ["2"], seed) for seed in range(9)]
    assert all(len(each) == 2 for each in drawn)
    assert len(set(drawn)) > 1
    assert drawn[3] == held_out_categories(catalog, ["2"], 3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [("Hats", "no category 'Hats'; it has Coat, Dress, Socks, tights"), ("3", "has 3 categories")],
)
def test_what_cannot_be_held_out_is_refused(catalog: Path, asked: str, words: str) -> None:
    with pytest.raises(InvalidFile, match=words):
        held_out_categories(catalog, [asked], 0)
