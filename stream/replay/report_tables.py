"""Tables of a report: they sort by any column, by mouse and by keyboard.

A wide table scrolls in a region of its own, which the keyboard reaches; the page never does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.evaluation import Interval
from stream.replay.report_text import NOTHING, measured, text, unit

#: Columns with bounds that a sheet of paper holds; in a wider table it shows means alone.
_WIDE: Final = 8
NO_CELL: Final = f'<td class="none">{NOTHING}</td>'


@dataclass(frozen=True, slots=True)
class Column:
    """``hint`` stands under the name; ``words``: the column sorts as text."""

    name: str
    hint: str = ""
    words: bool = False


def table(
    key: str,
    label: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    ordered: tuple[int, str] | None = None,
) -> str:
    """The HTML of a table in its region.

    ``label`` (text) names it for those who do not see it. ``rows``: each column's cell as HTML,
    made by the functions below. ``ordered``: the column that the rows come sorted by, and how
    ("ascending", "descending"). ``key`` is an id that the page has once.
    """
    heads = []
    for place, column in enumerate(columns):
        sort = f' aria-sort="{ordered[1]}"' if ordered and ordered[0] == place else ""
        kind = "text" if column.words else "number"
        hint = f"<small>{text(column.hint)}</small>" if column.hint else ""
        heads.append(
            f'<th scope="col" data-kind="{kind}"{sort}><button type="button">'
            f'<span>{text(column.name)}</span><span class="arrow" aria-hidden="true"></span>'
            f"</button>{hint}</th>"
        )
    wide = ' class="wide"' if len(columns) > _WIDE else ""
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}">'
        f'<table id="{text(key)}"{wide} aria-label="{text(label)}"><thead><tr>{"".join(heads)}</tr>'
        f"</thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def row_head(name: str, after: str = "") -> str:
    """The first cell of a row; ``after`` is HTML."""
    return f'<th scope="row" data-v="{text(name)}"><bdi>{text(name, 60)}</bdi>{after}</th>'


def words_cell(words: str, value: str = "") -> str:
    """Text; it sorts by ``value``, or by itself."""
    return f'<td class="words" data-v="{text(value or words)}">{text(words)}</td>'


def number_cell(words: str, value: float) -> str:
    """A number that is written as ``words``."""
    if not math.isfinite(value):
        return NO_CELL
    return f'<td data-v="{value:.9g}">{text(words)}</td>'


def interval_cell(value: Interval | None, metric: str, *, signed: bool = False) -> str:
    """A mean with its bounds, in the metric's unit."""
    if value is None or not math.isfinite(value.mean):
        return NO_CELL
    mean, bounds = measured(value, unit(metric), signed=signed)
    after = f" <small>{bounds}</small>" if bounds else ""
    return f'<td data-v="{value.mean:.9g}">{mean}{after}</td>'
