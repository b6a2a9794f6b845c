"""A listwise reranker learns a rule, goes on after a kill, and is weighed by what serves it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.domain import Item
from models.errors import InvalidFile, InvalidSettings
from models.fake import ManualClock
from models.listwise import LETTERS, ListwiseReranker, listwise_prompt
from models.llm import Branch, log_likelihoods
from models.llm_tokens import Tokenizer
from models.llm_torch import TorchScorer
from models.ports import Deadline, FloatArray, RerankRequest
from models.training import gate
from models.training.checkpoint import kept
from models.training.choices import ChoicePrompts, choices_of
from models.training.listwise import ListwiseConfig, letters_loss, train_listwise, untrained
from models.training.llm_stage import listwise_config
from models.training.log import TrainingLog
from models.training.negatives import Places
from models.training.presets import PRESETS
from models.training.questions import Questions, ranks
from models.training.reader_windows import Histories
from models.training.trained_listwise import LettersScorer, TrainedListwise
from tests import choosing_log, circling_log, tiny_llama
from tests.told_progress import Told

torch.set_num_threads(1)  # the matrices are tiny: threads would only wait for each other

CONFIG = ListwiseConfig(
    rank=4, lr=3e-3, warm_up=5, batch_tokens=1024, epochs=2, max_tokens=5000, keep_seconds=0.0
)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> TrainingLog:
    return choosing_log.write(tmp_path_factory.mktemp("log") / "log")


def train(
    log: TrainingLog, llm: Path, work: Path, config: ListwiseConfig = CONFIG, until: int = 0
) -> tuple[TrainedListwise, Told]:
    told = Told(until)
    ends = log.offsets[1:]
    return train_listwise(log, ends, llm, choosing_log.hard, config, work, told), told


def scores(trained: TrainedListwise, log: TrainingLog, titles: tuple[str, ...]) -> FloatArray:
    """As the reranker's port gives them, to a shopper who clicked the hat."""
    scorer = LettersScorer(trained)
    history = Histories(log)(0, 1)
    candidates = tuple(Item(str(n), title, 0) for n, title in enumerate(titles))
    endless = Deadline(ManualClock(), float("inf"))
    request = RerankRequest(tuple(history), candidates)
    trained.model.eval()
    [found] = ListwiseReranker(scorer, 0.0).score([request], endless)
    assert found is not None
    return found


def same_weights(one: TrainedListwise, other: TrainedListwise) -> bool:
    there = other.model.state_dict()
    return all(torch.equal(value, there[name]) for name, value in one.model.state_dict().items())


def test_a_rule_is_learnt_and_picks_the_right_letter_on_new_examples(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, method="full", epochs=6, max_tokens=0, keep_seconds=600.0)
    trained, told = train(log, llm, tmp_path, config)
    assert told.steps[-1][2] < 0.5 * told.steps[0][2]
    assert told.steps[-1][0] == told.steps[-1][1]
    others = choosing_log.OTHERS
    new = [  # orders and a title that were not trained on
        (*others[:place], "z" * 9, *others[place:3]) for place in range(4)
    ]
    assert [int(scores(trained, log, titles).argmax()) for titles in new] == [0, 1, 2, 3]


def test_a_training_that_was_killed_ends_in_the_same_weights(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    whole, told = train(log, llm, tmp_path / "whole")
    half = len(told.steps) // 2
    assert half >= 4
    for until in (2, half):  # once in each epoch
        with pytest.raises(KeyboardInterrupt):
            train(log, llm, tmp_path / "killed", until=until)
    resumed, rest = train(log, llm, tmp_path / "killed")
    assert 0 < len(rest.steps) <= half + 1
    assert rest.steps[-1] == told.steps[-1]
    assert same_weights(whole, resumed)


def test_one_seed_gives_one_reranker_and_another_another(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    first, second, other = (
        train(log, llm, tmp_path / str(n), dataclasses.replace(CONFIG, seed=seed, epochs=1))[0]
        for n, seed in enumerate((0, 0, 1))
    )
    assert same_weights(first, second)
    assert not same_weights(first, other)


def test_a_checkpoint_of_other_candidates_is_not_gone_on_from(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    train(log, llm, tmp_path)
    before = kept(tmp_path)

    def reversed_(events: Places) -> torch.Tensor:
        return choosing_log.hard(events).flip(1)

    told = Told()
    train_listwise(log, log.offsets[1:], llm, reversed_, CONFIG, tmp_path, told)
    after = kept(tmp_path)
    assert told.steps[0][0] < told.steps[0][1] / 2
    assert before is not None
    assert after is not None
    assert before["mark"] != after["mark"]


def test_training_asks_what_serving_asks(log: TrainingLog, llm: Path) -> None:
    tokenize = Tokenizer(llm / "tokenizer.json")
    prompts = ChoicePrompts(log, tokenize)
    asked = listwise_prompt(Histories(log)(0, 1), [log.item(3), log.item(8)], tokenize)
    assert prompts(0, 1, [3, 8]) == asked


def test_the_next_item_stands_among_the_retrievers_at_a_random_place(
    log: TrainingLog, llm: Path
) -> None:
    tokenize = Tokenizer(llm / "tokenizer.json")
    prompts = ChoicePrompts(log, tokenize)
    choices = choices_of(prompts, log.offsets[1:], np.arange(log.shoppers), choosing_log.hard)
    assert len(choices) == log.shoppers
    assert (choices.candidates[:, 0] == log.rows[choices.stops]).all()
    mined = choosing_log.hard(choices.stops - 1).numpy()
    assert (choices.candidates[:, 1:4] == mined).all()
    made, right, counts = prompts.shuffled(
        choices, np.arange(len(choices)), np.random.default_rng(0)
    )
    assert set(counts) == {4}
    assert (np.bincount(right, minlength=4) > 20).all()
    assert [len(prompt) for prompt in made] == choices.sizes.tolist()
    first = log.item(int(choices.candidates[0, 0])).title
    line = tokenize(f"({LETTERS[right[0]]}) {first}\n")
    text = "".join(map(chr, made[0]))
    assert "".join(map(chr, line)) in text


def test_what_the_shopper_had_is_neither_asked_for_nor_put_beside(
    llm: Path, tmp_path: Path
) -> None:
    log = circling_log.write(tmp_path / "log")
    prompts = ChoicePrompts(log, Tokenizer(llm / "tokenizer.json"))

    def all_rows(events: Places) -> torch.Tensor:
        return torch.arange(1, log.items + 1).expand(len(events), log.items)

    choices = choices_of(prompts, log.offsets[1:], np.arange(log.shoppers), all_rows)
    assert len(choices) > 100
    for start, stop, rows in zip(choices.starts, choices.stops, choices.candidates, strict=True):
        beside = rows[rows > 0].tolist()
        assert not set(beside) & set(log.rows[start:stop].tolist())
        assert len(set(beside)) == len(beside)
        assert 6 not in beside  # item 5 has no text
    few = choices_of(
        prompts, log.offsets[1:], np.arange(log.shoppers), all_rows, newest=1, max_tokens=3000
    )
    assert 0 < few.sizes.sum() <= 3000
    assert len(set(few.starts.tolist())) == len(few)


def test_letters_that_do_not_stand_in_the_prompt_take_no_part() -> None:
    logits = torch.zeros(2, 20)
    logits[:, 5] = 100.0
    loss = letters_loss(logits, torch.tensor([2, 4]), torch.tensor([1, 0]))
    assert float(loss) == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_in_training_a_letter_has_the_scores_that_serving_gives_it(
    log: TrainingLog, llm: Path
) -> None:
    trained = untrained(llm, CONFIG)
    titles = ("zzz", *choosing_log.OTHERS)
    served = TorchScorer(llm, device="cpu", dtype=next(trained.model.parameters()).dtype)
    history = Histories(log)(0, 1)
    candidates = tuple(Item(str(n), title, 0) for n, title in enumerate(titles))
    [expected] = ListwiseReranker(served, 0.0).score(
        [RerankRequest(tuple(history), candidates)], Deadline(ManualClock(), float("inf"))
    )
    assert expected is not None
    assert scores(trained, log, titles) == pytest.approx(expected, abs=0.005)


def test_the_training_scorer_refuses_what_is_no_letter(llm: Path) -> None:
    scorer = LettersScorer(untrained(llm, CONFIG))
    for text in ("z", "AB"):
        with pytest.raises(ValueError, match="only letters"):
            log_likelihoods(scorer, [Branch(scorer.tokenize("Next: ("), (scorer.tokenize(text),))])


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_a_method_that_is_not_served_is_refused_before_training(method: str) -> None:
    with pytest.raises(InvalidSettings, match="not served"):
        ListwiseConfig(method=method)


def test_a_log_without_a_next_item_is_refused(llm: Path, tmp_path: Path) -> None:
    log = choosing_log.write(tmp_path / "log")
    with pytest.raises(InvalidFile, match="nothing to learn"):
        train_listwise(
            log, log.offsets[:-1] + 1, llm, choosing_log.hard, CONFIG, tmp_path / "w", Told()
        )


def test_a_preset_trains_either_kind_but_listwise_keeps_all_layers() -> None:
    reader = dataclasses.replace(PRESETS["quick"].reader, method="dora", rank=3, device="cpu")
    told = listwise_config(reader)
    assert (told.method, told.rank, told.device) == ("dora", 3, "cpu")
    assert told.max_tokens == reader.max_tokens
    assert (reader.layers, told.layers) == (16, 0)


def asked(log: TrainingLog) -> tuple[Questions, torch.Tensor, torch.Tensor]:
    """Every shopper's last event, by a retriever that has the right ones in the middle."""
    starts, stops = log.offsets[:-1], log.offsets[1:] - 1
    questions = Questions(
        np.arange(log.shoppers), starts, stops, np.asarray(log.rows)[stops].astype(np.int64)
    )
    items = torch.zeros(log.items + 1, 2)
    items[1:, 0] = torch.linspace(1, 0.5, log.items)
    return questions, torch.tensor([[1.0, 0.0]]).expand(len(questions), 2), items


def test_a_reranker_that_knows_the_next_item_is_given_a_weight(log: TrainingLog) -> None:
    questions, retrieved, items = asked(log)

    def knows(place: int, rows: Places) -> FloatArray:
        return (rows == questions.targets[place]).astype(np.float32)

    measured = gate.scored_ranks(log, questions, retrieved, items, knows)
    chosen = gate.choose_weight(questions, measured, 0)
    assert chosen.weight > 0
    assert chosen.ndcg_gain.low > 0
    assert chosen.hit_rate.mean == 1


def test_a_reranker_that_knows_nothing_is_not_asked(log: TrainingLog) -> None:
    questions, retrieved, items = asked(log)
    rng = np.random.default_rng(0)

    def guesses(place: int, rows: Places) -> FloatArray:
        wrong = rows != questions.targets[place]
        return (wrong + rng.random(len(rows))).astype(np.float32)

    measured = gate.scored_ranks(log, questions, retrieved, items, guesses)
    chosen = gate.choose_weight(questions, measured, 0)
    assert chosen.weight == 0
    assert chosen.ndcg_gain.mean == 0


def test_only_the_retrievers_first_candidates_change_ranks(
    log: TrainingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "READ_CANDIDATES", 8)
    questions, retrieved, items = asked(log)
    alone = ranks(log, questions, retrieved, items)
    told: list[int] = []

    def knows(place: int, rows: Places) -> FloatArray:
        told.append(place)
        assert len(rows) == 8
        assert 1 not in rows  # the hat, which every shopper had
        return (rows == questions.targets[place]).astype(np.float32)

    measured = gate.scored_ranks(log, questions, retrieved, items, knows, (0.8,))
    chosen = gate.choose_weight(questions, measured, 0)
    within = np.flatnonzero(alone < 8)
    assert told == within.tolist()
    expected = np.where(alone < 8, 1.0, np.where(alone < 10, 1 / np.log2(alone + 2), 0.0))
    assert 0 < len(within) < len(alone)
    assert chosen.ndcg.mean == pytest.approx(expected.mean())
