"""Progress bars on a terminal, nothing where nobody looks; the summary of a publishing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import click

if TYPE_CHECKING:
    from stream.files.publish import Entry
    from stream.files.row_file import RowFile


def say(words: str) -> None:
    """A line to people, beside the result."""
    click.echo(words, err=True)


@contextmanager
def watched(rows: RowFile, entries: Iterator[Entry], words: str) -> Iterator[Iterator[Entry]]:
    """The same entries, with a bar of the file's bytes on standard error if it is a terminal."""
    if not sys.stderr.isatty():
        yield entries
        return
    with Bars(passing=True) as bars:
        bar = bars(words)

        def ticking() -> Iterator[Entry]:
            for count, entry in enumerate(entries, 1):
                yield entry
                if count % 64 == 0:
                    bar.say(rows.position, rows.size, f"{count:,}")

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


#: Seconds between two lines about a training where nobody watches a bar.
_EVERY: Final = 30.0


class Bars:
    """Bars of a training's stages, with loss, validation metric and time left.

    On a terminal they are drawn, and with ``passing`` go when all is done; elsewhere each stage
    says a line now and then.
    """

    def __init__(self, *, passing: bool = False) -> None:
        self._passing = passing
        self._drawn: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._drawn = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TextColumn("{task.fields[words]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=self._passing,
            ).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn is not None:
            self._drawn.stop()

    def __call__(self, stage: str) -> _Bar:
        """One stage's bar."""
        return _Bar(stage, self._drawn)


class Paces(Bars):
    """Bars of a replay: what was done a second, and time left."""

    def __call__(self, stage: str, counted: str) -> Callable[[int, int], None]:  # type: ignore[override]
        """One contender's bar; ``counted`` are events, or questions."""
        bar, began, first = _Bar(stage, self._drawn), time.monotonic(), -1

        def step(done: int, total: int) -> None:
            nonlocal first
            first = done if first < 0 else first  # what was done before a kill took no time now
            seconds = max(time.monotonic() - began, 1e-9)
            bar.say(done, total, f"{(done - first) / seconds:,.0f} {counted}/s")

        return step


class _Bar:
    """``models.training.data.progress.Progress`` of one stage."""

    def __init__(self, stage: str, drawn: Any) -> None:
        self._stage = stage
        self._drawn = drawn
        self._task = None if drawn is None else drawn.add_task(stage, total=None, words="")
        self._began = self._said = time.monotonic()
        self._first: int | None = None

    def step(self, done: int, total: int, *, loss: float, metric: float) -> None:
        """``done`` of ``total``; ``loss`` and ``metric`` are 0 where a stage has none."""
        told = (f"loss {loss:.3f}" if loss else "", f"NDCG@10 {metric:.4f}" if metric else "")
        self.say(done, total, ", ".join(filter(None, told)))

    def say(self, done: int, total: int, words: str) -> None:
        """The same, in words of the caller's."""
        if self._drawn is not None:
            self._drawn.update(self._task, completed=done, total=total, words=words)
            return
        now = time.monotonic()
        if self._first is None:  # what a run that goes on had done already took no time now
            self._first, self._began = done, now
        if now - self._said < _EVERY and done < total:
            return
        self._said = now
        fresh = done - self._first
        left = (now - self._began) / fresh * (total - done) if fresh else 0.0
        told = (f"{100 * done / max(total, 1):.0f} %", words, f"{left:.0f} s left")
        click.echo(f"{self._stage}: {', '.join(filter(None, told))}", err=True)
