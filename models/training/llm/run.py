"""The tuning of an LLM, step by step: rates, gradients and checkpoints; a subclass has the loss.

A step's chances come from the seed and its number alone, so that a training that was killed goes
on from its checkpoint to the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from models.llm import peft_methods
from models.llm.body import Masters
from models.llm.peft_methods import Tuning
from models.llm.tuned import UNTUNED
from models.training.data.log import Places
from models.training.data.progress import Progress

_log = logging.getLogger("weft.training")

#: Steps whose mean loss is told.
_TOLD: Final = 50


@dataclass(frozen=True, slots=True)
class LlmConfig:
    """How to tune an LLM.

    ``method`` and ``rank``: see peft_methods.py; with the method ``none`` it is not
    tuned. ``lr`` goes up in ``warm_up`` steps and down to ``last_lr`` of itself at the end;
    ``clip``: a gradient's norm at most; ``max_shoppers`` and ``max_tokens``: an epoch's at most
    (0: all), drawn by the seed; ``batch_tokens``: a step's; on a CPU larger ones read no quicker,
    and a pass has fewer steps; ``keep_seconds``: between checkpoints.
    """

    method: str = "lora"
    rank: int = 16
    lr: float = 5e-4
    warm_up: int = 20
    last_lr: float = 0.05
    clip: float = 1.0
    batch_tokens: int = 1024
    epochs: int = 1
    max_shoppers: int = 0
    max_tokens: int = 0
    keep_seconds: float = 120.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raises ``InvalidSettings``."""
        if self.method != UNTUNED:
            _ = self.tuning

    @property
    def tuning(self) -> Tuning:
        """The part that is the LLM's. Raises ``InvalidSettings``."""
        return Tuning(self.method, self.rank)

    def deciding(self) -> list[tuple[str, Any]]:
        """What decides the weights that a training ends in, by name."""
        told = asdict(self)
        for name in ("keep_seconds", "device"):
            told.pop(name)
        return sorted(told.items())


class LlmRun(ABC):
    """A training under way. ``tokens`` are an epoch's."""

    def __init__(
        self, name: str, model: Any, config: LlmConfig, progress: Progress, tokens: int
    ) -> None:
        self.name, self.model, self.config, self.progress = name, model, config, progress
        self.tokens = tokens * config.epochs
        self.masters = Masters(peft_methods.trainable(model))
        self.optimiser = torch.optim.AdamW(self.masters.copies, lr=config.lr, weight_decay=0.0)
        self.done = 0  # steps
        self.read = 0  # tokens
        self.losses: list[float] = []

    @abstractmethod
    def plan(self, epoch: int) -> list[Places]:
        """The steps of an epoch: what each learns from, by number."""

    @abstractmethod
    def loss(self, which: Places) -> tuple[Tensor | None, int]:
        """The loss of one step, None where there is nothing to learn, and the tokens it read."""

    def until_done(self, checkpoint: Callable[[], None]) -> None:
        """All epochs; a checkpoint now and then and at the end."""
        last = time.monotonic()
        plans = [self.plan(epoch) for epoch in range(self.config.epochs)]
        steps = [which for plan in plans for which in plan]
        while self.done < len(steps):
            self._step(steps[self.done], len(steps))
            if time.monotonic() - last >= self.config.keep_seconds or self.done == len(steps):
                checkpoint()
                last = time.monotonic()
        self.model.eval()

    def _step(self, which: Places, steps: int) -> None:
        chances = np.random.default_rng([self.config.seed, 1, self.done])
        torch.manual_seed(int(chances.integers(2**62)))
        self.model.train()
        loss, size = self.loss(which)
        if loss is not None:
            self._learn(loss, self._rate(steps))
        self.done += 1
        self.read += size
        self.progress.step(self.read, self.tokens, loss=self._mean_loss(), metric=0.0)

    def _learn(self, loss: Tensor, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.lr * rate
        loss.backward()  # type: ignore[no-untyped-call]
        self.masters.gather()
        nn.utils.clip_grad_norm_(self.masters.copies, self.config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.masters.spread()
        self.losses.append(float(loss.detach()))

    def _rate(self, steps: int) -> float:
        """Share of the full rate."""
        up = min(1.0, (self.done + 1) / max(self.config.warm_up, 1))
        return up * max(self.config.last_lr, 1 - self.done / steps)

    def _mean_loss(self) -> float:
        return float(np.mean(self.losses[-_TOLD:] or [0.0]))

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "masters": [copy.detach() for copy in self.masters.copies],
            "optimiser": self.optimiser.state_dict(),
            "numbers": [self.done, self.read],
            "losses": self.losses[-_TOLD:],
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """From one."""
        for copy, told in zip(self.masters.copies, state["masters"], strict=True):
            copy.copy_(told)
        self.masters.spread()
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.read = state["numbers"]
        self.losses = list(state["losses"])
        _log.info("%s: goes on from step %d", self.name, self.done)
