"""What is derived counts shoppers: live, from the states alone, in a replay and in training."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain import Kind
from models.recommend.popularity import STEPS_A_DAY, Popularity
from models.recommend.query_memory import QueryMemory
from models.training.data.log import Logged
from models.training.data.trends import counted
from models.training.data.write_log import prepare
from stream.contracts.codec import ShopperEvent
from stream.contracts.topics import CLICKS, ERASURES, PURCHASES, SEARCHES
from stream.shoppers.aggregates import Aggregates, FirstOfDay
from stream.shoppers.state import STEPS_KEPT, Applied, ShopperState, loads
from testbed.stand_ins import HashEncoder
from tests.training_log import encode, items

DAY = 86_400_000
HOUR = DAY // 24
MONDAY = 20_000 * DAY
DRESS = "linen midi dress"
TOPICS = {
    Kind.CLICK: CLICKS,
    Kind.PURCHASE: PURCHASES,
    Kind.SEARCH: SEARCHES,
    None: ERASURES,
}


def click(user: str, item_id: str, ts: int, query: str | None = None) -> ShopperEvent:
    return ShopperEvent(Kind.CLICK, user, ts, item_id, query)


def search(user: str, ts: int, query: str = DRESS) -> ShopperEvent:
    return ShopperEvent(Kind.SEARCH, user, ts, None, query)


@dataclass
class Shop:
    """Events applied to states and learnt, as the processor does."""

    derived: Aggregates = field(
        default_factory=lambda: Aggregates(Popularity(28), QueryMemory(HashEncoder()))
    )
    states: defaultdict[str, ShopperState] = field(
        default_factory=lambda: defaultdict(ShopperState)
    )
    offset: int = -1

    def take(self, *events: ShopperEvent) -> Shop:
        for event in events:
            self.offset += 1
            state, topic = self.states[event.user_id], TOPICS[event.kind]
            if state.apply(topic, self.offset, event) is Applied.NEW:
                self.derived.learn(state, topic, self.offset, event)
        return self

    def popular(self) -> dict[str, int]:
        return dict(self.derived.popularity.top(1000))

    def led(self, query: str = DRESS) -> dict[str, tuple[int, Any]]:
        assert self.derived.memory is not None
        found = self.derived.memory.recall([query]).get(query, [])
        return {each.item_id: (each.count, pytest.approx(each.weight)) for each in found}

    def recovered(self) -> Shop:
        """Another worker, from the bytes of the states."""
        other = Shop()
        for user_id, state in self.states.items():
            other.states[user_id] = loads(state.dumps())
            other.derived.learn_all(user_id, other.states[user_id])
        other.offset = self.offset
        return other


def test_one_shoppers_many_clicks_are_one_of_the_day() -> None:
    shop = Shop()
    shop.take(*[click("bot", "junk", MONDAY + n) for n in range(500)])
    shop.take(click("ines", "dress", MONDAY), click("nora", "dress", MONDAY + DAY - 1))
    assert shop.popular() == {"dress": 2, "junk": 1}
    shop.take(click("ines", "dress", MONDAY + DAY), click("ines", "dress", MONDAY + DAY + 1))
    assert shop.popular() == {"dress": 3, "junk": 1}
    assert shop.recovered().popular() == shop.popular()


def test_a_purchase_after_the_click_is_the_same_choice() -> None:
    bought = ShopperEvent(Kind.PURCHASE, "ines", MONDAY + 1, "dress")
    assert Shop().take(click("ines", "dress", MONDAY), bought).popular() == {"dress": 1}
    assert Shop().take(bought, click("ines", "dress", MONDAY)).popular() == {"dress": 1}


def test_who_clicks_more_than_a_state_holds_counts_once_an_item_all_the_same() -> None:
    shop = Shop()
    everything = [f"i{n}" for n in range(STEPS_KEPT + 1)]
    for rounds in range(20):
        shop.take(*[click("bot", i, MONDAY + rounds * 1000 + n) for n, i in enumerate(everything)])
    assert set(shop.popular().values()) == {1}
    assert len(shop.popular()) == STEPS_A_DAY


def test_late_clicks_behind_a_full_state_do_not_count_again_and_again() -> None:
    shop = Shop()
    shop.take(*[click("bot", f"i{n}", MONDAY + DAY + n) for n in range(STEPS_KEPT - 1)])
    shop.take(*[click("bot", "junk", MONDAY + n) for n in range(100)])
    assert shop.popular().get("junk", 0) <= 1


def test_erasures_do_not_make_a_choice_new() -> None:
    shop = Shop()
    for n in range(50):
        shop.take(click("bot", "junk", MONDAY + 2 * n))
        shop.take(ShopperEvent(None, "bot", MONDAY + 2 * n + 1))
    assert shop.popular() == {"junk": 1}
    shop.take(click("bot", "junk", MONDAY + DAY))
    assert shop.popular() == {"junk": 2}


def test_two_shoppers_and_not_one_twice_are_others_who_chose() -> None:
    shop = Shop()
    for n in range(30):
        shop.take(search("bot", MONDAY + n * HOUR), click("bot", "junk", MONDAY + n * HOUR + 1))
    for user in ("ines", "nora"):
        shop.take(search(user, MONDAY + 30 * HOUR), click(user, "dress", MONDAY + 30 * HOUR + 1))
    assert shop.led() == {"dress": (2, 2)}
    assert shop.recovered().led() == shop.led()


def test_a_search_that_comes_after_its_click_led_to_it() -> None:
    shop = Shop()
    for user in ("ines", "nora"):  # of another topic: which comes first is luck
        shop.take(click(user, "dress", MONDAY + 1), search(user, MONDAY))
    assert shop.led() == {"dress": (2, 2)}
    assert shop.recovered().led() == shop.led()


@st.composite
def events(draw: st.DrawFn) -> list[ShopperEvent]:
    """Of three shoppers in five days, fewer than a state holds, in any order of arrival."""
    step = st.tuples(
        st.sampled_from(["ines", "nora", "vera"]), st.integers(0, 5 * 24 - 1),
        st.sampled_from([None, "a", "b", "c"]), st.sampled_from([None, DRESS, "wool coat"]),
    )  # fmt: skip
    told = draw(st.lists(step, max_size=STEPS_KEPT - 1))
    return [
        click(user, item_id, MONDAY + hour * HOUR, query) if item_id
        else search(user, MONDAY + hour * HOUR, query or DRESS)
        for user, hour, item_id, query in told
    ]  # fmt: skip


@given(events())
def test_counts_made_anew_from_the_states_are_those_that_were_there(
    told: list[ShopperEvent],
) -> None:
    shop = Shop().take(*told)
    assert shop.recovered().popular() == shop.popular()
    wanted = Counter(
        item_id
        for _, item_id, _ in {(e.user_id, e.item_id, e.ts // DAY) for e in told if e.item_id}
    )
    assert shop.popular() == wanted
    in_time = Shop().take(*sorted(told, key=lambda each: each.ts))
    for query in (DRESS, "wool coat"):
        assert in_time.recovered().led(query) == in_time.led(query)


@given(events(), st.integers(0, STEPS_KEPT))
def test_events_that_come_while_counts_are_made_anew_count_once(
    told: list[ShopperEvent], place: int
) -> None:
    before, after = told[:place], told[place:]
    shop = Shop().take(*before)
    other = Shop(states=shop.states, offset=shop.offset)
    kept = [(user_id, loads(state.dumps())) for user_id, state in shop.states.items()]
    other.take(*after)  # of shoppers whose states are still to be learnt
    for user_id, state in kept:
        other.derived.learn_all(user_id, state)
    assert other.popular() == Shop().take(*told).popular()


def busy(seed: int) -> list[tuple[str, int, str | None]]:
    """(shopper, ts, item or search) in order of time; some have more steps a day than count."""
    dice = random.Random(seed)
    names = [item.item_id for item in items()]
    told = []
    for n in range(6):
        for day in range(4):
            for _ in range(dice.choice([0, 3, 40, STEPS_A_DAY, 120])):
                item_id = dice.choice([None, *names[: dice.choice([3, 24])]])
                told.append((f"u{n}", MONDAY + day * DAY + dice.randrange(DAY), item_id))
    return sorted(told, key=lambda each: each[1])


@pytest.mark.parametrize("seed", range(5))
def test_live_replay_and_training_count_the_same(seed: int, tmp_path: Path) -> None:
    told = busy(seed)
    live = Shop().take(
        *[click(u, item_id, ts) if item_id else search(u, ts) for u, ts, item_id in told]
    )
    assert live.popular() == overlooked(told)
    one_by_one = sorted(told, key=lambda each: each[0])  # stable: as leave-one-out feeds them
    assert live.popular() == overlooked(one_by_one)
    log = prepare(tmp_path, items(), [
        Logged(u, ts, Kind.CLICK, item_id) if item_id else Logged(u, ts, Kind.SEARCH, None, DRESS)
        for u, ts, item_id in told
    ], encode)  # fmt: skip
    trained = Counter(log.item_ids[row - 1] for row in log.rows[counted(log)])
    assert live.popular() == trained
    assert 0 < sum(trained.values()) < sum(item_id is not None for _, _, item_id in told)


def overlooked(told: Iterable[tuple[str, int, str | None]]) -> dict[str, int]:
    first, counts = FirstOfDay(), Counter[str]()
    for n, (user_id, ts, item_id) in enumerate(told):
        if n % 50 == 0:  # a replay goes on from a checkpoint
            kept, first = first.dump(), FirstOfDay()
            first.restore(kept)
        if first.is_first(user_id, item_id, ts) and item_id:
            counts[item_id] += 1
    return counts


def test_a_state_that_is_full_holds_all_that_counts_of_a_day() -> None:
    assert STEPS_A_DAY == STEPS_KEPT - 1


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_no_count_is_above_the_shoppers_of_the_day(seed: int) -> None:
    dice = random.Random(seed)
    shop = Shop()
    told: list[ShopperEvent] = []
    for _ in range(4000):  # of any order, with erasures, far more than states hold
        user, ts = dice.choice("uvw"), MONDAY + dice.randrange(3 * DAY)
        if dice.random() < 0.01:
            told.append(ShopperEvent(None, user, ts))
        else:
            told.append(click(user, f"i{dice.randrange(dice.choice([4, 200]))}", ts))
    shop.take(*told)
    chosen = {(e.user_id, e.item_id, e.ts // DAY) for e in told if e.item_id}
    most = Counter(item_id for _, item_id, _ in chosen)
    assert shop.popular()
    assert all(count <= most[item_id] for item_id, count in shop.popular().items())
