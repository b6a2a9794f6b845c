"""What every adapter of the item index promises to the worker, run on each of the registry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from models.domain import Item
from models.errors import IndexIncompatible, InvalidSettings
from stream import settings as weft_settings
from stream.findings import Status
from stream.index.port import IndexAdapter, IndexHome, OwnIndex, SharedIndex
from stream.index.registry import ADAPTERS, adapter_of
from testbed.stand_ins import HashEncoder
from tests.qdrant_http import fake_qdrant

A, B = "a" * 12, "b" * 12
ENCODER = HashEncoder(dim=32)
DRESS = Item("d1", "black linen midi dress", 1_700_000_000_000)
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


@pytest.fixture(params=list(ADAPTERS))
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[IndexHome]:
    """Of a shop that has taken a name for its index which others may take, too."""
    with fake_qdrant() as server:
        settings = weft_settings.load(
            {}, data_dir=tmp_path, index=request.param, qdrant_url=server.url, collection="items"
        )
        yield IndexHome(settings, cluster="kraft-1")


@pytest.fixture
def adapter(home: IndexHome) -> IndexAdapter:
    return adapter_of(home.settings)


def fill(adapter: IndexAdapter, home: IndexHome, bundle: str) -> None:
    index = adapter.open(home, bundle, ENCODER.name, ENCODER.dim)
    index.upsert([DRESS], list(ENCODER.encode([DRESS.text])))
    index.close()


def test_an_index_is_either_its_workers_own_or_shared(
    adapter: IndexAdapter, home: IndexHome
) -> None:
    index = adapter.open(home, "", ENCODER.name, ENCODER.dim)
    assert isinstance(index, SharedIndex) is adapter.shared
    assert isinstance(index, OwnIndex) is not adapter.shared
    index.close()


def test_each_bundle_has_an_index_and_one_dropped_is_gone_alone(
    adapter: IndexAdapter, home: IndexHome
) -> None:
    assert adapter.known(home) == set()
    for bundle in ("", A, B):
        fill(adapter, home, bundle)
    outlives = adapter.known(home) == {"", A, B}
    adapter.drop(home, A)
    adapter.drop(home, A)  # which is gone already
    assert adapter.known(home) == ({"", B} if outlives else set())
    for bundle, there in ((A, 0), (B, int(outlives))):
        index = adapter.open(home, bundle, ENCODER.name, ENCODER.dim)
        assert index.count() == there
        index.close()


@pytest.mark.parametrize("theirs", ["another cluster", "another shop", "another group"])
def test_another_owners_index_is_neither_opened_nor_known_nor_dropped(
    adapter: IndexAdapter, home: IndexHome, theirs: str
) -> None:
    if not adapter.shared:
        pytest.skip("an index of one's own lies in one's own data folder")
    other = {
        "another cluster": replace(home, cluster="kraft-2"),
        "another shop": replace(home, settings=replace(home.settings, topic_prefix="hats-")),
        "another group": replace(home, settings=replace(home.settings, group="trial")),
    }[theirs]
    for bundle in ("", A):
        fill(adapter, other, bundle)
    assert adapter.known(home) == set()
    for bundle in ("", A):
        adapter.drop(home, bundle)
        with pytest.raises(IndexIncompatible, match="Set WEFT_COLLECTION to a name"):
            adapter.open(home, bundle, ENCODER.name, ENCODER.dim)
    assert adapter.examine(home, 1.0).status is Status.MISSING
    fill(adapter, home, B)
    assert (adapter.known(home), adapter.known(other)) == ({B}, {"", A})
    index = adapter.open(other, A, ENCODER.name, ENCODER.dim)
    assert set(index.get(["d1"])) == {"d1"}
    index.close()


def test_doctor_says_what_is_there_and_what_will_be(adapter: IndexAdapter, home: IndexHome) -> None:
    assert adapter.examine(home, 1.0).status is not Status.MISSING
    fill(adapter, home, "")
    assert adapter.examine(home, 1.0).status is Status.OK
    assert adapter.examine(replace(home, cluster=None), 1.0).status is Status.OK  # no broker


def test_a_name_that_is_none_is_refused_with_those_that_are(home: IndexHome) -> None:
    with pytest.raises(InvalidSettings, match=", ".join(ADAPTERS)):
        adapter_of(replace(home.settings, index="papyrus"))
