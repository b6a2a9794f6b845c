"""``weft catalog``: products from a file to the topic, and products taken off the shelf."""

from __future__ import annotations

import time
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Publish catalogue updates.

    \b
    Examples:
      weft catalog publish catalog.jsonl.gz
      weft catalog remove 0108775015
    """


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--columns", help="Which column is which field: item_id=sku,title=name,ts=added:date."
)
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be used.")
def publish(file: Path, columns: str | None, strict: bool) -> None:
    """Publish every row of FILE as a product.

    FILE is JSON Lines or CSV with a header (plain or .gz) or Parquet: item_id and title, and
    where there are any ts (epoch ms; else the time of publishing), category, brand, colour,
    price, in_stock, …: `weft schema --topic products` lists them. The newest ts of an item wins.
    Other names of columns: `--columns field=column,…`, ts=column:unit (ms, s or date),
    field==value for what is the same in every row.

    \b
    Examples:
      weft catalog publish catalog.jsonl.gz
      weft catalog publish articles.csv --columns item_id=article_id,title=prod_name,brand==H&M
      WEFT_KAFKA=kafka:9092 weft catalog publish --strict new-arrivals.csv
    """
    from stream.contracts.topics import PRODUCTS, TopicNames
    from stream.files import publish as publishing
    from stream.files.columns import PRODUCTS as FIELDS
    from stream.files.columns import column_map
    from stream.files.progress import summarise, watched
    from stream.files.row_file import RowFile
    from stream.settings import load

    settings = load()
    with RowFile(file, strict, column_map(columns, FIELDS)) as rows:
        publishing.require_topics(settings, PRODUCTS)
        began = time.monotonic()
        entries = publishing.product_entries(rows, TopicNames(settings.topic_prefix))
        with watched(rows, entries, "products") as shown:
            count = publishing.Publisher(settings).publish(shown)
        summarise(rows, count, time.monotonic() - began, "products")


@command.command()
@click.argument("item_ids", nargs=-1, required=True, metavar="ITEM_ID...")
def remove(item_ids: tuple[str, ...]) -> None:
    """Remove products: they are recommended no more.

    \b
    Example:
      weft catalog remove 0108775015 0108775044
    """
    from stream.contracts.topics import PRODUCTS, TopicNames
    from stream.files import publish as publishing
    from stream.settings import load

    if not all(0 < len(item_id.encode()) <= 256 for item_id in item_ids):
        raise click.UsageError("an ITEM_ID has 1 to 256 bytes")
    settings = load()
    publishing.require_topics(settings, PRODUCTS)
    gone = publishing.removals(item_ids, TopicNames(settings.topic_prefix))
    click.echo(f"products removed: {publishing.Publisher(settings).publish(gone)}")
