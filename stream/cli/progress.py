"""Progress bars on a terminal, nothing where nobody looks; the summary of a publishing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stream.files import RowFile
    from stream.publish import Entry


@contextmanager
def watched(rows: RowFile, entries: Iterator[Entry], words: str) -> Iterator[Iterator[Entry]]:
    """The same entries, with a bar of the file's bytes on standard error if it is a terminal."""
    if not sys.stderr.isatty():
        yield entries
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]:,}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(words, total=rows.size, count=0)

        def ticking() -> Iterator[Entry]:
            for count, entry in enumerate(entries, 1):
                yield entry
                if count % 64 == 0:
                    progress.update(task, completed=rows.position, count=count)

        yield ticking()


def summarise(rows: RowFile, published: int, seconds: float, noun: str) -> None:
    """One line on standard output, and what was set aside on standard error."""
    rate = published / seconds if seconds > 0 else 0.0
    aside = f", {rows.aside.count:,} rows set aside" if rows.aside.count else ""
    click.echo(f"{published:,} {noun} published in {seconds:.1f} s ({rate:,.0f}/s){aside}")
    report_aside(rows)


def report_aside(rows: RowFile) -> None:
    """What was set aside and why, on standard error: the first few rows and how many more."""
    for words in rows.aside.first:
        click.echo(f"  set aside: {words}", err=True)
    if rows.aside.count > len(rows.aside.first):
        click.echo(f"  … and {rows.aside.count - len(rows.aside.first):,} more", err=True)
