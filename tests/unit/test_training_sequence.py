from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from models.domain import Item, Kind
from models.ports import FloatArray
from models.space.mixup import STRATEGIES, MixUpConfig
from models.space.sequence import Member, SequenceConfig
from models.training.data.checkpoint import kept
from models.training.data.log import Logged, Places, TrainingLog
from models.training.data.progress import Silent
from models.training.data.splits import Questions, gains, hits, last_events, ranks
from models.training.data.windows import Windows, gathered
from models.training.data.write_log import prepare
from models.training.gate import CANDIDATES, choose_shares, choose_weight, scored_ranks
from models.training.sequence import train
from models.training.sequence.evaluate import Titles, evaluate
from models.training.sequence.train import SequenceTraining, counted, refit_member, train_member
from tests.training_log import DAY, PER_COLOUR, START, encode, items, small_log

CONFIG = SequenceConfig(
    MixUpConfig("average", title_dim=4, dim=16, hidden=8), length=5, heads=2, dropout=0.1
)
HOW = SequenceTraining(epochs=6, batch=16, negatives=20, lr=0.02, every=1, patience=9)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> TrainingLog:
    return small_log(tmp_path_factory.mktemp("log"))


class Killed(Exception):
    pass


class Kills:
    """A progress that ends the training at a step, as a kill would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, done: int, total: int, *, loss: float, metric: float) -> None:
        if done == self.at:
            raise Killed


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_learns_what_follows(
    log: TrainingLog, tmp_path: Path, strategy: str
) -> None:
    split = last_events(log)
    config = replace(CONFIG, mixup=replace(CONFIG.mixup, strategy=strategy))
    how = replace(HOW, epochs=12, patience=20)
    member = train_member(log, split, config, how, tmp_path, Silent()).member
    found = evaluate(log, split.test, member, Titles(log))
    # by chance .09: 19 items are left to rank; a colour alone gives .5 at most
    assert gains(found, 5).mean() > 0.35


def test_a_training_that_was_killed_ends_in_the_same_weights(
    log: TrainingLog, tmp_path: Path
) -> None:
    split = last_events(log)
    args = (log, split, CONFIG, HOW)
    whole = train_member(*args, tmp_path / "whole", Silent()).member
    for at in (6, 13):  # in the middle of two epochs
        with pytest.raises(Killed):
            train_member(*args, tmp_path / "killed", Kills(at))
    resumed = train_member(*args, tmp_path / "killed", Silent()).member
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_refit_learns_validations_events_for_as_many_epochs_as_validation_chose(
    log: TrainingLog, tmp_path: Path
) -> None:
    split = last_events(log)
    assert (split.known - split.ends == 1).all(), "the test's events are left for the test"
    chosen = train_member(log, split, CONFIG, HOW, tmp_path / "first", Silent())
    chosen.member.mixup.shares[:] = 0.7
    kills = Kills(len(Windows(log, split.known, CONFIG.length)) // HOW.batch + 2)
    with pytest.raises(Killed):  # in the second epoch
        refit_member(log, split, chosen, HOW, tmp_path / "killed", kills)
    whole = refit_member(log, split, chosen, HOW, tmp_path / "whole", Silent())
    resumed = refit_member(log, split, chosen, HOW, tmp_path / "killed", Silent())
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert whole.mixup.counts.tolist() == counted(log, split.known).tolist()
    assert whole.mixup.shares.tolist() == chosen.member.mixup.shares.tolist()
    [place] = (tmp_path / "whole").iterdir()
    state = kept(place)
    assert state is not None
    assert state["numbers"][0] == chosen.epochs > 0


def test_another_seed_gives_other_weights(log: TrainingLog, tmp_path: Path) -> None:
    split = last_events(log)
    how = replace(HOW, epochs=1)
    one = train_member(log, split, CONFIG, how, tmp_path / "0", Silent()).member
    how = replace(how, seed=1)
    two = train_member(log, split, CONFIG, how, tmp_path / "1", Silent()).member
    assert not torch.equal(one.norm.weight, two.norm.weight)


def test_each_training_event_but_the_first_is_a_target_once(log: TrainingLog) -> None:
    ends = log.offsets[1:] - 1
    windows = Windows(log, ends, length=2)  # shorter than a history: several windows each
    found = [
        batch.targets[batch.targets > 0].tolist()
        for parts in windows.batches(7, np.random.default_rng(0))
        for batch in parts
    ]
    bounds = zip(log.offsets[:-1], ends, strict=True)
    wanted = [row for start, end in bounds for row in log.rows[start + 1 : end].tolist()]
    assert sorted(row for rows in found for row in rows) == sorted(wanted)


def test_a_target_follows_its_row(log: TrainingLog) -> None:
    windows = Windows(log, log.offsets[1:], length=4)
    follows = {(int(a), int(b)) for a, b in zip(log.rows[:-1], log.rows[1:], strict=True)}
    for batch in chain.from_iterable(windows.batches(8, np.random.default_rng(0))):
        inside = (batch.rows > 0) & (batch.targets > 0)
        pairs = zip(batch.rows[inside].tolist(), batch.targets[inside].tolist(), strict=True)
        assert set(pairs) <= follows


def test_every_step_has_short_and_long_histories(tmp_path: Path) -> None:
    """Steps on one length each lose a tenth of what is found (docs/log.md, 13)."""
    rows = [
        Logged(f"u{n}", START + day * DAY, Kind.CLICK, f"red-{day % PER_COLOUR}")
        for n in range(64)
        for day in range(3 if n % 2 else 15)
    ]
    log = prepare(tmp_path / "mixed", items(), rows, encode)
    for parts in Windows(log, log.offsets[1:], length=20).batches(32, np.random.default_rng(0)):
        widths = [batch.rows.shape[1] for batch in parts]
        assert min(widths) == 2, "alike lengths go together, without padding"
        assert max(widths) == 14, "and the step has both"


def test_the_newest_steps_are_read_and_padded_at_the_left(log: TrainingLog) -> None:
    rows, kinds, gaps = gathered(log, np.array([0, 6]), np.array([5, 8]), 3)
    assert rows.tolist() == [log.rows[2:5].tolist(), [0, *log.rows[6:8].tolist()]]
    assert kinds.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert gaps.tolist() == [[1, 6, 6], [0, 1, 6]]  # a day each


def test_only_training_events_are_counted(log: TrainingLog) -> None:
    ends = log.offsets[1:] - 2
    bounds = zip(log.offsets[:-1], ends, strict=True)
    wanted = np.zeros(log.items + 1, dtype=int)
    for start, end in bounds:
        np.add.at(wanted, log.rows[start:end], 1)
    assert counted(log, ends).tolist() == wanted.tolist()


def test_validation_sets_the_titles_shares(log: TrainingLog, tmp_path: Path) -> None:
    split = last_events(log)
    member = train_member(log, split, CONFIG, HOW, tmp_path, Silent()).member
    titles = Titles(log)
    before = float(gains(evaluate(log, split.validation, member, titles)).mean())
    shares = choose_shares(log, split.validation, member, titles)
    after = float(gains(evaluate(log, split.validation, member, titles)).mean())
    assert set(shares) == {"cold", "young", "warm"}
    assert after >= before


def test_an_llm_that_helps_gets_a_weight_and_one_that_does_not_gets_none(
    log: TrainingLog,
) -> None:
    torch.manual_seed(0)
    questions = last_events(log).validation
    items = torch.nn.functional.normalize(torch.randn(log.items + 1, 16), dim=-1)
    right = items[torch.from_numpy(questions.targets)]
    noise = torch.nn.functional.normalize(torch.randn(len(questions), 16), dim=-1)

    def knows(place: int, rows: Places) -> FloatArray:
        return np.asarray(rows == questions.targets[place], dtype=np.float32)

    def misleads(place: int, rows: Places) -> FloatArray:
        return -knows(place, rows)

    helps = choose_weight(questions, scored_ranks(log, questions, noise, items, knows), 0)
    assert helps.weight > 0.3
    assert helps.ndcg_gain.low > 0
    useless = choose_weight(questions, scored_ranks(log, questions, right, items, misleads), 0)
    assert useless.weight == 0
    assert useless.ndcg.mean == 1


def test_the_llm_moves_only_the_first_candidates_and_is_asked_only_about_these(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    shelf = [Item(f"i{n}", f"thing {n}", 0) for n in range(3 * CANDIDATES)]
    clicks = (
        Logged(f"u{shopper}", START + step * DAY, Kind.CLICK, f"i{(shopper + step) % len(shelf)}")
        for shopper in range(40)
        for step in range(4)
    )
    log = prepare(tmp_path, shelf, clicks, encode)
    questions = last_events(log).validation
    items = torch.nn.functional.normalize(torch.randn(log.items + 1, 16), dim=-1)
    noise = torch.nn.functional.normalize(torch.randn(len(questions), 16), dim=-1)
    alone = ranks(log, questions, noise, items)
    asked: list[int] = []

    def knows(place: int, rows: Places) -> FloatArray:
        assert len(rows) <= CANDIDATES
        asked.append(place)
        return 9 * np.asarray(rows == questions.targets[place], dtype=np.float32)

    measured = scored_ranks(log, questions, noise, items, knows, (0.5,))
    first = alone < CANDIDATES
    assert asked == np.flatnonzero(first).tolist()
    assert 0 < len(asked) < len(questions)
    assert (measured[0.5][first] == 0).all()
    assert measured[0.5][~first].tolist() == alone[~first].tolist()
    assert measured[0.0].tolist() == alone.tolist()


def test_the_correction_is_the_log_of_the_chance_to_be_drawn(log: TrainingLog) -> None:
    split = last_events(log)
    member = Member(CONFIG, log.items, torch.from_numpy(counted(log, split.ends)))
    run = train.Run(log, split.ends, split.validation, member, HOW, Silent())
    run.chances = torch.zeros(log.items + 1)
    run.chances[3] = 0.5
    (seldom, often) = run._log_chance(torch.tensor([1, 3]), targets=10).exp().tolist()
    drawn = 1 - (1 - 1 / log.items) ** HOW.negatives
    assert seldom == pytest.approx(drawn, rel=1e-4)
    assert often == pytest.approx(1 - (1 - drawn) * 0.5**10, rel=1e-4)


def test_ranks_agree_with_scores_made_one_by_one(log: TrainingLog) -> None:
    torch.manual_seed(0)
    questions: Questions = last_events(log).test.sample(9, 0)
    items = torch.nn.functional.normalize(torch.randn(log.items + 1, 4), dim=-1)
    asked = torch.nn.functional.normalize(torch.randn(len(questions), 4), dim=-1)
    found = ranks(log, questions, asked, items)
    for n in range(len(questions)):
        had = set(log.rows[questions.starts[n] : questions.ends[n]].tolist())
        scores = {
            row: float(asked[n] @ items[row]) for row in range(1, log.items + 1)
            if row not in had or row == questions.targets[n]
        }  # fmt: skip
        better = sum(s > scores[int(questions.targets[n])] for s in scores.values())
        assert found[n] == better
    assert hits(found, 100).mean() == 1
