"""What the experiments share: models trained once, kept, and asked a replay's questions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.atomic_folder import Say
from models.ports import FloatArray, Reranker
from models.rerank.fusion import blend
from models.space.sequence import Member, SequenceConfig, SequenceModel
from models.training.data.log import Places
from models.training.data.splits import Questions, Split, block_of
from models.training.gate import CANDIDATES
from models.training.llm.stage import Asked, Bars
from models.training.presets import PRESETS
from models.training.sequence.evaluate import Space, fitted, shopper_vectors
from models.training.sequence.train import SequenceTraining, train_member
from stream.replay.finish import Answered
from stream.replay.play.baselines import learnt
from stream.replay.play.scored import leave_out, put_scores, put_vectors
from stream.replay.questions.answers import Answers
from stream.replay.questions.prepare import Prepared, Request

_ASKED: Final = 64  # questions that the LLM is asked at once
_BEHIND: Final = 100.0  # what is taken from the scores of all that is no candidate


@dataclass(frozen=True, slots=True)
class Budget:
    """What each variant gets, the same for all: epochs of the sequence model; of the LLM's tuning
    tokens and shoppers; questions that choose a weight.
    """

    epochs: int = 16
    llm_tokens: int = 150_000
    llm_shoppers: int = 2000
    asked: int = 1000


@dataclass(frozen=True, slots=True)
class Beside:
    """What the LLM stands beside: a retriever, and its first candidates of each question.

    ``wanted`` (q, d) of the questions and ``looked`` (v, d) of those of ``validation``, against
    ``items`` (1 + n, d); ``rows`` (q, c), 0 where there are fewer, and their ``cosines`` (q, c).
    """

    items: Tensor
    wanted: Tensor
    validation: Questions
    looked: Tensor
    rows: Places
    cosines: FloatArray


@dataclass(slots=True)
class Lab:
    """The log, its training part and the questions, in one work folder."""

    request: Request
    prepared: Prepared
    budget: Budget
    say: Say
    bar: Bars

    @property
    def split(self) -> Split:
        """Where training ends, and what validates."""
        ends, validation = learnt(
            self.prepared.log, self.prepared.asked, new_only=self.request.new_only
        )
        return Split(ends, ends, validation, validation, self.prepared.asked.words)

    def member(self, strategy: str) -> Member:
        """A trained member, made once."""
        preset = PRESETS["standard"]
        log = self.prepared.log
        mixup = fitted(replace(preset.sequence.mixup, strategy=strategy), log)
        config: SequenceConfig = replace(preset.sequence, mixup=mixup)
        how: SequenceTraining = replace(
            preset.training, epochs=self.budget.epochs, seed=self.request.seed
        )
        work, bar = self.request.work, self.bar(strategy)
        return train_member(log, self.split, config, how, work, bar).member

    def questions(self) -> Questions:
        """The histories that are asked, in the baskets' order; targets are in the baskets."""
        baskets = self.prepared.asked.baskets
        return Questions(
            baskets.shoppers, baskets.starts, baskets.ends, np.zeros(len(baskets), np.int64)
        )

    def wanted(self, model: Member | SequenceModel, table: Tensor) -> Tensor:
        """What each question's shopper looks for (q, d)."""
        return shopper_vectors(self.prepared.log, self.questions(), model, table)

    def answered(
        self, name: str, words: str, wanted: Tensor, items: Tensor, seconds: float
    ) -> Answered:
        """A variant, by its vectors (q, d) against ``items`` (1 + n, d)."""
        baskets = self.prepared.asked.baskets
        answers = Answers(self.request.asked_in / f"variant-{_plain(name)}", baskets)
        put_vectors(answers, baskets, self.prepared.log, wanted, items, self.prepared.enters)
        return Answered(name, "variant", words, answers, seconds)

    def beside(self, strategy: str) -> Beside:
        """The retriever of a mix-up, trained on the budget."""
        log, member = self.prepared.log, self.member(strategy)
        space = Space.of(log, member)
        wanted = self.wanted(member, space.table)
        validation = self.split.validation.sample(self.budget.asked, 2)
        looked = shopper_vectors(log, validation, member, space.table)
        return Beside(
            space.items, wanted, validation, looked, *self._candidates(wanted, space.items)
        )

    def _candidates(self, wanted: Tensor, items: Tensor) -> tuple[Places, FloatArray]:
        """The first of each question, best first: rows (q, c) and cosines (q, c)."""
        log, baskets = self.prepared.log, self.prepared.asked.baskets
        block = block_of(log)
        shape = len(baskets), min(CANDIDATES, log.items)
        rows, cosines = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        for start in range(0, len(baskets), block):
            scores = wanted[start : start + block] @ items.T
            leave_out(baskets, log, start, scores, enters=self.prepared.enters)
            best = torch.topk(scores, shape[1], dim=1)
            there = torch.isfinite(best.values)
            rows[start : start + block] = torch.where(there, best.indices, 0).numpy()
            cosines[start : start + block] = torch.where(there, best.values, 0.0).numpy()
        return rows, cosines

    def scored(self, name: str, beside: Beside, make: Callable[[], Reranker]) -> FloatArray:
        """What a reranker makes of the candidates (q, c), 0 where there is none; asked once."""
        baskets = self.prepared.asked.baskets

        def asked() -> Tensor:
            llm, told = Asked(self.prepared.log, make()), self.bar(name)
            found = torch.zeros(beside.rows.shape)
            for start in range(0, len(baskets), _ASKED):
                some = range(start, min(start + _ASKED, len(baskets)))
                spans = [(int(baskets.starts[n]), int(baskets.ends[n])) for n in some]
                rows = [beside.rows[n][beside.rows[n] > 0] for n in some]
                for n, scores in zip(some, llm.scores(spans, rows), strict=True):
                    found[n, : len(scores)] = torch.from_numpy(scores)
                told.step(some.stop, len(baskets), loss=0.0, metric=0.0)
            return found

        return np.asarray(self.kept(f"scores-{name}", asked).numpy(), np.float32)

    def reranked(
        self, name: str, words: str, beside: Beside, scores: FloatArray, weight: float,
        seconds: float,
    ) -> Answered:  # fmt: skip
        """A variant whose candidates the LLM's ``scores`` (q, c) order at ``weight``.

        What is no candidate follows, in the retriever's order.
        """
        log, baskets = self.prepared.log, self.prepared.asked.baskets
        block = block_of(log)
        answers = Answers(self.request.asked_in / f"variant-{_plain(name)}", baskets)
        order = blend(beside.cosines, scores, weight)
        for start in range(0, len(baskets), block):
            some = beside.wanted[start : start + block] @ beside.items.T - _BEHIND
            for n in range(len(some)):
                there = beside.rows[start + n] > 0
                some[n, beside.rows[start + n][there]] = torch.from_numpy(order[start + n][there])
            put_scores(answers, baskets, log, start, some, enters=self.prepared.enters)
        answers.reranked[:] = 1
        answers.flush()
        return Answered(name, "variant", words, answers, seconds)

    def kept(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """A tensor that is made once on this budget."""
        budget = hashlib.sha256(repr(self.budget).encode()).hexdigest()[:8]
        file: Path = self.request.asked_in / f"{_plain(name)}-{budget}.npy"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, make().numpy())
        return torch.from_numpy(np.load(file))


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)
