"""The sample shop as files, to look at or to publish: `python -m stream.demo.sample DIR`."""

from __future__ import annotations

import gzip
from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Final

import click
import orjson

from stream.contracts.codec import ShopperEvent, encode_event, encode_product
from stream.demo.sample.catalogue import (
    COLLECTION,
    DAY_MS,
    DAYS,
    HELD_OUT_DAYS,
    START_MS,
    Product,
    Shop,
    shop,
)
from stream.demo.sample.log import events

#: Enough of them that a model can learn what the shop's tastes are made of.
SHOPPERS: Final = 1200


def write(
    folder: Path, made: Shop, seed: int, shoppers: int, days: int, held_out_days: int = 0
) -> dict[str, int]:
    """Writes the files, the same bytes each time; lines by file.

    ``catalog`` and ``events`` are to train on: the first ``days``. ``held-out-catalog`` is what
    enters then, ``held-out-events`` what shoppers do in the days after; ``whole-`` are both, to
    replay. Arrivals stand in the catalogue with the ``ts`` at which they enter. An event's ``type``
    is click, purchase or search.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = list(events(made, seed, shoppers, days + held_out_days))
    end = START_MS + days * DAY_MS
    before = bisect_left(log, end, key=attrgetter("ts"))
    rows: dict[str, Iterable[bytes]] = {
        "catalog.jsonl.gz": map(_product, (*made.products, *made.arrivals)),
        "events.jsonl.gz": map(_event, log[:before]),
        "held-out-catalog.jsonl.gz": map(_product, made.held_out),
        "held-out-events.jsonl.gz": map(_event, log[before:]),
        "whole-catalog.jsonl.gz": map(_product, (*made.products, *made.arrivals, *made.held_out)),
        "whole-events.jsonl.gz": map(_event, log),
    }
    return {name: _write(folder / name, lines) for name, lines in rows.items()}


def _product(product: Product) -> bytes:
    return encode_product(product.item)[1]


def _event(event: ShopperEvent) -> bytes:
    return orjson.dumps({"type": event.kind} | orjson.loads(encode_event(event)[2]))


def _write(path: Path, lines: Iterable[bytes]) -> int:
    count = 0
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        for line in lines:
            packed.write(line + b"\n")
            count += 1
    return count


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=7, show_default=True)
@click.option("--products", default=3280, show_default=True, help="In the shop from the start.")
@click.option("--arrivals", default=120, show_default=True, help="That enter during the log.")
@click.option("--held-out", default=COLLECTION, show_default=True, help="That enter after it.")
@click.option("--shoppers", default=SHOPPERS, show_default=True)
@click.option("--days", default=DAYS, show_default=True, help="Length of the log.")
@click.option("--held-out-days", default=HELD_OUT_DAYS, show_default=True, help="After it.")
def main(
    folder: Path, seed: int, products: int, arrivals: int, held_out: int, shoppers: int,
    days: int, held_out_days: int,
) -> None:  # fmt: skip
    """Write the sample shop to FOLDER: a catalogue and a log to train on, and what is held out.

    Held out are the days after the log, and a collection that enters as they begin; its titles
    share no template with the catalogue's. At the end it prints the replay that asks a bundle about
    the held-out days.
    """
    made = shop(seed, products, arrivals, held_out, days)
    for name, lines in write(folder, made, seed, shoppers, days, held_out_days).items():
        click.echo(f"{folder / name}: {lines:,} lines")
    end = datetime.fromtimestamp((START_MS + days * DAY_MS) / 1000, UTC)
    click.echo(
        "what a bundle gains on the held-out days, which it has not learnt from:\n"
        f"  weft replay --events {folder / 'whole-events.jsonl.gz'} \\\n"
        f"    --catalog {folder / 'whole-catalog.jsonl.gz'} \\\n"
        f"    --from {end:%Y-%m-%d} --targets new --sample-users 60 \\\n"
        f"    --bundle none --bundle demo --report {folder / 'replay'}"
    )
