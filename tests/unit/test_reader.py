"""The history reader on a small working model, whose states are easily checked by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.domain import Item, Kind, Step
from models.errors import BundleInvalid, RerankerFailed
from models.fake import ManualClock
from models.llm import Tokens
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.reader import HistoryReader
from models.reader_head import Head, load_head
from models.reader_prompt import ReaderFormat, reader_prompt
from models.reader_states import Kept, Ran, Segment

WIDTH = 32
HEAD = Head(
    np.ones(WIDTH, np.float32),
    np.zeros(WIDTH, np.float32),
    np.eye(8, WIDTH, dtype=np.float32),
    np.zeros(8, np.float32),
)


class SummingModel:
    """StateModel: a state is the sum of random vectors, one a token, of all tokens up to it.

    Keys and values are these vectors. Each new token takes ``seconds`` by ``sleep``; ``ran`` has
    the new tokens of each call.
    """

    name = "summing"
    width = WIDTH
    tokens_at_once = 64

    def __init__(self, seconds: float = 0.0, sleep: Callable[[float], None] = lambda _: None):
        self.seconds = seconds
        self.failures = 0
        self.ran: list[int] = []
        self._sleep = sleep

    def tokenize(self, text: str) -> Tokens:
        return tuple(text.encode("utf-8", "replace"))

    def keep(self, values: FloatArray) -> Kept:
        return Kept(values)

    def run(self, segments: Sequence[Segment]) -> list[Ran]:
        if self.failures:
            self.failures -= 1
            raise RerankerFailed("the fake model was told to fail")
        self.ran.append(sum(len(segment.tokens) for segment in segments))
        self._sleep(self.seconds * self.ran[-1])
        return [self._run(segment) for segment in segments]

    def _run(self, segment: Segment) -> Ran:
        new = np.stack([np.random.default_rng(t).normal(size=WIDTH) for t in segment.tokens])
        rows = new.astype(np.float32)
        old = segment.kept.values[0, 0] if segment.kept else rows[:0]
        every = np.concatenate([old, rows])
        states = every.cumsum(axis=0)[len(old) :][list(segment.wanted)]
        return Ran(states.reshape(-1, WIDTH), Kept(every[None, None]))


def bought(title: str, ts: int = 0) -> Read:
    return Read(Step(Kind.PURCHASE, ts, title), Item(title, title, 0))


HISTORY = tuple(bought(title, n) for n, title in enumerate(("hat", "boots", "scarf", "dress")))
VECTORS = tuple(np.eye(8, dtype=np.float32)[:3])


def request(
    history: Sequence[Read], vectors: Sequence[FloatArray | None] = VECTORS
) -> RerankRequest:
    items = tuple(Item(str(n), "", 0) for n in range(len(vectors)))
    return RerankRequest(tuple(history), items, tuple(vectors))


def endless() -> Deadline:
    return Deadline(ManualClock(), float("inf"))


def opened(model: SummingModel, **more: object) -> HistoryReader:
    reader = HistoryReader(model, HEAD, ReaderFormat(), **more)  # type: ignore[arg-type]
    model.ran.clear()
    return reader


def cost(history: Sequence[Read]) -> int:
    """Tokens of a prompt behind its opening."""
    model = SummingModel()
    whole = reader_prompt(history, ReaderFormat(), model.tokenize).tokens
    return len(whole) - len(model.tokenize("Shopping history, oldest first:\n"))


def test_a_score_is_the_cosine_with_the_heads_vector_of_the_last_state() -> None:
    model = SummingModel()
    reader = opened(model)
    tokens = reader_prompt(HISTORY, ReaderFormat(), model.tokenize).tokens
    [ran] = SummingModel().run([Segment(tokens, (len(tokens) - 1,))])
    expected = HEAD(ran.states)[0]
    [vector] = reader.shopper_vectors([request(HISTORY)], endless())
    [scores] = reader.score([request(HISTORY)], endless())
    assert vector == pytest.approx(expected, abs=1e-5)
    assert scores == pytest.approx(expected[:3], abs=1e-5)
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_a_new_event_costs_its_own_tokens() -> None:
    model = SummingModel()
    reader = opened(model)
    reader.score([request(HISTORY[:3])], endless())
    [warm] = reader.score([request(HISTORY)], endless())
    assert model.ran == [cost(HISTORY[:3]), len("dress\n")]
    [cold] = opened(SummingModel()).score([request(HISTORY)], endless())
    assert warm == pytest.approx(cold, abs=1e-5)


def test_the_same_history_again_costs_nothing() -> None:
    model = SummingModel()
    reader = opened(model)
    [first] = reader.score([request(HISTORY)], endless())
    [again] = reader.score([request(HISTORY)], endless())
    assert len(model.ran) == 1
    assert np.array_equal(first, again)


def test_an_event_that_came_late_costs_what_stands_behind_it() -> None:
    model = SummingModel()
    reader = opened(model)
    reader.score([request(HISTORY)], endless())
    late = (*HISTORY[:2], bought("belt"), *HISTORY[2:])
    reader.score([request(late)], endless())
    assert model.ran[1] == len("belt\nscarf\ndress\n")


def test_shoppers_with_the_same_beginning_share_it() -> None:
    model = SummingModel()
    reader = opened(model)
    reader.score([request((*HISTORY[:2], bought("belt")))], endless())
    reader.score([request(HISTORY)], endless())
    assert model.ran[1] == len("scarf\ndress\n")


def test_a_beginning_whose_state_was_not_asked_for_costs_its_last_line() -> None:
    model = SummingModel()
    reader = opened(model)
    reader.score([request(HISTORY)], endless())
    [scores] = reader.score([request(HISTORY[:2])], endless())
    assert model.ran[1] == len("boots\n")
    [alone] = opened(SummingModel()).score([request(HISTORY[:2])], endless())
    assert scores == pytest.approx(alone, abs=1e-5)


def test_a_forgotten_history_is_read_anew_and_others_are_not() -> None:
    model = SummingModel()
    reader = opened(model)
    other = (bought("belt"),)
    reader.score([request(HISTORY), request(other)], endless())
    reader.forget(HISTORY)
    reader.score([request(HISTORY), request(other)], endless())
    assert model.ran[1:] == [cost(HISTORY)]
    reader.forget()
    reader.score([request(other)], endless())
    assert model.ran[2:] == [cost(other)]


def test_without_room_nothing_is_kept_and_the_scores_are_the_same() -> None:
    model = SummingModel()
    reader = opened(model, cache_bytes=0)
    [first] = reader.score([request(HISTORY)], endless())
    [again] = reader.score([request(HISTORY)], endless())
    assert model.ran == [cost(HISTORY)] * 2
    assert np.array_equal(first, again)


def test_a_tuned_prompt_stands_before_every_history() -> None:
    front = np.random.default_rng(1).normal(size=(1, 1, 5, WIDTH)).astype(np.float32)
    model = SummingModel()
    reader = opened(model, soft=Kept(front))
    tokens = reader_prompt(HISTORY, ReaderFormat(), model.tokenize).tokens
    [ran] = SummingModel().run([Segment(tokens, (len(tokens) - 1,), Kept(front))])
    for history in (HISTORY[:2], HISTORY):
        [vector] = reader.shopper_vectors([request(history)], endless())
    assert vector == pytest.approx(HEAD(ran.states)[0], abs=1e-5)
    assert model.ran[1] == len("scarf\ndress\n")


def test_nothing_to_read_scores_nothing() -> None:
    reader = opened(SummingModel())
    silent = Read(Step(Kind.CLICK, 0, "x"), Item("x", "", 0))
    [scores] = reader.score([request([silent])], endless())
    assert scores is not None
    assert scores.tolist() == [0, 0, 0]
    assert reader.shopper_vectors([request([])], endless()) == [None]


def test_a_candidate_without_a_vector_stands_between_the_others() -> None:
    reader = opened(SummingModel())
    [scores] = reader.score([request(HISTORY, [*VECTORS, None])], endless())
    assert scores is not None
    assert scores[3] == pytest.approx(scores[:3].mean())
    [unknown] = reader.score([request(HISTORY, [None, None])], endless())
    assert unknown is not None
    assert unknown.tolist() == [0, 0]


def test_candidates_without_their_vectors_are_an_error() -> None:
    reader = opened(SummingModel())
    with pytest.raises(ValueError, match="vector of every candidate"):
        reader.score([RerankRequest(HISTORY, (Item("1", "hat", 0),))], endless())


def many(count: int) -> list[RerankRequest]:
    return [request([bought(f"item {n}", n)]) for n in range(count)]


def test_what_does_not_fit_the_time_has_no_answer_and_the_first_come_first() -> None:
    clock = ManualClock()
    model = SummingModel(0.01, clock.advance)
    reader = opened(model, seconds_per_token=0.01)
    asked = many(40)
    each = cost([bought("item 1")]) * 0.01
    begun = clock()
    answers = reader.score(asked, Deadline.after(10.5 * each, clock))
    told = [answer is not None for answer in answers]
    assert told == [True] * sum(told) + [False] * (40 - sum(told))
    assert 8 <= sum(told) <= 10
    assert clock() - begun <= 10.5 * each


def test_the_estimate_learns_from_what_was_run() -> None:
    clock = ManualClock()
    reader = opened(SummingModel(0.01, clock.advance), seconds_per_token=0.1)
    for n in range(20):
        reader.score(many(40)[n : n + 1], endless_on(clock))
    assert reader.seconds_per_token == pytest.approx(0.01, rel=0.01)


def endless_on(clock: ManualClock) -> Deadline:
    return Deadline(clock, float("inf"))


def test_after_refusing_all_it_is_tried_again_in_the_end() -> None:
    clock = ManualClock()
    reader = opened(SummingModel(0.001, clock.advance), seconds_per_token=1.0)
    for _ in range(100):
        [answer] = reader.score(many(1), Deadline.after(0.1, clock))
        if answer is not None:
            break
    assert answer is not None


def test_past_the_deadline_even_what_is_kept_is_not_looked_up() -> None:
    reader = opened(SummingModel())
    reader.score([request(HISTORY)], endless())
    assert reader.score([request(HISTORY)], Deadline.after(-1, ManualClock())) == [None]


def test_a_model_that_fails_says_so_and_leaves_nothing_half_kept() -> None:
    model = SummingModel()
    reader = opened(model)
    model.failures = 1
    with pytest.raises(RerankerFailed):
        reader.score([request(HISTORY)], endless())
    [scores] = reader.score([request(HISTORY)], endless())
    [cold] = opened(SummingModel()).score([request(HISTORY)], endless())
    assert scores == pytest.approx(cold, abs=1e-5)


def told(**changed: FloatArray) -> dict[str, FloatArray]:
    random = np.random.default_rng(0)
    parts = {"norm.weight": 6, "norm.bias": 6, "linear.bias": 4}
    found = {name: random.normal(size=n).astype(np.float32) for name, n in parts.items()}
    found["linear.weight"] = random.normal(size=(4, 6)).astype(np.float32)
    return found | {name.replace("_", "."): value for name, value in changed.items()}


def test_neither_torch_nor_transformers_is_imported_where_onnx_runtime_serves() -> None:
    code = (
        "import sys, models.reader, models.listwise, models.reader_backends, models.reader_onnx\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_head_is_torchs_layer_norm_and_linear_layer(tmp_path: Path) -> None:
    import torch
    from torch.nn import functional

    parts = told()
    save_file(parts, tmp_path / "head.safetensors")
    states = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    weights = {name: torch.from_numpy(value) for name, value in parts.items()}
    normed = functional.layer_norm(
        torch.from_numpy(states), (6,), weights["norm.weight"], weights["norm.bias"]
    )
    linear = functional.linear(normed, weights["linear.weight"], weights["linear.bias"])
    expected = functional.normalize(linear, dim=-1).numpy()
    assert load_head(tmp_path)(states) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "has"),
        (told(linear_bias=np.zeros(5, np.float32)), "do not fit"),
        (told(linear_weight=np.zeros((4, 7), np.float32)), "do not fit"),
        (told(norm_bias=np.full(6, np.nan, np.float32)), "numbers that are none"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(
    tmp_path: Path, parts: dict[str, FloatArray], words: str
) -> None:
    save_file(parts or {"other": np.zeros(1, np.float32)}, tmp_path / "head.safetensors")
    with pytest.raises(BundleInvalid, match=words):
        load_head(tmp_path)


def test_a_head_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="cannot be read"):
        load_head(tmp_path)
