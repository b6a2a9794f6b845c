"""The item index on a Qdrant server, by qdrant-client: shared by all workers.

``stream.index.points`` says what a point looks like. The collection's metadata names the encoder,
so that vectors of two encoders never mix, and the owner, so that two shops' or groups' items never
do. It needs Qdrant 1.16 or newer.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, ParamSpec, TypeVar

import orjson
from qdrant_client import QdrantClient, models

from models.domain import Item
from models.errors import IndexIncompatible
from models.ports import FloatArray, Hit, Stored
from stream.findings import Finding, Status
from stream.index.points import (
    STOCK,
    TS,
    VECTOR,
    check_dimension,
    from_payload,
    newest_versions,
    point_id,
    stored_of,
    to_payload,
)
from stream.index.port import SUFFIX, IndexHome, Owner
from stream.index.server_client import ask, connected

FORMAT: Final = 1
_BODY: Final = 4 * 2**20  # bytes of an upsert's JSON; the server refuses 32 MB, proxies often 5
_FLOAT: Final = 24  # bytes of a number in JSON, at most
_READ: Final = 64  # queries a request
_FETCH: Final = 256  # points a retrieve
_INDEXED: Final = (STOCK, TS)  # fields that are filtered or ordered by

Args = ParamSpec("Args")
Result = TypeVar("Result")


class ServerIndex:
    """ItemIndex on a collection, which is made when it is missing.

    ``encoder`` is the encoder's name and ``dim`` its d; ``owner`` is whose it is. An item has one
    writer at a time (the products topic's partitions see to it); the check of its ``ts`` and its
    write are two calls. ``identity`` is made with the collection, see ``SharedIndex``. Raises while
    opening ``IndexUnavailable``, ``IndexIncompatible`` (another owner's, too), ``InvalidSettings``.
    """

    def __init__(
        self, client: QdrantClient, collection: str, encoder: str, dim: int, owner: Owner
    ) -> None:
        self._client = client
        self._name = collection
        self._dim = dim
        self._owner = owner
        self._mark = {"weft_format": FORMAT, "weft_encoder": encoder}
        if not self._do(client.collection_exists, collection):
            self._make()
        self.identity = self._checked()

    def upsert(self, items: Sequence[Item], vectors: Sequence[FloatArray | None]) -> None:
        """Writes items; an older ``ts`` never replaces a newer one. Waits for the write."""
        check_dimension(vectors, self._dim)
        records = self._retrieved([item.item_id for item in items], ["item_id", TS], False)
        payloads = [record.payload or {} for record in records]
        held = {payload["item_id"]: int(payload[TS]) for payload in payloads}
        points = [
            models.PointStruct(
                id=point_id(item.item_id),
                vector={} if vector is None else {VECTOR: vector.tolist()},
                payload=to_payload(item),
            )
            for item, vector in newest_versions(items, vectors, held)
        ]
        for part in _by_size(points):
            self._do(self._client.upsert, self._name, part, wait=True)

    def delete(self, item_ids: Sequence[str]) -> None:
        """Removes items; ids that are not there are no error."""
        for start in range(0, len(item_ids), _FETCH):
            ids: list[models.ExtendedPointId] = [
                point_id(i) for i in item_ids[start : start + _FETCH]
            ]
            self._do(self._client.delete, self._name, models.PointIdsList(points=ids), wait=True)

    def get(self, item_ids: Sequence[str]) -> dict[str, Stored]:
        """The items that are there, by id."""
        return stored_of(self._retrieved(item_ids, True, [VECTOR]))

    def search(self, vectors: FloatArray, limit: int) -> list[list[Hit]]:
        """For each row (q, d) the nearest items in stock, best first; new items included."""
        if limit <= 0:
            return [[] for _ in vectors]
        hits: list[list[Hit]] = []
        rows = vectors.tolist()
        for start in range(0, len(rows), _READ):
            requests = [_nearest(row, limit) for row in rows[start : start + _READ]]
            for answer in self._do(self._client.query_batch_points, self._name, requests):
                hits += [[Hit(from_payload(p.payload or {}), p.score) for p in answer.points]]
        return hits

    def newest(self, limit: int) -> list[Item]:
        """The items in stock of the greatest ``ts``, newest first."""
        if limit <= 0:
            return []
        records, _ = self._do(
            self._client.scroll,
            self._name,
            scroll_filter=_in_stock(),
            limit=limit,
            order_by=models.OrderBy(key=TS, direction=models.Direction.DESC),
        )
        return [from_payload(record.payload or {}) for record in records]

    def count(self) -> int:
        """How many items are held."""
        return self._do(self._client.count, self._name, exact=True).count

    def close(self) -> None:
        """Closes the connections; the points are on the server already."""
        self._client.close()

    def _make(self) -> None:
        params = models.VectorParams(size=self._dim, distance=models.Distance.COSINE)
        told = {**self._mark, **_told_of(self._owner), "weft_identity": uuid.uuid4().hex[:12]}
        try:
            self._do(self._client.create_collection, self._name, {VECTOR: params}, metadata=told)
        except IndexIncompatible:
            if not self._do(self._client.collection_exists, self._name):
                raise
            # another worker was quicker; its collection is checked like any other

    def _checked(self) -> str:
        """The collection's identity, if it is one of ours and of this encoder."""
        found = self._do(self._client.get_collection, self._name)
        metadata = found.config.metadata or {}
        if "weft_format" in metadata and (reason := _not_of(metadata, self._owner)):
            raise IndexIncompatible(f"the collection {self._name!r} {reason}")
        vectors = found.config.params.vectors
        params = vectors.get(VECTOR) if isinstance(vectors, dict) else None
        if params is None or params.distance != models.Distance.COSINE:
            raise _unusable(self._name, f"it has no cosine vector named {VECTOR!r}")
        if params.size != self._dim:
            raise _unusable(self._name, f"its vectors have {params.size} numbers, not {self._dim}")
        for name, value in self._mark.items():
            if metadata.get(name) != value:
                reason = f"its {name} is {metadata.get(name)!r}, not {value!r}"
                raise _unusable(self._name, f"{reason} (Qdrant keeps it from 1.16 on)")
        for field in _INDEXED:  # also of a collection whose maker was ended before it came to that
            if field not in found.payload_schema:
                schema = models.PayloadSchemaType.INTEGER
                self._do(self._client.create_payload_index, self._name, field, schema, wait=True)
        return str(metadata.get("weft_identity", ""))

    def _retrieved(
        self, item_ids: Sequence[str], payload: bool | list[str], vector: bool | list[str]
    ) -> Iterator[models.Record]:
        for start in range(0, len(item_ids), _FETCH):
            ids = [point_id(item_id) for item_id in item_ids[start : start + _FETCH]]
            yield from self._do(self._client.retrieve, self._name, ids, payload, vector)

    def _do(self, call: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
        try:
            return ask(call, *args, **kwargs)
        except IndexIncompatible as error:
            raise _unusable(self._name, str(error)) from None


class ServerAdapter:
    """``IndexAdapter``: a collection a bundle, on the server of the settings."""

    shared = True

    def open(self, home: IndexHome, bundle: str, space: str, dim: int) -> ServerIndex:
        """See ``IndexAdapter``."""
        client = connected(home.settings)
        try:
            return ServerIndex(client, home.name(bundle), space, dim, home.owner)
        except BaseException:
            client.close()
            raise

    def known(self, home: IndexHome) -> set[str]:
        """See ``IndexAdapter``; collections of that name which are another's are left out."""
        with closing(connected(home.settings)) as client:
            there = [found.name for found in ask(client.get_collections).collections]
            form = re.compile(re.escape(home.name()) + SUFFIX)
            named = {name: match[1] or "" for name in there if (match := form.fullmatch(name))}
            return {bundle for name, bundle in named.items() if _is_of(client, name, home.owner)}

    def drop(self, home: IndexHome, bundle: str) -> None:
        """See ``IndexAdapter``."""
        with closing(connected(home.settings)) as client:
            name = home.name(bundle)
            if ask(client.collection_exists, name) and _is_of(client, name, home.owner):
                ask(client.delete_collection, name)

    def examine(self, home: IndexHome, timeout: float) -> Finding:
        """See ``IndexAdapter``."""
        name = home.name()
        with closing(connected(home.settings, timeout)) as client:
            if not ask(client.collection_exists, name):
                words = f"`weft worker` creates the collection {name}"
                return Finding("index", Status.LATER, words)
            metadata = ask(client.get_collection, name).config.metadata or {}
        if reason := _not_of(metadata, home.owner):
            return Finding("index", Status.MISSING, f"the collection {name!r} {reason}")
        return Finding("index", Status.OK, f"the server has {name}")


SERVER: Final = ServerAdapter()


def _told_of(owner: Owner) -> dict[str, str]:
    """What is known of an owner, as a collection's metadata say it."""
    told = {"weft_topic_prefix": owner.prefix, "weft_group": owner.group}
    return told if owner.cluster is None else {**told, "weft_cluster": owner.cluster}


def _is_of(client: QdrantClient, collection: str, owner: Owner) -> bool:
    metadata = ask(client.get_collection, collection).config.metadata or {}
    return not _not_of(metadata, owner)


def _not_of(metadata: Mapping[str, Any], owner: Owner) -> str:
    """Why a collection is not the owner's, and what to do about it; "" where it is."""
    wanted = _told_of(owner)
    if all(metadata.get(name) == value for name, value in wanted.items()):
        return ""
    if not wanted.keys() <= metadata.keys():
        whose = "does not say whose it is (Qdrant keeps that from 1.16 on)"
    else:
        whose = f"belongs to {_words(metadata)}, and this worker is of {_words(wanted)}"
    return (
        f"{whose}. Set WEFT_COLLECTION to a name that is not taken, and start again: it fills from "
        "the products topic. Delete the collection only if nobody uses it any more"
    )


def _words(told: Mapping[str, Any]) -> str:
    cluster = told.get("weft_cluster")
    where = f" on the Kafka cluster {cluster}" if cluster else ""
    return f"the group {told['weft_group']!r}, topic prefix {told['weft_topic_prefix']!r}{where}"


def _unusable(collection: str, reason: str) -> IndexIncompatible:
    return IndexIncompatible(
        f"the collection {collection!r} cannot be used: {reason}. Delete it, or set "
        "WEFT_COLLECTION to a new name, and start again: it fills from the products topic"
    )


def _in_stock() -> models.Filter:
    match = models.MatchValue(value=1)
    return models.Filter(must=[models.FieldCondition(key=STOCK, match=match)])


def _nearest(vector: list[float], limit: int) -> models.QueryRequest:
    return models.QueryRequest(
        query=vector, using=VECTOR, limit=limit, filter=_in_stock(), with_payload=True
    )


def _by_size(points: Sequence[models.PointStruct]) -> Iterator[list[models.PointStruct]]:
    """Parts whose JSON is at most ``_BODY`` bytes, in order."""
    part: list[models.PointStruct] = []
    size = 0
    for point in points:
        vectors: Any = point.vector
        numbers = sum(len(vector) for vector in vectors.values())
        weight = len(orjson.dumps(point.payload)) + _FLOAT * numbers + 200
        if part and size + weight > _BODY:
            yield part
            part, size = [], 0
        part.append(point)
        size += weight
    if part:
        yield part
