"""Weft under faults on a real Kafka: a seeded schedule of events and faults, and a checker.

    python -m bench.faults --seed N [--minutes 10] [--json] [--only kills,bad] [--bug NAME]

Workers are processes of their own with fakes where the models would be; they are killed, stopped,
joined by others, and lose the broker or the index; a part of the records is bad. In the end the
checker compares each shopper's state and last list with what the records sent must have come to.
The same seed sends the same records and does the same faults. With ``--data NAME`` the shoppers
are those of a real log below WEFT_DATA. Exits with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.faults import topics
from bench.faults.actions import Shop, invented, of_log
from bench.faults.bugs import BUGS
from bench.faults.checker import check
from bench.faults.injector import Injector
from bench.faults.report import figures
from bench.faults.schedule import faults, records, sizes, storm
from bench.faults.sender import Sender, hold
from bench.faults.workers import Setup
from bench.frame import show
from stream.contracts.topics import TopicNames
from stream.kafka.broker import ensure_topics
from stream.settings import load
from testbed.kafka import RealKafka, real_kafka

GROUP = "faults"
WORKERS = 2
KINDS = ("kills", "rebalances", "zombies", "broker", "index", "bundles", "bad")


def run(kafka: RealKafka, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One run on a fresh broker; ``folder`` keeps the workers' logs."""
    shop = shop_of(options.data)
    (folder / "items.json").write_text(json.dumps(shop.items))
    setup = Setup(kafka.bootstrap, GROUP, folder, options.session_timeout, options.bug)
    ensure_topics(load({}, kafka=kafka.bootstrap, group=GROUP))
    changelog = TopicNames(group=GROUP).changelog
    ledger = hold(kafka.bootstrap, changelog, options.held, lambda n: shop.items[n % 50][0])
    only = frozenset(options.only.split(",")) if options.only else frozenset()
    planned = sizes(options.minutes, options.rate, only, options.dense)
    sender = Sender(kafka.bootstrap, records(shop, planned, options.seed), ledger)
    injector = Injector(kafka, setup, WORKERS, options.drain)
    injector.run(sender, faults(planned, options.seed, options.session_timeout, WORKERS))
    lists = topics.lists(kafka.bootstrap)
    letters = topics.letters(kafka.bootstrap)
    verdict = check(ledger, topics.states(kafka.bootstrap, changelog), lists.kept, letters)
    result = {
        "seed": options.seed,
        "minutes": options.minutes,
        "shop": shop.name,
        "bug": options.bug,
        "session_timeout_s": options.session_timeout,
        "sound": verdict.sound and injector.drained and verdict.once > 0,
    }
    begins, ends = (sender.begun + second for second in storm(planned, options.seed))
    return result | figures(injector, verdict, lists, lists.waits(ledger), (begins, ends))


def shop_of(name: str | None) -> Shop:
    """The log of that name below WEFT_DATA, or the invented shop."""
    if name is None:
        return invented()
    return of_log(Path(os.environ["WEFT_DATA"]) / name)


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=100, help="good events a second")
    parser.add_argument("--dense", type=float, default=1.0, help="times as many faults a minute")
    parser.add_argument("--held", type=int, help="states from before the run (100000 from 5 min)")
    parser.add_argument("--session-timeout", type=float, default=6.0)
    parser.add_argument("--drain", type=float, default=300.0, help="seconds for what is left")
    parser.add_argument("--only", help=f"some of {','.join(KINDS)}; all by default")
    parser.add_argument("--data", help="a log below WEFT_DATA; else an invented shop")
    parser.add_argument("--bug", choices=sorted(BUGS), default="none")
    parser.add_argument("--keep", type=Path, help="a folder for the workers' logs")
    parser.add_argument("--json", action="store_true", help="one object as the last line")
    options = parser.parse_args(arguments)
    if options.held is None:
        options.held = 100_000 if options.minutes >= 5 else 2_000
    return options


def main() -> None:
    options = parsed()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="weft-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with real_kafka() as kafka:
            result = run(kafka, folder, options)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"seed {options.seed}, {options.minutes:g} minutes, {result['shop']} shop:")
    print("the promise was kept" if result["sound"] else "THE PROMISE WAS BROKEN")
    show(result, options.json)
    sys.exit(0 if result["sound"] else 1)


if __name__ == "__main__":
    main()
