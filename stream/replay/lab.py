"""What the experiments share: models trained once, kept, and asked a replay's questions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.making import Say
from models.sequence import Member, SequenceConfig, SequenceModel
from models.training.presets import PRESETS
from models.training.progress import Progress
from models.training.questions import Questions, Split
from models.training.sequence import SequenceTraining, train_member, training_key
from models.training.space import fitted, shopper_vectors
from stream.replay.answers import Answers
from stream.replay.asking import learnt
from stream.replay.contest import Answered
from stream.replay.prepare import Prepared, Request
from stream.replay.scored import put_vectors

Bars = Callable[[str], Progress]


@dataclass(frozen=True, slots=True)
class Budget:
    """What each variant gets, the same for all: epochs of the sequence model; of the LLM's tuning
    tokens, shoppers and layers (0: all); questions that choose a weight.
    """

    epochs: int = 16
    llm_tokens: int = 150_000
    llm_shoppers: int = 2000
    llm_layers: int = 16
    asked: int = 1000


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
        split = self.split
        place = self.request.work / f"member-{training_key(log, split, config, how)}"
        return train_member(
            log, split.ends, split.validation, config, how, place, self.bar(strategy)
        ).member

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

    def kept(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """A tensor that is made once on this budget."""
        budget = hashlib.sha256(repr(self.budget).encode()).hexdigest()[:8]
        file: Path = self.request.asked_in / f"{_plain(name)}-{budget}.npy"
        if not file.is_file():
            np.save(file, make().numpy())
        return torch.from_numpy(np.load(file))


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)


def timed(make: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What ``make`` makes, and the seconds that it took."""
    began = time.monotonic()
    return make(), time.monotonic() - began
