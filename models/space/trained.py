"""The space of a trained bundle: mixed item vectors, and shoppers by the sequence model.

An item whose ID was trained is a mix of both sides; any other is its title's side, so that a new
item is in the space at once. What is typed is a title's side too.

This module imports torch: it is loaded with a bundle only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from models.bundle.files import SEQUENCE, WORDS, Bundle, invalid
from models.domain import History, Item, Kind
from models.ports import FloatArray, TitleEncoder
from models.space.query_vectors import QueryVectors
from models.space.sequence import SequenceConfig, SequenceModel, gap_buckets
from models.space.words import Vocabulary

#: Items mixed, and shoppers read, at once.
_ITEMS: Final = 4096
_SHOPPERS: Final = 256
#: Members, layers and heads at most: each is an object to make, whatever the file's length.
_MOST_PARTS: Final = 64
#: A weight or a count at most: sums of larger ones may have no end in 32 bits.
_MOST_WEIGHT: Final = 1e12

#: One step as the model reads it: vector (d,), kind, epoch ms.
_Step = tuple[FloatArray, int, int]


class TrainedSpace:
    """Space of a bundle. Raises ``BundleInvalid`` where it does not fit ``encoder``.

    ``query_vectors`` is for one thread at a time.
    """

    def __init__(self, bundle: Bundle, encoder: TitleEncoder) -> None:
        bundle.check_encoder(encoder.name, encoder.dim)
        self.name = f"{encoder.name}/{bundle.id}"
        self.label = bundle.label
        self._encoder = encoder
        ids = bundle.item_ids()
        self._words = Vocabulary(bundle.words())
        self._model = _loaded(bundle, len(ids), encoder.dim, len(self._words))
        self._rows = {item_id: row for row, item_id in enumerate(ids, 1)}
        self.dim = self._model.config.dim
        self._queries = QueryVectors(_TitleSide(self))
        try:
            self._try_out()
        except RuntimeError as error:  # heads that do not divide d, and the like
            raise invalid(bundle.path, f"its model cannot run ({error})") from error

    def item_vectors(self, items: Sequence[Item]) -> list[FloatArray | None]:
        """Unit vectors (d,); None for an item with neither a text nor a trained ID."""
        if not items:
            return []
        texts = list(dict.fromkeys(item.text for item in items if item.text))
        known = dict(zip(texts, self._encoder.encode(texts), strict=True)) if texts else {}
        nothing = np.zeros(self._encoder.dim, dtype=np.float32)
        titles = np.stack([known.get(item.text, nothing) for item in items])
        rows = np.array([self._rows.get(item.item_id, 0) for item in items], dtype=np.int64)
        mixed = self._mixed(rows, titles, [item.text for item in items])
        return [vector if vector.any() else None for vector in mixed]

    def query_vectors(self, queries: Sequence[str]) -> dict[str, FloatArray]:
        """The unit vector (d,) of each query; blank ones have none."""
        return {q: v for q, v in self._queries.of(queries).items() if v.any()}

    def shopper_vectors(
        self,
        histories: Sequence[History],
        items: Mapping[str, FloatArray],
        queries: Mapping[str, FloatArray],
    ) -> list[FloatArray | None]:
        """What to search for (d,), None where nothing is known of the history."""
        config = self._model.config
        read = [_steps(config, history, items, queries)[-config.length :] for history in histories]
        found: list[FloatArray | None] = [None] * len(read)
        asked = sorted((i for i, steps in enumerate(read) if steps), key=lambda i: len(read[i]))
        for start in range(0, len(asked), _SHOPPERS):  # alike lengths together: little padding
            part = asked[start : start + _SHOPPERS]
            for i, vector in zip(part, self._looked_for([read[i] for i in part]), strict=True):
                found[i] = vector
        return found

    def title_side(self, texts: Sequence[str]) -> FloatArray:
        """The vectors (k, d) of texts as of items without a trained ID."""
        rows = np.zeros(len(texts), dtype=np.int64)
        return self._mixed(rows, self._encoder.encode(texts), texts)

    def _try_out(self) -> None:
        titles = np.eye(1, self._encoder.dim, dtype=np.float32)
        (vector,) = self._mixed(np.zeros(1, dtype=np.int64), titles, [""])
        self._looked_for([[(vector, Kind.CLICK.number, 0)]])

    def _mixed(
        self, rows: NDArray[np.int64], titles: FloatArray, texts: Sequence[str]
    ) -> FloatArray:
        """Unit (k, d) of ``rows`` (k,) whose ``texts`` have the vectors ``titles`` (k, t).

        Zeros where nothing is known.
        """
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows), _ITEMS):
                some = slice(start, start + _ITEMS)
                told = (
                    rows[some],
                    np.ascontiguousarray(titles[some], dtype=np.float32),
                    self._words.numbers(texts[some]),
                )
                parts.append(self._model.item_vectors(*map(torch.from_numpy, told)).numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), dtype=np.float32)

    def _looked_for(self, read: Sequence[Sequence[_Step]]) -> FloatArray:
        """Unit (b, d) of b sequences, none of them empty."""
        width = max(map(len, read))
        inputs = np.zeros((len(read), width, self.dim), dtype=np.float32)
        kinds = np.zeros((len(read), width), dtype=np.int64)
        gaps = np.zeros((len(read), width), dtype=np.int64)
        for row, steps in enumerate(read):
            vectors, own, ts = zip(*steps, strict=True)
            at = slice(width - len(steps), width)  # the newest step has the last place
            inputs[row, at] = vectors
            kinds[row, at] = own
            gaps[row, at] = gap_buckets(np.array(ts, dtype=np.int64))
        with torch.inference_mode():
            told = map(torch.from_numpy, (inputs, kinds, gaps))
            return np.asarray(self._model.shopper_vectors(*told).numpy(), dtype=np.float32)


class _TitleSide:
    """The title's side as an encoder of texts, for the memory of recent queries."""

    def __init__(self, space: TrainedSpace) -> None:
        self.name, self.dim = space.name, space.dim
        self._space = space

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Rows (len(texts), d)."""
        return self._space.title_side(texts)


def _steps(
    config: SequenceConfig,
    history: History,
    items: Mapping[str, FloatArray],
    queries: Mapping[str, FloatArray],
) -> list[_Step]:
    """The known steps, oldest first; a query that led to a click comes as a search before it.

    Unless the step before had it too, as in training (models/training/data/log.py).
    """
    known: list[_Step] = []
    before: str | None = None
    for step in history.steps:
        said, before = step.kind is not Kind.SEARCH and step.query == before, step.query
        if not said and step.query is not None and (found := queries.get(step.query)) is not None:
            known.append((found, Kind.SEARCH.number, step.ts))
        if step.item_id is not None and (vector := items.get(step.item_id)) is not None:
            known.append((vector, config.number(step.kind), step.ts))
    return known


def _loaded(bundle: Bundle, items: int, title_dim: int, words: int) -> SequenceModel:
    """The model with the bundle's weights; no more memory is reserved than the file's own length.

    (A model on torch's meta device would reserve none, and import 900 modules: 5 to 15 seconds.)
    Raises ``BundleInvalid``.
    """
    told = dict(bundle.manifest.told.space)
    del told["dim"], told["strategy"]
    try:
        config = SequenceConfig.from_json(told)
        if max(config.members, config.layers, config.heads) > _MOST_PARTS:
            raise ValueError(f"more than {_MOST_PARTS} members, layers or heads")
        if _least_numbers(config, items) > sum(map(math.prod, bundle.shapes().values())):
            raise ValueError("larger than its file")
        model = SequenceModel(config, items)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise invalid(bundle.path, f"its space is no model of this release ({error})") from error
    _check_fit(bundle, config, model, title_dim, words)
    state = load_file(bundle.path / SEQUENCE)
    if not all(value.is_floating_point() for value in state.values()):
        raise invalid(bundle.path, f"{SEQUENCE} holds numbers of a type that no weight has")
    if not all(bool((value.float().abs() <= _MOST_WEIGHT).all()) for value in state.values()):
        raise invalid(bundle.path, f"{SEQUENCE} holds numbers that are not finite, or huge")
    model.load_state_dict({n: v.float() for n, v in state.items()}, assign=True)
    return model.eval().requires_grad_(False)


def _least_numbers(config: SequenceConfig, items: int) -> int:
    """How many numbers such a model has at the least: its largest parts."""
    mixup, d = config.mixup, config.mixup.out_dim
    table = 0 if mixup.strategy == "title" else items * mixup.dim
    titles = 0 if mixup.strategy == "id" else mixup.title_dim * (mixup.hidden or mixup.dim)
    titles += (mixup.hidden + mixup.words) * mixup.dim
    return config.members * (config.layers * 12 * d * d + config.length * d + table + titles)


def _check_fit(
    bundle: Bundle, config: SequenceConfig, model: SequenceModel, title_dim: int, words: int
) -> None:
    reasons: list[str] = []
    if config.dim != bundle.manifest.dim:
        reasons.append(f"its space has {config.dim} dimensions, not {bundle.manifest.dim}")
    if config.mixup.strategy != bundle.manifest.told.space["strategy"]:
        reasons.append("its strategy is told in two ways")
    if config.mixup.title_dim != title_dim:
        reasons.append(f"it reads titles of {config.mixup.title_dim} numbers, not {title_dim}")
    if config.mixup.words != words:
        reasons.append(f"it knows {config.mixup.words} words, and {WORDS} has {words}")
    there = bundle.shapes()
    wanted: dict[str, Any] = {n: tuple(v.shape) for n, v in model.state_dict().items()}
    for name in sorted({*there, *wanted}):
        if there.get(name) != wanted.get(name):
            shown = f"{there.get(name, 'missing')} instead of {wanted.get(name, 'none')}"
            reasons.append(f"the tensor {name[:80]} of {SEQUENCE} is {shown}")
            break
    if reasons:
        raise invalid(bundle.path, "; ".join(reasons))
