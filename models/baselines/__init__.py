"""Recommenders that need no Weft: what a good model has to beat.

``NAMES`` are all there are; ``candidates`` gives the settings of one that tuning chooses from. What
a baseline needs is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from models.baselines.base import Baseline

#: All baselines, the simplest first.
NAMES: Final = (
    "most-popular", "recently-popular", "last-items", "item-knn", "title-similarity", "bm25", "als",
    "bpr", "gru4rec", "sasrec",
)  # fmt: skip


def candidates(name: str, *, streaming: bool, work: Path) -> Sequence[Baseline]:
    """The settings of one of ``NAMES``, the likeliest first; see ``models.baselines.base.tuned``.

    ``streaming``: what counts popularity counts all that was before a question, and not training
    events alone. ``work`` is a folder for the checkpoints of what trains long.
    """
    from models.baselines.factors import ALS, BPR
    from models.baselines.gru4rec import GRU4Rec
    from models.baselines.neighbours import ItemKNN
    from models.baselines.popular import LastItems, MostPopular, RecentlyPopular
    from models.baselines.sasrec import SASRec
    from models.baselines.titles import TitleBM25, TitleSimilarity

    settings: dict[str, Sequence[Baseline]] = {
        "most-popular": [MostPopular(streaming=streaming)],
        "recently-popular": [
            RecentlyPopular(days, streaming=streaming) for days in (7, 1, 3, 14, 30, 90, 365)
        ],
        "last-items": [LastItems()],
        "item-knn": [
            ItemKNN(neighbours, shrinkage, newest)
            for newest in (5, 2, 20)
            for neighbours, shrinkage in ((200, 10), (200, 30), (200, 3), (50, 10))
        ],
        "title-similarity": [TitleSimilarity(decay) for decay in (0.5, 0.15, 0.3, 0.7, 0.85)],
        "bm25": [TitleBM25(decay, b) for decay in (0.5, 0.3, 0.7) for b in (0.75, 0.4, 1.0)],
        "als": [ALS(factors, 0.1, a) for factors, a in ((64, 10), (64, 1), (64, 40), (128, 10))],
        "bpr": [BPR(64, share, epochs) for share in (0.01, 0.05) for epochs in (100, 30)],
        "gru4rec": [GRU4Rec(128, 10, 0.05)],
        "sasrec": [SASRec(work)],
    }
    return settings[name]
