"""``weft recs``: what shoppers are shown, as the recommendations topic has it."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stream.kafka.list_reader import Seen


@click.command()
@click.option("--user", metavar="ID", help="Only this shopper's list.")
@click.option("--follow", is_flag=True, help="Go on with each new list until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One list a line, as it is on the topic.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=10,
    show_default=True,
    help="So many shoppers: those with the newest lists.",
)
def command(user: str | None, follow: bool, as_json: bool, limit: int) -> None:
    """Show the newest list of each shopper.

    On a terminal a table; into a pipe one line an item: shopper, place, item, score, source,
    reason, separated by tabs.

    \b
    Examples:
      weft recs --limit 3
      weft recs --user 1a674938eb6b --json
      weft recs --follow --json | jq .items[0].item_id
    """
    from stream.kafka.list_reader import ListReader
    from stream.settings import load

    show = _json if as_json else _table if sys.stdout.isatty() else _plain
    with ListReader(load(), user) as reader:
        kept = reader.kept(limit)
        for seen in kept:
            show(seen)
        if reader.unreadable:
            click.echo(f"{reader.unreadable} records could not be read", err=True)
        if not kept and not follow:
            click.echo("no lists yet: is `weft worker` running, and are there events?", err=True)
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            for seen in reader.following() if follow else ():
                show(seen)


def _json(seen: Seen) -> None:
    """The topic's bytes; on a terminal in ASCII, because a title may hold control characters."""
    if not sys.stdout.isatty():
        click.echo(seen.raw)
        return
    import json

    click.echo(json.dumps(json.loads(seen.raw), separators=(",", ":")))


def _plain(seen: Seen) -> None:
    from stream.safe_text import clean

    user = clean(seen.shown.user_id)
    for place, item in enumerate(seen.shown.recommendation.items, 1):
        cells = (clean(item.item_id), f"{item.score:.4f}", clean(item.source), clean(item.reason))
        click.echo("\t".join([user, str(place), *cells]))


def _table(seen: Seen) -> None:
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from stream.safe_text import clean

    shown = seen.shown
    made = datetime.fromtimestamp(shown.ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    order = (
        f"reranked by {shown.recommendation.model}"
        if shown.recommendation.reranked
        else (f"by {shown.recommendation.model}, not reranked")
    )
    title = f"{clean(shown.user_id)}: {made}, after a {clean(shown.trigger)}, {clean(order)}"
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for name in ("", "item", "score", "source", "reason"):
        table.add_column(name, justify="right" if name in ("", "score") else "left")
    for place, item in enumerate(shown.recommendation.items, 1):
        cells = (str(place), item.item_id, f"{item.score:.4f}", item.source, item.reason)
        table.add_row(*(Text(clean(cell)) for cell in cells))
    Console().print(table)
