"""The baselines that train, on a log where items of one colour follow each other in a circle."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.baselines import NAMES, candidates
from models.baselines.base import Asked, Baseline, learnt
from models.baselines.factors import ALS, BPR
from models.baselines.gru4rec import GRU4Rec
from models.baselines.libraries import library
from models.baselines.sasrec import SASRec, held_out
from models.errors import InvalidSettings
from models.training.data.log import TrainingLog
from models.training.data.splits import Split, last_events
from models.training.sequence.train import SequenceTraining
from tests.training_log import PER_COLOUR, small_log

torch.set_num_threads(1)

Make = Callable[[Path], Baseline]


def als(work: Path) -> Baseline:
    pytest.importorskip("implicit")
    return ALS(8, 0.1, 10)


def bpr(work: Path) -> Baseline:
    pytest.importorskip("implicit")
    return BPR(8, 0.01, 200)


def sasrec(work: Path) -> Baseline:
    return SASRec(work / "members", SequenceTraining(epochs=12, batch=32, negatives=32, lr=3e-3))


def gru4rec(work: Path) -> Baseline:
    pytest.importorskip("cornac")
    return GRU4Rec(32, 30, 0.1, 32)


FACTORS = [pytest.param(als, id="als"), pytest.param(bpr, id="bpr")]
SEQUENCES = [pytest.param(sasrec, id="sasrec"), pytest.param(gru4rec, id="gru4rec")]


Fitted = tuple[Baseline, TrainingLog, Split]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Make], Fitted]:
    """Each trained once; a test changes nothing in it."""

    @functools.cache
    def of(make: Make) -> Fitted:
        folder = tmp_path_factory.mktemp("fitted")
        log = small_log(folder / "log", 90)
        split = last_events(log)
        baseline = make(folder)
        baseline.fit(log, split.ends)
        return baseline, log, split

    return of


def colours(rows: torch.Tensor) -> torch.Tensor:
    return (rows - 1) // PER_COLOUR


@pytest.mark.parametrize("make", FACTORS + SEQUENCES)
def test_the_shoppers_colour_comes_first(make: Make, fitted: Callable[[Make], Fitted]) -> None:
    baseline, log, split = fitted(make)
    found = baseline.scores(log, Asked.of(log, split.test))
    assert found.shape == (len(split.test), log.items + 1)
    first = found[:, 1:].argmax(1) + 1
    wanted = colours(torch.from_numpy(split.test.targets))
    assert (colours(first) == wanted).float().mean() > 0.95  # a third by chance


@pytest.mark.parametrize("make", SEQUENCES)
def test_the_next_of_the_circle_comes_first(make: Make, fitted: Callable[[Make], Fitted]) -> None:
    baseline, log, split = fitted(make)
    found = baseline.scores(log, Asked.of(log, split.test))[:, 1:]
    first = (found.argmax(1) + 1).numpy()
    assert (first == split.test.targets).mean() > 0.5  # one of 24 by chance


@pytest.mark.parametrize("make", FACTORS + SEQUENCES)
def test_what_was_never_trained_on_is_not_listed(make: Make, tmp_path: Path) -> None:
    log = small_log(tmp_path / "log", 90)
    # half of the shoppers alone are learnt from, two events each
    ends = np.where(np.arange(log.shoppers) % 2 == 0, log.offsets[:-1] + 4, log.offsets[:-1])
    # and of those only who never has an item of the first row
    has = np.add.reduceat((log.rows == 1).astype(int), log.offsets[:-1]) > 0
    ends = np.where(has, log.offsets[:-1], ends)
    baseline = make(tmp_path)
    baseline.fit(log, ends)
    found = baseline.scores(log, Asked.of(log, last_events(log).test))
    assert (found[:, 1] == -torch.inf).all()
    trained = np.unique(np.asarray(log.rows)[learnt(log, ends)])
    assert torch.isfinite(found[:, torch.from_numpy(trained[:3].astype(np.int64))]).all()


@pytest.mark.parametrize("make", FACTORS + SEQUENCES)
def test_with_nothing_to_learn_from_nothing_is_listed(make: Make, tmp_path: Path) -> None:
    log = small_log(tmp_path / "log")
    baseline = make(tmp_path)
    baseline.fit(log, log.offsets[:-1])
    found = baseline.scores(log, Asked.of(log, last_events(log).test))
    assert (found[:, 1:] == -torch.inf).all()


def test_als_reads_the_history_of_the_question_and_bpr_the_shopper(
    fitted: Callable[[Make], Fitted],
) -> None:
    for make, same in ((als, False), (bpr, True)):
        baseline, log, split = fitted(make)
        asked = Asked.of(log, split.test)
        turned = np.roll(np.arange(len(asked)), 1)  # of a shopper of another colour
        other = Asked(asked.shoppers, asked.starts[turned], asked.ends[turned], asked.ts)
        once, again = baseline.scores(log, asked)[:, 1:], baseline.scores(log, other)[:, 1:]
        assert torch.equal(once, again) == same
        if not same:
            expected = colours(torch.from_numpy(split.test.targets[turned]))
            assert (colours(again.argmax(1) + 1) == expected).float().mean() > 0.95


def test_a_shopper_whom_bpr_does_not_know_has_the_items_biases(tmp_path: Path) -> None:
    log = small_log(tmp_path / "log")
    ends = last_events(log).ends.copy()
    ends[:2] = log.offsets[:2]
    baseline = bpr(tmp_path)
    baseline.fit(log, ends)
    asked = Asked(*(np.array(v) for v in ([0, 1, 2], [0] * 3, [0] * 3, [0] * 3)))
    found = baseline.scores(log, asked)[:, 1:]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_training_is_not_done_twice(tmp_path: Path) -> None:
    log = small_log(tmp_path / "log")
    split = last_events(log)
    once = sasrec(tmp_path)
    once.fit(log, split.ends)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("checkpoint.pt")}
    twice = sasrec(tmp_path)
    twice.fit(log, split.ends)
    asked = Asked.of(log, split.test)
    assert torch.equal(once.scores(log, asked), twice.scores(log, asked))
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("checkpoint.pt")} == files
    assert len(files) == 1


def test_what_is_held_out_is_the_last_of_training(tmp_path: Path) -> None:
    log = small_log(tmp_path)
    ends = last_events(log).ends
    held = held_out(log, ends, 1000, 0)
    assert len(held) == log.shoppers / 5
    assert (held.ends == ends[held.shoppers] - 1).all()
    assert (held.targets == np.asarray(log.rows)[held.ends]).all()
    assert len(held_out(log, ends, 3, 0)) == 3
    assert not len(held_out(log, log.offsets[:-1] + 2, 3, 0))  # too short to ask


def test_a_library_that_is_missing_is_named_with_how_to_get_it() -> None:
    with pytest.raises(InvalidSettings, match=r"no_such_thing.*pip install 'weft\[baselines\]'"):
        library("no_such_thing")


@pytest.mark.parametrize("name", NAMES)
def test_each_name_has_settings_that_differ(name: str, tmp_path: Path) -> None:
    for streaming in (True, False):
        found = candidates(name, streaming=streaming, work=tmp_path)
        assert {baseline.name for baseline in found} == {name}
        assert len({baseline.words for baseline in found}) == len(found)


def test_only_what_counts_popularity_streams(tmp_path: Path) -> None:
    def words(streaming: bool) -> dict[str, str]:
        return {
            name: candidates(name, streaming=streaming, work=tmp_path)[0].words for name in NAMES
        }

    live, held = words(True), words(False)
    assert {n for n in NAMES if live[n] != held[n]} == {"most-popular", "recently-popular"}


def test_the_names_are_known_before_anything_heavy_is_imported() -> None:
    told = "import sys, models.baselines as b; print(b.NAMES); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(NAMES), "False"]
