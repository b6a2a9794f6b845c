"""``weft dlq``: the messages that could not be used: look at them, send them back, delete them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from stream.contracts.topics import SOURCES

if TYPE_CHECKING:
    from stream.dead_letters.read import Letter, LetterReader, Place, Replayed, Tally

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_HEADER: Final = ("place", "died", "error", "source", "attempts", "bytes", "words")


class _PlaceType(click.ParamType):
    name = "partition:offset"

    def convert(self, value: Any, param: Any, ctx: Any) -> Place:
        found = re.fullmatch(r"(\d{1,9}):(\d{1,18})", str(value))
        if found is None:
            self.fail("say PARTITION:OFFSET, as `weft dlq list` does, e.g. 0:17", param, ctx)
        return int(found[1]), int(found[2])


class _WhenType(click.ParamType):
    name = "when"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Epoch ms."""
        text = str(value)
        try:
            if found := re.fullmatch(r"(\d{1,6})([smhd])", text):
                ago = timedelta(**{_UNITS[found[2]]: int(found[1])})
                return int((datetime.now(UTC) - ago).timestamp() * 1000)
            told = datetime.fromisoformat(text)
            return int((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            self.fail(
                "say how long ago (30m, 2h, 7d) or a time in UTC (2026-01-31T12:00)", param, ctx
            )


def _chosen(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say which letters."""
    since = click.option("--since", type=_WhenType(), help="Since: 30m, 2h, 7d ago, or a time.")
    topic = click.option("--topic", type=click.Choice(SOURCES), help="Came from this topic.")
    error = click.option("--error", metavar="NAME", help="Of this error, e.g. InvalidField.")
    return error(topic(since(function)))


@click.group()
def command() -> None:
    """Look at messages that could not be used, send them back, delete them.

    \b
    Example:
      weft dlq list --counts
    """


@command.command("list")
@_chosen
@click.option("--counts", is_flag=True, help="Only how many there are, by source and error.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="So many, the newest first.",
)
def list_(
    error: str | None, topic: str | None, since: int | None, counts: bool, limit: int
) -> None:
    """List dead letters, the newest first, and count them by source and error.

    On a terminal tables; into a pipe one line a letter, separated by tabs (with --counts one line
    a source and error).

    \b
    Examples:
      weft dlq list
      weft dlq list --error WrongPartition --since 2h
      weft dlq list --counts
    """
    from stream.dead_letters import read
    from stream.settings import load

    tally = read.Tally()

    def counted(reader: LetterReader) -> Any:
        for letter in reader.letters(read.Wanted(error, topic, since)):
            tally.add(letter)
            yield letter

    with read.LetterReader(load()) as reader:
        letters = read.newest(counted(reader), limit)
    if not tally.counts:
        click.echo("no dead letters", err=True)
        return
    if not counts:
        _rows(_HEADER, [_cells(letter) for letter in letters])
    if counts or sys.stdout.isatty():
        _rows(("count", "source", "error", "first", "last"), _counts(tally))


def _rows(header: tuple[str, ...], rows: list[list[str]]) -> None:
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _cells(letter: Letter) -> list[str]:
    from stream.safe_text import clean

    place = f"{letter.place[0]}:{letter.place[1]}"
    source = f"{letter.topic}/{letter.header('weft-partition')}:{letter.header('weft-offset')}"
    told = [letter.error, source, str(letter.attempts), str(len(letter.value or b""))]
    return [place, _time(letter.ts), *map(clean, [*told, letter.header("weft-words")])]


def _counts(tally: Tally) -> list[list[str]]:
    from stream.safe_text import clean

    rows = []
    for (topic, error), count in tally.counts.most_common():
        first, last = tally.spans[topic, error]
        rows.append([str(count), clean(topic), clean(error), _time(first), _time(last)])
    return rows


def _time(ts: int) -> str:
    try:
        return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # whoever wrote it chose its time
        return str(ts)


@command.command()
@click.argument("place", type=_PlaceType(), metavar="PARTITION:OFFSET")
@click.option(
    "--bytes",
    "most",
    type=click.IntRange(0, 2 << 20),
    default=2048,
    show_default=True,
    help="So many of the key and of the value.",
)
def show(place: Place, most: int) -> None:
    """Show one dead letter: its headers, its key and the beginning of its value.

    Control characters, direction marks and bytes that are not UTF-8 are shown as escapes. A key may
    be a shopper's id: look at what you need.

    \b
    Example:
      weft dlq show 0:17 --bytes 200
    """
    from stream.dead_letters.read import LetterReader, escaped
    from stream.settings import load

    with LetterReader(load()) as reader:
        letter = reader.one(place)
    if letter is None:
        raise click.ClickException("no dead letter lies there (any more): see `weft dlq list`")
    click.echo(f"died: {_time(letter.ts)}")
    for name, value in letter.headers:
        click.echo(f"{escaped(name.encode(), 100)}: {escaped(value, most)}")
    click.echo(f"key: {escaped(letter.key, most)}")
    click.echo(f"value: {escaped(letter.value, most)}")


@command.command()
@click.argument("place", type=_PlaceType(), metavar="[PARTITION:OFFSET]", required=False)
@_chosen
@click.option(
    "--max-attempts",
    type=click.IntRange(1, 9999),
    default=3,
    show_default=True,
    help="What was tried so often is not sent again.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(
    place: Place | None,
    error: str | None,
    topic: str | None,
    since: int | None,
    max_attempts: int,
    yes: bool,
) -> None:
    """Send dead letters back to where they came from: one, or all that the options choose.

    They are sent as they are, under the same key and in their order for each key. So correct what
    was wrong outside them first: the partitioner, a clock, a release that refused them. They stay
    on the topic: purge them, or the next replay sends them again.

    \b
    Examples:
      weft dlq replay --error WrongPartition
      weft dlq replay 0:17 --yes
    """
    from stream.dead_letters import read as dlq
    from stream.kafka.delivery import KafkaDelivery
    from stream.settings import kafka_config, load

    settings = load()
    wanted = dlq.Wanted(error, topic, since)
    with dlq.LetterReader(settings) as reader:
        one = reader.one(place) if place else None
        if place and one is None:
            raise click.ClickException("no dead letter lies there (any more): see `weft dlq list`")
        chosen = (lambda: [one]) if one else (lambda: reader.letters(wanted))
        planned = dlq.sorted_out(chosen(), reader.names, max_attempts)
        if not _agreed(planned, max_attempts, yes):
            return
        done = dlq.Replayed()
        delivery = KafkaDelivery(kafka_config(settings), settings.partitioner)
        try:
            dlq.replay(chosen(), delivery, reader.names, max_attempts, done)
        finally:
            delivery.close()
            click.echo(f"{_number(done.sent)} sent back")
        if one is None:
            ends = [f"{p}:{end}" for p, (low, end) in reader.bounds.items() if low < end]
            click.echo(f"what was there until now: weft dlq purge {' '.join(ends)}", err=True)


def _number(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"


def _agreed(planned: Replayed, most: int, yes: bool) -> bool:
    """Whether there is something to send and it may be sent; says what stays."""
    if planned.worn_out:
        words = f"{planned.worn_out:,} stay: they were tried {most} times (--max-attempts)"
        click.echo(words, err=True)
    if planned.unknown:
        words = f"{planned.unknown:,} stay: their headers name no topic that they may go to"
        click.echo(words, err=True)
    if not planned.sent:
        click.echo("0 dead letters sent back")
        return False
    return yes or click.confirm(f"Send {_number(planned.sent)} back?", abort=True, err=True)


@command.command()
@click.argument("places", type=_PlaceType(), metavar="[PARTITION:OFFSET]…", nargs=-1)
@click.option("--before", type=_WhenType(), help="From before: 30m, 2h, 7d ago, or a time.")
@click.option("--all", "everything", is_flag=True, help="All that is there now.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(places: tuple[Place, ...], before: int | None, everything: bool, yes: bool) -> None:
    """Delete dead letters: of each partition those before a place, for ever.

    Kafka deletes from the beginning of a partition only, so this cannot choose by error. Without
    it, retention deletes them (two weeks, if Weft has created the topic).

    \b
    Examples:
      weft dlq purge --before 7d
      weft dlq purge 0:18 1:4
      weft dlq purge --all --yes
    """
    from stream.dead_letters.purge import purge as deleting
    from stream.dead_letters.read import LetterReader
    from stream.settings import load

    if (bool(places), before is not None, everything).count(True) != 1:
        raise click.UsageError("say places, --before or --all: one of them")
    settings = load()
    with LetterReader(settings) as reader:
        ends = {partition: end for partition, (_, end) in reader.bounds.items()}
        asked = dict(places) if places else ends
        asked = reader.before(before) if before is not None else asked
        if unknown := asked.keys() - ends.keys():
            raise click.ClickException(f"there is no partition {min(unknown)}")
        upto = {p: min(offset, ends[p]) for p, offset in asked.items()}
        upto = {p: offset for p, offset in upto.items() if offset > reader.bounds[p][0]}
        count = sum(offset - reader.bounds[p][0] for p, offset in upto.items())
    if not count:
        click.echo("0 dead letters deleted")
        return
    if not yes:
        click.confirm(f"Delete {_number(count)} for ever?", abort=True, err=True)
    deleting(settings, upto)
    click.echo(f"{_number(count)} deleted")
