"""``weft events``: a shopper log from a file to the topics, as fast as it goes or replayed."""

from __future__ import annotations

import time
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Publish shopper events.

    \b
    Example:
      weft events publish events.jsonl.gz --rate 5
    """


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    help="Keep the log's gaps between events, so many times as fast.",
)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="So many events a second, no gaps."
)
@click.option("--columns", help="Which column is which field: user_id=customer,ts=t_dat:date.")
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be used.")
def publish(
    file: Path, speed: float | None, rate: float | None, columns: str | None, strict: bool
) -> None:
    """Publish every row of FILE as what a shopper did.

    FILE is JSON Lines or CSV with a header (plain or .gz) or Parquet, sorted by ts: type (click,
    purchase, search or erasure; fav and cart count as clicks), user_id, ts (epoch ms), item_id or
    query, and where there is one event_id: an event with the same id counts once. Other names of
    columns: `--columns field=column,…`, ts=column:unit (ms, s or date), field==value for what is
    the same in every row.

    \b
    Examples:
      weft events publish events.jsonl.gz
      weft events publish events.jsonl.gz --speed 3600
      weft events publish events.csv --rate 5
      weft events publish sales.parquet --columns user_id=customer,ts=day:date,type==purchase
    """
    from stream.contracts.topics import SHOPPER_TOPICS, TopicNames
    from stream.files import publish as publishing
    from stream.files.columns import EVENTS, column_map
    from stream.files.progress import summarise, watched
    from stream.files.row_file import RowFile
    from stream.settings import load

    if speed and rate:
        raise click.UsageError("choose --speed or --rate")
    wait = publishing.replayed(speed) if speed else None
    wait = publishing.at_rate(rate) if rate else wait
    settings = load()
    with RowFile(file, strict, column_map(columns, EVENTS)) as rows:
        publishing.require_topics(settings, *SHOPPER_TOPICS)
        began = time.monotonic()
        entries = publishing.event_entries(rows, TopicNames(settings.topic_prefix))
        with watched(rows, entries, "events") as shown:
            count = publishing.Publisher(settings).publish(shown, wait)
        summarise(rows, count, time.monotonic() - began, "events")
