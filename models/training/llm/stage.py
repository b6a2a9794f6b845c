"""The LLM's part of a bundle: tuned or not, asked as it is served, and weighed by validation."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from models.evaluation.intervals import Values
from models.llm.tuned import UNTUNED, LlmFacts
from models.ports import Deadline, FloatArray, Reranker, RerankRequest
from models.rerank.likelihood import LikelihoodReranker, load_reranker
from models.training import gate
from models.training.data.log import Places, TrainingLog
from models.training.data.progress import Progress
from models.training.data.splits import Questions
from models.training.llm.likelihood import TrainedLikelihood, train_likelihood
from models.training.llm.run import LlmConfig
from models.training.llm.windows import Histories
from models.weights import locate

_log = logging.getLogger("weft.training")

Bars = Callable[[str], Progress]

#: A ranking that is measured may take its time.
_ENDLESS: Final = Deadline(lambda: 0.0, math.inf)


@dataclass(frozen=True, slots=True)
class StagedLlm:
    """An LLM for a bundle. ``trained``: None where it is asked as it is."""

    folder: Path
    facts: LlmFacts
    trained: TrainedLikelihood | None

    def save(self, folder: Path) -> None:
        """Writes the adapter, if there is one: the LLM's own weights are not a bundle's."""
        if self.trained is not None:
            self.trained.save(folder)

    def served(self, work: Path) -> LikelihoodReranker:
        """The reranker as it is served: merged, on this machine's back end and number type."""
        adapter = work / "adapter"
        self.save(adapter)
        threads = torch.get_num_threads()
        return load_reranker(str(self.folder), work, threads, _log.info, self.facts, adapter)


def staged(
    log: TrainingLog, ends: Places, llm: Path, source: str, config: LlmConfig, work: Path, bar: Bars
) -> StagedLlm:
    """The LLM in the folder ``llm``, tuned on the events up to ``ends`` (shoppers,) as asked for.

    ``source``: how it was named, "" for the default one. Raises ``InvalidFile``,
    ``InvalidSettings`` or ``MissingWeights``.
    """
    facts = LlmFacts(llm.name, locate.fingerprint(llm), source, config.method)
    if config.method == UNTUNED:
        return StagedLlm(llm, facts, None)
    trained = train_likelihood(log, ends, llm, config, work / "tuning", bar("LLM"))
    return StagedLlm(llm, facts, trained)


class Asked:
    """A log's histories, asked of a reranker through its port."""

    def __init__(self, log: TrainingLog, reranker: Reranker) -> None:
        self._log = log
        self._reranker = reranker
        self._histories = Histories(log)

    def scores(self, spans: Sequence[tuple[int, int]], rows: Sequence[Places]) -> list[FloatArray]:
        """Of each history, events ``start:stop``, its candidates' scores (c,)."""
        requests = [
            RerankRequest(tuple(self._histories(*span)), tuple(map(self._log.item, some.tolist())))
            for span, some in zip(spans, rows, strict=True)
        ]
        found = self._reranker.score(requests, _ENDLESS)
        return [scores for scores in found if scores is not None]  # all: it has all the time


def ranks_beside(
    log: TrainingLog, asked: Questions, searched: Tensor, items: Tensor, trend: float,
    reranker: Reranker, told: Progress, at: Iterable[float] = gate.WEIGHTS,
) -> dict[float, Values]:  # fmt: skip
    """The ranks (q,) of the LLM beside the retriever at each of the weights, and at 0.

    ``searched`` (q, d): the retriever's vectors of the questions, ``items`` (1 + n, d); ``trend``:
    what popularity is worth.
    """
    llm = Asked(log, reranker)

    def score(place: int, rows: Places) -> FloatArray:
        [scores] = llm.scores([(int(asked.starts[place]), int(asked.ends[place]))], [rows])
        told.step(place, len(asked), loss=0.0, metric=0.0)
        return scores

    found = gate.scored_ranks(log, asked, searched, items, score, at, trend=trend)
    told.step(len(asked), len(asked), loss=0.0, metric=0.0)
    return found
