"""Talking to a Qdrant server: the client, and what its errors mean for the shop's engineer."""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import urlsplit

from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from models.errors import IndexFull, IndexIncompatible, IndexUnavailable, InvalidSettings, WeftError
from stream.settings import Settings

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


def connected(settings: Settings, timeout: float | None = None) -> QdrantClient:
    """The client of these settings; ``timeout`` in seconds in place of theirs."""
    wait = settings.qdrant_timeout if timeout is None else timeout
    return connect(settings.qdrant_url, settings.qdrant_api_key, wait, settings.qdrant_ca)


def ask(call: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
    """The call's result. Raises ``IndexUnavailable`` (retry), ``IndexFull``, ``InvalidSettings``,
    and ``IndexIncompatible`` with the server's words where it refuses what was asked.
    """
    try:
        return call(*args, **kwargs)
    except UnexpectedResponse as error:
        # the client's error holds the whole answer, which may repeat what was sent: not shown
        raise _meaning(error) from None
    except ResponseHandlingException as error:
        reason = type(error.source).__name__
        raise IndexUnavailable(
            f"no answer from the Qdrant server ({reason}): check WEFT_QDRANT_URL, and that "
            "the server runs, or set WEFT_INDEX=edge; for a private authority set WEFT_QDRANT_CA"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):  # of the client, which takes it as it is
        raise IndexUnavailable(
            "what answers at WEFT_QDRANT_URL is not Qdrant: look at the proxy before it"
        ) from None
    except QdrantException as error:  # it asks for patience
        raise IndexUnavailable(f"the Qdrant server is busy: {type(error).__name__}") from None


def _meaning(error: UnexpectedResponse) -> WeftError:
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
    return IndexIncompatible(f"the Qdrant server refuses a request (HTTP {status}) {words}")


def _words(content: bytes) -> str:
    """Qdrant's own words of an error, shortened; nothing of an answer that is not Qdrant's."""
    try:
        return str(json.loads(content)["status"]["error"])[:200]
    except (ValueError, KeyError, TypeError):
        return ""
