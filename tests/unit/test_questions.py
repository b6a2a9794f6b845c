from pathlib import Path

import numpy as np
import torch

from models.domain import Item, Kind
from models.training.data.log import Logged, TrainingLog
from models.training.data.splits import Questions, by_time, gains, hits, last_events, ranks
from models.training.data.write_log import prepare
from models.training.gate import scored_ranks
from tests.training_log import encode

ITEMS = [Item(f"i{n}", f"thing {n}", 0) for n in range(1, 7)]


def log_of(folder: Path, *told: tuple[str, int, int]) -> TrainingLog:
    """(shopper, ts, item's number) each."""
    logged = [Logged(user, ts, Kind.CLICK, f"i{n}") for user, ts, n in told]
    return prepare(folder, ITEMS, logged, encode)


def asked(log: TrainingLog, questions: Questions) -> list[tuple[list[int], int]]:
    return [
        (log.rows[s:e].tolist(), int(t))
        for s, e, t in zip(questions.starts, questions.ends, questions.targets, strict=True)
    ]


def test_leave_one_out_asks_for_the_last_two_and_trains_on_the_rest(tmp_path: Path) -> None:
    log = log_of(tmp_path, *(("u", n, n) for n in range(1, 6)), ("v", 9, 1), ("v", 10, 2))
    split = last_events(log)
    assert asked(log, split.validation) == [([1, 2, 3], 4)]
    assert asked(log, split.test) == [([1, 2, 3, 4], 5)]
    assert sorted((split.ends - log.offsets[:-1]).tolist()) == [2, 3]


def test_by_time_nothing_later_is_trained_on_or_read(tmp_path: Path) -> None:
    told = [("u", n * 10, 1 + n % 6) for n in range(10)] + [("v", n * 10 + 5, 3) for n in range(10)]
    log = log_of(tmp_path, *told)
    split = by_time(log, 0.2, 0.2)
    ordered = np.sort(log.ts)
    for shopper, (start, stop) in enumerate(zip(log.offsets[:-1], log.offsets[1:], strict=True)):
        trained = log.ts[start : split.ends[shopper]]
        assert (trained < ordered[12]).all()
        assert (log.ts[split.ends[shopper] : stop] >= ordered[12]).all()
    for questions in (split.validation, split.test):
        for start, end in zip(questions.starts, questions.ends, strict=True):
            assert (log.ts[start:end] < log.ts[end]).all()


def test_a_basket_is_asked_before_any_of_it(tmp_path: Path) -> None:
    log = log_of(tmp_path, ("u", 1, 1), ("u", 2, 2), ("u", 9, 3), ("u", 9, 4), ("u", 9, 1))
    split = by_time(log, 0.0, 0.5)
    assert asked(log, split.test) == [([1, 2], 3), ([1, 2], 4)]  # item 1 is not new to u


def test_a_tie_has_the_mean_rank_and_what_was_had_is_left_out(tmp_path: Path) -> None:
    log = log_of(tmp_path, ("u", 1, 1), ("u", 2, 2), ("u", 3, 3))
    items = torch.tensor([[0.0], [0.9], [0.8], [0.5], [0.5], [0.7], [0.1]])
    question = Questions(*(np.array([v]) for v in (0, 0, 2, 3)))
    # 1 and 2 were had; 5 is above; 3 and 4 tie for the next two places
    assert ranks(log, question, torch.ones(1, 1), items).tolist() == [1.5]


def test_a_target_that_was_had_is_ranked_all_the_same(tmp_path: Path) -> None:
    log = log_of(tmp_path, ("u", 1, 1), ("u", 2, 2), ("u", 3, 1))
    items = torch.tensor([[0.0], [0.9], [0.95], [0.5], [0.4], [0.7], [0.1]])
    question = Questions(*(np.array([v]) for v in (0, 0, 2, 1)))
    assert ranks(log, question, torch.ones(1, 1), items).tolist() == [0.0]


def test_equal_vectors_have_one_rank_whichever_is_asked_for(tmp_path: Path) -> None:
    count = 402  # and row 0: of blocks of 4 rows some are left, which BLAS sums in another order
    told = [Logged("u", n, Kind.CLICK, f"i{1 + n % 2}") for n in range(3)]
    things = [Item(f"i{n}", f"thing {n}", 0) for n in range(1, count + 1)]
    log = prepare(tmp_path, things, told, encode)
    random = np.random.default_rng(0)
    targets = np.array([3, 200, count])  # i1 and i2 were had
    places = np.zeros_like(targets)
    questions = Questions(places, places, places + 2, targets)
    for _ in range(50):
        vectors = torch.from_numpy(random.standard_normal((4, 16)).astype(np.float32))
        one, *shoppers = torch.nn.functional.normalize(vectors)
        found = ranks(log, questions, torch.stack(shoppers), one.repeat(count + 1, 1))
        assert found.tolist() == [(count - 3) / 2] * 3


def test_a_reranker_that_tells_equal_candidates_no_better_apart_gives_the_mean(
    tmp_path: Path,
) -> None:
    log = log_of(tmp_path, ("u", 1, 1), ("u", 2, 2), ("u", 3, 3))
    items = torch.tensor([[0.0], [0.9], [0.8], [0.5], [0.5], [0.7], [0.5]])
    for target in (3, 4, 6):
        question = Questions(*(np.array([v]) for v in (0, 0, 2, target)))
        found = scored_ranks(
            log, question, torch.ones(1, 1), items, lambda _, rows: np.zeros(len(rows), np.float32)
        )
        assert {float(each[0]) for each in found.values()} == {2}  # 5, then these three


def test_metrics_are_the_fractions_worked_out_by_hand() -> None:
    found = np.array([0.0, 2.0, 9.0, 9.5, 10.0])
    assert hits(found).tolist() == [1, 1, 1, 1, 0]
    assert np.allclose(gains(found), [1, 0.5, 1 / np.log2(11), 1 / np.log2(11.5), 0])
    assert hits(found, 5).mean() == 0.4
