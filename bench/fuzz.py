"""Damaged inputs for everything that reads what others wrote; prints how many did harm.

    python -m bench.fuzz [--inputs 1000000] [--seed 0] [--json]

``--inputs`` is for the codec and for the state reader, each; what reads files gets a share of it.
An input that fails is named by its number: the same seed makes it again. Exits with 1 if any did.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from bench.frame import parsed
from testbed.fuzz_targets import ALL, Fuzzed, run


def measure(fuzzed: Fuzzed, inputs: int, seed: int) -> dict[str, Any]:
    began = time.perf_counter()
    told = run(fuzzed.target, max(1, round(inputs * fuzzed.share)), seed)
    return {
        "target": fuzzed.name,
        "inputs": told.inputs,
        "inputs_s": round(told.inputs / (time.perf_counter() - began)),
        "taken": told.taken,
        "failures": told.failed,
        "first": told.failures,
    }


def show(row: dict[str, Any]) -> None:
    print(
        f"  {row['target']:<22}{row['inputs']:>12,}{row['inputs_s']:>12,}{row['taken']:>12,}"
        f"{row['failures']:>12,}",
        flush=True,
    )
    for number, words in row["first"]:
        print(f"    input {number}: {words}", flush=True)


def main() -> None:
    options = parsed(__doc__, inputs=1_000_000, seed=0)
    print(f"  {'target':<22}{'inputs':>12}{'inputs/s':>12}{'taken':>12}{'failures':>12}")
    rows = []
    for fuzzed in ALL:
        rows.append(measure(fuzzed, options.inputs, options.seed))
        show(rows[-1])
    failures = sum(row["failures"] for row in rows)
    if options.json:
        print(json.dumps({"seed": options.seed, "failures": failures, "targets": rows}))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
