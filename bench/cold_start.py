"""A new product: from produce() until a search of the index finds it, at 10 products a second.

    python -m bench.cold_start [--seconds 30] [--rate 10] [--items 3000] [--json]

``--items`` are there before. The bound is 50 ms + 3 x the time of encoding one title alone,
measured in the same run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.catalogue import Rig, items_of, rig
from bench.frame import load_here, parsed, show
from models.domain import Item
from models.encoder.probe_titles import titles
from models.ports import FloatArray

ALONE = 100


def measure(seconds: float, rate: float, held: int) -> dict[str, Any]:
    indexed: queue.Queue[str] = queue.Queue()

    def heard(item_ids: Sequence[str], _seconds: float) -> None:
        for item_id in item_ids:
            indexed.put(item_id)

    count = int(seconds * rate)
    names = titles(held + count + 2 * ALONE)
    with rig(heard) as catalogue:
        catalogue.publish(items_of(names[:held], "held-"))
        while not indexed.empty():
            indexed.get()
        new = items_of(names[held : held + count], "new-")
        queries = catalogue.encoder.encode([item.title for item in new])
        alone = names[held + count :]
        one = encode_times(catalogue, alone[:ALONE])
        waits = arrivals(catalogue, new, queries, rate, indexed)
        one += encode_times(catalogue, alone[ALONE:])
        encoder = catalogue.encoder.name
    one_ms = float(np.percentile(one, 50)) * 1e3
    p50, p99 = (float(np.percentile(waits, q)) * 1e3 for q in (50, 99))
    bound = 50 + 3 * one_ms
    return {
        "encoder": encoder,
        "items_held": held,
        "products": count,
        "products_per_s": rate,
        **load_here(),
        "one_title_ms_p50": round(one_ms, 2),
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "max_ms": round(max(waits) * 1e3, 1),
        "bound_ms": round(bound, 1),
        "ratio": round(p99 / bound, 2),
        "met": p99 <= bound,
    }


def encode_times(catalogue: Rig, names: list[str]) -> list[float]:
    """Seconds of encoding each title alone, by the bare encoder."""
    times = []
    for name in names:
        start = time.perf_counter()
        catalogue.encoder.encode([name])
        times.append(time.perf_counter() - start)
    return times


def arrivals(
    catalogue: Rig,
    new: list[Item],
    queries: FloatArray,
    rate: float,
    indexed: queue.Queue[str],
) -> list[float]:
    """Seconds from each product's produce() until a search with its title's vector has it."""
    produced: dict[str, float] = {}

    def produce() -> None:
        start = time.perf_counter()
        for number, item in enumerate(new):
            time.sleep(max(0.0, start + number / rate - time.perf_counter()))
            produced[item.item_id] = time.perf_counter()
            catalogue.produce(item)

    row = {item.item_id: number for number, item in enumerate(new)}
    producing = threading.Thread(target=produce)
    producing.start()
    waits = []
    for _ in new:
        item_id = indexed.get(timeout=60)
        query = queries[row[item_id]][None]
        while not any(h.item.item_id == item_id for h in catalogue.index.search(query, 10)[0]):
            time.sleep(0.001)
        waits.append(time.perf_counter() - produced[item_id])
    producing.join()
    return waits


def main() -> None:
    options = parsed(__doc__, seconds=30.0, rate=10.0, items=3000)
    show(measure(options.seconds, options.rate, options.items), options.json)


if __name__ == "__main__":
    main()
