"""Each baseline on a log of which the answer is known by construction."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch

from models.baselines.base import Asked, Baseline, learnt_pairs, ranks_of, tuned
from models.baselines.neighbours import ItemKNN
from models.baselines.popular import LastItems, MostPopular, RecentlyPopular
from models.baselines.titles import TitleBM25, TitleSimilarity
from models.domain import Item, Kind
from models.ports import FloatArray
from models.training.data.log import Logged, TrainingLog
from models.training.data.splits import Questions, last_events, ranks
from models.training.data.write_log import prepare
from tests.training_log import DAY, encode, small_log

torch.set_num_threads(1)

ITEMS = [Item(f"i{n}", f"thing {n}", 0) for n in range(1, 9)]


def log_of(
    folder: Path, *told: tuple[str, int, int | str], items: Sequence[Item] = ITEMS
) -> TrainingLog:
    """(shopper, ts, item's number or a query) each; shoppers are found again by ``history``."""
    logged = [
        Logged(user, ts, Kind.SEARCH, query=said) if isinstance(said, str)
        else Logged(user, ts, Kind.CLICK, f"i{said}")
        for user, ts, said in told
    ]  # fmt: skip
    return prepare(folder, items, logged, encode)


def question(log: TrainingLog, *rows: int, ts: int = 2**60) -> Asked:
    """Of the shopper whose first events are ``rows``, the history."""
    for shopper, (start, stop) in enumerate(zip(log.offsets[:-1], log.offsets[1:], strict=True)):
        if log.rows[start : start + len(rows)].tolist() == list(rows) and stop - start >= len(rows):
            return Asked(*(np.array([v]) for v in (shopper, start, start + len(rows), ts)))
    raise AssertionError(f"no shopper begins with {rows}")


def scored(baseline: Baseline, log: TrainingLog, asked: Asked) -> list[list[float]]:
    """Of items 1 to n; 0 where a list would not have the item."""
    found = baseline.scores(log, asked)[:, 1:]
    assert not (found == 0).any()
    found = found.masked_fill(found == -torch.inf, 0)
    return [[round(v, 6) for v in row] for row in found.tolist()]


def best(baseline: Baseline, log: TrainingLog, asked: Asked) -> int:
    """The row of the highest score, which no other has."""
    scores = baseline.scores(log, asked)[0, 1:]
    assert (scores == scores.max()).sum() == 1
    return 1 + int(scores.argmax())


def popular(folder: Path) -> TrainingLog:
    """Item 1 on day 0 by three shoppers, 2 on day 5 by two, 3 on day 9 by one."""
    days = {1: 0, 2: 5, 3: 9}
    told = [
        (f"u{item}-{n}", days[item] * DAY, item) for item, times in ((1, 3), (2, 2), (3, 1))
        for n in range(times)
    ]  # fmt: skip
    return log_of(folder, *told)


# --- popular


def test_the_most_popular_has_most_training_events(tmp_path: Path) -> None:
    log = popular(tmp_path)
    baseline = MostPopular()
    baseline.fit(log, log.offsets[1:])
    assert scored(baseline, log, question(log, 3)) == [[3, 2, 1, 0, 0, 0, 0, 0]]


def test_streaming_the_most_popular_is_of_what_was_before(tmp_path: Path) -> None:
    log = popular(tmp_path)
    baseline = MostPopular(streaming=True)
    baseline.fit(log, log.offsets[:-1])
    assert scored(baseline, log, question(log, 3, ts=5 * DAY))[0][:3] == [3, 0, 0]
    assert scored(baseline, log, question(log, 3, ts=5 * DAY + 1))[0][:3] == [3, 2, 0]


def test_recently_popular_counts_no_event_at_the_questions_ts_or_later(tmp_path: Path) -> None:
    log = popular(tmp_path)
    for streaming in (True, False):
        baseline = RecentlyPopular(100, streaming=streaming)
        baseline.fit(log, log.offsets[1:])
        for day, counts in ((0, [0, 0, 0]), (1, [3, 0, 0]), (5, [3, 0, 0]), (6, [3, 2, 0])):
            assert scored(baseline, log, question(log, 3, ts=day * DAY))[0][:3] == counts


def test_recently_popular_forgets_what_is_older_than_its_days(tmp_path: Path) -> None:
    log = popular(tmp_path)
    baseline = RecentlyPopular(5, streaming=True)
    baseline.fit(log, log.offsets[1:])
    assert scored(baseline, log, question(log, 3, ts=5 * DAY))[0][:3] == [3, 0, 0]
    assert scored(baseline, log, question(log, 3, ts=6 * DAY))[0][:3] == [0, 2, 0]
    assert scored(baseline, log, question(log, 3, ts=10 * DAY))[0][:3] == [0, 2, 1]


def test_questions_in_any_order_see_their_own_time(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    told = [(f"u{n % 40}", int(random.integers(100)) * DAY, int(random.integers(1, 9)))
            for n in range(400)]  # fmt: skip
    log = log_of(tmp_path, *told)
    baseline = RecentlyPopular(7, streaming=True)
    baseline.fit(log, log.offsets[1:])
    ts = random.integers(0, 110, 50) * DAY
    zeros = np.zeros(50, dtype=np.int64)
    found = scored(baseline, log, Asked(zeros, zeros, zeros, ts))
    for row, now in zip(found, ts, strict=True):
        inside = (log.ts >= now - 7 * DAY) & (log.ts < now)
        assert row == np.bincount(log.rows[inside], minlength=9)[1:].tolist()


def test_without_streaming_only_training_events_are_recent(tmp_path: Path) -> None:
    log = popular(tmp_path)
    ends = np.where(log.rows == 2, log.offsets[:-1], log.offsets[1:])  # item 2 is held out
    asked = question(log, 3, ts=50 * DAY)
    for streaming, counts in ((False, [3, 0, 1]), (True, [3, 2, 1])):
        baseline = RecentlyPopular(100, streaming=streaming)
        baseline.fit(log, ends)
        assert scored(baseline, log, asked)[0][:3] == counts


# --- the shopper's own


def test_the_last_item_comes_first_again(tmp_path: Path) -> None:
    told: list[int | str] = [4, 2, 4, 7, "red", 2]
    log = log_of(tmp_path, *(("u", n, item) for n, item in enumerate(told)))
    baseline = LastItems()
    found = baseline.scores(log, question(log, 4, 2, 4, 7, 9, 2))[0, 1:]
    assert (found.argsort(descending=True)[:3] + 1).tolist() == [2, 7, 4]
    assert (found > -torch.inf).sum() == 3


# --- item-kNN


def together(folder: Path) -> TrainingLog:
    """1 and 2 have four shoppers of four, 1 and 3 have two; 4 is with 5 alone."""
    told: list[tuple[str, int, int | str]] = []
    for n in range(4):
        told += [(f"u{n}", 1, 1), (f"u{n}", 2, 2)]
    told += [(f"u{n}", 3, 3) for n in range(2)]
    told += [("v", 1, 4), ("v", 2, 5), ("w", 1, 1)]
    return log_of(folder, *told)


def test_knn_finds_the_planted_pair(tmp_path: Path) -> None:
    log = together(tmp_path)
    baseline = ItemKNN(5, 0, 20)
    baseline.fit(log, log.offsets[1:])
    assert best(baseline, log, question(log, 1)) == 2
    assert best(baseline, log, question(log, 4)) == 5


def test_knn_scores_by_cosine_and_shrinkage(tmp_path: Path) -> None:
    log = together(tmp_path)
    # shoppers: item 1 five, item 2 four, item 3 two; of both: 1 and 2 four, 1 and 3 two
    for shrinkage in (0.0, 10.0):
        baseline = ItemKNN(5, shrinkage, 20)
        baseline.fit(log, log.offsets[1:])
        expected = [0, 4 / (20**0.5 + shrinkage), 2 / (10**0.5 + shrinkage), 0, 0, 0, 0, 0]
        assert scored(baseline, log, question(log, 1))[0] == pytest.approx(expected, abs=1e-6)


def test_knn_keeps_so_many_neighbours(tmp_path: Path) -> None:
    log = together(tmp_path)
    baseline = ItemKNN(1, 0, 20)
    baseline.fit(log, log.offsets[1:])
    assert np.count_nonzero(scored(baseline, log, question(log, 1))) == 1


def test_knn_sums_over_a_history_each_item_once(tmp_path: Path) -> None:
    log = log_of(tmp_path, *(("a", n, item) for n, item in enumerate([1, 2, 1, 1])),
                 ("b", 1, 1), ("b", 2, 3), ("c", 1, 2), ("c", 2, 3))  # fmt: skip
    baseline = ItemKNN(5, 0, 20)
    baseline.fit(log, log.offsets[1:])
    # items 1, 2 and 3 have two shoppers each, and any two of them one in common
    assert scored(baseline, log, question(log, 1, 2, 1, 1))[0][2] == pytest.approx(1 / 2 + 1 / 2)


def test_knn_by_stretches_finds_what_all_pairs_at_once_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = small_log(tmp_path)
    monkeypatch.setattr("models.baselines.neighbours._CELLS", 5 * (log.items + 1))
    baseline = ItemKNN(log.items, 3, 20)
    baseline.fit(log, log.offsets[1:])
    shoppers, rows = learnt_pairs(log, log.offsets[1:])
    had = np.zeros((log.shoppers, log.items + 1))
    had[shoppers, rows] = 1
    common = had.T @ had
    sizes = np.sqrt(np.diag(common))
    expected = common / (np.outer(sizes, sizes) + 3)
    np.fill_diagonal(expected, 0)
    for row in (1, 7, log.items):
        first = np.flatnonzero(log.rows == row)[0]
        asked = Asked(*(np.array([v]) for v in (0, first, first + 1, 0)))
        assert scored(baseline, log, asked)[0] == pytest.approx(expected[row, 1:], abs=1e-6)


# --- titles

WORDS = ["linen midi dress", "linen shirt", "denim jacket", "denim midi skirt", "wool coat", ""]


def titled(folder: Path) -> TrainingLog:
    """One shopper: the jacket, then the dress. Vectors: one number a word."""
    known = sorted({word for text in WORDS for word in text.split()})

    def one_a_word(texts: list[str]) -> FloatArray:
        told = np.array([[float(word in text.split()) for word in known] for text in texts])
        return np.asarray(told / np.linalg.norm(told, axis=1, keepdims=True), dtype=np.float32)

    items = [Item(f"i{n}", text, 0) for n, text in enumerate(WORDS, 1)]
    events = [Logged("u", n, Kind.CLICK, item) for n, item in enumerate(["i3", "i1"])]
    return prepare(folder, items, events, one_a_word)


def test_title_similarity_is_the_cosine_to_the_weighted_mean(tmp_path: Path) -> None:
    log = titled(tmp_path)
    baseline = TitleSimilarity(0.5)
    found = baseline.scores(log, question(log, 3, 1))[0]
    # no word in common: the mean of dress and half a jacket has length sqrt(1 + 1/4)
    length = 1.25**0.5
    assert found[1] == pytest.approx(1 / length, abs=1e-3)
    assert found[3] == pytest.approx(0.5 / length, abs=1e-3)
    # the skirt shares one word of three with the dress, one of two and three with the jacket
    assert found[4] == pytest.approx((1 / 3 + 0.5 / 6**0.5) / length, abs=1e-3)
    assert found[5:].tolist() == [-torch.inf, -torch.inf]


def test_a_lower_decay_cares_less_for_what_is_older(tmp_path: Path) -> None:
    log = titled(tmp_path)
    for make in (TitleSimilarity, lambda decay: TitleBM25(decay, 0.75)):
        jackets = []
        for decay in (0.1, 0.5, 0.9):
            baseline = make(decay)
            baseline.fit(log, log.offsets[1:])
            found = baseline.scores(log, question(log, 3, 1))[0]
            jackets.append(float(found[3] / found[1]))
        assert jackets == sorted(jackets)
        assert jackets[0] < jackets[-1]


def test_bm25_is_the_formula(tmp_path: Path) -> None:
    log = titled(tmp_path)
    baseline = TitleBM25(0.5, 0.75, k1=1.2)
    baseline.fit(log, log.offsets[:-1])  # it learns from no event
    found = baseline.scores(log, question(log, 3, 1))[0]

    def worth(df: int, length: int) -> float:
        mean = (3 + 2 + 2 + 3 + 2 + 0) / 6
        idf = np.log(1 + (6 - df + 0.5) / (df + 0.5))
        return float(idf * 2.2 / (1 + 1.2 * (0.25 + 0.75 * length / mean)))

    # the query: linen, midi and dress at 1, denim and jacket at a half
    assert found[2] == pytest.approx(worth(2, 2), rel=1e-5)  # linen
    assert found[4] == pytest.approx(worth(2, 3) * 1.5, rel=1e-5)  # midi, and denim at a half
    assert found[5:].tolist() == [-torch.inf, -torch.inf]


# --- what they share


def every() -> list[Baseline]:
    return [
        MostPopular(), RecentlyPopular(30, streaming=False), LastItems(), ItemKNN(5, 1, 20),
        TitleSimilarity(0.5), TitleBM25(0.5, 0.75),
    ]  # fmt: skip


def test_nothing_is_learnt_after_the_ends(tmp_path: Path) -> None:
    def found(folder: Path, later: int) -> list[list[list[float]]]:
        told = [(f"u{n}", day * DAY + n, 1 + (n + day) % 6) for n in range(6) for day in range(4)]
        log = log_of(folder, *told, *((f"u{n}", 9 * DAY, later) for n in range(6)))
        ends = log.offsets[1:] - 1
        asked = Asked(np.arange(6), log.offsets[:-1], ends, np.full(6, 10 * DAY))
        out = []
        for baseline in every():
            baseline.fit(log, ends)
            out.append(scored(baseline, log, asked))
        return out

    assert found(tmp_path / "a", 7) == found(tmp_path / "b", 8)


def test_a_second_fit_forgets_the_first(tmp_path: Path) -> None:
    log = small_log(tmp_path)
    asked = Asked.of(log, last_events(log).test.take(np.arange(5)))
    for once, twice in zip(every(), every(), strict=True):
        twice.fit(log, log.offsets[1:])
        for baseline in (once, twice):
            baseline.fit(log, log.offsets[:-1] + 2)
        assert scored(once, log, asked) == scored(twice, log, asked)


def test_with_nothing_to_learn_from_nothing_is_listed(tmp_path: Path) -> None:
    log = small_log(tmp_path)
    asked = Asked.of(log, last_events(log).test.take(np.arange(5)))
    for baseline in (MostPopular(), RecentlyPopular(30, streaming=False), ItemKNN(5, 1, 20)):
        baseline.fit(log, log.offsets[:-1])
        assert (baseline.scores(log, asked)[:, 1:] == -torch.inf).all()


def test_a_block_is_scored_as_its_questions_alone(tmp_path: Path) -> None:
    log = small_log(tmp_path)
    split = last_events(log)
    asked = Asked.of(log, split.test)
    for baseline in every():
        baseline.fit(log, split.ends)
        whole = baseline.scores(log, asked)
        assert whole.shape == (len(asked), log.items + 1)
        assert whole.dtype == torch.float32
        for place in (0, 17, len(asked) - 1):
            alone = baseline.scores(log, asked.take(slice(place, place + 1)))
            assert torch.allclose(alone[0, 1:], whole[place, 1:], atol=1e-6), baseline.name


def test_ranks_are_those_that_vectors_have(tmp_path: Path) -> None:
    log = small_log(tmp_path)
    test = last_events(log).test
    baseline = TitleSimilarity(1e-9)  # the last title alone
    last = torch.from_numpy(log.titles[log.rows[test.ends - 1]].astype(np.float32))
    items = torch.from_numpy(log.titles[: log.items + 1].astype(np.float32))
    ours, theirs = ranks_of(baseline, log, test), ranks(log, test, last, items)
    assert ours == pytest.approx(theirs, abs=1)  # float16 breaks a tie now and then
    assert np.median(np.abs(ours - theirs)) == 0


def test_what_was_had_is_left_out_unless_it_may_come_again(tmp_path: Path) -> None:
    log = log_of(tmp_path, *(("u", n, item) for n, item in enumerate([4, 5, 1, 6])))
    asked = Questions(*(np.array([v]) for v in (0, 0, 2, 1)))
    # after 4 and 5, item 1 is not the shopper's own; after 4, 5 and 1, item 4 is the third
    assert ranks_of(LastItems(), log, asked, again=True).tolist() == [inf]
    asked = Questions(*(np.array([v]) for v in (0, 0, 3, 4)))
    assert ranks_of(LastItems(), log, asked, again=True).tolist() == [2]
    assert ranks_of(LastItems(), log, asked).tolist() == [0]


def test_tuning_keeps_what_validation_finds_best(tmp_path: Path) -> None:
    # today's item is bought today: a window of 1 day finds it, one of 90 the item of the past
    told: list[tuple[str, int, int | str]] = [(f"o{n}", n, 1) for n in range(30)]
    for day in range(10, 40):
        item = 2 + day % 7
        told += [(f"s{day}-{n}", day * DAY + n, item) for n in range(4)]
        told += [(f"u{day}", DAY, 1), (f"u{day}", day * DAY + 10, item)]
    log = log_of(tmp_path, *told)
    split = last_events(log, 2)
    for order in (1, -1):
        candidates = [RecentlyPopular(days, streaming=True) for days in (1, 90)][::order]
        chosen = tuned(candidates, log, split.ends, split.test)
        assert chosen.words == RecentlyPopular(1, streaming=True).words


def test_of_equal_settings_the_first_is_kept(tmp_path: Path) -> None:
    log = small_log(tmp_path)
    split = last_events(log)
    candidates = [MostPopular(), MostPopular()]
    assert tuned(candidates, log, split.ends, split.validation) is candidates[0]


def test_where_there_is_nothing_to_choose_nothing_is_fitted(tmp_path: Path) -> None:
    log = small_log(tmp_path)
    split = last_events(log)
    alone, two = [ItemKNN(5, 0, 5)], [ItemKNN(5, 0, 5), ItemKNN(5, 10, 5)]
    none = split.validation.take(np.zeros(0, dtype=np.int64))
    assert tuned(alone, log, split.ends, split.validation) is alone[0]
    assert tuned(two, log, split.ends, none) is two[0]


def test_the_words_say_what_was_chosen() -> None:
    assert "7 days" in RecentlyPopular(7, streaming=True).words
    assert "0.3" in TitleSimilarity(0.3).words
    assert {"25 neighbours", "shrinkage 3"} <= {
        part.split(" by")[0].strip()
        for part in ItemKNN(25, 3, 20).words.replace(":", ",").split(",")
    }
