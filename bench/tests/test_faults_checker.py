"""The fault bench's checker on hand-made topics: what is lost, doubled or stale is found."""

from __future__ import annotations

from itertools import islice, pairwise

import orjson
import pytest

from bench.faults.actions import actions, invented
from bench.faults.checker import Kept, Ledger, Verdict, check, reach_of_list, reach_of_state
from bench.faults.schedule import KILL_POINTS, KILLS, FaultKind, Sent, faults, records, sizes, storm
from bench.faults.topics import Lists
from models.domain import Kind
from models.errors import BadMessage
from stream.contracts.codec import ShopperEvent, decode_shopper

KEY = b"nora"
CLICK = ShopperEvent(Kind.CLICK, "nora", 1_000, "i1", event_id="e1")
LATE = ShopperEvent(Kind.CLICK, "nora", 900, "i2")
BOUGHT = ShopperEvent(Kind.PURCHASE, "nora", 1_100, "i3")
BAD = ("clicks", 1, 7)
#: the steps of a state in which all is well: (ts, the topic's rank, offset, kind, item, query)
STEPS = [
    [900, 0, 5, "click", "i2", None],
    [1_000, 0, 3, "click", "i1", None],
    [1_100, 1, 0, "purchase", "i3", None],
]
OFFSETS = {"clicks": 5, "purchases": 0}


def ledger() -> Ledger:
    """The click lands at 3 and, sent twice, at 4; a late click at 5; a purchase at 0."""
    known = Ledger(bad={BAD})
    known.landed(CLICK, "clicks", 3)
    known.landed(CLICK, "clicks", 4)
    known.landed(LATE, "clicks", 5)
    known.landed(BOUGHT, "purchases", 0)
    return known


def state(steps: list[list[object]] = STEPS, offsets: dict[str, int] = OFFSETS) -> bytes:
    bought = [[*s[:3], s[4]] for s in steps if s[3] == "purchase"]
    return orjson.dumps({"v": 1, "o": offsets, "s": steps, "b": bought, "e": ["e1"]})


def shown(offsets: dict[str, int] = OFFSETS, items: int = 1) -> bytes:
    item = {"item_id": "i9", "score": 1.0, "reason": "as i1", "source": "titles"}
    as_of = {"partition": 0, "offsets": offsets, "ts": 1_700_000_000_000}
    fields = {"user_id": "nora", "items": [item] * items, "reranked": False, "model": "zero"}
    return orjson.dumps(fields | {"trigger": "click", "as_of": as_of, "ts": 1_700_000_000_000})


def verdict(
    changelog: list[bytes | None] | None = None,
    lists: list[bytes | None] | None = None,
    letters: tuple[tuple[str, int, int], ...] = (BAD,),
) -> Verdict:
    """Of these records of the one shopper, the newest last; by default of those that are right."""
    states, shows = Kept(), Kept()
    for value in [state()] if changelog is None else changelog:
        states.put(KEY, value, reach_of_state(value))
    for value in [shown()] if lists is None else lists:
        shows.put(KEY, value, reach_of_list(KEY, value))
    return check(ledger(), states, shows, letters)


def test_the_right_states_and_lists_are_sound_and_every_event_is_counted() -> None:
    found = verdict()
    assert found.sound
    assert (found.events, found.once, found.left_out) == (4, 3, 1)
    assert found.examples == []


def test_a_lost_event_is_found() -> None:
    found = verdict([state(STEPS[1:])])
    assert (found.lost, found.duplicated, found.wrong_states, found.sound) == (1, 0, 1, False)
    assert "(900, 0, 5)" in found.examples[0]


def test_a_record_applied_twice_is_found() -> None:
    found = verdict([state([STEPS[0], *STEPS])])
    assert (found.lost, found.duplicated, found.wrong_states, found.sound) == (0, 1, 1, False)


def test_an_event_id_applied_at_both_of_its_records_is_found() -> None:
    second = [1_000, 0, 4, "click", "i1", None]
    found = verdict([state([*STEPS[:2], second, STEPS[2]])])
    assert (found.lost, found.duplicated, found.wrong_states, found.sound) == (0, 1, 1, False)


def test_steps_in_the_order_of_arrival_are_a_wrong_state() -> None:
    found = verdict([state([STEPS[1], STEPS[0], STEPS[2]])])
    assert (found.lost, found.duplicated, found.wrong_states, found.sound) == (0, 0, 1, False)


def test_a_purchase_that_the_rules_would_not_know_of_is_a_wrong_state() -> None:
    forgetful = orjson.loads(state()) | {"b": []}
    found = verdict([orjson.dumps(forgetful)])
    assert (found.lost, found.wrong_states, found.sound) == (0, 1, False)


@pytest.mark.parametrize("changelog", [[], [b"no state"]])
def test_a_shopper_without_a_readable_state_has_lost_all_events(changelog: list[bytes]) -> None:
    found = verdict([*changelog])
    assert (found.lost, found.once, found.wrong_states, found.sound) == (3, 0, 1, False)


def test_a_list_of_all_events_but_the_last_is_stale() -> None:
    found = verdict(lists=[shown(OFFSETS | {"clicks": 4})])
    assert (found.stale, found.overwritten_lists, found.sound) == (1, 0, False)


def test_a_list_that_never_came_and_one_without_items_are_stale() -> None:
    assert verdict(lists=[]).stale == 1
    assert verdict(lists=[shown(items=0)]).stale == 1
    assert verdict(lists=[None]).stale == 1


def test_an_older_list_or_state_over_a_newer_one_is_told_apart() -> None:
    older = OFFSETS | {"clicks": 4}
    found = verdict([state(), state(STEPS[1:], older)], [shown(), shown(older)])
    assert (found.stale, found.overwritten_lists) == (1, 1)
    assert (found.wrong_states, found.overwritten_states, found.lost) == (1, 1, 1)


def test_a_missing_dead_letter_and_a_good_record_among_them_are_found() -> None:
    found = verdict(letters=(("clicks", 1, 3), ("clicks", 1, 3)))
    assert (found.letters_missing, found.letters_unexpected, found.letters_again) == (1, 1, 1)
    assert not found.sound


def test_a_dead_letter_written_twice_breaks_no_promise() -> None:
    found = verdict(letters=(BAD, BAD))
    assert (found.letters_again, found.sound) == (1, True)


def test_an_erased_shopper_must_have_the_marker_and_a_tombstone() -> None:
    known = ledger()
    known.landed(ShopperEvent(None, "nora", 2_000), "erasures", 8)
    marker = orjson.dumps({"v": 1, "o": OFFSETS | {"erasures": 8}, "x": 2_000})
    states, lists = Kept({KEY: marker}), Kept({KEY: None})
    assert check(known, states, lists, [BAD]).sound
    assert check(known, Kept({KEY: state()}), lists, [BAD]).lost == 1
    assert check(known, states, Kept({KEY: shown()}), [BAD]).stale == 1


def test_a_state_from_before_the_run_that_changed_is_a_lost_one() -> None:
    known = ledger()
    known.held = {b"held0": b"as it was"}
    states = Kept({KEY: state(), b"held0": b"otherwise"})
    found = check(known, states, Kept({KEY: shown()}), [BAD])
    assert (found.lost, found.held, found.sound) == (1, 1, False)


def test_the_same_seed_sends_the_same_records_and_does_the_same_faults() -> None:
    planned = sizes(1, 50)

    def of(seed: int) -> list[object]:
        return [*records(invented(), planned, seed), *faults(planned, seed, 6.0, 2)]

    assert of(4) == of(4)
    assert of(4) != of(5)


def test_a_run_of_ten_and_one_of_sixty_minutes_hold_what_the_promise_names() -> None:
    ten, sixty = sizes(10, 100), sizes(60, 100)
    assert (ten.kills, ten.rebalances, ten.broker, ten.index, ten.bad) == (12, 5, 1, 1, 10_000)
    assert (sixty.kills, sixty.rebalances, sixty.broker, sixty.index) == (50, 20, 5, 5)
    assert sixty.bad == 100_000
    kinds = [fault.kind for fault in faults(ten, 1, 6.0, 2)]
    assert sum(kind in KILLS for kind in kinds) == 12
    assert kinds.count(FaultKind.ZOMBIE) == 2
    assert kinds.count(FaultKind.BUNDLE) == 2
    assert set(KILL_POINTS) < set(kinds)
    assert len(kinds) == 12 + 5 + 1 + 1 + 2 + 2


def test_every_bad_message_is_refused_and_every_good_one_taken() -> None:
    sent = list(records(invented(), sizes(1, 50), 3))
    assert sum(record.action is None for record in sent) == 1_000
    for record in sent:
        assert refused(record) == (record.action is None)


def test_half_of_the_bad_messages_come_in_a_storm_on_clicks_and_good_ones_go_on_meanwhile() -> None:
    planned = sizes(1, 50)
    begins, ends = storm(planned, 3)
    sent = list(records(invented(), planned, 3))
    assert [record.at for record in sent] == sorted(record.at for record in sent)
    within = [record for record in sent if begins <= record.at < ends]
    good = [record for record in within if record.action is not None]
    assert len(good) == pytest.approx(50 * (ends - begins), abs=1)
    on_clicks = sum(record.action is None and record.topic == "clicks" for record in within)
    assert on_clicks >= 500


def test_an_event_waits_for_the_first_list_that_knows_it() -> None:
    known = Ledger()
    known.landed(CLICK, "clicks", 3, 100.0)
    known.landed(BOUGHT, "purchases", 0, 101.0)
    known.landed(ShopperEvent(Kind.CLICK, "mia", 1_000, "i1"), "clicks", 4, 102.0)
    lists = Lists()
    lists.made[KEY] = [(100.5, (4, 0, 0, 0)), (101.5, (4, 0, 0, 0)), (103.0, (4, 1, 0, 0))]
    lists.made[b"mia"] = [(104.0, ())]
    assert list(lists.waits(known)) == [(100.0, 0.5), (101.0, 2.0)]


def refused(record: Sent) -> bool:
    if record.partition >= 0:  # right bytes in a partition that is not the key's
        return True
    try:
        decode_shopper(record.topic, record.key, record.value, 1_800_000_000_000)
    except BadMessage:
        return True
    return False


def test_a_shopper_comes_with_late_events_second_records_and_no_more_steps_than_are_kept() -> None:
    by_user: dict[str, list[ShopperEvent]] = {}
    for action in islice(actions(invented(), 6), 20_000):
        by_user.setdefault(action.user_id, []).append(action)
    late = twice = 0
    for made in by_user.values():
        ids = [action.event_id for action in made if action.event_id]
        twice += len(ids) - len(set(ids))
        late += sum(after.ts < before.ts for before, after in pairwise(made))
        assert len({(a.ts, a.kind, a.event_id, a.item_id, a.query) for a in made}) <= 50
    assert twice > 500
    assert late > 1000
