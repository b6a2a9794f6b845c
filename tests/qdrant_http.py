"""A Qdrant server over real HTTP and TLS, as small as a test needs: the client's local mode behind.

It checks the API key, can be told to fail or to be slow, and keeps the size of what it was sent and
which fields of which collections were to be indexed.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import orjson
from qdrant_client import QdrantClient, models


@dataclass
class FakeQdrant:
    """What the server knows, and how it shall behave. ``failures`` are its next answers' codes
    (200: as if nothing were).

    ``spoils`` is what becomes of good answers: "cut" (the connection ends in the middle of one),
    "drop" (it ends before), "page" (a proxy's page of HTML comes in its place).
    """

    api_key: str = ""
    delay: float = 0.0
    failures: list[int] = field(default_factory=list)
    spoils: str = ""
    words: str = "told to fail"
    sizes: list[int] = field(default_factory=list)
    waited: list[bool] = field(default_factory=list)
    indexed: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._local = QdrantClient(":memory:")
        self._lock = threading.Lock()  # the local mode is for one thread

    def collections(self) -> set[str]:
        """The names of those that are there."""
        with self._lock:
            return {found.name for found in self._local.get_collections().collections}

    def answer(self, method: str, path: str, query: str, body: bytes) -> Any:
        """The result of a call, in the shape of Qdrant's REST interface."""
        _, _, name, *rest = [*path.split("/"), ""][: max(3, path.count("/") + 1)]
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the local mode has no payload indexes
            if rest[:1] == ["points"] and method == "PUT":
                self.sizes.append(len(body))
                self.waited.append("wait=true" in query)
            return self._call(method, name, "/".join(rest), body)

    def _call(self, method: str, name: str, what: str, body: bytes) -> Any:
        local, fields = self._local, orjson.loads(body or b"{}")
        match method, what:
            case "GET", "exists":
                return {"exists": local.collection_exists(name)}
            case "GET", "" if not name:
                return local.get_collections()
            case "GET", "":
                return local.get_collection(name)
            case "DELETE", "":
                return local.delete_collection(name)
            case "PUT", "":
                wanted = models.CreateCollection.model_validate(fields)
                assert wanted.vectors is not None
                return local.create_collection(name, wanted.vectors, metadata=wanted.metadata)
            case "PUT", "index":
                self.indexed.append((name, fields["field_name"]))
                return local.create_payload_index(name, **fields)
            case "PUT", "points":
                return local.upsert(name, models.PointsList.model_validate(fields).points)
            case "POST", "points":
                asked = models.PointRequest.model_validate(fields)
                payload: Any = asked.with_payload
                return local.retrieve(name, asked.ids, payload, asked.with_vector or False)
            case "POST", "points/delete":
                return local.delete(name, models.PointIdsList.model_validate(fields))
            case "POST", "points/query/batch":
                searches = models.QueryRequestBatch.model_validate(fields).searches
                return local.query_batch_points(name, searches)
            case "POST", "points/scroll":
                page = models.ScrollRequest.model_validate(fields)
                points, after = local.scroll(
                    name, scroll_filter=page.filter, limit=page.limit or 10, order_by=page.order_by
                )
                return {"points": points, "next_page_offset": after}
            case "POST", "points/count":
                return local.count(name)
        raise AssertionError(f"the fake knows no {method} {what}")


class _Handler(BaseHTTPRequestHandler):
    fake: FakeQdrant

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.fake.delay)
        if self.fake.api_key and self.headers.get("api-key") != self.fake.api_key:
            # Qdrant's own words, and what no server should do: repeat the key
            self._send(401, f"Must provide an API key, not {self.headers.get('api-key')}".encode())
        elif self.fake.failures and (status := self.fake.failures.pop(0)) != 200:
            words = {"status": {"error": self.fake.words}, "time": 0.0}
            self._send(status, orjson.dumps(words))
        else:
            url = urlsplit(self.path)
            result = self.fake.answer(self.command, url.path, url.query, body)
            answer = {"result": result, "status": "ok", "time": 0.0}
            self._good(orjson.dumps(answer, default=lambda m: m.model_dump(mode="json")))

    do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _good(self, body: bytes) -> None:
        match self.fake.spoils:
            case "cut":
                self._send(200, body[: len(body) // 2], len(body))
            case "drop":
                self.close_connection = True
            case "page":
                self._send(200, b"<html>please wait</html>")
            case _:
                self._send(200, body)

    def _send(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who asked has given up
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


@contextlib.contextmanager
def fake_qdrant(tls: ssl.SSLContext | None = None) -> Iterator[FakeQdrant]:
    """A server on loopback; ``url`` is its address."""
    fake = FakeQdrant()
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    fake.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
