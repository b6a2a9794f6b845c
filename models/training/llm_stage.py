"""The LLM's part of a bundle: a reranker of one kind, tuned, and how validation weighs it.

All kinds are asked for in the words of ``ReaderConfig``, so that a preset and the command line
need not know which one is trained.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from models import weights
from models.evaluation import Values
from models.likelihood import load_likelihood
from models.listwise import ListwiseReranker
from models.manifest import KIND_LIKELIHOOD, KIND_LISTWISE, KIND_READER, UNTUNED
from models.ports import Deadline, FloatArray, Reranker, RerankRequest
from models.training import gate
from models.training.choices import MINED
from models.training.likelihood import (
    LikelihoodConfig,
    TrainedLikelihood,
    Untuned,
    train_likelihood,
)
from models.training.listwise import ListwiseConfig, train_listwise
from models.training.log import TrainingLog
from models.training.negatives import Places, Retriever, mined
from models.training.progress import Progress
from models.training.questions import Questions
from models.training.reader import ReaderConfig, train_reader
from models.training.reader_windows import Histories
from models.training.trained_listwise import LettersScorer
from models.training.trained_reader import reader_states

_log = logging.getLogger("weft.training")
Config = TypeVar("Config", ListwiseConfig, LikelihoodConfig)

Bars = Callable[[str], Progress]


@dataclass(frozen=True, slots=True)
class Ground:
    """What the LLM is trained on top of.

    ``ends`` (shoppers,): where each one's training events end; ``table`` (1 + n + q, d): all rows'
    vectors; ``retriever``: see negatives.py.
    """

    log: TrainingLog
    ends: Places
    table: Tensor
    retriever: Retriever

    @property
    def items(self) -> Tensor:
        """The vectors (1 + n, d) of what can be recommended."""
        return self.table[: self.log.items + 1]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A reranker for a bundle: how it is written, told of, and measured beside the retriever.

    ``ranks`` is given questions (q), the retriever's vectors (q, d) of these, what popularity is
    worth beside it, and the LLM's weights; it gives the ranks (q,) at each of them, and at 0.
    """

    save: Callable[[Path], None]
    told: Mapping[str, Any]
    ranks: Callable[[Questions, Tensor, float, Iterable[float]], dict[float, Values]]
    candidates: int


def tuned_reader(ground: Ground, llm: Path, config: ReaderConfig, work: Path, bar: Bars) -> Tuned:
    """The history reader. Raises ``InvalidSettings`` or ``MissingWeights``."""
    log = ground.log
    reader = train_reader(
        log, ground.ends, ground.table, llm, config, work / KIND_READER, bar("LLM reader"),
        retriever=ground.retriever,
    )  # fmt: skip

    def ranks(
        asked: Questions, searched: Tensor, trend: float, at: Iterable[float]
    ) -> dict[float, Values]:
        read = reader_states(reader, log, asked.starts, asked.ends, progress=bar("gate"))
        return gate.read_ranks(log, asked, searched, read, ground.items, at, trend=trend)

    return Tuned(reader.save, reader.told(), ranks, gate.CANDIDATES)


def tuned_likelihood(
    ground: Ground, llm: Path, config: ReaderConfig, work: Path, bar: Bars
) -> Tuned:
    """The likelihood reranker. Raises ``InvalidFile``, ``InvalidSettings`` or ``MissingWeights``.

    It is measured as it is served: merged, on this machine's back end and number type.
    """
    if config.method == UNTUNED:
        trained: TrainedLikelihood | Untuned = Untuned(llm)
    else:
        trained = train_likelihood(
            ground.log, ground.ends, llm, _of(LikelihoodConfig, config), work / KIND_LIKELIHOOD,
            bar("likelihood reranker"),
        )  # fmt: skip

    def ranks(
        asked: Questions, searched: Tensor, trend: float, at: Iterable[float]
    ) -> dict[float, Values]:
        adapter = work / f"{KIND_LIKELIHOOD}-adapter"
        trained.save(adapter)
        told = {**trained.told(), "llm_sha256": weights.fingerprint(llm)}
        reranker = load_likelihood(
            adapter, told, work, torch.get_num_threads(), _log.info, str(llm)
        )
        return _ranks(ground, asked, searched, trend, at, reranker, bar("gate"))

    return Tuned(trained.save, trained.told(), ranks, gate.READ_CANDIDATES)


def tuned_listwise(ground: Ground, llm: Path, config: ReaderConfig, work: Path, bar: Bars) -> Tuned:
    """The listwise reranker. Raises ``InvalidFile``, ``InvalidSettings`` or ``MissingWeights``."""
    log = ground.log
    hard = mined(ground.table, log.items, ground.retriever, MINED)
    trained = train_listwise(
        log, ground.ends, llm, hard, listwise_config(config), work / KIND_LISTWISE,
        bar("listwise reranker"),
    )  # fmt: skip

    def ranks(
        asked: Questions, searched: Tensor, trend: float, at: Iterable[float]
    ) -> dict[float, Values]:
        reranker = ListwiseReranker(LettersScorer(trained), 0.0, both_ways=trained.both_ways)
        return _ranks(ground, asked, searched, trend, at, reranker, bar("gate"))

    return Tuned(trained.save, trained.told(), ranks, gate.READ_CANDIDATES)


def _ranks(
    ground: Ground, asked: Questions, searched: Tensor, trend: float, at: Iterable[float],
    reranker: Reranker, told: Progress,
) -> dict[float, Values]:  # fmt: skip
    """Of a reranker that reads the retriever's first candidates, asked through its port."""
    log, histories = ground.log, Histories(ground.log)

    def score(place: int, rows: Places) -> FloatArray:
        history = histories(int(asked.starts[place]), int(asked.ends[place]))
        request = RerankRequest(tuple(history), tuple(log.item(row) for row in rows.tolist()))
        [scores] = reranker.score([request], Deadline(lambda: 0.0, math.inf))
        told.step(place, len(asked), loss=0.0, metric=0.0)
        assert scores is not None, "it had all the time"
        return scores

    found = gate.scored_ranks(log, asked, searched, ground.items, score, at, trend=trend)
    told.step(len(asked), len(asked), loss=0.0, metric=0.0)
    return found


def check(reranker: str, config: ReaderConfig) -> None:
    """Raises ``InvalidSettings`` for a tuning that this kind of reranker cannot have."""
    if reranker == KIND_LISTWISE:
        listwise_config(config)
    elif reranker == KIND_READER:
        _ = config.tuning
    elif config.method != UNTUNED:
        _of(LikelihoodConfig, config)


def listwise_config(config: ReaderConfig) -> ListwiseConfig:
    """The same training for the listwise reranker."""
    return _of(ListwiseConfig, config)


def _of(kind: type[Config], config: ReaderConfig) -> Config:
    """The same training of another kind.

    All the LLM's layers: its own output layer reads the last one's states.
    """
    return kind(
        lr=config.lr,
        weight_decay=config.weight_decay,
        warm_up=config.warm_up,
        last_lr=config.last_lr,
        clip=config.clip,
        method=config.method,
        rank=config.rank,
        targets=config.targets,
        from_layer=config.from_layer,
        epochs=config.epochs,
        max_shoppers=config.max_shoppers,
        max_tokens=config.max_tokens,
        keep_seconds=config.keep_seconds,
        seed=config.seed,
        device=config.device,
    )


#: By the name of the kind, as the command line and a bundle's manifest have it.
STAGES: Final[Mapping[str, Callable[[Ground, Path, ReaderConfig, Path, Bars], Tuned]]] = {
    KIND_READER: tuned_reader,
    KIND_LIKELIHOOD: tuned_likelihood,
    KIND_LISTWISE: tuned_listwise,
}
