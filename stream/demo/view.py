"""What `weft demo` shows: who did what, what is recommended and why, and how it went.

On a terminal: colour and columns that fit its width. Elsewhere: one plain line a fact. A shop's
titles and shoppers' words are shown as text, whatever characters they hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from models.domain import Item, Kind, Recommendation, RecommendedItem
from stream.contracts.codec import ShopperEvent
from stream.safe_text import clean

_NAME_WIDTH: Final = 10
#: Columns from which a reason stands beside its title.
_WIDE: Final = 110
_NAME: Final = re.compile(r"[a-z]{2,12}(-\d{1,4})?")
_COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan")
_FORGOTTEN: Final = "asked to be forgotten"


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run went. Latencies are from event to list, in milliseconds; None: none was made."""

    seconds: float
    published: int
    indexed: int
    events: int
    lists: int
    reranked: int
    rerank: str  # the setting: gate, always or never
    weight: float  # of the LLM in this run
    gate_weight: float  # that the measurement chose
    p50_ms: float | None
    p99_ms: float | None
    dead_letters: int = 0
    ready_s: float | None = None  # from the start of loading until events are taken
    resident_mb: float | None = None  # of the whole process, at most


def shopper_name(user_id: str) -> str:
    """A sample shopper's name ("nora-2" is Nora 2), else the id's beginning."""
    if _NAME.fullmatch(user_id):
        return user_id.replace("-", " ").capitalize()
    shown = clean(user_id)
    return shown if len(shown) < _NAME_WIDTH else shown[: _NAME_WIDTH - 2] + "…"


class DemoView:
    """Prints to ``console``; ``shown`` lines of a list of ten are enough to see what it is."""

    def __init__(self, console: Console, shown: int = 4) -> None:
        self._console = console
        self._shown = shown

    def opening(self, address: str, items: int, index: str, models: str, llm: str) -> None:
        """What runs, and where another terminal gets at it; the last three in words."""
        self._line(Text.assemble(("Weft", "bold"), f"  {items:,} items in {clean(index)}"))
        self._line(Text(f"models: {clean(models)}; LLM: {clean(llm)}"))
        self._line(Text.assemble("Kafka for librdkafka's clients: ", (clean(address), "bold cyan")))
        self._gap()

    def note(self, words: str) -> None:
        """A line of progress."""
        self._line(Text(clean(words), style="dim"))

    def happened(self, event: ShopperEvent, item: Item | None) -> None:
        """What a shopper did; ``item`` is None where the catalogue does not know it (yet)."""
        line = self._who(event.user_id)
        verb = _FORGOTTEN if event.kind is None else event.kind.verb
        line.append(f"{verb} ".ljust(9), style=_verb_style(event.kind))
        if event.query and event.item_id is None:
            line.append(f"“{clean(event.query or '')}”", style="italic")
        elif event.item_id is not None:
            line.append(_title(item, event.item_id))
            line.append(_price(item), style="dim")
        self._line(line)

    def recommended(
        self, user_id: str, made: Recommendation, items: Mapping[str, Item], ms: float | None
    ) -> None:
        """A list, its first lines with scores and reasons; ``ms`` is the time since the event."""
        facts = f": {min(self._shown, len(made.items))} of {len(made.items)}, "
        facts += "reranked by the LLM" if made.reranked else "retrieved"
        facts += "" if ms is None else f", {ms:.0f} ms"
        shown = [
            (_title(items.get(line.item_id), line.item_id), line)
            for line in made.items[: self._shown]
        ]
        heading = Text("  → for ").append(self._who(user_id, pad=False))
        self._line(heading.append(facts, style="green" if made.reranked else "dim"))
        if self._console.is_terminal:
            table = self._wide(shown) if self._console.width >= _WIDE else self._narrow(shown)
            self._console.print(Padding(table, (0, 0, 1, 4)))
            return
        for place, (title, line) in enumerate(shown, 1):
            self._line(Text(f"    {place}. {title} ({line.score:.2f}) {clean(line.reason)}"))

    def arriving(self, item: Item) -> None:
        """A product is published while the shop is open."""
        self._gap()
        line = _new("published: ").append(_title(item, item.item_id), style="bold")
        self._line(line.append(_price(item), style="dim"))

    def retrievable(self, ms: float, place: int | None, query: str) -> None:
        """It is in the index; a search for ``query`` finds it at ``place`` (from 1)."""
        line = _new("retrievable ").append(f"{ms:.0f} ms", style="bold green").append(" later")
        if place is not None:
            line.append(f": place {place} for “{clean(query)}”")
        self._line(line)
        self._gap()

    def first_shown(self, item: Item, user_id: str, place: int) -> None:
        """It is in a shopper's list for the first time (``place`` from 1)."""
        line = _new("shown to ").append(self._who(user_id, pad=False))
        self._line(line.append(f" at place {place}: {_title(item, item.item_id)}"))
        self._gap()

    def summary(self, facts: Summary) -> None:
        """The run in a few lines."""
        rows = _summary_rows(facts)
        self._gap()
        if not self._console.is_terminal:
            for name, words in rows:
                self._line(Text(f"{name}: {words}"))
            return
        table = Table.grid(padding=(0, 2))
        for name, words in rows:
            table.add_row(Text(name, style="dim"), Text(words))
        self._console.rule("Weft", style="dim")
        self._console.print(table)

    def _wide(self, shown: Sequence[tuple[str, RecommendedItem]]) -> Table:
        """Title, score and reason side by side."""
        table = _grid()
        table.add_column(justify="right", no_wrap=True, min_width=5, style="cyan")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=5)
        for place, (title, line) in enumerate(shown, 1):
            table.add_row(str(place), Text(title), f"{line.score:.2f}", _reason(line))
        return table

    def _narrow(self, shown: Sequence[tuple[str, RecommendedItem]]) -> Table:
        """A reason under its title, where it is not that of the line above."""
        table = _grid()
        table.add_column(justify="right", no_wrap=True, min_width=5, style="cyan")
        above = None
        for place, (title, line) in enumerate(shown, 1):
            table.add_row(str(place), Text(title), f"{line.score:.2f}")
            if line.reason != above:
                table.add_row("", _reason(line))
            above = line.reason
        return table

    def _who(self, user_id: str, pad: bool = True) -> Text:
        name = shopper_name(user_id)
        colour = _COLOURS[crc32(user_id.encode(errors="replace")) % len(_COLOURS)]
        return Text.assemble((name.ljust(_NAME_WIDTH) if pad else name, f"bold {colour}"))

    def _line(self, line: Text) -> None:
        """One line: cut to the terminal's width; whole where nobody sees columns."""
        if self._console.is_terminal:
            self._console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(Text(line.plain.rstrip()), soft_wrap=True)

    def _gap(self) -> None:
        if self._console.is_terminal:
            self._console.print()


def _grid() -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=6)
    return table


def _new(words: str) -> Text:
    """The beginning of a line on a product that has just arrived."""
    return Text.assemble(("✦ new".ljust(_NAME_WIDTH), "bold yellow"), words)


def _title(item: Item | None, item_id: str) -> str:
    """The item's title, its other words, or its id; no longer than anyone reads."""
    words = clean((item.text if item else "") or item_id)
    return words if len(words) <= 120 else words[:119] + "…"


def _price(item: Item | None) -> str:
    if item is None or item.price is None:
        return ""
    sign = {"EUR": "€", "USD": "$", "GBP": "£"}.get(item.currency or "")
    return (
        f"  {sign}{item.price:.2f}" if sign else f"  {item.price:.2f} {clean(item.currency or '')}"
    )


def _reason(line: RecommendedItem) -> Text:
    style = {"popularity": "yellow", "new": "yellow"}.get(line.source, "dim")
    return Text(clean(line.reason), style=style)


def _verb_style(kind: Kind | None) -> str:
    return {Kind.PURCHASE: "bold green", None: "bold red"}.get(kind, "")


def _summary_rows(facts: Summary) -> list[tuple[str, str]]:
    sign = "=" if facts.published == facts.indexed else "but"
    share = f" ({facts.reranked / facts.lists:.0%})" if facts.lists else ""
    asked = f"asked at weight {facts.weight:g}" if facts.weight > 0 else "not asked"
    rows = [
        ("items", f"{facts.published:,} published {sign} {facts.indexed:,} indexed"),
        ("events", f"{facts.events:,} in {facts.seconds:.0f} s"),
        ("lists", f"{facts.lists:,}, of which {facts.reranked:,} reranked{share}"),
        ("LLM", f"{asked} (--rerank {facts.rerank}; the gate's weight is {facts.gate_weight:g})"),
    ]
    if facts.p50_ms is not None and facts.p99_ms is not None:
        rows.append(("event to list", f"p50 {facts.p50_ms:.0f} ms, p99 {facts.p99_ms:.0f} ms"))
    if facts.ready_s is not None and facts.resident_mb is not None:
        words = f"ready in {facts.ready_s:.1f} s, {facts.resident_mb:,.0f} MB of memory at most"
        rows.append(("process", words))
    if facts.dead_letters:
        rows.append(("dead letters", f"{facts.dead_letters:,}"))
    return rows
