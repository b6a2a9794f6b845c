"""The item index on Qdrant Edge: the engine in this process, the points in a folder.

A search scans 4-bit codes of all vectors (TurboQuant) and scores three times the asked number
again in full: 3 ms instead of 10 at 50,000 x 384, at the same recall. No HNSW graph is built:
Edge's ``optimize()`` holds the GIL throughout (35 s at 100,000 items), and the scan is as quick as
the graph was; bench/import_catalog.py prints its time and recall. ``optimize()`` is only called
while opening, with HNSW off, where it gives back the space of removed items.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, ParamSpec, TypeVar
from uuid import UUID

import qdrant_edge as edge

from models.domain import Item
from models.errors import IndexUnavailable
from models.ports import FloatArray, Hit, Stored
from stream.findings import Finding
from stream.index.edge_folder import IndexFolder, drop_folder, examine_folder, folders_of
from stream.index.points import (
    STOCK,
    TS,
    VECTOR,
    Position,
    check_dimension,
    from_payload,
    newest_versions,
    point_id,
    stored_of,
    to_payload,
)
from stream.index.port import IndexHome

#: Edge writes into mapped files that are sparse at first: on a full disk that is a SIGBUS, which
#: nobody can catch. So writes stop while its largest unwritten pages (about 130 MB) still fit.
RESERVE: Final = 256 * 2**20
_WRITE: Final = 64  # points an update: it holds the GIL, 64 take about 6 ms
_READ: Final = 8  # queries a batch: they hold the GIL too, 2 to 4 ms each at 100,000 items
_OVERSAMPLING: Final = 3.0  # times the limit is scored again in full: recall@50 .963 -> 1.000
_FETCH: Final = 256  # points a retrieve

Args = ParamSpec("Args")
Result = TypeVar("Result")
Part = TypeVar("Part")


class EdgeIndex:
    """ItemIndex in a folder. One thread writes, any thread reads.

    ``encoder`` is the encoder's name and ``dim`` its d. Raises while opening: ``IndexInUse``,
    ``IndexIncompatible``, ``IndexFull``, ``InvalidSettings`` (the folder cannot be written).
    """

    def __init__(self, folder: Path, encoder: str, dim: int, *, reserve: int = RESERVE) -> None:
        self._dim = dim
        self._writing = threading.RLock()
        self._folder = IndexFolder(folder, reserve)
        try:
            ready = self._folder.is_ready(encoder, dim)
            self._shard = self._loaded() if ready else self._made(encoder)
        except BaseException:
            self._folder.close()
            raise

    def upsert(self, items: Sequence[Item], vectors: Sequence[FloatArray | None]) -> None:
        """Writes items; an older ``ts`` never replaces a newer one.

        In the write-ahead log when it returns, so that a killed process loses nothing; after
        ``keep_position`` on the disk, so that a power cut does not either.
        """
        check_dimension(vectors, self._dim)
        with self._writing:
            points = [
                edge.Point(
                    point_id(item.item_id),
                    {} if vector is None else {VECTOR: vector.tolist()},
                    to_payload(item),
                )
                for item, vector in newest_versions(items, vectors, self._held(items))
            ]
            for part in _parts(points, _WRITE):
                self._write(edge.UpdateOperation.upsert_points(list(part)))

    def delete(self, item_ids: Sequence[str]) -> None:
        """Removes items; ids that are not there are no error."""
        with self._writing:
            for part in _parts(item_ids, _FETCH):
                self._write(edge.UpdateOperation.delete_points(_point_ids(part)))

    def get(self, item_ids: Sequence[str]) -> dict[str, Stored]:
        """The items that are there, by id."""
        return stored_of(self._retrieved(item_ids, True, [VECTOR]))

    def search(self, vectors: FloatArray, limit: int) -> list[list[Hit]]:
        """For each row (q, d) the nearest items in stock, best first; the scores are exact."""
        return [
            [Hit(from_payload(point.payload or {}), point.score) for point in answer]
            for answer in self._points(vectors, limit)
        ]

    def newest(self, limit: int) -> list[Item]:
        """The items in stock of the greatest ``ts``, newest first."""
        if limit <= 0:
            return []
        request = edge.ScrollRequest(
            limit=limit,
            filter=_in_stock(),
            with_payload=True,
            order_by=edge.OrderBy(TS, edge.Direction.Desc),
        )
        records, _ = self._do(self._shard.scroll, request)
        return [from_payload(record.payload or {}) for record in records]

    def count(self) -> int:
        """How many items are held."""
        return self._do(self._shard.count, edge.CountRequest(exact=True))

    def close(self) -> None:
        """Flushes and releases the folder; a second call does nothing."""
        with self._writing:
            if not self._folder.closed:
                self._shard.close()
                self._folder.close()

    def position(self) -> Position | None:
        """How far the products topic has been followed; None in a new index."""
        return self._folder.position()

    def keep_position(self, position: Position) -> None:
        """Flushes the points, then keeps the position: it never says more than the disk holds.

        Holds the GIL for 20 to 100 ms, so it is for every few seconds, not for every item.
        """
        with self._writing:
            self._do(self._shard.flush)
            self._folder.keep_position(position)

    def clear(self) -> None:
        """Removes every item and the position. For the start-up only: it blocks all threads."""
        with self._writing:
            self._folder.forget_position()
            self._write(edge.UpdateOperation.delete_points_by_filter(edge.Filter()))
            self._do(self._shard.optimize)

    def _made(self, encoder: str) -> edge.EdgeShard:
        self._folder.empty()
        shard = edge.EdgeShard.create(str(self._folder.points), _config(self._dim))
        for name in (STOCK, TS):
            shard.update(
                edge.UpdateOperation.create_field_index(name, edge.PayloadSchemaType.Integer)
            )
        shard.flush()
        self._folder.make_ready(encoder, self._dim)
        return shard

    def _loaded(self) -> edge.EdgeShard:
        self._folder.check_room()
        try:
            shard = edge.EdgeShard.load(str(self._folder.points), _config(self._dim))
        except Exception as error:  # Edge raises nothing more specific
            raise self._folder.incompatible(f"Qdrant Edge cannot open it ({error})") from error
        shard.optimize()  # gives back removed items' space where they are a fifth or more
        return shard

    def _held(self, items: Sequence[Item]) -> dict[str, int]:
        """``ts`` by item id of those items that are there."""
        records = self._retrieved([item.item_id for item in items], ["item_id", TS], False)
        payloads = [record.payload or {} for record in records]
        return {payload["item_id"]: int(payload[TS]) for payload in payloads}

    def _points(
        self, vectors: FloatArray, limit: int, *, payload: bool = True
    ) -> Iterator[Sequence[edge.ScoredPoint]]:
        """The nearest points in stock of each row (q, d), best first."""
        if limit <= 0:
            yield from ([] for _ in vectors)
            return
        for part in _parts(vectors.tolist(), _READ):
            requests = [_nearest(vector, limit, payload=payload) for vector in part]
            yield from self._do(self._shard.query_batch, edge.QueryBatchRequest(requests))

    def _names(self, points: Sequence[str]) -> dict[str, str]:
        """The item ids by point."""
        records: list[edge.Record] = []
        for part in _parts(points, _FETCH):
            records += self._do(self._shard.retrieve, list(part), ["item_id"], False)
        return {str(record.id): (record.payload or {})["item_id"] for record in records}

    def _retrieved(
        self, item_ids: Sequence[str], payload: bool | list[str], vector: bool | list[str]
    ) -> Iterator[edge.Record]:
        for part in _parts(item_ids, _FETCH):
            yield from self._do(self._shard.retrieve, _point_ids(part), payload, vector)

    def _write(self, operation: edge.UpdateOperation) -> None:
        self._folder.check_room()
        self._do(self._shard.update, operation)

    def _do(self, call: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
        try:
            return call(*args, **kwargs)
        except Exception as error:  # Edge raises nothing more specific
            if "No space left" in str(error):
                raise self._folder.unwritable(OSError(errno.ENOSPC, str(error))) from error
            raise IndexUnavailable(
                f"the embedded index under {self._folder.path} failed: {error}"
            ) from error


class EdgeAdapter:
    """``IndexAdapter``: a folder a bundle. ``kind`` is what opens one."""

    shared = False

    def __init__(self, kind: Callable[[Path, str, int], EdgeIndex] = EdgeIndex) -> None:
        self._kind = kind

    def open(self, home: IndexHome, bundle: str, space: str, dim: int) -> EdgeIndex:
        """See ``IndexAdapter``."""
        return self._kind(home.path(bundle), space, dim)

    def known(self, home: IndexHome) -> set[str]:
        """See ``IndexAdapter``."""
        return folders_of(home.path())

    def drop(self, home: IndexHome, bundle: str) -> None:
        """See ``IndexAdapter``."""
        drop_folder(home.path(bundle))

    def examine(self, home: IndexHome, timeout: float) -> Finding:  # noqa: ARG002 - a folder is quick
        """See ``IndexAdapter``."""
        return examine_folder(home.path())


EDGE: Final = EdgeAdapter()


def _config(dim: int) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors={VECTOR: edge.EdgeVectorParams(size=dim, distance=edge.Distance.Cosine)},
        quantization_config=edge.TurboQuantQuantizationConfig(memory=edge.Memory.Pinned),
        optimizers=edge.EdgeOptimizersConfig(
            indexing_threshold=2**40,  # KB: no HNSW, see above
            default_segment_number=1,
            prevent_unoptimized=False,  # nothing that was written is kept from a search
        ),
    )


def _in_stock() -> edge.Filter:
    return edge.Filter(must=[edge.FieldCondition(key=STOCK, match=edge.MatchValue(1))])


def _nearest(vector: list[float], limit: int, *, payload: bool) -> edge.QueryRequest:
    codes = edge.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)
    return edge.QueryRequest(
        limit=limit,
        query=edge.Query.Nearest(vector, using=VECTOR),
        with_payload=payload,
        filter=_in_stock(),
        params=edge.SearchParams(quantization=codes),
    )


def _point_ids(item_ids: Sequence[str]) -> list[int | UUID | str]:
    return [point_id(item_id) for item_id in item_ids]


def _parts(whole: Sequence[Part], size: int) -> Iterator[Sequence[Part]]:
    for start in range(0, len(whole), size):
        yield whole[start : start + size]
