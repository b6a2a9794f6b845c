"""The LLM's part of a bundle: a reranker of one kind, tuned, and how validation weighs it.

Both kinds are asked for in the words of ``ReaderConfig``, so that a preset and the command line
need not know which one is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from models.listwise import ListwiseReranker
from models.manifest import KIND_LISTWISE, KIND_READER
from models.ports import Deadline, FloatArray, RerankRequest
from models.training import gate
from models.training.choices import MINED, ChoicePrompts
from models.training.gate import Gate
from models.training.listwise import ListwiseConfig, train_listwise
from models.training.log import TrainingLog
from models.training.negatives import Places, Retriever, mined
from models.training.progress import Progress
from models.training.questions import Questions
from models.training.reader import ReaderConfig, train_reader
from models.training.trained_listwise import LettersScorer
from models.training.trained_reader import reader_states

_SEED: Final = 0  # of the resampling

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
    """A reranker for a bundle: how it is written, told of, and weighed against the retriever.

    ``weigh`` is given the questions (q) that validate, the retriever's vectors (q, d) of these, and
    what popularity is worth beside it.
    """

    save: Callable[[Path], None]
    told: Mapping[str, Any]
    weigh: Callable[[Questions, Tensor, float], Gate]
    candidates: int


def tuned_reader(ground: Ground, llm: Path, config: ReaderConfig, work: Path, bar: Bars) -> Tuned:
    """The history reader. Raises ``InvalidSettings`` or ``MissingWeights``."""
    log = ground.log
    reader = train_reader(
        log, ground.ends, ground.table, llm, config, work / KIND_READER, bar("LLM reader"),
        retriever=ground.retriever,
    )  # fmt: skip

    def weigh(asked: Questions, searched: Tensor, trend: float) -> Gate:
        read = reader_states(reader, log, asked.starts, asked.ends, progress=bar("gate"))
        return gate.choose_weight(log, asked, searched, read, ground.items, _SEED, trend=trend)

    return Tuned(reader.save, reader.told(), weigh, gate.CANDIDATES)


def tuned_listwise(ground: Ground, llm: Path, config: ReaderConfig, work: Path, bar: Bars) -> Tuned:
    """The listwise reranker. Raises ``InvalidFile``, ``InvalidSettings`` or ``MissingWeights``."""
    log = ground.log
    hard = mined(ground.table, log.items, ground.retriever, MINED)
    trained = train_listwise(
        log, ground.ends, llm, hard, listwise_config(config), work / KIND_LISTWISE,
        bar("listwise reranker"),
    )  # fmt: skip

    def weigh(asked: Questions, searched: Tensor, trend: float) -> Gate:
        scorer = LettersScorer(trained)
        reranker = ListwiseReranker(scorer, 0.0, both_ways=trained.both_ways)
        told, prompts = bar("gate"), ChoicePrompts(log, scorer.tokenize)

        def score(place: int, rows: Places) -> FloatArray:
            history = prompts.histories.reads(int(asked.starts[place]), int(asked.ends[place]))
            request = RerankRequest(tuple(history), tuple(log.item(row) for row in rows.tolist()))
            [scores] = reranker.score([request], Deadline(lambda: 0.0, math.inf))
            told.step(place, len(asked), loss=0.0, metric=0.0)
            assert scores is not None, "it had all the time"
            return scores

        chosen = gate.choose_listwise_weight(
            log, asked, searched, ground.items, score, _SEED, trend=trend
        )
        told.step(len(asked), len(asked), loss=0.0, metric=chosen.ndcg.mean)
        return chosen

    return Tuned(trained.save, trained.told(), weigh, gate.LISTWISE_CANDIDATES)


def listwise_config(config: ReaderConfig) -> ListwiseConfig:
    """The same training for the listwise reranker.

    All the LLM's layers: its own output layer reads the last one's states.
    """
    return ListwiseConfig(
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
    KIND_LISTWISE: tuned_listwise,
}
