"""`python -m stream.sample DIR`: the sample shop as files, to look at or to publish."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import click
import orjson

from stream.contracts import encode_event, encode_product
from stream.sample import Shop, shop
from stream.sample_log import events


def write(folder: Path, made: Shop, seed: int, shoppers: int, days: int) -> dict[str, int]:
    """Writes catalog.jsonl.gz and events.jsonl.gz, the same bytes each time; lines by file.

    Arrivals stand in the catalogue with the ``ts`` at which they enter. An event's ``type`` is
    click, purchase or search.
    """
    folder.mkdir(parents=True, exist_ok=True)
    items = (product.item for product in (*made.products, *made.arrivals))
    log = events(made, seed, shoppers, days)
    rows = {
        "catalog.jsonl.gz": (encode_product(item)[1] for item in items),
        "events.jsonl.gz": (
            orjson.dumps({"type": event.kind} | orjson.loads(encode_event(event)[2]))
            for event in log
        ),
    }
    return {name: _write(folder / name, lines) for name, lines in rows.items()}


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
@click.option("--products", default=4000, show_default=True, help="In the shop from the start.")
@click.option("--arrivals", default=120, show_default=True, help="That enter during the log.")
@click.option("--shoppers", default=300, show_default=True)
@click.option("--days", default=28, show_default=True, help="Length of the log.")
def main(folder: Path, seed: int, products: int, arrivals: int, shoppers: int, days: int) -> None:
    """Write the sample shop's catalogue and log to FOLDER, as `weft demo` plays them."""
    made = shop(seed, products, arrivals, days)
    for name, lines in write(folder, made, seed, shoppers, days).items():
        click.echo(f"{folder / name}: {lines:,} lines")
