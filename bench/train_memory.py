"""How much memory training takes as catalogue and log grow.

    python -m bench.train_memory [--sizes 10000 100000 1000000] [--json]

For each size a log is invented (ten events an item), prepared, and trained on for some steps and
one look at validation, in a process of its own whose highest resident size is told. Titles are
random vectors: encoding them is not what is measured. What grows is the ID table with its
optimiser's two moments and the copy of the best, 2 KiB an item at d = 128, and where validation
looks every item's vector beside the pages of its title; shoppers and events stay on the disk.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.frame import parsed

EVENTS_AN_ITEM = 10
EVENTS_A_SHOPPER = 10
STEPS = 30


def measure(items: int) -> dict[str, float]:
    import numpy as np
    import torch

    from models.domain import Item, Kind
    from models.ports import FloatArray
    from models.space.sequence import Member
    from models.training.data.log import Logged
    from models.training.data.splits import by_time
    from models.training.data.write_log import prepare
    from models.training.presets import PRESETS
    from models.training.sequence import train
    from models.training.sequence.evaluate import fitted

    torch.set_num_threads(2)
    rng = np.random.default_rng(0)

    def catalogue() -> Iterator[Item]:
        for n in range(items):
            # words as titles have them: a few common ones, and tens of thousands of rare ones
            title = f"Brand{n % 300} thing {n % 40_000} colour{n % 40} size{n % 12} model{n // 9}"
            yield Item(f"item-{n}", title, 0)

    def events() -> Iterator[Logged]:
        shoppers = items * EVENTS_AN_ITEM // EVENTS_A_SHOPPER
        for n in range(items * EVENTS_AN_ITEM):
            item = int(items * rng.random() ** 2)
            yield Logged(f"shopper-{n % shoppers}", n, Kind.CLICK, f"item-{item}")

    def encode(texts: list[str]) -> FloatArray:
        made = rng.standard_normal((len(texts), 384), dtype=np.float32)
        return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)

    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        log = prepare(Path(folder), catalogue(), events(), encode)
        prepared = time.monotonic() - began
        after_prepare = peak()
        split = by_time(log)
        how = train.SequenceTraining(asked=500)
        config = PRESETS["standard"].sequence
        config = replace(config, mixup=fitted(config.mixup, log))
        member = Member(config, log.items, torch.from_numpy(train.counted(log, split.ends)))
        run = train.Run(log, split.ends, split.validation.sample(500, 1), member, how)
        batches = run.windows.batches(how.batch, np.random.default_rng(0))
        began = time.monotonic()
        for batch in itertools.islice(batches, STEPS):
            run.learn(batch)
        step = (time.monotonic() - began) / STEPS
        run.look()
        disk = sum(file.stat().st_size for file in Path(folder).iterdir())
    return {
        "items": items,
        "events": items * EVENTS_AN_ITEM,
        "prepare_s": round(prepared, 1),
        "prepare_peak_mb": round(after_prepare),
        "step_ms": round(step * 1000),
        "peak_mb": round(peak()),
        "disk_mb": round(disk / 2**20),
    }


def peak() -> float:
    """Highest resident size so far in MiB; pages of mapped files count while they are in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    args = parsed(__doc__, sizes=[10_000, 100_000, 1_000_000], one=0)  # (one: of a child's)
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    rows = []
    for size in args.sizes:
        command = [sys.executable, "-m", "bench.train_memory", "--one", str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(", ".join(f"{name} {value:,}" for name, value in rows[-1].items()), flush=True)
    growth = (rows[-1]["peak_mb"] - rows[0]["peak_mb"]) / max(
        rows[-1]["items"] - rows[0]["items"], 1
    )
    print(f"growth: {growth * 1024:.2f} KiB an item and its {EVENTS_AN_ITEM} events")
    if args.json:
        print(json.dumps({"rows": rows, "kib_an_item": round(growth * 1024, 3)}))


if __name__ == "__main__":
    main()
