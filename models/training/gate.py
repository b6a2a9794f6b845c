"""What validation decides: titles' shares by class, and what popularity and the LLM are worth.

All is chosen on the validation part alone; a weight stays at 0, and the LLM is not asked, where
nothing is gained that an interval shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.evaluation import intervals
from models.evaluation.intervals import Interval, Values, bootstrap, paired_difference
from models.ports import FloatArray
from models.rerank.fusion import blend
from models.space.mixup import CLASSES, MixUp
from models.space.sequence import Member
from models.training.data.log import Places, TrainingLog
from models.training.data.splits import Questions, gains, hits, ranks
from models.training.data.trends import popular_before
from models.training.sequence.evaluate import Titles, evaluate

#: Weights of the LLM that are tried, and shares of the title.
WEIGHTS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
#: What the most popular item may gain on its cosine.
TRENDS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
SHARES: Final = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
#: Candidates that serving has reranked; validation reranks as many.
CANDIDATES: Final = 20

#: Of a question, by its number: its candidates' rows (c,) to the reranker's scores (c,).
Score = Callable[[int, Places], FloatArray]


@dataclass(frozen=True, slots=True)
class Gate:
    """The weight chosen, and what was measured at it: HR@10 and NDCG@10, and the paired gains."""

    weight: float
    hit_rate: Interval
    ndcg: Interval
    hit_gain: Interval
    ndcg_gain: Interval


def choose_shares(
    log: TrainingLog, questions: Questions, member: Member, titles: Titles
) -> dict[str, float]:
    """Sets the title's share of each class to what finds most (NDCG@10), class after class.

    For the strategies whose weight is fixed; {} for the others.
    """
    if member.config.mixup.strategy not in ("average", "beta", "score"):
        return {}
    mixup: MixUp = member.mixup
    for place in range(len(CLASSES)):
        found: dict[float, float] = {}
        for share in SHARES:
            mixup.shares[place] = share
            found[share] = float(gains(evaluate(log, questions, member, titles)).mean())
        mixup.shares[place] = max(found, key=lambda share: found[share])
    return {name: round(float(mixup.shares[i]), 4) for i, name in enumerate(CLASSES)}


def choose_trend(
    log: TrainingLog, questions: Questions, retrieved: Tensor, items: Tensor, seed: int
) -> Gate:
    """What popularity is worth beside the retriever; 0 unless the gain's interval is above 0."""
    popular = popular_before(log, questions)
    measured = {trend: ranks(log, questions, retrieved, items, popular, trend) for trend in TRENDS}
    return choose_weight(questions, measured, seed)


def choose_weight(questions: Questions, measured: Mapping[float, Values], seed: int) -> Gate:
    """The weight at which most is found (NDCG@10); 0 unless the gain's interval is above 0.

    ``measured``: the ranks (q,) at each weight, 0 among them.
    """
    alone = measured[0.0]
    best = max(measured, key=lambda weight: float(gains(measured[weight]).mean()))
    groups = questions.groups()
    if paired_difference(gains(measured[best]), gains(alone), seed, groups).low <= 0:
        best = 0.0
    chosen = measured[best]
    return Gate(
        best,
        bootstrap(hits(chosen), seed, groups),
        bootstrap(gains(chosen), seed, groups),
        paired_difference(hits(chosen), hits(alone), seed, groups),
        paired_difference(gains(chosen), gains(alone), seed, groups),
    )


def scored_ranks(
    log: TrainingLog,
    questions: Questions,
    retrieved: Tensor,
    items: Tensor,
    score: Score,
    weights: Iterable[float] = WEIGHTS,
    *,
    trend: float = 0.0,
) -> dict[float, Values]:
    """Ranks (q,) at each weight of a reranker beside the retriever, and at 0.

    ``retrieved`` (q, d) are the retriever's vectors, ``items`` (1 + n, d). What is popular gains
    ``trend`` at every weight, as in serving. Ranks change among the retriever's first candidates
    only; ``score`` is asked only where the right item is among these: elsewhere it changes nothing
    that is measured.
    """
    popular = popular_before(log, questions) if trend else None
    alone = ranks(log, questions, retrieved, items, popular, trend)
    measured = {weight: alone.copy() for weight in dict.fromkeys((0.0, *weights))}
    for place in range(len(questions)):
        cosines = retrieved[place] @ items.T
        gained = torch.zeros(1, len(cosines))
        if popular is not None:
            popular.add(gained, place, trend)
        rows, both = _first(log, questions, place, cosines + gained[0])
        more = gained[0].numpy()[rows]
        right = np.flatnonzero(rows == questions.targets[place])
        if not len(right):
            continue
        scores = score(place, rows)
        for weight in filter(None, measured):
            blended = blend(both - more, scores, weight, more)
            measured[weight][place] = intervals.ranks(blended, blended[right])[0]
    return measured


def _first(
    log: TrainingLog, questions: Questions, place: int, scores: Tensor
) -> tuple[Places, FloatArray]:
    """Rows and scores (c,) of the retriever's first candidates, without what the shopper had.

    The target stays, as in ``ranks``.
    """
    had = np.asarray(log.rows[questions.starts[place] : questions.ends[place]]).astype(np.int64)
    had = had[(had <= log.items) & (had != questions.targets[place])]
    scores[0] = -torch.inf
    scores[torch.from_numpy(had)] = -torch.inf
    found = scores.topk(min(CANDIDATES, len(scores)))
    real = torch.isfinite(found.values)
    return found.indices[real].numpy(), found.values[real].float().numpy()
