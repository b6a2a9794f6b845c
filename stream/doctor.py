"""What a worker with these settings still lacks, part by part; looks, and changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final

from models.errors import WeftError
from models.rerank.fusion import GATE_WEIGHT
from stream.contracts.topics import ALL_TOPICS, TopicNames
from stream.findings import Finding, Status
from stream.index.port import IndexHome
from stream.index.registry import adapter_of
from stream.settings import Settings

#: The index of 100,000 items, the vector cache and the converted LLM fit in this.
_ROOM: Final = 2 << 30


def examine(settings: Settings, timeout: float = 10.0) -> Iterator[Finding]:
    """A finding a part, each as soon as it is known."""
    cluster = yield from _broker(settings, timeout)
    home = IndexHome(settings, cluster=cluster)
    yield _guarded("index", lambda: adapter_of(settings).examine(home, timeout))
    yield from _weights(settings)
    yield _disk(settings.data_dir)


def _broker(settings: Settings, timeout: float) -> Generator[Finding, None, str | None]:
    """Returns the cluster's id, None where no broker answers."""
    from stream.kafka.broker import check_changelog, check_topics, look

    try:
        cluster = look(settings, timeout)
    except WeftError as error:
        yield Finding("broker", Status.MISSING, str(error))
        return None
    kind = "embedded" if cluster.embedded else "answers"
    yield Finding("broker", Status.OK, f"{settings.kafka} {kind}")
    names = TopicNames(settings.topic_prefix, settings.group)
    wanted = [*map(names.of, ALL_TOPICS), names.changelog, names.control]
    if absent := [name for name in wanted if name not in cluster.counts]:
        words = "`weft worker` creates these, where its user may: " + ", ".join(absent)
        yield Finding("topics", Status.LATER, words)
        return cluster.id
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
    return cluster.id


def _weights(settings: Settings) -> Iterator[Finding]:
    from models.weights.locate import describe

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
