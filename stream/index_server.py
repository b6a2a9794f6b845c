"""The item index on a Qdrant server, by qdrant-client: shared by all workers.

``stream.items`` says what a point looks like. The collection's metadata names the encoder, so that
vectors of two encoders never mix; it needs Qdrant 1.16 or newer.
"""

from __future__ import annotations

import json
import math
import ssl
import uuid
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import urlsplit

import orjson
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from models.domain import Item
from models.errors import IndexFull, IndexIncompatible, IndexUnavailable, InvalidSettings, WeftError
from models.ports import FloatArray, Hit, Stored
from stream.items import (
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

FORMAT: Final = 1
_BODY: Final = 4 * 2**20  # bytes of an upsert's JSON; the server refuses 32 MB, proxies often 5
_FLOAT: Final = 24  # bytes of a number in JSON, at most
_READ: Final = 64  # queries a request
_FETCH: Final = 256  # points a retrieve
_REFUSED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_AWAY: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)

Args = ParamSpec("Args")
Result = TypeVar("Result")


def connect(url: str, api_key: str = "", timeout: float = 10.0, ca: str = "") -> QdrantClient:
    """A client for the server at ``url``; ``ca`` is a PEM file, for a private authority's TLS.

    Nothing is sent yet. ``timeout`` is in seconds, rounded up to whole ones. Raises
    ``InvalidSettings``.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSettings("qdrant_url must look like https://host:6333")
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise InvalidSettings(
            "qdrant_api_key holds a character that no HTTP header can: check for a line's end"
        )
    if ca and not Path(ca).is_file():
        raise InvalidSettings(f"qdrant_ca names no file: {ca}")
    tls: dict[str, Any] = {"verify": ssl.create_default_context(cafile=ca)} if ca else {}
    return QdrantClient(
        url=url,
        api_key=api_key or None,
        timeout=math.ceil(timeout),
        check_compatibility=False,  # it would ask the server from a thread of its own
        **tls,
    )


class ServerIndex:
    """ItemIndex on a collection, which is made when it is missing.

    ``encoder`` is the encoder's name and ``dim`` its d. An item has one writer at a time (the
    products topic's partitions see to it); the check of its ``ts`` and its write are two calls.
    ``identity`` is made with the collection: a consumer group named by it reads the products topic
    anew when the collection is. Raises while opening ``IndexUnavailable``, ``IndexIncompatible``,
    ``InvalidSettings``.
    """

    def __init__(self, client: QdrantClient, collection: str, encoder: str, dim: int) -> None:
        self._client = client
        self._name = collection
        self._dim = dim
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
        metadata = {**self._mark, "weft_identity": uuid.uuid4().hex[:12]}
        try:
            self._do(
                self._client.create_collection, self._name, {VECTOR: params}, metadata=metadata
            )
        except IndexIncompatible:
            if not self._do(self._client.collection_exists, self._name):
                raise
            # another worker was quicker; its collection is checked like any other
        for field in (STOCK, TS):
            schema = models.PayloadSchemaType.INTEGER
            self._do(self._client.create_payload_index, self._name, field, schema, wait=True)

    def _checked(self) -> str:
        """The collection's identity, if it is one of ours and of this encoder."""
        config = self._do(self._client.get_collection, self._name).config
        vectors = config.params.vectors
        params = vectors.get(VECTOR) if isinstance(vectors, dict) else None
        if params is None or params.distance != models.Distance.COSINE:
            raise self._incompatible(f"it has no cosine vector named {VECTOR!r}")
        if params.size != self._dim:
            raise self._incompatible(f"its vectors have {params.size} numbers, not {self._dim}")
        metadata = config.metadata or {}
        for name, value in self._mark.items():
            if metadata.get(name) != value:
                reason = f"its {name} is {metadata.get(name)!r}, not {value!r}"
                raise self._incompatible(f"{reason} (Qdrant keeps it from 1.16 on)")
        return str(metadata.get("weft_identity", ""))

    def _retrieved(
        self, item_ids: Sequence[str], payload: bool | list[str], vector: bool | list[str]
    ) -> Iterator[models.Record]:
        for start in range(0, len(item_ids), _FETCH):
            ids = [point_id(item_id) for item_id in item_ids[start : start + _FETCH]]
            yield from self._do(self._client.retrieve, self._name, ids, payload, vector)

    def _do(self, call: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
        try:
            return call(*args, **kwargs)
        except UnexpectedResponse as error:
            # the client's error holds the whole answer, which may repeat what was sent: not shown
            raise self._meaning(error) from None
        except ResponseHandlingException as error:
            reason = type(error.source).__name__
            raise IndexUnavailable(
                f"no answer from the Qdrant server ({reason}): check WEFT_QDRANT_URL, and that "
                f"the server runs; for a private authority set WEFT_QDRANT_CA"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError):  # of the client, which takes it as it is
            raise IndexUnavailable(
                "what answers at WEFT_QDRANT_URL is not Qdrant: look at the proxy before it"
            ) from None
        except QdrantException as error:  # it asks for patience
            raise IndexUnavailable(f"the Qdrant server is busy: {type(error).__name__}") from None

    def _meaning(self, error: UnexpectedResponse) -> WeftError:
        status = error.status_code or 0
        if status in _REFUSED:
            return InvalidSettings(
                f"the Qdrant server refuses the API key (HTTP {status}): set WEFT_QDRANT_API_KEY "
                "to one that may read and write"
            )
        words = _words(error.content)
        if "No space left" in words:
            return IndexFull("the Qdrant server's disk is full: make room there")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _AWAY:
            return IndexUnavailable(f"the Qdrant server cannot answer (HTTP {status}) {words}")
        return self._incompatible(f"the server refuses a request (HTTP {status}) {words}")

    def _incompatible(self, reason: str) -> IndexIncompatible:
        return IndexIncompatible(
            f"the collection {self._name!r} cannot be used: {reason}. Delete it, or set "
            "WEFT_COLLECTION to a new name, and start again: it fills from the products topic"
        )


def _words(content: bytes) -> str:
    """Qdrant's own words of an error, shortened; nothing of an answer that is not Qdrant's."""
    try:
        return str(json.loads(content)["status"]["error"])[:200]
    except (ValueError, KeyError, TypeError):
        return ""


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
