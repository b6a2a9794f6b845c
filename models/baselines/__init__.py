"""Recommenders that need no Weft: what a good model has to beat.

``NAMES`` are all there are; ``candidates`` gives the settings of one that tuning chooses from. What
a baseline needs is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from models.baselines.base import Baseline

#: Of whether it streams, and a folder for what is kept: its settings, the likeliest first.
Make = Callable[[bool, Path], Sequence["Baseline"]]


def _most_popular(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.popular import MostPopular

    return [MostPopular(streaming=streaming)]


def _recently_popular(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.popular import RecentlyPopular

    return [RecentlyPopular(days, streaming=streaming) for days in (7, 1, 3, 14, 30, 90, 365)]


def _last_items(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.popular import LastItems

    return [LastItems()]


def _item_knn(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.neighbours import ItemKNN

    return [
        ItemKNN(neighbours, shrinkage, newest)
        for newest in (5, 2, 20)
        for neighbours, shrinkage in ((200, 10), (200, 30), (200, 3), (50, 10))
    ]


def _title_similarity(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.titles import TitleSimilarity

    return [TitleSimilarity(decay) for decay in (0.5, 0.15, 0.3, 0.7, 0.85)]


def _bm25(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.titles import TitleBM25

    return [TitleBM25(decay, b) for decay in (0.5, 0.3, 0.7) for b in (0.75, 0.4, 1.0)]


def _als(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.factors import ALS

    return [ALS(factors, 0.1, alpha) for factors, alpha in ((64, 10), (64, 1), (64, 40), (128, 10))]


def _bpr(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.factors import BPR

    return [
        BPR(64, regularisation, epochs) for regularisation in (0.01, 0.05) for epochs in (100, 30)
    ]


def _sasrec(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.sasrec import SASRec

    return [SASRec(work)]


def _gru4rec(streaming: bool, work: Path) -> Sequence[Baseline]:  # noqa: ARG001
    from models.baselines.gru4rec import GRU4Rec

    return [GRU4Rec(128, 10, 0.05)]


_MAKE: Final[Mapping[str, Make]] = {
    "most-popular": _most_popular,
    "recently-popular": _recently_popular,
    "last-items": _last_items,
    "item-knn": _item_knn,
    "title-similarity": _title_similarity,
    "bm25": _bm25,
    "als": _als,
    "bpr": _bpr,
    "gru4rec": _gru4rec,
    "sasrec": _sasrec,
}

#: All baselines, the simplest first.
NAMES: Final = tuple(_MAKE)


def candidates(name: str, *, streaming: bool, work: Path) -> Sequence[Baseline]:
    """The settings of one of ``NAMES``; see ``models.baselines.base.tuned``.

    ``streaming``: what counts popularity counts all that was before a question, and not training
    events alone. ``work`` is a folder for the checkpoints of what trains long.
    """
    return _MAKE[name](streaming, work)
