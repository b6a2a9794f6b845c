"""The one file that chooses adapters: settings in, the parts of a worker out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.encoder.cache import CachedEncoder
from models.errors import BundleInvalid
from models.ports import ItemIndex, Reranker, Space
from models.recommend import trending
from models.recommend.popularity import Popularity
from models.recommend.query_memory import QueryMemory
from models.recommend.recommender import Recommender
from models.rerank.circuit_breaker import CircuitBreaker
from models.rerank.fusion import GATE_WEIGHT
from models.space.zero_shot import ZeroShotSpace
from stream.index.port import IndexAdapter, IndexHome
from stream.index.registry import adapter_of
from stream.serving import Live, Serving
from stream.settings import Settings

if TYPE_CHECKING:
    from models.bundle.files import Bundle

#: Told, in a line each, what takes long.
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is made of, beside Kafka."""

    encoder: CachedEncoder
    popularity: Popularity
    live: Live
    memory: QueryMemory | None = None

    @property
    def space(self) -> Space:
        """The space that serves now."""
        return self.live.current.space

    @property
    def index(self) -> ItemIndex:
        """The index that serves now."""
        return self.live.current.index

    def close(self) -> None:
        """Flushes the index and the vector cache."""
        self.index.close()
        self.encoder.close()


def assemble(
    settings: Settings,
    say: Say,
    index_folder: Path | None = None,
    bundle: Path | None = None,
    adapter: IndexAdapter | None = None,
    cluster: str = "",
) -> Parts:
    """Loads the models and opens the index; seconds, so off the event loop.

    ``index_folder`` is the embedded index's, by default one in the data folder; ``adapter`` opens
    it, by default what the settings name; ``cluster`` is the broker's id; ``bundle`` the one to
    serve, None for the zero-shot space. Raises ``Fatal`` errors that say what is missing.
    """
    encoder = cached_encoder(settings, say)
    popularity = Popularity(settings.popularity_days)
    memory = QueryMemory(encoder)
    try:
        first = load_serving(
            settings, encoder, popularity, say, index_folder, bundle, memory=memory,
            adapter=adapter, cluster=cluster,
        )  # fmt: skip
    except BaseException:
        encoder.close()
        raise
    return Parts(encoder, popularity, Live(first), memory)


def cached_encoder(settings: Settings, say: Say) -> CachedEncoder:
    """The title encoder behind the data folder's vector cache. Raises ``MissingWeights``."""
    from models.encoder.choose import load_encoder

    encoder = load_encoder(
        settings.encoder, settings.data_dir, settings.threads, say, settings.encoder_type
    )
    return CachedEncoder(encoder, settings.data_dir / "vectors.sqlite", say)


def load_serving(
    settings: Settings,
    encoder: CachedEncoder,
    popularity: Popularity,
    say: Say,
    index_folder: Path | None = None,
    bundle: Path | None = None,
    *,
    memory: QueryMemory | None = None,
    adapter: IndexAdapter | None = None,
    cluster: str = "",
) -> Serving:
    """The space of a bundle (or the zero-shot one), with its index opened and its LLM loaded.

    Raises ``BundleInvalid`` and other ``Fatal`` errors, ``IndexUnavailable``.
    """
    space: Space
    if bundle is None:
        opened, space = None, ZeroShotSpace(encoder)
        weight, trend = rerank_weight(settings), trending.WEIGHT
    else:
        from models.bundle.files import open_bundle
        from models.space.trained import TrainedSpace  # heavy: torch

        opened = open_bundle(bundle)
        space = TrainedSpace(opened, encoder)
        weight, trend = _bundle_weight(settings, opened), opened.manifest.trend
    reranker: Reranker | None = None
    candidates = 0
    if weight > 0:
        inside, candidates = _reranker(settings, say, opened)
        reranker = CircuitBreaker(inside, time.monotonic)
    bundle_id = opened.id if opened else ""
    home = IndexHome(settings, index_folder, cluster)
    index = (adapter or adapter_of(settings)).open(home, bundle_id, space.name, space.dim)
    recommender = Recommender(
        index, space, popularity, reranker, weight, settings.list_size, candidates, memory,
        rules=settings.rules,
        trend=trend if settings.popularity == "gate" else 0.0,
    )  # fmt: skip
    label = opened.label if opened else space.label
    return Serving(bundle_id, label, bundle, space, index, recommender, weight)


def rerank_weight(settings: Settings) -> float:
    """The LLM's share in the order without a bundle; at 0 it is neither loaded nor asked.

    The gate's weight was measured with the default LLM; another one has none yet.
    """
    gate = 0.0 if settings.llm else GATE_WEIGHT
    return {"gate": gate, "always": settings.rerank_weight, "never": 0.0}[settings.rerank]


def _bundle_weight(settings: Settings, bundle: Bundle) -> float:
    """The same with a bundle: its own validation decides; it may have no LLM."""
    gate = bundle.manifest.weight if bundle.manifest.llm is not None else 0.0
    return {"gate": gate, "always": settings.rerank_weight, "never": 0.0}[settings.rerank]


def _reranker(settings: Settings, say: Say, bundle: Bundle | None) -> tuple[Reranker, int]:
    """The LLM and how many candidates it scores a list: a bundle's own, or the zero-shot one."""
    from models.rerank.likelihood import default_candidates, load_reranker

    ours = (settings.llm, settings.data_dir, settings.threads, say)
    if bundle is None or bundle.manifest.llm is None:
        return load_reranker(*ours), settings.candidates or default_candidates()
    from models.bundle.files import LLM, invalid

    try:
        reranker = load_reranker(*ours, bundle.manifest.llm, bundle.path / LLM)
    except BundleInvalid as error:
        raise invalid(bundle.path, str(error)) from error
    return reranker, settings.candidates or bundle.manifest.candidates
