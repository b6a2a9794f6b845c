"""Trains the LLM history reader: after each line of a history, which item comes next?

A causal LLM reads the history (models/reader_prompt.py). Its state at each line's end goes
through a head to the space of the items, whose vectors the sequence model has made and which stay
as they are; LLM and head are trained by one softmax over cosines (negatives.py).

                 tokens (b, l) ──▶ LLM, tuned by a PEFT method ──▶ states (b, l, h)
                                                                     │ at the m lines' ends
    item table (1 + n + q, d), frozen ──▶ cosines (m, c) ◀── head ───┘ unit (m, d)

A step's chances come from the seed and its number alone, so that a training that was killed goes
on from its checkpoint to the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from models.llm_tokens import Tokenizer
from models.reader_prompt import ReaderFormat
from models.training import llm_body, peft_methods
from models.training.checkpoint import keep, kept
from models.training.llm_body import Head, Masters
from models.training.log import TrainingLog
from models.training.negatives import Contrast, Hard, Loss, Retriever, mined
from models.training.peft_methods import TARGETS, Tuning
from models.training.progress import Progress
from models.training.reader_windows import (
    Places,
    Prompts,
    ReadBatch,
    Windows,
    batches,
    cut,
    read_batch,
)
from models.training.trained_reader import TrainedReader

_log = logging.getLogger("weft.training")

#: Steps whose mean loss is told.
_TOLD: Final = 50
_LEAST_TEMPERATURE: Final = 0.01

Validate = Callable[[TrainedReader], float]


@dataclass(frozen=True, slots=True)
class ReaderConfig:
    """How to train the reader.

    ``layers``: the LLM's first so many (0: all); ``negatives``, ``hard``, ``correction`` and
    ``offset``: see negatives.py; ``windows``: the newest so many of each shopper (0: all);
    ``max_shoppers`` and ``max_tokens``: an epoch's at most (0: all), drawn by the seed;
    ``batch_tokens``: a step's; on a CPU larger ones read no quicker, and a pass has fewer steps;
    ``validate_every``: in steps, 0 for the end only; ``keep_seconds``: between checkpoints.
    """

    method: str = "lora"
    rank: int = 16
    targets: tuple[str, ...] = TARGETS
    from_layer: int = 0
    lr: float = 5e-4
    head_lr: float = 3e-3
    weight_decay: float = 0.0
    warm_up: int = 20
    last_lr: float = 0.05
    clip: float = 1.0
    format: ReaderFormat = field(default_factory=ReaderFormat)
    windows: int = 0
    negatives: int = 2048
    hard: int = 0
    correction: float = 0.0
    offset: float = 0.0
    temperature: float = 0.07
    batch_tokens: int = 1024
    epochs: int = 1
    layers: int = 0
    max_shoppers: int = 0
    max_tokens: int = 0
    validate_every: int = 0
    keep_seconds: float = 120.0
    seed: int = 0
    device: str = "auto"

    @property
    def tuning(self) -> Tuning:
        """The part that is the LLM's."""
        return Tuning(self.method, self.rank, self.targets, from_layer=self.from_layer)


def train_reader(
    log: TrainingLog,
    ends: Places,
    table: Tensor,
    llm_folder: Path,
    config: ReaderConfig,
    work: Path,
    progress: Progress,
    *,
    validate: Validate | None = None,
    limit_to: Places | None = None,
    hard: Hard | None = None,
    retriever: Retriever | None = None,
) -> TrainedReader:
    """A reader trained on each shopper's events up to ``ends`` (shoppers,), exclusive.

    ``table`` (1 + n + q, d): unit rows, zero where nothing is known. ``work`` keeps checkpoints:
    a second call with the same arguments goes on from the last one. ``limit_to``: only these
    shoppers. Where ``config.hard`` asks for hard negatives and ``hard`` is None, they are mined
    from ``retriever``. Raises ``InvalidSettings`` or ``MissingWeights``.
    """
    if hard is None and config.hard and retriever is not None:
        hard = mined(table, log.items, retriever, config.hard)
    prompts = Prompts(log, config.format, Tokenizer(llm_folder / "tokenizer.json"))
    windows = _windows(prompts, ends, config, limit_to)
    counts = _target_counts(log, windows)
    loss = Loss(
        table.float(), log.items, counts,
        Contrast(config.negatives, config.correction, config.offset), hard, retriever,
    )  # fmt: skip
    reader = untrained(llm_folder, table.shape[1], config)
    run = _Run(reader, prompts, windows, loss, config, progress, validate)
    mark = _mark(log, table, windows, config)
    state = kept(work)
    if state is not None and state["mark"] == mark:
        run.load(state)
    run.until_done(lambda: keep(work, {"mark": mark, **run.state()}))
    return reader


def untrained(llm_folder: Path, dim: int, config: ReaderConfig) -> TrainedReader:
    """The reader as training begins. Raises ``InvalidSettings`` or ``MissingWeights``."""
    peft_methods.check(config.method)
    device = llm_body.device_of(config.device)
    torch.manual_seed(config.seed)
    base = llm_body.body(
        llm_folder, device, layers=config.layers, four_bits=config.method == "qlora"
    )
    head = Head(int(base.config.hidden_size), dim).to(device)
    model = peft_methods.apply(base, config.tuning)
    return TrainedReader(
        model, head, config.tuning, config.format, config.layers, llm_folder, config.temperature
    )


class _Run:
    """A training under way."""

    def __init__(
        self,
        reader: TrainedReader,
        prompts: Prompts,
        windows: Windows,
        loss: Loss,
        config: ReaderConfig,
        progress: Progress,
        validate: Validate | None,
    ) -> None:
        self.reader, self.prompts, self.windows, self.loss = reader, prompts, windows, loss
        self.config, self.progress, self.validate = config, progress, validate
        self.device = next(reader.head.parameters()).device
        loss.table = loss.table.to(self.device)
        self.scale = nn.Parameter(torch.tensor(1 / config.temperature, device=self.device).log())
        self.masters = Masters(peft_methods.trainable(reader.model))
        self.optimiser = torch.optim.AdamW(
            [
                {"params": self.masters.copies, "lr": config.lr},
                {"params": [*reader.head.parameters(), self.scale], "lr": config.head_lr},
            ],
            weight_decay=config.weight_decay,
        )
        self.done = 0  # steps
        self.read = 0  # tokens
        self.metric = 0.0
        self.losses: list[float] = []

    def until_done(self, checkpoint: Callable[[], None]) -> None:
        """All epochs; a checkpoint now and then and at the end."""
        last = time.monotonic()
        plans = [self._plan(epoch) for epoch in range(self.config.epochs)]
        steps = [which for plan in plans for which in plan]
        while self.done < len(steps):
            self._step(steps[self.done], len(steps))
            every = self.config.validate_every
            if (every and self.done % every == 0) or self.done == len(steps):
                self._look()
            if time.monotonic() - last >= self.config.keep_seconds or self.done == len(steps):
                checkpoint()
                last = time.monotonic()
        self.reader.temperature = float(1 / self.scale.detach().exp())
        self.reader.model.eval()

    def _plan(self, epoch: int) -> list[Places]:
        rng = np.random.default_rng([self.config.seed, epoch])
        return batches(self.windows, self.config.batch_tokens, rng)

    def _step(self, which: Places, steps: int) -> None:
        config = self.config
        torch.manual_seed(int(np.random.default_rng([config.seed, 1, self.done]).integers(2**62)))
        batch = read_batch(self.prompts, self.windows, which, self.loss.known)
        self.reader.model.train()
        if len(batch.targets):
            self._learn(batch, self._rate(steps))
        self.done += 1
        self.read += batch.size
        self.progress.step(
            self.read, self.windows.tokens * config.epochs,
            loss=float(np.mean(self.losses[-_TOLD:] or [0.0])), metric=self.metric,
        )  # fmt: skip

    def _learn(self, batch: ReadBatch, rate: float) -> None:
        for group, lr in zip(
            self.optimiser.param_groups, (self.config.lr, self.config.head_lr), strict=True
        ):
            group["lr"] = lr * rate
        states = llm_body.states(self.reader.model, batch.tokens.to(self.device))
        vectors = self.reader.head(states[batch.rows, batch.columns])
        scale = self.scale.exp().clamp(max=1 / _LEAST_TEMPERATURE)
        loss = self.loss(vectors, scale, batch.targets, batch.events)
        loss.backward()  # type: ignore[no-untyped-call]
        self.masters.gather()
        nn.utils.clip_grad_norm_(self.masters.copies, self.config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.masters.spread()
        self.losses.append(float(loss.detach()))

    def _rate(self, steps: int) -> float:
        """Share of the full rate: up in ``warm_up`` steps, then down to ``last_lr`` at the end."""
        up = min(1.0, (self.done + 1) / max(self.config.warm_up, 1))
        return up * max(self.config.last_lr, 1 - self.done / steps)

    def _look(self) -> None:
        if self.validate is None:
            return
        self.reader.model.eval()
        self.metric = self.validate(self.reader)
        loss = float(np.mean(self.losses[-_TOLD:] or [0.0]))
        _log.info("reader, step %d: loss %.3f, validation %.4f", self.done, loss, self.metric)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "masters": [copy.detach() for copy in self.masters.copies],
            "head": self.reader.head.state_dict(),
            "scale": self.scale.detach(),
            "optimiser": self.optimiser.state_dict(),
            "numbers": [self.done, self.read, self.metric],
            "losses": self.losses[-_TOLD:],
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """From one."""
        for copy, told in zip(self.masters.copies, state["masters"], strict=True):
            copy.copy_(told)
        self.masters.spread()
        self.reader.head.load_state_dict(state["head"])
        self.scale.copy_(state["scale"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.read, self.metric = state["numbers"]
        self.losses = list(state["losses"])
        _log.info("reader: goes on from step %d", self.done)


def _windows(
    prompts: Prompts, ends: Places, config: ReaderConfig, limit_to: Places | None
) -> Windows:
    shoppers = np.arange(prompts.log.shoppers) if limit_to is None else np.asarray(limit_to)
    long = ends[shoppers] - prompts.log.offsets[:-1][shoppers] >= 2
    drawn = np.random.default_rng(config.seed).permutation(shoppers[long])
    if config.max_shoppers:
        drawn = drawn[: config.max_shoppers]
    return cut(prompts, ends, drawn, newest=config.windows, max_tokens=config.max_tokens)


def _target_counts(log: TrainingLog, windows: Windows) -> Places:
    """How often each item is asked for (n + 1,)."""
    counts = np.zeros(log.items + 1, dtype=np.int64)
    for start, stop in zip(windows.starts, windows.stops, strict=True):
        rows = log.rows[start + 1 : stop + 1]
        np.add.at(counts, rows[rows <= log.items], 1)
    return counts


def _mark(log: TrainingLog, table: Tensor, windows: Windows, config: ReaderConfig) -> str:
    """What a checkpoint must have been made of for a training to go on from it."""
    told = asdict(config)
    for name in ("keep_seconds", "validate_every", "device"):
        told.pop(name)
    digest = hashlib.sha256(repr((sorted(told.items()), log.summary.fingerprint)).encode())
    digest.update(windows.starts.tobytes() + windows.stops.tobytes())
    digest.update(table.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
