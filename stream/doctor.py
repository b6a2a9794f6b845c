"""What a worker with these settings still lacks, part by part; looks, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from models.errors import WeftError
from models.fusion import GATE_WEIGHT
from stream.index_folder import FORMAT
from stream.settings import Settings
from stream.topics import ALL_TOPICS, TopicNames

#: The index of 100,000 items, the vector cache and the converted LLM fit in this.
_ROOM: Final = 2 << 30


class Status(StrEnum):
    """``LATER``: not there yet, but Weft sees to it by itself."""

    OK = "ok"
    LATER = "later"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part: how it stands, and where it is missing what to do."""

    part: str
    status: Status
    words: str


def examine(settings: Settings, timeout: float = 10.0) -> Iterator[Finding]:
    """A finding a part, each as soon as it is known."""
    yield from _broker(settings, timeout)
    yield _guarded("index", lambda: _index(settings, timeout))
    yield from _weights(settings)
    yield _disk(settings.data_dir)


def _broker(settings: Settings, timeout: float) -> Iterator[Finding]:
    from stream.broker import check_changelog, check_topics, look

    try:
        cluster = look(settings, timeout)
    except WeftError as error:
        yield Finding("broker", Status.MISSING, str(error))
        return
    kind = "embedded" if cluster.embedded else "answers"
    yield Finding("broker", Status.OK, f"{settings.kafka} {kind}")
    names = TopicNames(settings.topic_prefix, settings.group)
    wanted = [*map(names.of, ALL_TOPICS), names.changelog, names.control]
    if absent := [name for name in wanted if name not in cluster.counts]:
        words = "`weft worker` creates these, where its user may: " + ", ".join(absent)
        yield Finding("topics", Status.LATER, words)
        return
    yield Finding("topics", Status.OK, f"all {len(wanted)} are there")
    yield _guarded(
        "partitions",
        lambda: Finding(
            "partitions", Status.OK, f"{check_topics(cluster.counts, names)}, one count for all"
        ),
    )

    def changelog() -> Finding:
        check_changelog(settings, cluster, timeout)
        return Finding("changelog", Status.OK, "it has and keeps every state")

    yield _guarded("changelog", changelog)


def _index(settings: Settings, timeout: float) -> Finding:
    if settings.index == "server":
        return _server(settings, timeout)
    folder = settings.data_dir / "index" / settings.collection
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    except FileNotFoundError:
        return Finding("index", Status.LATER, f"{folder} is empty: it fills from the topic")
    except (OSError, ValueError) as error:
        words = f"{folder} cannot be read ({error}): delete it, and it fills from the topic"
        return Finding("index", Status.MISSING, words)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        words = f"{folder} is of another version: delete it, and it fills from the topic"
        return Finding("index", Status.MISSING, words)
    return Finding("index", Status.OK, f"{folder}, of the encoder {manifest.get('encoder')}")


def _server(settings: Settings, timeout: float) -> Finding:
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    from stream.index_server import connect

    client = connect(settings.qdrant_url, settings.qdrant_api_key, timeout, settings.qdrant_ca)
    try:
        there = client.collection_exists(settings.collection)
    except ResponseHandlingException as error:
        words = f"no Qdrant server answers at WEFT_QDRANT_URL ({type(error.source).__name__})"
        return Finding("index", Status.MISSING, f"{words}: start one, or set WEFT_INDEX=edge")
    except UnexpectedResponse as error:  # its text holds the whole answer
        words = f"the Qdrant server refuses (HTTP {error.status_code}): check WEFT_QDRANT_API_KEY"
        return Finding("index", Status.MISSING, words)
    finally:
        client.close()
    if there:
        return Finding("index", Status.OK, f"the server has {settings.collection}")
    words = f"`weft worker` creates the collection {settings.collection}"
    return Finding("index", Status.LATER, words)


def _weights(settings: Settings) -> Iterator[Finding]:
    from models.weights import describe

    asked = settings.rerank == "always" or (settings.rerank == "gate" and GATE_WEIGHT > 0)
    encoder, llm = describe(settings.encoder, settings.llm, settings.data_dir)
    for part, weights, needed in (("encoder", encoder, True), ("llm", llm, asked)):
        if weights.ready:
            yield Finding(part, Status.OK, f"{weights.name} in {weights.folder}")
        elif needed:
            words = f"{weights.name} is not ready: run `weft models fetch`"
            yield Finding(part, Status.MISSING, words)
        else:
            words = f"{weights.name} is not asked with rerank={settings.rerank}; not fetched"
            yield Finding(part, Status.LATER, words)


def _disk(data_dir: Path) -> Finding:
    there = next(folder for folder in (data_dir, *data_dir.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        words = f"{data_dir} cannot be written: set WEFT_DATA_DIR to a folder that can"
        return Finding("disk", Status.MISSING, words)
    free = shutil.disk_usage(there).free
    words = f"{free / 2**30:.1f} GiB free for {data_dir}"
    if free < _ROOM:
        words += f", {_ROOM / 2**30:.0f} are needed: make room, or set WEFT_DATA_DIR elsewhere"
        return Finding("disk", Status.MISSING, words)
    return Finding("disk", Status.OK, words)


def _guarded(part: str, look: Callable[[], Finding]) -> Finding:
    """An error of ours is a finding: its words say what to do."""
    try:
        return look()
    except WeftError as error:
        return Finding(part, Status.MISSING, str(error))
