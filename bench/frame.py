"""What benchmarks share: the command line, the machine's load, rounds, and lists as they come."""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, TopicPartition

from models.encoder.cache import CachedEncoder
from stream.assemble import cached_encoder
from stream.catalogue.followers import EMBEDDED
from stream.contracts.codec import PublishedList, decode_recommendation
from stream.contracts.topics import RECOMMENDATIONS
from stream.settings import Settings, kafka_config, load

Done = TypeVar("Done")


def parsed(doc: str | None, **defaults: Any) -> argparse.Namespace:
    """The options of a benchmark, and ``json``; its docstring is the help.

    Each has its default's type: False is a flag, a tuple has the choices with the default first, a
    list takes several.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {**defaults, "json": False}.items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(option, action="store_true")
        elif isinstance(default, tuple):
            parser.add_argument(option, choices=default, default=default[0])
        elif isinstance(default, list):
            parser.add_argument(option, type=type(default[0]), nargs="+", default=default)
        else:
            parser.add_argument(option, type=type(default), default=default)
    return parser.parse_args()


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """A line a figure, and all as one object on the last line."""
    _print(result, "  ")
    if as_json:
        print(json.dumps(result))


def _print(result: Mapping[str, Any], indent: str) -> None:
    for name, value in result.items():
        words = f"{indent}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            print(words)
            _print(value, indent + "  ")
        else:
            print(f"{words:<44} {value}")


def load_here() -> dict[str, Any]:
    """What a figure's reader has to know of the machine: its cores, and how busy it is."""
    return {"cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)}


def encoder_here(say: Callable[[str], None] = print) -> CachedEncoder:
    """The encoder of the settings, its vectors kept in their data folder."""
    return cached_encoder(load(), say)


@dataclass
class Best:
    """The best of a few rounds, in seconds of the wall and of the CPU."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def round(self, work: Callable[[], Done]) -> Done:
        """Does the work once more."""
        wall, cpu = time.perf_counter(), time.process_time()
        done = work()
        self.wall = min(self.wall, time.perf_counter() - wall)
        self.cpu = min(self.cpu, time.process_time() - cpu)
        return done


class Lists(threading.Thread):
    """A subscriber of an embedded broker: ``heard`` gets each list at once, from the first on."""

    def __init__(self, settings: Settings, heard: Callable[[PublishedList], None]) -> None:
        super().__init__(daemon=True)
        self._config = {**kafka_config(settings), **EMBEDDED, "group.id": "bench"}
        self._heard = heard
        self._stopping = threading.Event()

    def run(self) -> None:
        """Reads until ``stop``."""
        consumer = Consumer(self._config)
        partitions = consumer.list_topics(RECOMMENDATIONS).topics[RECOMMENDATIONS].partitions
        consumer.assign([TopicPartition(RECOMMENDATIONS, p, 0) for p in partitions])
        while not self._stopping.is_set():
            message = consumer.poll(0.1)
            if message is None or message.error() is not None:
                continue
            made = decode_recommendation(message.key(), message.value())
            if made is not None:
                self._heard(made)
        consumer.close()

    def stop(self) -> None:
        """Ends it."""
        self._stopping.set()
        self.join()


def resident_mb() -> int:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20
