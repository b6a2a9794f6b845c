"""How a replay was asked and made: protocol, data, command, versions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from stream.replay.report_plots import timeline
from stream.replay.report_text import counted, lines, moment, seconds, text, whole_days
from stream.replay.result import Result

_NAMES: Final = {
    "prequential": "Prequential: every question is asked before it is learnt from",
    "time": "Global time split: learn before, ask after",
    "last": "Leave-one-out: each shopper’s last events",
}


def facts(result: Result) -> str:
    """The line under the title."""
    told = (
        counted(result.protocol.questions, "question"),
        counted(len(result.contenders), "contender"),
        f"{moment(result.data.first_ts)[:10]} to {moment(result.data.last_ts)[:10]}",
        f"made {made_at(result.made_at)}",
    )
    return " · ".join(told)


def made_at(told: str) -> str:
    """To the minute, in UTC; as it is, if it is no time."""
    try:
        return f"{datetime.fromisoformat(told).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):
        return told


def warning(words: str) -> str:
    """A box that is hard to miss; "" where there is nothing to warn of."""
    if not words:
        return ""
    return f'<div class="warning" role="note"><p><strong>Warning.</strong> {text(words)}</p></div>'


def definitions(told: Iterable[tuple[str, str]]) -> str:
    """Names and HTML values."""
    return f"<dl>{''.join(f'<dt>{text(name)}</dt><dd>{html}</dd>' for name, html in told)}</dl>"


def protocol(result: Result) -> str:
    """What was asked and when, on a timeline, and what leaks."""
    asked, data = result.protocol, result.data
    span = f"{moment(asked.asked_from)} until {moment(asked.asked_until)}"
    label = (
        f"The log runs from {moment(data.first_ts)} to {moment(data.last_ts)}; "
        f"questions are asked from {span}."
    )
    drawn = timeline(
        (data.first_ts, data.last_ts), (asked.asked_from, asked.asked_until), label,
        (moment(data.first_ts)[:10], moment(data.last_ts)[:10]),
    )  # fmt: skip
    told = [
        ("Asked", whole_days(text(span))),
        ("Questions", f"{asked.questions:,}"),
        ("Targets", f"{asked.targets:,}, the items that came next; all items that had entered "
                    "by then are ranked"),
    ]  # fmt: skip
    if asked.name == "last":
        told.append(
            ("Without a tie", f"{counted(asked.without_tie, 'shopper')} whose last two events "
                              "differ in time")
        )  # fmt: skip
    heading = text(_NAMES.get(asked.name, asked.name))
    said = f"<p>{text(asked.words)}</p>" if asked.words else ""
    figure = (
        f"<figure><figcaption>{heading}<small>The log, and in the stronger colour the part that is "
        f"asked</small></figcaption>{drawn}</figure>"
    )
    return said + warning(asked.warning) + figure + definitions(told)


def made(result: Result) -> str:
    """All that it takes to make it again."""
    notes = "".join(f"<li>{text(note)}</li>" for note in result.notes)
    parts = [
        command(result.command, "command"),
        f'<h3>Notes</h3><ul class="plainlist">{notes}</ul>' if notes else "",
        "<h3>Data</h3>",
        definitions(_data(result)),
        "<h3>Run</h3>",
        definitions(_run(result)),
        '<p>For machines: <a href="result.json">result.json</a> beside this file.</p>',
    ]
    return "".join(parts)


def command(words: str, key: str) -> str:
    """The exact command with a button that copies it."""
    return (
        f'<div class="command"><pre id="{key}" tabindex="0" aria-label="Command">{lines(words)}'
        f'</pre><button type="button" class="copy" data-copies="{key}" hidden>Copy the command'
        "</button></div>"
    )


def _data(result: Result) -> list[tuple[str, str]]:
    data = result.data
    told = [
        ("Events", f"{data.events:,} in {text(data.events_file)}"),
        ("Catalogue", f"{counted(data.items, 'item')} in {text(data.catalog_file)}"),
        ("Shoppers", f"{data.shoppers:,}"),
        ("From, to", f"{moment(data.first_ts)}, {moment(data.last_ts)} (UTC)"),
        ("Fingerprint", f"<code>{text(data.fingerprint)}</code>"),
    ]
    told.append(("Set aside", counted(data.set_aside, "row") + " that could not be used"))
    told.append(("Unknown items", counted(data.unknown_items, "event")
                 + " of items that the catalogue does not have"))  # fmt: skip
    return told


def _run(result: Result) -> list[tuple[str, str]]:
    versions = ", ".join(f"{text(name)} {text(of)}" for name, of in result.versions.items())
    return [
        ("Made at", text(made_at(result.made_at))),
        ("Took", seconds(result.seconds)),
        ("Seed", str(result.seed)),
        ("Machine", text(result.machine) or "–"),
        ("Versions", versions or "–"),
    ]
