"""A likelihood reranker learns what follows, goes on after a kill, and asks what serving asks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.domain import Item, Kind, Step
from models.errors import InvalidFile, InvalidSettings
from models.llm.on_torch import TorchScorer
from models.llm.tokens import Tokenizer
from models.llm.tuned import LlmFacts
from models.ports import Deadline, FloatArray, Read, Reranker, RerankRequest
from models.rerank import prompt
from models.rerank.likelihood import load_reranker
from models.training.data.checkpoint import kept
from models.training.data.log import Logged, TrainingLog
from models.training.data.write_log import prepare
from models.training.llm.likelihood import (
    TitlePrompts,
    TrainedLikelihood,
    title_loss,
    train_likelihood,
    untrained,
)
from models.training.llm.run import LlmConfig
from models.training.llm.windows import Histories
from models.weights.locate import fingerprint
from testbed.stand_ins import ManualClock
from tests import circling_log, tiny_llama
from tests.told_progress import Told

torch.set_num_threads(1)  # the matrices are tiny: threads would only wait for each other

CONFIG = LlmConfig(
    rank=4, lr=3e-3, warm_up=5, batch_tokens=512, epochs=2, max_tokens=3000, keep_seconds=0.0
)


ZS = tuple("z" * (3 + n) for n in range(4))
WS = tuple("w" * (3 + n) for n in range(4))


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> TrainingLog:
    return circling_log.write(tmp_path_factory.mktemp("log") / "log")


def train(
    log: TrainingLog, llm: Path, work: Path, config: LlmConfig = CONFIG, until: int = 0
) -> tuple[TrainedLikelihood, Told]:
    told = Told(until)
    return train_likelihood(log, log.offsets[1:], llm, config, work, told), told


def two_ways(folder: Path) -> TrainingLog:
    """After the hat comes what is spelt with z, after the cap what is spelt with w."""
    items = [Item(title, title, 0) for title in ("hat", "cap", *ZS, *WS)]
    events = [
        Logged(f"u{shopper}", ts, Kind.CLICK, item_id)
        for shopper in range(150)
        for ts, item_id in enumerate(
            ("hat", ZS[shopper % 4]) if shopper % 2 else ("cap", WS[shopper % 4])
        )
    ]
    return prepare(folder, items, iter(events), lambda texts: np.ones((len(texts), 4), np.float32))


def served(trained: TrainedLikelihood, llm: Path, work: Path) -> Reranker:
    trained.save(work / "adapter")
    told = LlmFacts(llm.name, fingerprint(llm), "", trained.tuning.method)
    reranker = load_reranker(str(llm), work, 1, print, told, work / "adapter")
    assert reranker.name.endswith("/likelihood")
    return reranker


def scores(reranker: Reranker, seen: str) -> FloatArray:
    """Of new titles with z and with w, as served to a shopper who clicked ``seen``."""
    candidates = tuple(Item(title, title, 0) for title in ("z" * 8, "w" * 8))
    history = (Read(Step(Kind.CLICK, 0, item_id=seen), Item(seen, seen, 0)),)
    [found] = reranker.score(
        [RerankRequest(history, candidates)], Deadline(ManualClock(), float("inf"))
    )
    assert found is not None
    return found


def same_weights(one: TrainedLikelihood, other: TrainedLikelihood) -> bool:
    there = other.model.state_dict()
    return all(torch.equal(value, there[name]) for name, value in one.model.state_dict().items())


def test_what_follows_is_learnt_and_served(llm: Path, tmp_path: Path) -> None:
    log = two_ways(tmp_path / "log")
    config = dataclasses.replace(CONFIG, rank=16, epochs=6, max_tokens=0, keep_seconds=600.0)
    trained, told = train(log, llm, tmp_path / "work", config)
    assert told.steps[-1][2] < 0.5 * told.steps[0][2]
    assert told.steps[-1][0] == told.steps[-1][1]
    reranker = served(trained, llm, tmp_path)
    after_hat, after_cap = (scores(reranker, seen) for seen in ("hat", "cap"))
    assert after_hat[0] - after_hat[1] > after_cap[0] - after_cap[1] + 0.05


def test_a_training_that_was_killed_ends_in_the_same_weights(llm: Path, tmp_path: Path) -> None:
    log = circling_log.write(tmp_path / "log")
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
    assert kept(tmp_path / "killed") is not None


def test_one_seed_gives_one_reranker_and_another_another(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    first, second, other = (
        train(log, llm, tmp_path / str(n), dataclasses.replace(CONFIG, seed=seed, epochs=1))[0]
        for n, seed in enumerate((0, 0, 1))
    )
    assert same_weights(first, second)
    assert not same_weights(first, other)


def test_training_asks_what_serving_asks(llm: Path, tmp_path: Path) -> None:
    log = circling_log.write(tmp_path / "log")
    tokenize = Tokenizer(llm / "tokenizer.json")
    shopper = 28  # with a search in the middle, and item 5, which has no text, at its begin
    start, stop = int(log.offsets[shopper]), int(log.offsets[shopper + 1]) - 1
    made = TitlePrompts(log, tokenize)(start, stop)
    history = Histories(log)(start, stop)
    then = log.item(int(log.rows[stop]))
    asked = prompt.history_prefix(history, tokenize)
    assert made.tokens == asked + prompt.candidate(then, tokenize)
    titles = [read.item.text for read in history if read.item and read.item.text]
    foretold = tuple(made.tokens[place] for place in made.titles)
    assert foretold == tokenize("".join(f" {title}\n" for title in (*titles[1:], then.text)))


def test_a_click_that_a_search_led_to_is_learnt_as_it_is_served(llm: Path, tmp_path: Path) -> None:
    log = circling_log.write(tmp_path / "log")
    tokenize = Tokenizer(llm / "tokenizer.json")
    start, stop = int(log.offsets[4]), int(log.offsets[5])  # its third click came from a search
    steps = [
        (Kind.PURCHASE if n % 3 else Kind.CLICK, n, "a thing" if n == 2 else None)
        for n in range(stop - start - 1)  # the search is an event of the log's
    ]
    items = [Item(f"i{4 + n}", "" if n == 1 else f"thing {4 + n}", 0) for n in range(len(steps))]
    served = [
        Read(Step(kind, 1000 * ts, item.item_id, query), item)
        for (kind, ts, query), item in zip(steps, items, strict=True)
    ]
    asked = prompt.history_prefix(served, tokenize)
    assert prompt.history_prefix(Histories(log)(start, stop), tokenize) == asked
    assert asked


def test_each_event_is_foretold_once_at_most(llm: Path, tmp_path: Path) -> None:
    log = circling_log.write(tmp_path / "log")
    tokenize = Tokenizer(llm / "tokenizer.json")
    prompts = TitlePrompts(log, tokenize)
    begin, end = int(log.offsets[0]), int(log.offsets[1])
    assert prompts(begin, end - 1).tokens
    assert not prompts(begin, begin).tokens  # nothing to read


def test_the_loss_is_of_titles_alone_and_as_served(llm: Path, tmp_path: Path) -> None:
    from models.llm.scorer import Branch, log_likelihoods

    log = circling_log.write(tmp_path / "log")
    trained = untrained(llm, CONFIG)
    trained.model.eval()
    served = TorchScorer(llm, device="cpu", dtype=next(trained.model.parameters()).dtype)
    history = Histories(log)(int(log.offsets[1]), int(log.offsets[1]) + 1)
    then = log.item(4)
    text = prompt.taught(history, then, served.tokenize)
    branch = Branch(
        prompt.history_prefix(history, served.tokenize), (prompt.candidate(then, served.tokenize),)
    )
    [[expected]] = log_likelihoods(served, [branch])
    with torch.inference_mode():
        found = float(title_loss(trained, [text, text]))
    assert found == pytest.approx(-2 * expected, rel=0.02)


def test_a_method_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="lorra"):
        LlmConfig(method="lorra")


def test_a_log_without_a_next_title_is_refused(log: TrainingLog, llm: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="nothing to learn"):
        train_likelihood(log, log.offsets[:-1] + 1, llm, CONFIG, tmp_path, Told())


def test_a_bound_on_tokens_holds(log: TrainingLog, llm: Path, tmp_path: Path) -> None:
    told = Told()
    config = dataclasses.replace(CONFIG, epochs=1, max_tokens=500)
    train_likelihood(log, log.offsets[1:], llm, config, tmp_path, told)
    assert 0 < told.steps[-1][0] == told.steps[-1][1] <= 500
    assert np.isfinite([loss for _, _, loss, _ in told.steps]).all()
