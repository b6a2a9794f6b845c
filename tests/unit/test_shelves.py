"""Indexes beside each other, and which bundle a worker begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from models.errors import BundleInvalid, IndexUnavailable
from stream import settings as weft_settings
from stream.bundles import library
from stream.bundles.control_topic import (
    ControlReader,
    Desired,
    Report,
    State,
    desired_record,
    report_record,
)
from stream.bundles.switch import first_choices
from stream.index.collections import Shelves
from stream.index.port import IndexHome
from stream.index.registry import adapter_of
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.delivery import KafkaDelivery
from stream.settings import Settings
from testbed.stand_ins import HashEncoder
from tests import tiny_bundle
from tests.qdrant_http import fake_qdrant

A, B = "a" * 12, "b" * 12


def settings_in(folder: Path, **changed: Any) -> Settings:
    return weft_settings.load({}, data_dir=folder, bundles=str(folder / "bundles"), **changed)


def shelves_of(settings: Settings) -> Shelves:
    return Shelves(IndexHome(settings), adapter_of(settings))


def index(settings: Settings, bundle: str) -> Path:
    folder = IndexHome(settings).path(bundle)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_each_bundle_has_an_index_of_its_own(tmp_path: Path) -> None:
    home = IndexHome(settings_in(tmp_path))
    assert home.path() == tmp_path / "index" / "weft-items"
    assert home.path(A) == tmp_path / "index" / f"weft-items-{A}"
    assert IndexHome(settings_in(tmp_path), tmp_path / "x").path(A) == tmp_path / f"x-{A}"
    assert (home.name(), home.name(A)) == ("weft-items", f"weft-items-{A}")


def test_each_shop_and_each_group_has_indexes_of_its_own_by_default(tmp_path: Path) -> None:
    kinds: list[dict[str, object]] = [
        {}, {"topic_prefix": "hats-"}, {"topic_prefix": "shoes-"}, {"group": "trial"}
    ]  # fmt: skip
    homes = [IndexHome(settings_in(tmp_path, **kind)) for kind in kinds]
    assert len({home.name() for home in homes}) == 4
    assert len({home.path(A) for home in homes}) == 4
    named = [IndexHome(settings_in(tmp_path, collection="one", **kind)) for kind in kinds]
    assert {home.name() for home in named} == {"one"}
    assert len({home.owner for home in named}) == 4


def test_only_the_indexes_of_other_bundles_are_cleared_away(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    folders = {bundle: index(settings, bundle) for bundle in ("", A, B)}
    others = [tmp_path / "index" / name for name in ("weft-items-2", "weft-items-mine", "else")]
    for other in others:
        other.mkdir()
        (other / "manifest.json").write_text("{}")
    shelves_of(settings).clear_away({A, B})
    assert not folders[""].exists()
    assert all(folder.exists() for folder in (folders[A], folders[B], *others))


def test_an_index_that_another_worker_has_open_is_not_cleared_away(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    held = adapter_of(settings).open(IndexHome(settings), A, "hash-8", 8)
    free = index(settings, B)
    shelves_of(settings).clear_away({""})
    assert not free.exists()  # one that cannot be deleted keeps no other
    assert IndexHome(settings).path(A).exists()
    held.close()
    shelves_of(settings).clear_away({""})
    assert not IndexHome(settings).path(A).exists()


def test_what_served_last_is_remembered_while_its_index_is_there(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    shelves = shelves_of(settings)
    assert shelves.last() is None
    shelves.remember(A, tmp_path / "bundles" / "x")
    assert shelves.last() is None
    index(settings, A)
    assert shelves_of(settings).last() == (A, str(tmp_path / "bundles" / "x"))
    (tmp_path / "index" / "weft-items-serving.json").write_text("[]")
    assert shelves.last() is None


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
def test_a_server_that_is_away_is_not_taken_for_an_index_that_is_gone(tmp_path: Path) -> None:
    with fake_qdrant() as server:
        settings = settings_in(tmp_path, index="server", qdrant_url=server.url)
        adapter_of(settings).open(IndexHome(settings), A, "hash-8", 8).close()
        shelves_of(settings).remember(A, None)
        server.failures = [503]
        with pytest.raises(IndexUnavailable):
            shelves_of(settings).last()
        assert shelves_of(settings).last() == (A, "")


class Bundles:
    """Two bundles, and what a worker would start with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first, self.second = (
            tiny_bundle.write(folder / "bundles" / name, HashEncoder(24), seed=seed, name=name)
            for seed, name in enumerate(("first", "second"))
        )

    def choices(
        self, desired: Desired | None = None, running: Report | None = None, **changed: object
    ) -> list[str | None]:
        """What a worker may start with. On the topic are the desired state, the report of a
        worker that was killed, where ``running`` is given, and then that worker's.
        """
        settings = settings_in(self.folder, **changed)
        with EmbeddedBroker() as broker:
            config, topic = {"bootstrap.servers": broker.bootstrap}, "weft-bundle"
            Producer({**config, "log_level": 0}).list_topics(topic, timeout=10)  # which creates it
            delivery = KafkaDelivery(config, settings.partitioner)
            told = [desired_record(topic, desired, 1)] if desired else []
            if running is not None:
                dead = [Report(f"dead{n}", B, "", State.SERVING, B, 0) for n in range(3)]
                told += [report_record(topic, report, 1) for report in (*dead, running)]
            with ControlReader(config, topic) as control:
                delivery.deliver(told)
                control.to_the_end()
                if running is not None:  # it beats while the new one listens
                    delivery.deliver([report_record(topic, running, 2, beat=True)])
                found = first_choices(settings, control, shelves_of(settings), patience=0.1)
                chosen = [None if path is None else path.name for path in found]
            delivery.close()
        return chosen

    def desired(self, name: str) -> Desired:
        told = {"first": self.first, "second": self.second}[name]
        return Desired(told.id, name, "", 5)


@pytest.fixture
def made(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path)


def test_a_new_worker_begins_with_the_wish_and_else_without_a_bundle(made: Bundles) -> None:
    assert made.choices() == [None, None]
    assert made.choices(made.desired("first")) == ["first", None]


def test_a_worker_begins_with_what_it_served_last(made: Bundles, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    index(settings, made.second.id)
    shelves_of(settings).remember(made.second.id, None)
    assert made.choices(made.desired("first")) == ["second", "first", None]


def test_a_wish_that_is_nowhere_leaves_the_worker_without_a_bundle(made: Bundles) -> None:
    assert made.choices(Desired("c" * 12, "gone", "/no/such/folder", 1)) == [None]


def test_the_setting_decides_alone(made: Bundles) -> None:
    assert made.choices(made.desired("first"), bundle="second") == ["second"]
    assert made.choices(made.desired("first"), bundle=made.second.id) == ["second"]
    assert made.choices(made.desired("first"), bundle="none") == [None]
    with pytest.raises(BundleInvalid, match=r"'third' is neither .*demo, first, second"):
        made.choices(bundle="third")


def test_a_new_worker_of_a_shared_index_serves_what_the_others_do_that_run(made: Bundles) -> None:
    server: dict[str, object] = {"index": "server", "qdrant_url": "http://[::1]:9"}
    old = Report("w", made.second.id, "", State.EMBEDDING, made.first.id, 1)
    assert made.choices(made.desired("second"), old, **server) == ["first", "second", None]
    new = Report("w", made.second.id, "", State.SERVING, made.second.id, 1)
    assert made.choices(made.desired("second"), new, **server) == ["second", None]


def test_a_bundle_is_found_by_its_id_first_here_and_then_where_it_was_told_to_be(
    made: Bundles, tmp_path: Path
) -> None:
    within = [tmp_path / "bundles"]
    first = tmp_path / "bundles" / "first"
    assert library.locate_id(made.first.id, "/elsewhere", within) == first
    assert library.locate_id(made.first.id, str(first), []) == first
    with pytest.raises(BundleInvalid, match=f"it is {made.first.id} now"):
        library.locate_id(A, str(first), [])
    with pytest.raises(BundleInvalid, match="WEFT_BUNDLES"):
        library.locate_id(A, "/elsewhere", within)


def test_of_two_bundles_of_one_name_the_newest_is_meant(made: Bundles, tmp_path: Path) -> None:
    within = [tmp_path / "bundles"]
    created = "2027-01-01T00:00:00Z"
    tiny_bundle.write(within[0] / "third", HashEncoder(24), seed=7, name="first", created=created)
    assert library.locate("first", within).name == "third"
    assert library.locate(made.first.id, within).name == "first"
    assert library.locate(str(within[0] / "first"), []).name == "first"


def test_a_damaged_bundle_is_listed_with_the_reason(made: Bundles, tmp_path: Path) -> None:
    (tmp_path / "bundles" / "first" / "manifest.json").write_text("{}")
    found = dict(library.found([tmp_path / "bundles", tmp_path / "none"]))
    assert isinstance(found[tmp_path / "bundles" / "first"], BundleInvalid)
    assert found[tmp_path / "bundles" / "second"] == made.second
