"""``weft import``: a public fashion log in its published shape, to files that Weft reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.files.progress import say

if TYPE_CHECKING:
    from stream.files.progress import Bars
    from stream.importers.run import Imported

_NAMES = ("hm", "amazon2014", "amazon2023", "retailrocket", "taobao")


@click.command(
    epilog="\b\nExamples:\n"
    "  weft import hm h-and-m/ --out hm/\n"
    "  weft import hm h-and-m/ --out hm-small/ --sample-users 0.01\n"
    "  weft import amazon2014 reviews_Beauty_5.json.gz meta_Beauty.json.gz --out beauty/"
)
@click.argument("log", type=click.Choice(_NAMES))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to be.")
@click.option(
    "--sample-users",
    type=click.FloatRange(0, 1, min_open=True),
    help="Keep this share of the shoppers, by a hash of their ids; all products stay.",
)
def command(log: str, paths: tuple[Path, ...], out: Path, sample_users: float | None) -> None:
    """Import a public log: PATHS is the folder of its files as they were published, or the files.

    \b
    hm            transactions_train.csv, articles.csv
    amazon2014    reviews_X_5.json.gz, meta_X.json.gz
    amazon2023    X.jsonl.gz, meta_X.jsonl.gz
    retailrocket  events.csv, item_properties_part1.csv, item_properties_part2.csv
    taobao        UserBehavior.csv

    Weft ships and downloads none of them. OUT gets events.jsonl.gz, catalog.jsonl.gz and
    import.json, which says what was read and set aside. A run that was stopped leaves OUT as it
    was.
    """
    from stream.files.progress import Bars
    from stream.importers.run import SOURCES, import_log

    began = time.monotonic()
    with Bars() as bars:
        told = import_log(log, paths, out, sample_users, _stepping(bars), say)
    seconds = time.monotonic() - began
    _summarise(told, out, seconds)
    if not told.sorted_by_ts:
        say("  note: the events are in their file's order, which is not by ts: `weft train` and")
        say("  `weft replay` sort them, `weft events publish` sends them as they come")
    for words in SOURCES[log].notes:
        say(f"  note: {words}")
    say(f"  the licence is the publisher's: {SOURCES[log].home}")


def _stepping(bars: Bars) -> Callable[[str], Callable[[int, int, str], None]]:
    return lambda stage: bars(stage).say


def _summarise(told: Imported, out: Path, seconds: float) -> None:
    """One line on standard output, and what was set aside on standard error."""
    rows = sum(count for count, _ in told.set_aside.values())
    aside = f", {rows:,} rows set aside" if rows else ""
    click.echo(
        f"{told.events:,} events and {told.items:,} products in {out} in {seconds:.1f} s{aside}"
    )
    for file, (count, first) in told.set_aside.items():
        for words in first:
            say(f"  set aside: {file}, {words}")
        if count > len(first):
            say(f"  … and {count - len(first):,} more of {file}")
