"""The title encoder beside sentence-transformers' own `encode`, on the same titles in one run.

    python -m bench.encode [--titles 2000] [--threads 0] [--json]

The titles are made up, of about ten tokens. Rounds take turns, so that a busy moment of the
machine falls on both; the best round of each counts. Beside titles/s of wall time stands the CPU
time a title, which a busy neighbour disturbs less; but torch's threads wait by spinning, so only
a quiet machine (see the load average) or ``--threads 1`` compares fairly.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.frame import Best, load_here, parsed, show
from models.encoder.batching import Tokens
from models.encoder.choose import cosines, load_encoder
from models.encoder.probe_titles import titles
from models.ports import FloatArray
from models.weights.locate import minilm
from stream import settings

ROUNDS = 4
ALONE = 300


def measure(count: int, threads: int, data_dir: Path, encoder_type: str) -> dict[str, Any]:
    import torch
    from sentence_transformers import SentenceTransformer

    if threads:
        torch.set_num_threads(threads)
    sample = titles(count)
    folder = minilm("", data_dir, print)
    ours = load_encoder("", data_dir, threads, print, encoder_type)
    theirs = SentenceTransformer(str(folder), device="cpu")

    def encode_theirs() -> FloatArray:
        found = theirs.encode(sample, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)

    ours.encode(sample[:64])
    theirs.encode(sample[:64], show_progress_bar=False)
    quick, slow = Best(), Best()
    for _ in range(ROUNDS):
        vectors = quick.round(lambda: ours.encode(sample))
        exact = slow.round(encode_theirs)
    low, mean = cosines(vectors, exact)
    alone = np.concatenate([ours.encode([title]) for title in sample[:ALONE]])
    times = [_seconds(partial(ours.encode, [title])) for title in sample[:ALONE]]
    return {
        "encoder": ours.name,
        "titles": count,
        "mean_tokens": round(float(np.mean([len(t) for t in Tokens(folder)(sample)])), 1),
        "threads": threads or os.cpu_count(),
        **load_here(),
        "titles_s": round(count / quick.wall),
        "sentence_transformers_titles_s": round(count / slow.wall),
        "ratio": round(slow.wall / quick.wall, 2),
        "cpu_us_per_title": round(quick.cpu / count * 1e6),
        "sentence_transformers_cpu_us_per_title": round(slow.cpu / count * 1e6),
        "cpu_ratio": round(slow.cpu / quick.cpu, 2),
        "target_ratio": 2.5,
        "mean_cosine": round(mean, 5),
        "low_cosine": round(low, 5),
        "alone_to_batch_difference": float(np.abs(alone - vectors[:ALONE]).max()),
        "one_title_ms_p50": round(float(np.percentile(times, 50)) * 1e3, 2),
        "one_title_ms_p99": round(float(np.percentile(times, 99)) * 1e3, 2),
    }


def _seconds(work: Callable[[], FloatArray]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    options = parsed(__doc__, titles=2000, threads=0, type=("auto", "int8", "fp32", "bf16"))
    data_dir = settings.load().data_dir
    show(measure(options.titles, options.threads, data_dir, options.type), options.json)


if __name__ == "__main__":
    main()
