"""Trains the LLM history reader: after each line of a history, which item comes next?

A causal LLM reads the history (models/reader_prompt.py). Its state at each line's end goes
through a head to the space of the items, whose vectors the sequence model has made and which stay
as they are; LLM and head are trained by one softmax over cosines (negatives.py).

                 tokens (b, l) ──▶ LLM, tuned by a PEFT method ──▶ states (b, l, h)
                                                                     │ at the m lines' ends
    item table (1 + n + q, d), frozen ──▶ cosines (m, c) ◀── head ───┘ unit (m, d)

The steps, and how a training that was killed goes on: llm_run.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from models import weights
from models.llm_tokens import Tokenizer
from models.reader_prompt import ReaderFormat
from models.training import llm_body, peft_methods
from models.training.checkpoint import keep, kept
from models.training.llm_body import Head
from models.training.llm_run import LlmConfig, LlmRun
from models.training.log import TrainingLog
from models.training.negatives import Contrast, Hard, Loss, Retriever, mined
from models.training.progress import Progress
from models.training.reader_windows import (
    Places,
    Prompts,
    ReadBatch,
    Windows,
    batches,
    cut,
    parts,
    read_batch,
)
from models.training.trained_reader import TrainedReader

_LEAST_TEMPERATURE: Final = 0.01

Validate = Callable[[TrainedReader], float]


@dataclass(frozen=True, slots=True)
class ReaderConfig(LlmConfig):
    """How to train the reader.

    ``negatives``, ``hard``, ``correction`` and ``offset``: see negatives.py; ``windows``: the
    newest so many of each shopper (0: all); ``head_lr``: of the head and the temperature.
    """

    head_lr: float = 3e-3
    format: ReaderFormat = field(default_factory=ReaderFormat)
    windows: int = 0
    negatives: int = 2048
    hard: int = 0
    correction: float = 0.0
    offset: float = 0.0
    temperature: float = 0.07


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
    mark = _mark(log, table, windows, llm_folder, config)
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


class _Run(LlmRun):
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
        self.reader, self.prompts, self.windows, self.softmax = reader, prompts, windows, loss
        self.validate = validate
        self.device = next(reader.head.parameters()).device
        loss.table = loss.table.to(self.device)
        self.scale = nn.Parameter(torch.tensor(1 / config.temperature, device=self.device).log())
        head = [*reader.head.parameters(), self.scale]
        super().__init__(
            "reader", reader.model, config, progress, windows.tokens, [(head, config.head_lr)]
        )

    def until_done(self, checkpoint: Callable[[], None]) -> None:
        """All epochs; the temperature that was learnt is the reader's."""
        super().until_done(checkpoint)
        self.reader.temperature = float(1 / self.scale.detach().exp())

    def plan(self, epoch: int) -> list[Places]:
        """Windows of all lengths in each step."""
        rng = np.random.default_rng([self.config.seed, epoch])
        return batches(self.windows, self.config.batch_tokens, rng)

    def loss(self, which: Places) -> tuple[Tensor | None, int]:
        """Of the windows' ends that ask for an item."""
        read = [
            read_batch(self.prompts, self.windows, part, self.softmax.known)
            for part in parts(self.windows, which)
        ]
        size = sum(batch.size for batch in read)
        read = [batch for batch in read if len(batch.targets)]
        if not read:
            return None, size
        vectors = torch.cat([self._vectors(batch) for batch in read])
        scale = self.scale.exp().clamp(max=1 / _LEAST_TEMPERATURE)
        targets = torch.cat([batch.targets for batch in read])
        events = np.concatenate([batch.events for batch in read])
        return self.softmax(vectors, scale, targets, events), size

    def _vectors(self, batch: ReadBatch) -> Tensor:
        """Of the ends (m, d)."""
        states = llm_body.states(self.reader.model, batch.tokens.to(self.device))
        vectors: Tensor = self.reader.head(states[batch.rows, batch.columns])
        return vectors

    def validated(self) -> float | None:
        """By the caller's own measure."""
        return None if self.validate is None else self.validate(self.reader)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        own = {"head": self.reader.head.state_dict(), "scale": self.scale.detach()}
        return super().state() | own

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """From one."""
        self.reader.head.load_state_dict(state["head"])
        self.scale.copy_(state["scale"])
        super().load(state)


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


def _mark(
    log: TrainingLog, table: Tensor, windows: Windows, llm: Path, config: ReaderConfig
) -> str:
    """What a checkpoint must have been made of for a training to go on from it."""
    told = config.deciding(), log.summary.fingerprint, weights.fingerprint(llm)
    digest = hashlib.sha256(repr(told).encode())
    digest.update(windows.starts.tobytes() + windows.stops.tobytes())
    digest.update(table.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
