from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.domain import Kind, Step
from models.llm_tokens import Tokenizer
from models.ports import Read
from models.reader_prompt import ReaderFormat, reader_prompt
from models.training.checkpoint import kept
from models.training.log import TrainingLog
from models.training.negatives import Contrast, Hard, Loss, mined
from models.training.reader import ReaderConfig, train_reader, untrained
from models.training.reader_windows import Places, Prompts, batches, cut, parts, read_batch
from models.training.trained_reader import (
    TrainedReader,
    load_reader,
    reader_states,
    states_of,
)
from tests import circling_log, tiny_llama
from tests.told_progress import Told

CONFIG = ReaderConfig(
    rank=4, lr=5e-3, head_lr=1e-2, negatives=8, batch_tokens=256, warm_up=2, epochs=2,
    keep_seconds=0.0, format=ReaderFormat(lines=3, text_tokens=8),
)  # fmt: skip


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> TrainingLog:
    return circling_log.write(tmp_path_factory.mktemp("log") / "log")


def train(
    log: TrainingLog, llm: Path, work: Path, config: ReaderConfig = CONFIG, until: int = 0
) -> tuple[TrainedReader, Told]:
    told = Told(until)
    table = circling_log.table(log)
    return train_reader(log, log.offsets[1:], table, llm, config, work, told), told


def weights(reader: TrainedReader) -> dict[str, Tensor]:
    return {**reader.model.state_dict(), **reader.head.state_dict()}


def prompts(log: TrainingLog, llm: Path) -> Prompts:
    return Prompts(log, CONFIG.format, Tokenizer(llm / "tokenizer.json"))


def test_the_next_item_is_learnt(log: TrainingLog, llm: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=8, lr=1e-2, head_lr=2e-2, keep_seconds=600.0)
    reader, told = train(log, llm, tmp_path, config)
    assert told.steps[-1][2] < 0.5 * told.steps[0][2]
    assert told.steps[-1][0] == told.steps[-1][1]
    starts, stops = log.offsets[:-1], log.offsets[1:] - 1
    vectors = reader_states(reader, log, starts, stops)
    found = (vectors @ circling_log.table(log)[: log.items + 1].T).argmax(1).numpy()
    assert (found == log.rows[stops]).mean() > 0.8


def test_a_training_that_was_killed_ends_in_the_same_weights(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    whole, told = train(log, llm, tmp_path / "whole")
    assert len(told.steps) > 6
    half = len(told.steps) // 2
    for until in (3, half):  # once in each epoch
        with pytest.raises(KeyboardInterrupt):
            train(log, llm, tmp_path / "killed", until=until)
    resumed, rest = train(log, llm, tmp_path / "killed")
    assert 0 < len(rest.steps) <= half
    assert rest.steps[-1] == told.steps[-1]
    assert whole.temperature == resumed.temperature
    after = weights(resumed)
    assert all(torch.equal(value, after[name]) for name, value in weights(whole).items())


def test_a_training_that_has_ended_is_not_run_again(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    whole, _ = train(log, llm, tmp_path)
    again, told = train(log, llm, tmp_path)
    assert told.steps == []
    after = weights(again)
    assert all(torch.equal(value, after[name]) for name, value in weights(whole).items())


def test_a_checkpoint_of_another_configuration_is_not_gone_on_from(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    train(log, llm, tmp_path)
    _, told = train(log, llm, tmp_path, dataclasses.replace(CONFIG, lr=1e-3))
    assert told.steps[0][0] < told.steps[0][1] / 2


def test_one_seed_gives_one_reader_and_another_another(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    first, second, other = (
        train(log, llm, tmp_path / str(n), dataclasses.replace(CONFIG, seed=seed, epochs=1))[0]
        for n, seed in enumerate((0, 0, 1))
    )
    same = weights(second)
    assert all(torch.equal(value, same[name]) for name, value in weights(first).items())
    assert not torch.equal(first.head.linear.weight, other.head.linear.weight)


def test_a_reader_is_saved_whole(log: TrainingLog, llm: Path, tmp_path: Path) -> None:
    reader, _ = train(log, llm, tmp_path / "work", dataclasses.replace(CONFIG, layers=1))
    reader.save(tmp_path / "reader")
    assert {file.name for file in (tmp_path / "reader").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "method.json", "head.safetensors",
        "reader.json",
    }  # fmt: skip
    loaded = load_reader(tmp_path / "reader", llm)
    assert loaded.told() == reader.told()
    starts, stops = log.offsets[:-1], log.offsets[1:]
    ours, theirs = (reader_states(r, log, starts, stops) for r in (reader, loaded))
    assert torch.allclose(ours, theirs, atol=2e-2)  # its adapter is of 16 bits


def test_validation_is_told_as_the_training_goes(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    seen: list[bool] = []

    def validate(reader: TrainedReader) -> float:
        seen.append(reader.model.training)
        return 0.25

    told = Told()
    config = dataclasses.replace(CONFIG, validate_every=2)
    table = circling_log.table(log)
    train_reader(log, log.offsets[1:], table, llm, config, tmp_path, told, validate=validate)
    assert seen
    assert not any(seen)
    assert told.steps[-1][3] == 0.25


def test_only_the_shoppers_and_tokens_that_were_asked_for_are_read(
    log: TrainingLog, llm: Path
) -> None:
    everyone = np.arange(log.shoppers)
    ends = log.offsets[1:]
    all_of_them = cut(prompts(log, llm), ends, everyone)
    few = cut(prompts(log, llm), ends, everyone, max_tokens=300)
    assert 200 < few.tokens <= 300 < all_of_them.tokens
    newest = cut(prompts(log, llm), ends, everyone, newest=1)
    assert len(newest) == log.shoppers < len(all_of_them)


def test_each_event_but_a_shoppers_first_is_a_target_once(log: TrainingLog, llm: Path) -> None:
    read = prompts(log, llm)
    windows = cut(read, log.offsets[1:], np.arange(log.shoppers))
    known = torch.ones(log.items + 1, dtype=torch.bool)
    batch = read_batch(read, windows, np.arange(len(windows)), known)
    asked = sorted((batch.events + 1).tolist())
    assert len(set(asked)) == len(asked)
    first = set(log.offsets[:-1].tolist())
    silent = {
        event + 1
        for event in range(len(log.rows) - 1)
        if log.kinds[event] != 3 and not log.item(int(log.rows[event])).text
    }
    wanted = {e for e in range(len(log.rows)) if log.kinds[e] != 3 and e not in first | silent}
    assert set(asked) == wanted
    assert batch.targets.tolist() == log.rows[batch.events + 1].tolist()


def test_a_window_is_read_as_serving_would_read_it(log: TrainingLog, llm: Path) -> None:
    kinds = {1: Kind.CLICK, 2: Kind.PURCHASE, 3: Kind.SEARCH}
    tokenize = Tokenizer(llm / "tokenizer.json")
    read, searches = prompts(log, llm), 0
    for start, stop in pairwise(log.offsets.tolist()):
        history = []
        for event in range(start, stop):
            row, ts = int(log.rows[event]), int(log.ts[event])
            kind = kinds[int(log.kinds[event])]
            item = None if kind is Kind.SEARCH else log.item(row)
            query = log.query(row) if kind is Kind.SEARCH else None
            history.append(Read(Step(kind, ts, item and item.item_id, query), item))
            searches += kind is Kind.SEARCH
        prompt, places = read(start, stop)
        assert prompt == reader_prompt(history, CONFIG.format, tokenize)
        assert places.tolist() == [start + n for n in prompt.steps]
    assert searches


def test_a_state_is_read_at_the_end_of_its_line(log: TrainingLog, llm: Path) -> None:
    read = prompts(log, llm)
    windows = cut(read, log.offsets[1:], np.arange(log.shoppers))
    batch = read_batch(read, windows, np.arange(4), torch.ones(log.items + 1, dtype=torch.bool))
    newline = Tokenizer(llm / "tokenizer.json")("\n")[0]
    assert set(batch.tokens[batch.rows, batch.columns].tolist()) == {newline}


def test_steps_hold_their_tokens_and_their_parts_pad_little(log: TrainingLog, llm: Path) -> None:
    windows = cut(prompts(log, llm), log.offsets[1:], np.arange(log.shoppers))
    found = batches(windows, 1024, np.random.default_rng(0))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(windows)))
    assert max(int(windows.sizes[which].sum()) for which in found) <= 1024
    cut_up = [parts(windows, which) for which in found]
    for which, runs in zip(found, cut_up, strict=True):
        assert sorted(np.concatenate(runs).tolist()) == sorted(which.tolist())
    cells = [int(windows.sizes[run].max()) * len(run) for runs in cut_up for run in runs]
    assert sum(cells) < 1.25 * windows.tokens


def test_padding_and_neighbours_change_no_state(log: TrainingLog, llm: Path) -> None:
    reader = untrained(llm, 16, CONFIG)
    read, ends = prompts(log, llm), log.offsets.tolist()
    texts = [read(start, stop)[0].tokens for start, stop in pairwise(ends)]
    together = states_of(reader, texts, batch_tokens=10_000)
    alone = torch.cat([states_of(reader, [text]) for text in texts])
    assert torch.allclose(together, alone, atol=2e-2)


def test_a_prompt_that_another_begins_with_is_read_with_it(log: TrainingLog, llm: Path) -> None:
    reader = untrained(llm, 16, CONFIG)
    told = Told()
    texts = [(5, 6, 7), (5, 6), (), (5, 6, 7, 8, 9), (5, 7)]
    found = states_of(reader, texts, progress=told)
    assert told.steps[-1][:2] == (7, 7)
    assert not found[2].any()
    alone = torch.cat([states_of(reader, [text]) for text in texts])
    assert torch.allclose(found, alone, atol=2e-2)


def loss_of(
    table: Tensor, how: Contrast, vectors: Tensor, targets: Tensor, hard: Hard | None = None
) -> float:
    torch.manual_seed(0)
    counts = np.ones(len(table), dtype=np.int64)
    loss = Loss(table, len(table) - 1, counts, how, hard)
    return float(loss(vectors, torch.tensor(10.0), targets, np.arange(len(targets))))


def test_against_all_items_the_loss_is_the_plain_softmax() -> None:
    table = torch.eye(5)
    table[0] = 0
    vectors, targets = table[[2, 3]], torch.tensor([2, 4])
    e = np.exp(10.0)
    wanted = np.mean([-np.log(e / (e + 3)), -np.log(1 / (e + 3))])
    assert loss_of(table, Contrast(4, 0.0, 0.0), vectors, targets) == pytest.approx(wanted)


def test_hard_negatives_take_part() -> None:
    table = torch.nn.functional.normalize(torch.randn(1001, 16), dim=1)
    table[0] = 0
    targets = torch.tensor([7])
    vectors = table[[7]]

    def retriever(events: Places) -> Tensor:
        return table[[7]].expand(len(events), -1)

    easy = loss_of(table, Contrast(10, 0.0, 0.0), vectors, targets)
    hard = loss_of(
        table, Contrast(10, 0.0, 0.0), vectors, targets, hard=mined(table, 1000, retriever, 50)
    )
    assert hard > easy
    assert 7 in mined(table, 1000, retriever, 50)(np.array([0]))[0]


def test_with_an_offset_what_the_retriever_knows_is_not_learnt() -> None:
    table = torch.eye(9)
    table[0] = 0
    targets = torch.tensor([3])
    asked = torch.zeros(1, 9, requires_grad=True)

    def gradient(knows: int) -> float:
        torch.manual_seed(0)
        loss = Loss(
            table, 8, np.ones(9, dtype=np.int64), Contrast(8, 0.0, 0.5),
            retriever=lambda events: table[[knows]].expand(len(events), -1),
        )  # fmt: skip
        found = loss(asked, torch.tensor(10.0), targets, np.array([0]))
        return float(torch.autograd.grad(found, asked)[0].norm())

    assert gradient(knows=3) < 0.1 * gradient(knows=4)


def test_the_correction_takes_popularity_out_of_the_sampling() -> None:
    table = torch.nn.functional.normalize(torch.randn(101, 8), dim=1)
    table[0] = 0
    counts = np.ones(101, dtype=np.int64)
    counts[5] = 1000
    vectors, targets = torch.zeros(2, 8), torch.tensor([5, 6])

    def of_each(correction: float) -> list[float]:
        found = []
        for target in targets:
            torch.manual_seed(0)
            loss = Loss(table, 100, counts, Contrast(20, correction, 0.0))
            pair = torch.stack([target, target])
            found.append(float(loss(vectors, torch.tensor(1.0), pair, np.arange(2))))
        return found

    popular, rare = of_each(0.0)
    assert popular == pytest.approx(rare, abs=0.1)
    popular, rare = of_each(1.0)
    assert popular > rare + 1  # the popular one has to earn its place


def test_the_state_of_a_checkpoint_holds_no_code(
    log: TrainingLog, llm: Path, tmp_path: Path
) -> None:
    train(log, llm, tmp_path)
    assert kept(tmp_path) is not None  # read with weights_only
