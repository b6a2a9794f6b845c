"""What holds for any input: of a shopper's state, of mix-up, of rules."""

from __future__ import annotations

from functools import cache

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from models.domain import History, Item, Kind
from models.recommend.rules import Rules, split_by_seen
from models.space.mixup import STRATEGIES, MixUp, MixUpConfig
from stream.contracts.codec import ShopperEvent
from stream.contracts.topics import SHOPPER_TOPICS, topic_of
from stream.shoppers.state import BOUGHT_KEPT, STEPS_KEPT, Applied, ShopperState, loads

T0 = 1_700_000_000_000
_QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_FEW = settings(_QUICK, max_examples=80)

Log = dict[str, list[tuple[int, ShopperEvent]]]
_RECORDS = st.lists(
    st.tuples(
        st.sampled_from([*Kind, *Kind, None]),  # an erasure in seven
        st.integers(0, 9),  # seconds: they tie
        st.integers(1, 3),  # offsets have gaps
        st.integers(0, 12),  # event ids repeat where they are asked for
    ),
    max_size=60,
)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["next"] * 6 + ["again", "keep", "crash"]),
        st.sampled_from(SHOPPER_TOPICS),
        st.integers(1, 9),
    ),
    max_size=120,
)


def log_of(records: list[tuple[Kind | None, int, int, int]], *, ids: bool = False) -> Log:
    """By topic (offset, event), in the order in which the broker has them."""
    log: Log = {topic: [] for topic in SHOPPER_TOPICS}
    for number, (kind, second, gap, event_id) in enumerate(records):
        item = f"i{number}" if kind in (Kind.CLICK, Kind.PURCHASE) else None
        query = f"q{number}" if kind is Kind.SEARCH else None
        known = f"e{event_id}" if ids and kind is not None else None
        there = log[topic_of(kind)]
        offset = (there[-1][0] if there else -1) + gap
        there.append((offset, ShopperEvent(kind, "u", T0 + second, item, query, known)))
    return log


class Worker:
    """A worker's reading of one shopper's topics; ``once`` are the records that its state holds."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._read = dict.fromkeys(log, 0)
        self.state = ShopperState()
        self.once: list[tuple[str, int, ShopperEvent]] = []
        self._kept = self.state.dumps(), dict(self._read), list(self.once)

    def do(self, action: str, topic: str, count: int) -> None:
        if action == "next":
            self._next(topic)
        elif action == "again":
            self._read[topic] = max(0, self._read[topic] - count)
        elif action == "keep":  # the state is on the changelog
            self._kept = self.state.dumps(), dict(self._read), list(self.once)
        else:  # and comes back from there; the group's offsets are no newer than it
            kept, read, once = self._kept
            self.state, self.once = loads(kept), list(once)
            self._read = {name: max(0, at - count) for name, at in read.items()}

    def finish(self) -> None:
        for topic, records in self._log.items():
            while self._read[topic] < len(records):
                self._next(topic)

    def _next(self, topic: str) -> None:
        if (at := self._read[topic]) == len(self._log[topic]):
            return
        offset, event = self._log[topic][at]
        fresh = offset > self.state.offsets.get(topic, -1)
        applied = self.state.apply(topic, offset, event)
        assert fresh or applied is Applied.AGAIN
        if fresh:
            self.once.append((topic, offset, event))
        self._read[topic] = at + 1


def worked(log: Log, steps: list[tuple[str, str, int]]) -> Worker:
    worker = Worker(log)
    for step in steps:
        worker.do(*step)
    worker.finish()
    return worker


@_QUICK
@given(records=_RECORDS, steps=_STEPS)
def test_any_redelivery_gives_what_sorting_the_records_gives(
    records: list[tuple[Kind | None, int, int, int]], steps: list[tuple[str, str, int]]
) -> None:
    log = log_of(records)
    state = worked(log, steps).state
    erased = max((event.ts for _, event in log["erasures"]), default=None)
    left = sorted(
        (event.ts, rank, offset, event)
        for rank, topic in enumerate(SHOPPER_TOPICS)
        for offset, event in log[topic]
        if event.kind is not None and (erased is None or event.ts > erased)
    )
    rows = [(*place, e.kind and e.kind.value, e.item_id, e.query) for *place, e in left]
    bought = [(*place, e.item_id) for *place, e in left if e.kind is Kind.PURCHASE]
    assert state.rows == rows[-STEPS_KEPT:]
    assert state.bought == bought[-BOUGHT_KEPT:]
    assert state.erased_at == erased
    assert state.offsets == {topic: there[-1][0] for topic, there in log.items() if there}


@_QUICK
@given(records=_RECORDS, steps=_STEPS)
def test_any_redelivery_of_repeated_event_ids_gives_the_state_of_exactly_once(
    records: list[tuple[Kind | None, int, int, int]], steps: list[tuple[str, str, int]]
) -> None:
    log = log_of(records, ids=True)
    worker = worked(log, steps)
    exact = ShopperState()
    for topic, offset, event in worker.once:
        exact.apply(topic, offset, event)
    assert worker.state == exact
    assert len(worker.once) == sum(map(len, log.values()))
    assert loads(worker.state.dumps()) == worker.state


_ITEMS = st.lists(st.builds(Item, st.sampled_from("abcdefg"), st.just("t"), st.just(0),
                            in_stock=st.booleans()), max_size=12)  # fmt: skip
_SOME = st.frozensets(st.sampled_from("abcdefg"))


@given(items=_ITEMS, bought=_SOME, seen=_SOME)
def test_rules_leave_out_nothing_that_may_be_shown_and_let_nothing_else_in(
    items: list[Item], bought: frozenset[str], seen: frozenset[str]
) -> None:
    kept = Rules().chosen(items, History(bought=bought), (), len(items))
    shown = [items[position].item_id for position in kept]
    assert kept == sorted(kept)
    assert len(set(shown)) == len(shown)
    assert set(shown) == {item.item_id for item in items if item.in_stock} - bought
    new, again = split_by_seen(items, kept, seen)
    assert sorted(new + again) == kept
    assert [new, again] == [sorted(new), sorted(again)]
    assert {items[position].item_id for position in again} == set(shown) & seen


_NUMBER = st.floats(-4, 4, width=32)
_TITLES = st.lists(st.lists(_NUMBER, min_size=4, max_size=4), min_size=3, max_size=3)
_COUNTS = st.lists(st.integers(0, 10_000), min_size=3, max_size=3)
_SHARES = st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3)


@cache
def untrained(strategy: str) -> MixUp:
    torch.manual_seed(0)
    config = MixUpConfig(strategy, title_dim=4, dim=6, hidden=5)
    mix = MixUp(config, 3).eval()
    if mix.ids is not None:
        torch.nn.init.normal_(mix.ids.weight)
    return mix


def mixer(strategy: str, counts: list[int], shares: list[float]) -> MixUp:
    mix = untrained(strategy)
    mix.counts[:] = torch.tensor([0, *counts])
    mix.shares[:] = torch.tensor(shares)
    return mix


@_FEW
@given(st.sampled_from(STRATEGIES), _TITLES, _COUNTS, _SHARES)
def test_a_mixed_vector_has_length_one_or_stands_for_an_item_of_which_nothing_is_known(
    strategy: str, titles: list[list[float]], counts: list[int], shares: list[float]
) -> None:
    mix = mixer(strategy, counts, shares)
    with torch.inference_mode():
        made = mix(torch.tensor([1, 2, 3]), torch.tensor(titles))
    for vector, title, count in zip(made, titles, counts, strict=True):
        known = (strategy != "title" and count > 0) or (strategy != "id" and any(title))
        if known or strategy == "concat":  # whose bias is a direction of its own
            assert abs(vector.norm().item() - 1) < 1e-4
        else:
            assert not vector.any()


@_FEW
@given(st.sampled_from([s for s in STRATEGIES if s not in ("id", "concat")]), _TITLES, _SHARES)
def test_a_new_item_is_its_titles_side_whatever_the_weights(
    strategy: str, titles: list[list[float]], shares: list[float]
) -> None:
    mix = mixer(strategy, [0, 7, 40], shares)
    told = torch.tensor(titles)
    with torch.inference_mode():
        assert mix.title is not None
        side = normalize(mix.title(told), dim=-1) * (told.abs().sum(-1, keepdim=True) > 0)
        rows = torch.tensor([0, 1, 0])  # of no row, and of one whose ID was never trained
        made = mix(rows, told)
    assert torch.allclose(made[:, -6:], side, atol=1e-5)
    assert not made[:, :-6].any()  # the ID's side, where both stay apart
