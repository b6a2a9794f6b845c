"""The one file that chooses adapters: settings in, the parts of a worker out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.fusion import GATE_WEIGHT
from models.popularity import Popularity
from models.ports import Reranker, Space
from models.recommender import Recommender
from models.vectors import CachedEncoder
from models.zero_shot import ZeroShotSpace
from stream.index_edge import EdgeIndex
from stream.index_server import ServerIndex, connect
from stream.settings import Settings

#: Told, in a line each, what takes long.
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is made of, beside Kafka."""

    encoder: CachedEncoder
    space: Space
    index: EdgeIndex | ServerIndex
    popularity: Popularity
    recommender: Recommender

    def close(self) -> None:
        """Flushes the index and the vector cache."""
        self.index.close()
        self.encoder.close()


def assemble(settings: Settings, say: Say, index_folder: Path | None = None) -> Parts:
    """Loads the models and opens the index; seconds, so off the event loop.

    ``index_folder`` is the embedded index's, by default one in the data folder. Raises ``Fatal``
    errors that say what is missing.
    """
    from models.encoder import load_encoder

    encoder = CachedEncoder(
        load_encoder(
            settings.encoder, settings.data_dir, settings.threads, say, settings.encoder_type
        ),
        settings.data_dir / "vectors.sqlite",
        say,
    )
    space = ZeroShotSpace(encoder)
    index = open_index(settings, space, index_folder)
    popularity = Popularity(settings.popularity_days)
    weight = rerank_weight(settings)
    reranker, candidates = _reranker(settings, say) if weight > 0 else (None, 0)
    recommender = Recommender(
        index, space, popularity, reranker, weight, settings.list_size, candidates
    )
    return Parts(encoder, space, index, popularity, recommender)


def rerank_weight(settings: Settings) -> float:
    """The LLM's share in the order; at 0 it is neither loaded nor asked.

    The gate's weight was measured with the default LLM; another one has none yet.
    """
    gate = 0.0 if settings.llm else GATE_WEIGHT
    return {"gate": gate, "always": settings.rerank_weight, "never": 0.0}[settings.rerank]


def open_index(
    settings: Settings, space: Space, folder: Path | None = None
) -> EdgeIndex | ServerIndex:
    """The item index for vectors of the space."""
    if settings.index == "server":
        client = connect(
            settings.qdrant_url,
            settings.qdrant_api_key,
            settings.qdrant_timeout,
            settings.qdrant_ca,
        )
        return ServerIndex(client, settings.collection, space.name, space.dim)
    return EdgeIndex(
        folder or settings.data_dir / "index" / settings.collection, space.name, space.dim
    )


def _reranker(settings: Settings, say: Say) -> tuple[Reranker, int]:
    from models.likelihood import default_candidates, load_reranker

    reranker = load_reranker(settings.llm, settings.data_dir, settings.threads, say)
    return reranker, settings.candidates or default_candidates()
