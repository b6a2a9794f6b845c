"""A worker at a steady load for a long time: memory, file handles and latency, as slopes.

    python -m bench.soak [--minutes 30] [--rate 20] [--rerank never] [--json]

The worker is a process of its own (`weft worker`) on the embedded broker, which is in this one, so
that what is measured is the worker alone. Clicks of 100 shoppers on 500 products of the sample
shop come at a steady rate; from each to its list is timed at a subscriber. After a warm-up (a third
of the time, at most ten minutes: so long the allocator's free lists grow) the run is cut into 20
blocks; a slope is that of a line through the blocks' means (of latency: through their p50 and p99),
with its 95% interval. A short run's interval is wide: per hour is read off a few minutes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.frame import Lists, parsed
from models.domain import Kind
from stream.contracts.codec import PublishedList, ShopperEvent, encode_event, encode_product
from stream.demo.sample.catalogue import shop
from stream.files.publish import Entry, Publisher
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.delivery import Record
from stream.settings import load

WEFT = (sys.executable, "-c", "from stream.cli import main; main()")
PRODUCTS, SHOPPERS, BLOCKS = 500, 100, 20
_T975 = 2.101  # Student's t, 18 degrees of freedom: BLOCKS - 2
_MOST_WARM = 600.0


@dataclass
class Watch:
    """What was seen, each with its second since the start; events are told apart by their ts."""

    began: float = field(default_factory=time.monotonic)
    rss_mb: list[tuple[float, float]] = field(default_factory=list)
    handles: list[tuple[float, float]] = field(default_factory=list)
    latency_ms: list[tuple[float, float]] = field(default_factory=list)
    sent: dict[int, float] = field(default_factory=dict)  # when, of those without a list yet

    def now(self) -> float:
        return time.monotonic() - self.began

    def heard(self, made: PublishedList) -> None:
        """Times each event to the first list that knows it."""
        if (sent := self.sent.pop(made.as_of.ts, None)) is not None:
            self.latency_ms.append((self.now(), (self.now() - sent) * 1000))

    def sample(self, pid: int) -> None:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        self.rss_mb.append((self.now(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
        self.handles.append((self.now(), len(os.listdir(f"/proc/{pid}/fd"))))


@contextmanager
def running_worker(bootstrap: str, rerank: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"WEFT_KAFKA": bootstrap, "WEFT_DATA_DIR": str(folder)}
    with (folder / "log").open("wb") as log:
        command = [*WEFT, "worker", "--rerank", rerank]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def load_of(publisher: Publisher, items: Sequence[str], watch: Watch, rate: float,
            seconds: float, process: subprocess.Popen[bytes]) -> int:  # fmt: skip
    """Clicks at ``rate`` a second; samples the worker every second. Returns how many."""
    dice = np.random.default_rng(0)
    first_ts, began, number, sampled = time.time_ns() // 1_000_000 - 80_000_000, watch.now(), 0, 0.0
    while watch.now() - began < seconds:
        time.sleep(max(0.0, began + number / rate - watch.now()))
        if process.poll() is not None:
            raise SystemExit("the worker ended")
        ts = first_ts + number
        user, item = f"u{dice.integers(SHOPPERS)}", items[int(dice.integers(len(items)))]
        topic, key, value = encode_event(ShopperEvent(Kind.CLICK, user, ts, item))
        watch.sent[ts] = watch.now()
        publisher.publish([Entry(0, Record(topic, key, value))])
        number += 1
        if watch.now() - sampled >= 1.0:
            sampled = watch.now()
            watch.sample(process.pid)
    time.sleep(5.0)
    return number


def slope(values: Sequence[float], hours: float) -> dict[str, float]:
    """Of a line through the blocks' values over a run of ``hours``: per hour, with 95% interval."""
    x = (np.arange(len(values)) + 0.5) * hours / len(values)
    y = np.asarray(values, dtype=float)
    centred = x - x.mean()
    spread = float(centred @ centred)
    per_hour = float(centred @ y) / spread
    left = y - y.mean() - per_hour * centred
    error = math.sqrt(float(left @ left) / (len(y) - 2) / spread)
    return {
        "mean": round(float(y.mean()), 2),
        "per_hour": round(per_hour, 3),
        "low": round(per_hour - _T975 * error, 3),
        "high": round(per_hour + _T975 * error, 3),
    }


def blocks(seen: Sequence[tuple[float, float]], start: float, end: float) -> list[list[float]]:
    cut: list[list[float]] = [[] for _ in range(BLOCKS)]
    for at, value in seen:
        if start <= at < end:
            cut[min(BLOCKS - 1, int((at - start) / (end - start) * BLOCKS))].append(value)
    if not all(cut):
        raise SystemExit("a block without a value: run longer, or at a higher rate")
    return cut


def slopes(watch: Watch, start: float, end: float) -> dict[str, dict[str, float]]:
    hours = (end - start) / 3600
    rss, handles, latency = (
        blocks(seen, start, end) for seen in (watch.rss_mb, watch.handles, watch.latency_ms)
    )
    return {
        "rss_mb": slope([float(np.mean(each)) for each in rss], hours),
        "handles": slope([float(np.mean(each)) for each in handles], hours),
        "latency_p50_ms": slope([float(np.percentile(each, 50)) for each in latency], hours),
        "latency_p99_ms": slope([float(np.percentile(each, 99)) for each in latency], hours),
    }


def measure(minutes: float, rate: float, rerank: str) -> dict[str, Any]:
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as folder:
        settings = load({}, kafka=broker.bootstrap)
        publisher = Publisher(settings)
        stocked = shop().products[:PRODUCTS]
        with running_worker(broker.bootstrap, rerank, Path(folder)) as process:
            _wait_for(Path(folder) / "alive", process)
            publisher.publish(
                [Entry(0, Record("products", *encode_product(p.item))) for p in stocked]
            )
            time.sleep(5.0)
            watch = Watch()
            subscriber = Lists(settings, watch.heard)
            subscriber.start()
            ids = [product.item.item_id for product in stocked]
            seconds = minutes * 60
            sent = load_of(publisher, ids, watch, rate, seconds, process)
            subscriber.stop()
        start = min(_MOST_WARM, seconds / 3)
        return {
            "minutes": minutes,
            "rate": rate,
            "rerank": rerank,
            "sent": sent,
            "lists_timed": len(watch.latency_ms),
            "measured_from_s": start,
            "slopes": slopes(watch, start, seconds),
        }


def _wait_for(alive: Path, process: subprocess.Popen[bytes], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not alive.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"no worker:\n{(alive.parent / 'log').read_text()[-3000:]}")
        time.sleep(0.2)


def main() -> None:
    options = parsed(__doc__, minutes=30.0, rate=20.0, rerank=("never", "gate", "always"))
    result = measure(options.minutes, options.rate, options.rerank)
    print(f"{result['sent']:,} clicks at {result['rate']:g}/s, {result['lists_timed']:,} timed;")
    print(f"  {'':<16}{'mean':>10}{'per hour':>12}   95% interval")
    for name, row in result["slopes"].items():
        interval = f"[{row['low']:+.2f}, {row['high']:+.2f}]"
        print(f"  {name:<16}{row['mean']:>10.1f}{row['per_hour']:>+12.2f}   {interval}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
