"""A bulk import: titles/s from the topic into the embedded index, beside a bare encoder loop.

    python -m bench.import_catalog [--items 20000] [--json]

The bare loop encodes the same titles in batches of the same size, once before and once after the
import; the quicker one counts. Also prints what a search then takes, how many of the true 50
nearest it finds, and the resident memory.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from bench.catalogue import items_of, rig
from bench.frame import load_here, parsed, resident_mb, show
from models.encoder.probe_titles import titles
from models.ports import FloatArray, TitleEncoder
from stream.index.edge import EdgeIndex

BATCH = 512  # as the feed's
SEARCHES = 100
LIMIT = 50


def measure(count: int) -> dict[str, Any]:
    names = titles(count)
    with rig() as catalogue:
        encoder = catalogue.encoder
        encoder.encode(names[:BATCH])
        before, _ = bare_loop(encoder, names)
        start = time.perf_counter()
        catalogue.publish(items_of(names, "i"))
        taken = time.perf_counter() - start
        memory = resident_mb()
        after, vectors = bare_loop(encoder, names)
        bare = min(before, after)
        assert catalogue.index.count() == count
        alone, recall = searches(catalogue.index, vectors)
        name = encoder.name
    return {
        "encoder": name,
        "items": count,
        **load_here(),
        "import_titles_s": round(count / taken),
        "bare_titles_s": round(count / bare),
        "ratio": round(bare / taken, 2),
        "target_ratio": 0.7,
        "search_ms_p50": round(float(np.percentile(alone, 50)), 1),
        "search_ms_p99": round(float(np.percentile(alone, 99)), 1),
        "recall_at_50": round(recall, 4),
        "resident_mb": memory,
        "peak_resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def bare_loop(encoder: TitleEncoder, names: list[str]) -> tuple[float, FloatArray]:
    """Seconds of encoding all titles in batches, and their vectors (n, d)."""
    start = time.perf_counter()
    parts = [encoder.encode(names[n : n + BATCH]) for n in range(0, len(names), BATCH)]
    return time.perf_counter() - start, np.concatenate(parts)


def searches(index: EdgeIndex, vectors: FloatArray) -> tuple[list[float], float]:
    """Milliseconds of each search, and the share of the true nearest that were found."""
    times, found = [], 0
    limit = min(LIMIT, len(vectors))
    queries = (vectors[:SEARCHES] + vectors[1 : SEARCHES + 1]) / 2  # between two titles
    for query in queries:
        start = time.perf_counter()
        [hits] = index.search(query[None], limit)
        times.append((time.perf_counter() - start) * 1e3)
        scores = vectors @ query / np.linalg.norm(query)
        least = np.partition(scores, -limit)[-limit] - 1e-5  # ties are as good
        found += sum(hit.score >= least for hit in hits)
    return times, found / (limit * len(queries))


def main() -> None:
    options = parsed(__doc__, items=20_000)
    show(measure(options.items), options.json)


if __name__ == "__main__":
    main()
