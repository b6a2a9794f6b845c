"""What the first release wrote, this one reads: bytes kept as they were, not made anew.

``tests/fixtures/state-v1.tsv`` was written by stream/shoppers/state.py of commit 1cfef15: a name, a
tab and a record of the changelog a line. It never changes; a new version of the state gets a file
of its own beside it.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from models.domain import Kind, Step
from models.errors import UnreadableState
from stream.contracts.codec import ShopperEvent
from stream.shoppers.state import BOUGHT_KEPT, EVENT_IDS_KEPT, STEPS_KEPT, VERSION, Applied, loads

FILE = Path(__file__).parents[1] / "fixtures" / "state-v1.tsv"
BYTES = dict(line.split(b"\t", 1) for line in FILE.read_bytes().splitlines())
NAMES = [name.decode() for name in BYTES]
T0 = 1_700_000_000_000


def step(kind: str, second: int, item: str | None = None, query: str | None = None) -> Step:
    return Step(Kind(kind), T0 + second * 1000, item, query)


STEPS = {
    "one click": [step("click", 1, "i1")],
    "steps of every kind, out of order": [
        step("click", 2, "Größe/42 👗"),
        step("search", 4, None, "linen dress"),
        step("click", 5, "i1", "linen dress"),
        step("purchase", 9, "i2"),
    ],
    "more than is kept": [step("purchase", n, f"i{n}") for n in range(460, 510)],
    "a search alone": [step("search", 3, None, "wool \u202ecoat")],
    "erased": [],
    "erased, and back since": [step("click", 4, "i4")],
    "nothing but an offset": [],
}
OFFSETS = {
    "one click": {"clicks": 0},
    "steps of every kind, out of order": {"clicks": 5, "searches": 0, "purchases": 7},
    "more than is kept": {"purchases": 509},
    "a search alone": {"searches": 12},
    "erased": {"clicks": 0, "purchases": 0, "erasures": 4},
    "erased, and back since": {"clicks": 2, "erasures": 0},
    "nothing but an offset": {"erasures": 0},
}
DUE = {"steps of every kind, out of order", "a search alone", "erased, and back since"}


def test_the_first_releases_bytes_are_as_it_wrote_them() -> None:
    digest = sha256(FILE.read_bytes()).hexdigest()
    assert digest == "1a02e1d6a1fefbce9da02e2f43164720b6068f8d46da987d529c85f5a13a2cfb"


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_the_first_release_is_read_into_what_it_meant(name: str) -> None:
    state = loads(BYTES[name.encode()])
    assert list(state.history().steps) == STEPS[name]
    assert state.offsets == OFFSETS[name]
    assert state.rerank_due == (name in DUE)
    assert state.erased_at == (T0 + 3000 if "erased" in name or "offset" in name else None)
    assert state.is_marker == (name in ("erased", "nothing but an offset"))


def test_what_was_bought_and_which_events_were_counted_outlast_the_upgrade() -> None:
    full = loads(BYTES[b"more than is kept"])
    assert len(full.rows) == STEPS_KEPT
    assert full.history().bought == {f"i{n}" for n in range(510 - BOUGHT_KEPT, 510)}
    assert full.event_ids == [f"e{n}" for n in range(510 - EVENT_IDS_KEPT, 510)]
    mixed = loads(BYTES[b"steps of every kind, out of order"])
    assert mixed.history().bought == {"i2"}
    again = ShopperEvent(Kind.CLICK, "u", T0, "i1", event_id="e1")
    assert mixed.apply("clicks", 6, again) is Applied.AGAIN


@pytest.mark.parametrize("name", NAMES)
def test_what_the_first_release_had_applied_is_not_applied_again(name: str) -> None:
    state = loads(BYTES[name.encode()])
    for topic, offset in state.offsets.items():
        event = ShopperEvent(Kind.CLICK, "u", T0 + 10_000, "i1")
        assert state.apply(topic, offset, event) is Applied.AGAIN
    assert state.dumps() == BYTES[name.encode()]


@pytest.mark.parametrize("name", NAMES)
def test_going_back_is_safe_while_the_version_is_the_same(name: str) -> None:
    """The first release reads what this one writes: for the same state, the same bytes."""
    assert VERSION == 1
    assert loads(BYTES[name.encode()]).dumps() == BYTES[name.encode()]


@pytest.mark.parametrize("version", [VERSION + 1, 99, 0, -1])
def test_a_state_of_another_version_is_refused_with_what_to_do(version: int) -> None:
    record = orjson.loads(BYTES[b"one click"]) | {"v": version, "new": {"shape": []}}
    with pytest.raises(UnreadableState, match=rf"version {version},.*or a newer one"):
        loads(orjson.dumps(record))


@pytest.mark.parametrize("version", [None, True, "1", 1.0, [1], {"v": 1}])
def test_what_is_no_version_is_no_state(version: object) -> None:
    record = orjson.loads(BYTES[b"one click"]) | {"v": version}
    with pytest.raises(UnreadableState, match="no shopper's state"):
        loads(orjson.dumps(record))
