"""The server adapter over real HTTP and TLS: keys, outages, sizes, other collections."""

from __future__ import annotations

import logging
import ssl
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme
from qdrant_client import QdrantClient, models

from models.domain import Item
from models.errors import IndexFull, IndexIncompatible, IndexUnavailable, InvalidSettings
from stream.index.port import Owner
from stream.index.server import ServerIndex
from stream.index.server_client import connect
from testbed.stand_ins import HashEncoder
from tests.qdrant_http import FakeQdrant, fake_qdrant

ENCODER = HashEncoder(dim=32)
DRESS = Item("d1", "black linen dress", 1_700_000_000_000)
OWNER = Owner("kraft-1", "shoes-", "weft")
SECRET = "k3y-that-nobody-may-see"

pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")


@pytest.fixture
def server() -> Iterator[FakeQdrant]:
    with fake_qdrant() as fake:
        yield fake


def opened(client: QdrantClient) -> ServerIndex:
    return ServerIndex(client, "weft-items", ENCODER.name, ENCODER.dim, OWNER)


def put(index: ServerIndex, *items: Item) -> None:
    index.upsert(items, list(ENCODER.encode([item.text for item in items])))


def test_the_api_key_opens_the_server(server: FakeQdrant) -> None:
    server.api_key = SECRET
    index = opened(connect(server.url, SECRET))
    put(index, DRESS)
    assert index.search(ENCODER.encode([DRESS.text]), 1)[0][0].item == DRESS


@pytest.mark.parametrize("key", ["", f"wrong-{SECRET}"])
def test_a_wrong_key_is_named_as_such_and_shown_nowhere(
    server: FakeQdrant, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.api_key = SECRET
    caplog.set_level(logging.DEBUG)
    client = connect(server.url, key)
    with pytest.raises(InvalidSettings, match="WEFT_QDRANT_API_KEY") as caught:
        opened(client)
    shown = "".join(traceback.format_exception(caught.value)) + repr(client) + repr(caught.value)
    assert SECRET not in shown
    assert SECRET not in caplog.text


@pytest.mark.parametrize("key", [f"{SECRET}\n", f"{SECRET}é"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str) -> None:
    with pytest.raises(InvalidSettings, match="qdrant_api_key") as caught:
        connect("http://127.0.0.1:6333", key)
    assert SECRET not in str(caught.value)


def test_with_tls_and_the_authority_s_certificate_it_works(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with fake_qdrant(context) as server:
        server.api_key = SECRET
        index = opened(connect(server.url, SECRET, ca=str(tmp_path / "ca.pem")))
        put(index, DRESS)
        assert index.count() == 1
        with pytest.raises(IndexUnavailable, match="WEFT_QDRANT_CA"):
            opened(connect(server.url, SECRET))


def test_an_answer_that_does_not_come_in_time_is_an_outage(server: FakeQdrant) -> None:
    server.delay = 3
    with pytest.raises(IndexUnavailable, match="ReadTimeout"):
        opened(connect(server.url, timeout=1))
    server.delay = 0
    assert opened(connect(server.url)).count() == 0


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_a_server_in_trouble_is_an_outage_and_the_index_goes_on_after_it(
    server: FakeQdrant, status: int
) -> None:
    index = opened(connect(server.url))
    server.failures = [status]
    with pytest.raises(IndexUnavailable, match=f"HTTP {status}"):
        put(index, DRESS)
    put(index, DRESS)
    assert index.count() == 1


def test_no_server_at_all_is_an_outage() -> None:
    with pytest.raises(IndexUnavailable, match="WEFT_QDRANT_URL"):
        opened(connect("http://127.0.0.1:1"))


def test_a_server_s_full_disk_is_said(server: FakeQdrant) -> None:
    index = opened(connect(server.url))
    server.failures, server.words = [500], "Service internal error: No space left on device"
    with pytest.raises(IndexFull, match="make room"):
        put(index, DRESS)


def test_a_request_that_the_server_refuses_stops_with_its_words(server: FakeQdrant) -> None:
    index = opened(connect(server.url))
    server.failures, server.words = [404], "Collection `weft-items` doesn't exist!"
    with pytest.raises(IndexIncompatible, match="doesn't exist"):
        index.count()


def test_batches_stay_under_five_megabytes_and_wait_for_the_write(server: FakeQdrant) -> None:
    wide = ServerIndex(connect(server.url), "wide", "wide", 384, OWNER)
    rows = list(np.random.default_rng(0).normal(size=(600, 384)).astype(np.float32))
    items = [
        Item(f"i{n}", "t", 1_700_000_000_000, description="é" * 10_000 if n < 200 else None)
        for n in range(600)
    ]
    wide.upsert(items, rows)
    assert wide.count() == 600
    assert len(server.sizes) > 1
    assert max(server.sizes) < 5_000_000
    assert all(server.waited)


def test_a_collection_of_another_encoder_is_refused(server: FakeQdrant) -> None:
    opened(connect(server.url))
    with pytest.raises(IndexIncompatible, match=r"hash-32.*WEFT_COLLECTION"):
        ServerIndex(connect(server.url), "weft-items", "another", 32, OWNER)


def test_a_collection_of_another_dimension_is_refused(server: FakeQdrant) -> None:
    opened(connect(server.url))
    with pytest.raises(IndexIncompatible, match="32 numbers, not 64"):
        ServerIndex(connect(server.url), "weft-items", "hash-64", 64, OWNER)


def test_somebody_else_s_collection_is_refused(server: FakeQdrant) -> None:
    other = models.VectorParams(size=32, distance=models.Distance.COSINE)
    connect(server.url).create_collection("weft-items", other)
    with pytest.raises(IndexIncompatible, match="no cosine vector"):
        opened(connect(server.url))
    connect(server.url).create_collection("mine", {"title": other})
    with pytest.raises(IndexIncompatible, match="weft_format"):
        ServerIndex(connect(server.url), "mine", ENCODER.name, 32, OWNER)


def test_two_workers_agree_on_a_collection_s_identity_and_a_new_one_has_another(
    server: FakeQdrant,
) -> None:
    first, second = opened(connect(server.url)), opened(connect(server.url))
    assert first.identity == second.identity
    assert len(first.identity) == 12
    other = ServerIndex(connect(server.url), "other", ENCODER.name, ENCODER.dim, OWNER)
    assert other.identity != first.identity


def test_a_collection_whose_making_was_interrupted_is_made_whole(server: FakeQdrant) -> None:
    """Without an index of its field Qdrant orders by none: there would be no newest items."""
    server.failures = [200, 200, 503]  # the second call has made it
    with pytest.raises(IndexUnavailable):
        opened(connect(server.url))
    assert server.collections() == {"weft-items"}
    assert server.indexed == []
    opened(connect(server.url))
    assert {name for _, name in server.indexed} == {"stock", "ts"}


@pytest.mark.parametrize("url", ["127.0.0.1:6333", "ftp://host", "https://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="qdrant_url"):
        connect(url)


def test_an_authority_s_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"qdrant_ca.*ca\.pem"):
        connect("https://host:6333", ca=str(tmp_path / "ca.pem"))
