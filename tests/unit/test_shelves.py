"""Indexes beside each other, and which bundle a worker begins with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import BundleInvalid
from models.fake import HashEncoder
from stream import bundles
from stream import settings as weft_settings
from stream.control import Report, State, Wish
from stream.settings import Settings
from stream.shelves import Shelves, collection_of, folder_of
from stream.switch import first_choices
from tests import tiny_bundle

A, B = "a" * 12, "b" * 12


def settings_in(folder: Path, **changed: Any) -> Settings:
    return weft_settings.load({}, data_dir=folder, bundles=str(folder / "bundles"), **changed)


def index(settings: Settings, bundle: str) -> Path:
    folder = folder_of(settings, None, bundle)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_each_bundle_has_an_index_of_its_own(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert folder_of(settings, None, "") == tmp_path / "index" / "weft-items"
    assert folder_of(settings, None, A) == tmp_path / "index" / f"weft-items-{A}"
    assert folder_of(settings, tmp_path / "x", A) == tmp_path / f"x-{A}"
    assert (collection_of(settings, ""), collection_of(settings, A)) == (
        "weft-items",
        f"weft-items-{A}",
    )


def test_only_the_indexes_of_other_bundles_are_cleared_away(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    folders = {bundle: index(settings, bundle) for bundle in ("", A, B)}
    others = [tmp_path / "index" / name for name in ("weft-items-2", "weft-items-mine", "else")]
    for other in others:
        other.mkdir()
        (other / "manifest.json").write_text("{}")
    Shelves(settings, None).clear_away({A, B})
    assert not folders[""].exists()
    assert all(folder.exists() for folder in (folders[A], folders[B], *others))


def test_what_served_last_is_remembered_while_its_index_is_there(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    shelves = Shelves(settings, None)
    assert shelves.last() is None
    shelves.remember(A, tmp_path / "bundles" / "x")
    assert shelves.last() is None
    index(settings, A)
    assert Shelves(settings, None).last() == (A, str(tmp_path / "bundles" / "x"))
    (tmp_path / "index" / "weft-items-serving.json").write_text("[]")
    assert shelves.last() is None


class Bundles:
    """Two bundles, and what a worker would start with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first, self.second = (
            tiny_bundle.write(folder / "bundles" / name, HashEncoder(24), seed=seed, name=name)
            for seed, name in enumerate(("first", "second"))
        )

    def choices(
        self, wish: Wish | None = None, *reports: Report, **changed: object
    ) -> list[str | None]:
        settings = settings_in(self.folder, **changed)
        control = SimpleNamespace(wish=wish, reports={r.worker: r for r in reports})
        shelves = Shelves(settings, None)
        found: Iterator[Path | None] = first_choices(settings, control, shelves)  # type: ignore[arg-type]
        return [None if path is None else path.name for path in found]

    def wish(self, name: str) -> Wish:
        told = {"first": self.first, "second": self.second}[name]
        return Wish(told.id, name, "", 5)


@pytest.fixture
def made(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path)


def test_a_new_worker_begins_with_the_wish_and_else_without_a_bundle(made: Bundles) -> None:
    assert made.choices() == [None, None]
    assert made.choices(made.wish("first")) == ["first", None]


def test_a_worker_begins_with_what_it_served_last(made: Bundles, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    index(settings, made.second.id)
    Shelves(settings, None).remember(made.second.id, None)
    assert made.choices(made.wish("first")) == ["second", "first", None]


def test_a_wish_that_is_nowhere_leaves_the_worker_without_a_bundle(made: Bundles) -> None:
    assert made.choices(Wish("c" * 12, "gone", "/no/such/folder", 1)) == [None]


def test_the_setting_decides_alone(made: Bundles) -> None:
    assert made.choices(made.wish("first"), bundle="second") == ["second"]
    assert made.choices(made.wish("first"), bundle=made.second.id) == ["second"]
    assert made.choices(made.wish("first"), bundle="none") == [None]
    with pytest.raises(BundleInvalid, match=r"'third' is neither .*demo, first, second"):
        made.choices(bundle="third")


def test_a_new_worker_of_a_shared_index_that_is_being_filled_serves_what_the_others_do(
    made: Bundles,
) -> None:
    old = Report("w", made.second.id, "", State.EMBEDDING, made.first.id, 1)
    assert made.choices(made.wish("second"), old, index="server", qdrant_url="http://[::1]:9") == [
        "first",
        "second",
        None,
    ]
    new = Report("w", made.second.id, "", State.SERVING, made.second.id, 1)
    assert made.choices(made.wish("second"), new, index="server", qdrant_url="http://[::1]:9") == [
        "second",
        None,
    ]


def test_a_bundle_is_found_by_its_id_first_here_and_then_where_it_was_told_to_be(
    made: Bundles, tmp_path: Path
) -> None:
    within = [tmp_path / "bundles"]
    first = tmp_path / "bundles" / "first"
    assert bundles.locate_id(made.first.id, "/elsewhere", within) == first
    assert bundles.locate_id(made.first.id, str(first), []) == first
    with pytest.raises(BundleInvalid, match=f"it is {made.first.id} now"):
        bundles.locate_id(A, str(first), [])
    with pytest.raises(BundleInvalid, match="WEFT_BUNDLES"):
        bundles.locate_id(A, "/elsewhere", within)


def test_of_two_bundles_of_one_name_the_newest_is_meant(made: Bundles, tmp_path: Path) -> None:
    within = [tmp_path / "bundles"]
    created = "2027-01-01T00:00:00Z"
    tiny_bundle.write(within[0] / "third", HashEncoder(24), seed=7, name="first", created=created)
    assert bundles.locate("first", within).name == "third"
    assert bundles.locate(made.first.id, within).name == "first"
    assert bundles.locate(str(within[0] / "first"), []).name == "first"


def test_a_damaged_bundle_is_listed_with_the_reason(made: Bundles, tmp_path: Path) -> None:
    (tmp_path / "bundles" / "first" / "manifest.json").write_text("{}")
    found = dict(bundles.found([tmp_path / "bundles", tmp_path / "none"]))
    assert isinstance(found[tmp_path / "bundles" / "first"], BundleInvalid)
    assert found[tmp_path / "bundles" / "second"] == made.second
