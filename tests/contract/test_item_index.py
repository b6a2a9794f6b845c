"""What every ItemIndex promises, run on each adapter."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient

from models.domain import Item
from models.ports import FloatArray, Hit, ItemIndex
from stream.index.port import IndexHome, Owner
from stream.index.registry import ADAPTERS, adapter_of
from stream.index.server import ServerIndex
from stream.index.server_client import connect
from stream.replay.play.memo_index import RememberingIndex
from stream.settings import Settings
from testbed.stand_ins import HashEncoder, MemoryIndex
from tests.qdrant_http import fake_qdrant

ENCODER = HashEncoder(dim=32)
OWNER = Owner("kraft-1", "", "weft")
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


@dataclass
class Adapter:
    """How a test opens one; ``reopen`` is None where nothing outlives the process."""

    open: Callable[[], ItemIndex]
    reopen: Callable[[ItemIndex], ItemIndex] | None = None
    threads: bool = True


def registered(name: str) -> Callable[[Path, ExitStack], Adapter]:
    """One of the registry, as a worker opens it."""

    def made(folder: Path, closing: ExitStack) -> Adapter:
        server = closing.enter_context(fake_qdrant())
        settings = Settings(index=name, data_dir=folder, qdrant_url=server.url)
        adapter, home = adapter_of(settings), IndexHome(settings)

        def opened() -> ItemIndex:
            return adapter.open(home, "", ENCODER.name, ENCODER.dim)

        def reopened(index: ItemIndex) -> ItemIndex:
            index.close()
            return opened()

        opened().close()
        return Adapter(opened, reopened if adapter.known(home) else None)

    return made


def remembering(folder: Path, _closing: ExitStack) -> Adapter:
    def opened() -> ItemIndex:
        return RememberingIndex(folder / "items", ENCODER.name, ENCODER.dim)

    def reopened(index: ItemIndex) -> ItemIndex:
        index.close()
        return opened()

    return Adapter(opened, reopened, threads=False)  # a replay has one


def local(_folder: Path, _closing: ExitStack) -> Adapter:
    client = QdrantClient(":memory:")
    return Adapter(
        lambda: ServerIndex(client, "items", ENCODER.name, ENCODER.dim, OWNER),
        lambda _: ServerIndex(client, "items", ENCODER.name, ENCODER.dim, OWNER),
        threads=False,  # the client's local mode is for one thread; a server is not
    )


def server(_folder: Path, closing: ExitStack) -> Adapter:
    if not (url := os.environ.get("WEFT_TEST_QDRANT_URL")):
        pytest.skip("no Qdrant server: set WEFT_TEST_QDRANT_URL, e.g. http://127.0.0.1:6333")
    collection = f"weft-test-{uuid.uuid4().hex}"
    closing.callback(connect(url).delete_collection, collection)

    def opened() -> ItemIndex:
        return ServerIndex(connect(url), collection, ENCODER.name, ENCODER.dim, OWNER)

    def reopened(index: ItemIndex) -> ItemIndex:
        index.close()
        return opened()

    return Adapter(opened, reopened)


KINDS: dict[str, Callable[[Path, ExitStack], Adapter]] = {
    "fake": lambda _folder, _closing: Adapter(MemoryIndex),
    "remembering": remembering,
    "local": local,
    "real server": server,
    **{f"WEFT_INDEX={name}": registered(name) for name in ADAPTERS},
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.qdrant if name == "real server" else ())
        for name in KINDS
    ]
)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Adapter]:
    with ExitStack() as closing:
        yield KINDS[request.param](tmp_path, closing)


@pytest.fixture
def index(adapter: Adapter) -> Iterator[ItemIndex]:
    opened = adapter.open()
    yield opened
    opened.close()


def put(index: ItemIndex, *items: Item) -> None:
    rows = [ENCODER.encode([item.text])[0] if item.text else None for item in items]
    index.upsert(items, rows)


def ask(index: ItemIndex, text: str, limit: int = 10) -> list[Hit]:
    return index.search(ENCODER.encode([text]), limit)[0]


def ids(hits: list[Hit]) -> list[str]:
    return [hit.item.item_id for hit in hits]


DRESS = Item("d1", "black linen midi dress", 1_700_000_000_000)
JEANS = Item("j1", "blue denim jeans", 1_700_000_000_001)


def test_an_item_is_found_as_soon_as_its_upsert_returns(index: ItemIndex) -> None:
    put(index, DRESS, JEANS)
    hits = ask(index, DRESS.title)
    assert ids(hits) == ["d1", "j1"]
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert hits[1].score == pytest.approx(
        float(ENCODER.encode([DRESS.title])[0] @ ENCODER.encode([JEANS.title])[0]), abs=1e-5
    )


def test_every_field_comes_back_as_it_was(index: ItemIndex) -> None:
    full = Item(
        item_id="d2",
        title="robe d'été “Ζέφυρος” 👗",
        ts=1_700_000_000_123,
        category="dresses",
        brand="Łódź & Søn",
        colour="écru",
        description="two\nlines",
        price=49.0,
        currency="EUR",
        image_url="https://shop.example/d2.jpg",
        url="https://shop.example/d2",
        in_stock=False,
        attributes={"fit": "loose", "": "an empty name"},
    )
    bare = Item("b", "", 946_684_800_000)
    put(index, full, bare)
    got = index.get(["d2", "b"])
    assert got["d2"].item == full
    assert got["b"].item == bare
    assert got["b"].vector is None
    assert got["d2"].vector == pytest.approx(ENCODER.encode([full.text])[0], abs=1e-6)
    assert got["d2"].vector is not None
    assert got["d2"].vector.dtype == np.float32


def test_the_newest_ts_wins_and_an_equal_one_replaces(index: ItemIndex) -> None:
    put(index, DRESS)
    put(index, replace(DRESS, title="older", ts=DRESS.ts - 1))
    assert index.get(["d1"])["d1"].item == DRESS
    put(index, replace(DRESS, title="corrected"))
    assert index.get(["d1"])["d1"].item.title == "corrected"
    put(index, replace(DRESS, title="newer", ts=DRESS.ts + 1))
    assert index.get(["d1"])["d1"].item.title == "newer"
    assert index.count() == 1


def test_of_several_versions_in_one_call_the_newest_wins(index: ItemIndex) -> None:
    put(
        index,
        replace(DRESS, title="second", ts=DRESS.ts + 2),
        replace(DRESS, title="third", ts=DRESS.ts + 2),
        replace(DRESS, title="first", ts=DRESS.ts + 1),
    )
    assert index.get(["d1"])["d1"].item.title == "third"
    assert ask(index, "third")[0].score == pytest.approx(1.0, abs=1e-5)


def test_a_replaced_text_is_found_by_its_new_words_only(index: ItemIndex) -> None:
    put(index, DRESS)
    put(index, replace(DRESS, title="wool coat", ts=DRESS.ts + 1))
    assert ask(index, "wool coat")[0].score == pytest.approx(1.0, abs=1e-5)
    assert ask(index, DRESS.title)[0].score < 0.9


def test_a_deleted_item_is_gone_and_may_return(index: ItemIndex) -> None:
    put(index, DRESS, JEANS)
    index.delete(["d1", "never there"])
    assert index.get(["d1"]) == {}
    assert ids(ask(index, DRESS.title)) == ["j1"]
    assert index.count() == 1
    put(index, DRESS)
    assert ids(ask(index, DRESS.title)) == ["d1", "j1"]


def test_items_out_of_stock_are_kept_but_not_found(index: ItemIndex) -> None:
    put(index, replace(DRESS, in_stock=False), JEANS)
    assert ids(ask(index, DRESS.title)) == ["j1"]
    assert index.newest(5) == [JEANS]
    assert index.count() == 2
    put(index, replace(DRESS, ts=DRESS.ts + 1))
    assert ids(ask(index, DRESS.title)) == ["d1", "j1"]


def test_items_without_a_vector_are_kept_but_not_found(index: ItemIndex) -> None:
    bare = Item("b1", "", 1_800_000_000_000)
    put(index, bare, DRESS)
    assert ids(ask(index, DRESS.title)) == ["d1"]
    assert index.get(["b1"])["b1"].vector is None
    assert index.newest(1) == [bare]
    assert index.count() == 2


def test_an_item_that_loses_its_text_is_no_longer_found(index: ItemIndex) -> None:
    put(index, DRESS)
    put(index, replace(DRESS, title="", ts=DRESS.ts + 1))
    assert ask(index, "black linen midi dress") == []
    assert index.get(["d1"])["d1"].vector is None


@pytest.mark.parametrize("item_id", ["日本" * 42, "x" * 256, "a b/c?d#e%", "\x01", "0"])
def test_any_id_of_the_contract_works(index: ItemIndex, item_id: str) -> None:
    put(index, replace(DRESS, item_id=item_id), JEANS)
    assert set(index.get([item_id, "j1"])) == {item_id, "j1"}
    assert ids(ask(index, DRESS.title))[0] == item_id
    index.delete([item_id])
    assert index.count() == 1


def test_a_limit_beyond_the_count_gives_what_there_is(index: ItemIndex) -> None:
    put(index, DRESS, JEANS)
    assert len(ask(index, "dress", 1_000)) == 2
    assert len(index.newest(1_000)) == 2
    assert len(ask(index, "dress", 1)) == 1
    assert ask(index, "dress", 0) == []
    assert index.newest(0) == []


def test_nothing_asked_is_nothing_answered(index: ItemIndex) -> None:
    index.upsert([], [])
    index.delete([])
    assert index.get([]) == {}
    assert index.search(np.zeros((0, ENCODER.dim), np.float32), 5) == []
    assert index.search(ENCODER.encode(["dress"]), 5) == [[]]
    assert index.newest(5) == []
    assert index.count() == 0
    assert index.get(["unknown"]) == {}


def test_each_query_has_its_own_answer_in_the_order_asked(index: ItemIndex) -> None:
    coloured = [Item(f"c{n}", f"colour{n} dress", 1_700_000_000_000 + n) for n in range(20)]
    put(index, *coloured)
    answers = index.search(ENCODER.encode([item.title for item in coloured]), 3)
    assert [answer[0].item for answer in answers] == coloured
    for answer in answers:
        assert [h.score for h in answer] == sorted((h.score for h in answer), reverse=True)


def test_newest_is_by_ts_whatever_the_order_of_arrival(index: ItemIndex) -> None:
    items = [Item(f"n{n}", "dress", 1_700_000_000_000 + n) for n in (3, 1, 4, 0, 2)]
    put(index, *items)
    assert [item.item_id for item in index.newest(3)] == ["n4", "n3", "n2"]


def test_more_items_than_any_batch_arrive_whole(index: ItemIndex) -> None:
    items = [Item(f"m{n}", f"shirt number{n}", 1_700_000_000_000 + n) for n in range(700)]
    rows: list[FloatArray | None] = list(ENCODER.encode([item.title for item in items]))
    index.upsert(items, rows)
    assert index.count() == 700
    assert len(index.get([item.item_id for item in items])) == 700
    assert ask(index, "shirt number699")[0].item.item_id == "m699"
    index.delete([item.item_id for item in items[:600]])
    assert index.count() == 100


def test_a_vector_of_another_length_is_refused(adapter: Adapter, index: ItemIndex) -> None:
    if isinstance(index, MemoryIndex):
        pytest.skip("the one in memory takes any d until it is searched")
    with pytest.raises(ValueError, match="shape"):
        index.upsert([DRESS], [np.ones(7, np.float32)])


def test_what_was_written_is_there_after_opening_again(adapter: Adapter) -> None:
    if adapter.reopen is None:
        pytest.skip("nothing outlives the process")
    first = adapter.open()
    put(first, DRESS, Item("b1", "", 1_700_000_000_000))
    second = adapter.reopen(first)
    assert second.count() == 2
    assert ids(ask(second, DRESS.title)) == ["d1"]
    put(second, replace(DRESS, title="older", ts=DRESS.ts - 1))
    assert second.get(["d1"])["d1"].item == DRESS
    second.close()


def test_reads_are_right_while_another_thread_writes(adapter: Adapter, index: ItemIndex) -> None:
    if not adapter.threads:
        pytest.skip("this adapter is for one thread")
    put(index, DRESS)
    stop, failures, reads = threading.Event(), list[BaseException](), [0]

    def read() -> None:
        try:
            while not stop.is_set():
                hits = ask(index, DRESS.title, 3)
                assert hits[0].item == DRESS
                assert hits[0].score == pytest.approx(1.0, abs=1e-5)
                assert index.get(["d1"])["d1"].item == DRESS
                reads[0] += 1
        except BaseException as error:  # handed to the test's own thread below
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for batch in range(10):
        put(
            index,
            *(Item(f"w{batch}-{n}", f"sock {batch} {n}", 1_700_000_000_000) for n in range(20)),
        )
        index.delete([f"w{batch}-{n}" for n in range(10)])
    stop.set()
    reader.join()
    assert not failures
    assert reads[0] > 0
    assert index.count() == 101
