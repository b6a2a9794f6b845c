"""Runs every benchmark, one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    "encode",
    "import_catalog",
    "cold_start",
    "click_to_list",
    "state_path",
    "likelihood",
)


def main() -> None:
    failed = []
    for name in BENCHMARKS:
        print(f"\n== python -m bench.{name} {' '.join(sys.argv[1:])}", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", *sys.argv[1:]]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
