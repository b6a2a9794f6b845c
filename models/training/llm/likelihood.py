"""Trains the likelihood reranker: what title would come next, word for word?

    history ─▶ prompt, its open line completed ─▶ LLM, tuned by a PEFT method ─▶ states (l, h)
                                                                                   │
    the LLM's own output layer, frozen ──────────▶ log p of each title's tokens ◀──┘

The loss is that of language modelling, over the titles that stand below at least one other line.
The prompt is models/rerank/prompt.py's own, which an untuned LLM reranks by as well, so training
begins at what that one knows, and each title gives a dozen tokens to learn from, not one choice.
The LLM's knowledge does not hang on a retriever or its space. Steps and checkpoints: llm_run.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from models.errors import InvalidFile
from models.llm import body, peft_methods
from models.llm.peft_methods import Tuning
from models.llm.tokens import Tokenizer
from models.rerank import prompt
from models.rerank.prompt import Taught, Tokenize
from models.training.data.checkpoint import keep, kept
from models.training.data.log import Places, TrainingLog
from models.training.data.progress import Progress
from models.training.llm.run import LlmConfig, LlmRun
from models.training.llm.windows import Histories, Windows, batches, padded, parts
from models.weights import locate


@dataclass(slots=True)
class TrainedLikelihood:
    """The tuned body, and ``rows`` (v, h): the LLM's own output layer."""

    model: Any
    rows: Tensor
    tuning: Tuning

    def save(self, folder: Path, dtype: torch.dtype | None = torch.bfloat16) -> None:
        """The adapter, as ``dtype``; the output layer is the LLM's own."""
        peft_methods.save(self.model, self.tuning, folder, dtype)


class TitlePrompts:
    """What ``prompt.taught`` makes of ranges of a log's events."""

    def __init__(self, log: TrainingLog, tokenize: Tokenize) -> None:
        self.log = log
        self._histories = Histories(log)
        self._tokenize: Tokenize = lru_cache(maxsize=1 << 17)(tokenize)

    def __call__(self, start: int, stop: int) -> Taught:
        """Of the events ``start:stop`` and the item of the event at ``stop``; maybe empty."""
        row = int(self.log.rows[stop])
        if not 0 < row <= self.log.items:
            return Taught()
        return prompt.taught(self._histories(start, stop), self.log.item(row), self._tokenize)


def train_likelihood(
    log: TrainingLog,
    ends: Places,
    llm_folder: Path,
    config: LlmConfig,
    work: Path,
    progress: Progress,
) -> TrainedLikelihood:
    """A reranker trained on each shopper's events up to ``ends`` (shoppers,), exclusive.

    ``work`` keeps checkpoints: a second call with the same arguments goes on from the last one.
    Raises ``InvalidFile`` where the log has nothing to learn, ``MissingWeights`` or
    ``InvalidSettings``.
    """
    prompts = TitlePrompts(log, Tokenizer(llm_folder / "tokenizer.json"))
    windows = _cut(prompts, ends, config)
    if not len(windows):
        raise InvalidFile("a likelihood reranker has nothing to learn: no shopper's next title")
    reranker = untrained(llm_folder, config)
    run = _Run(reranker, prompts, windows, config, progress)
    mark = _mark(log, windows, llm_folder, config)
    state = kept(work)
    if state is not None and state["mark"] == mark:
        run.load(state)
    run.until_done(lambda: keep(work, {"mark": mark, **run.state()}))
    return reranker


def untrained(llm_folder: Path, config: LlmConfig) -> TrainedLikelihood:
    """The reranker as training begins. Raises ``InvalidSettings`` or ``MissingWeights``."""
    peft_methods.check(config.method)
    device = body.device_of(config.device)
    torch.manual_seed(config.seed)
    base = body.body(llm_folder, device, four_bits=config.method == "qlora")
    rows = body.output_rows(base, llm_folder).to(device)
    model = peft_methods.apply(base, config.tuning)
    return TrainedLikelihood(model, rows, config.tuning)


class _Run(LlmRun):
    """A training under way."""

    def __init__(
        self,
        reranker: TrainedLikelihood,
        prompts: TitlePrompts,
        windows: Windows,
        config: LlmConfig,
        progress: Progress,
    ) -> None:
        self.reranker, self.prompts, self.windows = reranker, prompts, windows
        super().__init__("likelihood reranker", reranker.model, config, progress, windows.tokens)

    def plan(self, epoch: int) -> list[Places]:
        """Windows of all lengths in each step."""
        rng = np.random.default_rng([self.config.seed, epoch])
        return batches(self.windows, self.config.batch_tokens, rng)

    def loss(self, which: Places) -> tuple[Tensor | None, int]:
        """Mean over the step's titles' tokens; runs of alike lengths are a forward each."""
        found = torch.zeros((), device=self.reranker.rows.device)
        count = 0
        for run in parts(self.windows, which):
            texts = [
                self.prompts(int(self.windows.starts[n]), int(self.windows.stops[n])) for n in run
            ]
            found = found + title_loss(self.reranker, texts)
            count += sum(len(text.titles) for text in texts)
        return found / count, int(self.windows.sizes[which].sum())


def title_loss(reranker: TrainedLikelihood, texts: list[Taught]) -> Tensor:
    """Minus the log p of all titles' tokens, each by what stands before it, in natural units."""
    states = body.states(
        reranker.model, padded([text.tokens for text in texts]).to(reranker.rows.device)
    )
    rows = [row for row, text in enumerate(texts) for _ in text.titles]
    before = [place - 1 for text in texts for place in text.titles]
    targets = torch.tensor([text.tokens[place] for text in texts for place in text.titles])
    logits = F.linear(states[rows, before], reranker.rows)
    return F.cross_entropy(logits.float(), targets.to(logits.device), reduction="sum")


def _cut(prompts: TitlePrompts, ends: Places, config: LlmConfig) -> Windows:
    """Windows of the shoppers' training events, until ``max_tokens``, as serving would read them.

    From the newest event back, so that each event's title is foretold once.
    """
    log, found, total = prompts.log, list[tuple[int, int, int]](), 0
    for start, stop in _spans(log, ends, config):
        size = len(prompts(start, stop).tokens)
        if config.max_tokens and total + size > config.max_tokens:
            break
        if size:
            found.append((start, stop, size))
            total += size
    return Windows.of(found)


def _spans(log: TrainingLog, ends: Places, config: LlmConfig) -> Iterator[tuple[int, int]]:
    """(start, stop): as many events as are read, and the one that followed; drawn by the seed."""
    drawn = np.random.default_rng(config.seed).permutation(log.shoppers)
    for shopper in (drawn[: config.max_shoppers] if config.max_shoppers else drawn).tolist():
        first, stop = int(log.offsets[shopper]), int(ends[shopper]) - 1
        while stop > first:
            if not 0 < int(log.rows[stop]) <= log.items:  # a search is not foretold
                stop -= 1
                continue
            start = max(first, stop - prompt.STEPS)
            yield start, stop
            stop = start


def _mark(log: TrainingLog, windows: Windows, llm: Path, config: LlmConfig) -> str:
    """What a checkpoint must have been made of for a training to go on from it."""
    told = config.deciding(), log.summary.fingerprint, locate.fingerprint(llm)
    digest = hashlib.sha256(repr(told).encode())
    for array in (windows.starts, windows.stops):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
