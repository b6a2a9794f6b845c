"""A replay asks first and applies afterwards; nothing of the future is in an answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.errors import InvalidFile
from stream.replay.questions import protocols
from stream.replay.questions.answers import Answers
from tests.replay_shop import DAY, START, ReplayShop, Row, titles


def play(shop: ReplayShop, work: Path, name: str = "prequential", **options: object) -> Answers:
    return shop.play(protocols.cut(shop.log, name), work, **options)  # type: ignore[arg-type]


def random_rows(seed: int = 3, users: int = 12, events: int = 160) -> list[Row]:
    """Days with several events, baskets among them."""
    rng = np.random.default_rng(seed)
    days = np.sort(rng.integers(0, 40, events))
    return [
        (["click", "purchase"][int(rng.integers(2))], f"u{rng.integers(users)}",
         f"i{rng.integers(60)}", int(day))
        for day in days
    ]  # fmt: skip


def test_a_question_is_answered_by_the_list_that_was_there_before(tmp_path: Path) -> None:
    rows = [("purchase", "ana", "i0", 1), ("click", "ana", "i5", 2)]
    shop = ReplayShop(tmp_path, titles(20), rows)
    answers = play(shop, tmp_path / "work")
    listed = shop.listed(answers, 0)
    assert len(answers.lists) == 1, "the first basket has no list before it"
    assert "i0" not in listed, "it was bought before"
    assert "i5" in listed, "it is looked at only afterwards"


def test_what_is_bought_again_is_found_where_bought_items_are_shown(tmp_path: Path) -> None:
    rows: list[Row] = [("purchase", "ana", "i0", day) for day in (1, 2)]
    shop = ReplayShop(tmp_path, titles(20), rows)
    hidden = play(shop, tmp_path / "hidden")
    shown = play(shop, tmp_path / "shown", bought="show")
    assert hidden.ranks.tolist() == [np.inf]
    assert shown.ranks.tolist() == [0]


def test_the_events_of_a_ts_are_one_question_with_all_their_items(tmp_path: Path) -> None:
    rows = [("click", "ana", "i0", 1), ("click", "ana", "i5", 2), ("purchase", "ana", "i9", 2)]
    shop = ReplayShop(tmp_path, titles(20), rows)
    baskets = protocols.cut(shop.log, "prequential").baskets
    assert [shop.log.item_ids[row - 1] for row in baskets.targets] == ["i5", "i9"]
    answers = play(shop, tmp_path / "work")
    assert np.isfinite(answers.ranks).all()


def test_what_is_popular_tomorrow_is_in_no_list_of_today(tmp_path: Path) -> None:
    crowd: list[Row] = [("click", f"other{n}", "hit", 2) for n in range(50)]
    rows = [("click", "ana", "silent", 1), *crowd, ("click", "ana", "hit", 2)]
    items = [("silent", ""), ("hit", ""), *titles(30)]
    shop = ReplayShop(tmp_path, items, rows)
    answers = play(shop, tmp_path / "work", list_size=10)
    assert shop.listed(answers, 0)[0] != "hit"
    later = ReplayShop(tmp_path / "later", items, [*rows, ("click", "ana", "silent", 3)])
    told = play(later, tmp_path / "later-work", list_size=10)
    assert later.listed(told, 1)[0] == "hit", "a day later it is the popular one"


def test_what_only_the_future_knows_helps_no_protocol_but_leave_one_out(tmp_path: Path) -> None:
    # nothing is known of what ana looks at, so her list is what is popular
    rows: list[Row] = [("click", "ana", f"silent{n}", n) for n in (1, 2)]
    rows += [("purchase", "ana", "hit", 3)]
    rows += [("click", f"other{n}", "hit", 9) for n in range(30)]
    rows += [("click", f"other{n}", f"i{n % 5}", 10) for n in range(30)]
    items = [("silent1", ""), ("silent2", ""), ("hit", ""), *titles(40)]
    shop = ReplayShop(tmp_path, items, rows)
    hit = shop.log.item_ids.index("hit") + 1

    def place(name: str, first: int | None = None) -> float:
        asked = protocols.cut(shop.log, name, first)
        answers = shop.play(asked, tmp_path / name, list_size=10)
        early = (asked.baskets.ts == START + 3 * DAY)[
            np.repeat(np.arange(len(asked.baskets)), np.diff(asked.baskets.offsets))
        ]
        (rank,) = answers.ranks[early & (asked.baskets.targets == hit)]
        return float(rank)

    assert place("prequential") >= 1
    assert place("time", START + 3 * DAY) >= 1
    assert place("last") == 0


def test_a_bundle_that_learnt_the_whole_log_leaves_nothing_to_ask_and_is_told_so(
    tmp_path: Path,
) -> None:
    rows: list[Row] = [("click", "ana", f"i{n}", n) for n in range(1, 4)]
    shop = ReplayShop(tmp_path, titles(5), rows)
    last = shop.log.summary.last_ts
    for name in ("time", "prequential"):
        with pytest.raises(InvalidFile, match="train it with --until or with --no-refit"):
            protocols.cut(shop.log, name, trained_until=last)
    insisted = protocols.cut(shop.log, "time", last - DAY, trained_until=last)
    assert "it may have seen" in insisted.warning
    assert len(protocols.cut(shop.log, "last", trained_until=last).baskets)


def test_batches_do_not_change_a_list(tmp_path: Path) -> None:
    shop = ReplayShop(tmp_path, titles(60), random_rows())
    one = play(shop, tmp_path / "one", batch=1, list_size=20)
    many = play(shop, tmp_path / "many", batch=1000, list_size=20)
    assert len(one.lists) > 60
    assert (np.asarray(one.lists) == np.asarray(many.lists)).all()
    assert (np.asarray(one.ranks) == np.asarray(many.ranks)).all()


@pytest.mark.parametrize("name", ["prequential", "last"])
@pytest.mark.parametrize("cut_at", [1, 3, 8])
def test_a_replay_that_was_killed_ends_as_one_that_was_not(
    tmp_path: Path, name: str, cut_at: int
) -> None:
    shop = ReplayShop(tmp_path, titles(60), random_rows())
    whole = play(shop, tmp_path / "whole", name, batch=4)
    with pytest.raises(KeyboardInterrupt):
        play(shop, tmp_path / "cut", name, batch=4, stop_at=cut_at)
    resumed = play(shop, tmp_path / "cut", name, batch=4)
    assert (np.asarray(whole.lists) == np.asarray(resumed.lists)).all()
    assert (np.asarray(whole.ranks) == np.asarray(resumed.ranks)).all()


def test_a_product_is_in_no_list_before_it_entered(tmp_path: Path) -> None:
    items = [*titles(8), ("new", "colour0 cut0 thing0", 5)]
    rows = [("click", "ana", "i0", day) for day in (1, 3, 6, 8)]
    shop = ReplayShop(tmp_path, items, rows)
    answers = play(shop, tmp_path / "work")
    assert ["new" in shop.listed(answers, question) for question in range(3)] == [
        False, False, True,
    ]  # fmt: skip


def test_leave_one_out_asks_the_last_event_and_applies_all_others(tmp_path: Path) -> None:
    rows = [("click", "ana", f"i{n}", n) for n in range(4)]
    rows += [("purchase", "bea", f"i{n}", n) for n in range(10, 15)]
    rows += [("click", "short", "i1", 1), ("click", "short", "i2", 2)]
    shop = ReplayShop(tmp_path, titles(30), rows)
    asked = protocols.cut(shop.log, "last")
    answers = play(shop, tmp_path / "work", "last")
    assert sorted(shop.log.item_ids[row - 1] for row in asked.baskets.targets) == ["i14", "i3"]
    assert np.isfinite(answers.ranks).all(), "what is asked was neither bought nor looked at"
    for question, target in enumerate(asked.baskets.targets):
        if shop.log.item_ids[target - 1] == "i14":
            assert not {"i10", "i11", "i12", "i13"} & set(shop.listed(answers, question))


def test_where_searches_led_is_learnt_of_those_who_are_not_asked_too(tmp_path: Path) -> None:
    rows: list[Row] = [
        row
        for n in range(12)
        for row in (("click", f"u{n}", "i1", n), ("search", f"u{n}", "evening", n + 1),
                    ("click", f"u{n}", f"i{n % 3 + 10}", n + 1.01), ("click", f"u{n}", "i2", n + 2))
    ]  # fmt: skip
    shop = ReplayShop(tmp_path, titles(20), sorted(rows, key=lambda row: row[3]))
    play(shop, tmp_path / "all")
    everybodys = shop.memory.dump()
    assert "evening" in everybodys
    answers = play(shop, tmp_path / "some", sampled=2)
    assert 0 < len(answers.lists) < 12
    assert shop.memory.dump() == everybodys


def counts_of(shop: ReplayShop) -> dict[str, int]:
    """Without the ranking, which may lag by one in a hundred."""
    return dict(json.loads(shop.popularity.dump())["totals"])


def test_what_is_popular_is_counted_alike_of_those_who_are_not_asked(tmp_path: Path) -> None:
    """By shopper and day, from a checkpoint inside a day on too."""
    rows: list[Row] = []
    for n in range(60):
        clicks = ["i1"] * 8 + [f"i{n % 3 + 2}", "i9"]
        begin = 30 + n // 20 + n % 20 / 100  # the same day for twenty shoppers
        rows += [("click", f"u{n}", item, begin + at / 30) for at, item in enumerate(clicks)]
        if n % 2:
            rows.append(("search", f"u{n}", "evening", begin + 4.5 / 30))
    shop = ReplayShop(tmp_path, titles(20), sorted(rows, key=lambda row: row[3]))
    play(shop, tmp_path / "all")
    everybodys = counts_of(shop)
    assert (everybodys["i1"], everybodys["i2"]) == (60, 20)
    play(shop, tmp_path / "some", sampled=6)
    assert counts_of(shop) == everybodys
    with pytest.raises(KeyboardInterrupt):
        play(shop, tmp_path / "cut", batch=1, sampled=6, stop_at=30)
    play(shop, tmp_path / "cut", batch=1, sampled=6)
    assert counts_of(shop) == everybodys


def test_only_the_asked_window_is_asked(tmp_path: Path) -> None:
    shop = ReplayShop(tmp_path, titles(60), random_rows())
    asked = protocols.cut(shop.log, "prequential", START + 10 * DAY, START + 20 * DAY)
    assert asked.baskets.ts.min() >= START + 10 * DAY
    assert asked.baskets.ts.max() < START + 20 * DAY
    answers = shop.play(asked, tmp_path / "work")
    whole = play(shop, tmp_path / "whole")
    every = protocols.cut(shop.log, "prequential").baskets
    inside = (every.ts >= START + 10 * DAY) & (every.ts < START + 20 * DAY)
    assert (np.asarray(answers.lists) == np.asarray(whole.lists)[inside]).all()
