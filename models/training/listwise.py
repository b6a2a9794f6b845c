"""Trains the listwise reranker: of the retriever's candidates in one prompt, which one came next?

    history, candidates ─▶ prompt up to "Next: (" ─▶ LLM, tuned by a PEFT method ─▶ state (h,)
                                                                                     │
    output layer's rows of the letters (20, h), the LLM's own, frozen ──▶ logits (c,) ◀──┘

The loss is the cross-entropy of the right letter among those that stand in the prompt. The prompt
is models/listwise.py's own. The candidates are the retriever's first that are new to the shopper,
and the item that came next is one of them, at a random place in each epoch, so that a letter by
itself tells nothing. Steps and checkpoints: llm_run.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from models import listwise, weights
from models.errors import InvalidFile, InvalidSettings
from models.llm_tokens import Tokenizer
from models.training import llm_body, peft_methods
from models.training.checkpoint import keep, kept
from models.training.choices import ChoicePrompts, Choices, choices_of
from models.training.llm_run import LlmConfig, LlmRun
from models.training.log import TrainingLog
from models.training.negatives import Hard
from models.training.progress import Progress
from models.training.reader_windows import Places, alike, padded
from models.training.trained_listwise import TrainedListwise

Validate = Callable[[TrainedListwise], float]


@dataclass(frozen=True, slots=True)
class ListwiseConfig(LlmConfig):
    """How to train the listwise reranker.

    ``questions``: the newest so many of each shopper (0: all); ``both_ways``: serving asks each
    list in both orders (models/listwise.py). A step has several questions, of some 500 tokens.
    """

    batch_tokens: int = 4096
    questions: int = 4
    both_ways: bool = False

    def __post_init__(self) -> None:
        """Raises ``InvalidSettings``."""
        peft_methods.check_merged(self.method, "listwise")


def train_listwise(
    log: TrainingLog,
    ends: Places,
    llm_folder: Path,
    hard: Hard,
    config: ListwiseConfig,
    work: Path,
    progress: Progress,
    *,
    validate: Validate | None = None,
) -> TrainedListwise:
    """A reranker trained on each shopper's events up to ``ends`` (shoppers,), exclusive.

    ``hard`` gives the retriever's first items (``negatives.mined``). ``work`` keeps checkpoints: a
    second call with the same arguments goes on from the last one. Raises ``InvalidFile`` where the
    log has nothing to ask, ``MissingWeights`` or ``InvalidSettings``, also for an LLM without a
    token for each letter.
    """
    prompts = ChoicePrompts(log, Tokenizer(llm_folder / "tokenizer.json"))
    choices = choices_of(
        prompts, ends, _drawn(log, config), hard,
        newest=config.questions, max_tokens=config.max_tokens,
    )  # fmt: skip
    if not len(choices):
        raise InvalidFile("a listwise reranker has nothing to learn from: no shopper's next item")
    reranker = untrained(llm_folder, config)
    run = _Run(reranker, prompts, choices, config, progress, validate)
    mark = _mark(log, choices, llm_folder, config)
    state = kept(work)
    if state is not None and state["mark"] == mark:
        run.load(state)
    run.until_done(lambda: keep(work, {"mark": mark, **run.state()}))
    return reranker


def untrained(llm_folder: Path, config: ListwiseConfig) -> TrainedListwise:
    """The reranker as training begins. Raises ``InvalidSettings`` or ``MissingWeights``."""
    peft_methods.check(config.method)
    device = llm_body.device_of(config.device)
    torch.manual_seed(config.seed)
    base = llm_body.body(
        llm_folder, device, layers=config.layers, four_bits=config.method == "qlora"
    )
    rows = _letter_rows(base, llm_folder).to(device)
    model = peft_methods.apply(base, config.tuning)
    return TrainedListwise(model, rows, config.tuning, config.layers, llm_folder, config.both_ways)


class _Run(LlmRun):
    """A training under way."""

    def __init__(
        self,
        reranker: TrainedListwise,
        prompts: ChoicePrompts,
        choices: Choices,
        config: ListwiseConfig,
        progress: Progress,
        validate: Validate | None,
    ) -> None:
        self.reranker, self.prompts, self.choices = reranker, prompts, choices
        self.validate = validate
        tokens = int(choices.sizes.sum())
        super().__init__("listwise reranker", reranker.model, config, progress, tokens)

    def plan(self, epoch: int) -> list[Places]:
        """Questions of alike lengths together, the batches in a random order."""
        rng = np.random.default_rng([self.config.seed, epoch])
        sizes = self.choices.sizes
        order = rng.permutation(len(sizes))
        order = order[np.argsort(sizes[order], kind="stable")]
        found = [order[run] for run in alike(sizes[order].tolist(), self.config.batch_tokens)]
        return [found[place] for place in rng.permutation(len(found))]

    def loss(self, which: Places) -> tuple[Tensor | None, int]:
        """Of the right letters."""
        rng = np.random.default_rng([self.config.seed, 2, self.done])
        prompts, right, counts = self.prompts.shuffled(self.choices, which, rng)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        logits = self.reranker.logits(padded(prompts), lengths - 1)
        loss = letters_loss(logits, torch.tensor(counts), torch.tensor(right))
        return loss, int(lengths.sum())

    def validated(self) -> float | None:
        """By the caller's own measure."""
        return None if self.validate is None else self.validate(self.reranker)


def letters_loss(logits: Tensor, counts: Tensor, right: Tensor) -> Tensor:
    """Mean cross-entropy of the ``right`` letters (b,), each among its prompt's first ``counts``.

    ``logits`` (b, 20): letters that do not stand in the prompt take no part.
    """
    absent = torch.arange(logits.shape[1]) >= counts[:, None]
    there = logits.masked_fill(absent.to(logits.device), -torch.inf)
    return F.cross_entropy(there, right.to(logits.device))


def _letter_rows(base: Any, llm_folder: Path) -> Tensor:
    """The output layer's rows of the letters' tokens (20, h), in 32 bits."""
    try:
        tokens = list(listwise.letters(Tokenizer(llm_folder / "tokenizer.json")))
    except ValueError as error:
        raise InvalidSettings(f"{llm_folder.name}: {error}; train a reader with it") from error
    return llm_body.output_rows(base, llm_folder)[tokens].float()


def _drawn(log: TrainingLog, config: ListwiseConfig) -> Places:
    """The shoppers in the seed's order, at most as many as are wanted."""
    drawn = np.random.default_rng(config.seed).permutation(log.shoppers)
    return drawn[: config.max_shoppers] if config.max_shoppers else drawn


def _mark(log: TrainingLog, choices: Choices, llm: Path, config: ListwiseConfig) -> str:
    """What a checkpoint must have been made of for a training to go on from it."""
    told = config.deciding(), log.summary.fingerprint, weights.fingerprint(llm)
    digest = hashlib.sha256(repr(told).encode())
    for array in (choices.starts, choices.stops, choices.candidates):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
