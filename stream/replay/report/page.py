"""The one place that makes pages of templates: files that need nothing else, and trust no words.

Every expression of a template is made one clean line and escaped, unless it is markup that a
template or a plot made. And should a title slip through as markup all the same: the page's policy
names its own script and style by their hashes, so it could neither run nor load anything.
"""

from __future__ import annotations

import math
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from models.domain import Kind
from models.evaluation.intervals import Interval
from stream.replay.report.plots import mark
from stream.replay.result import words
from stream.safe_text import clean


def page(template: str, **told: object) -> str:
    """The whole file, of a template in ``page/`` and what it asks for."""
    return _environment().get_template(template).render(told)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("stream.replay.report", "page"),
        autoescape=True,
        finalize=_cleaned,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "lines": words.lines, "made_at": words.made_at, "mark": mark, "measured": _measured,
        "short": words.short, "whole_days": words.whole_days,
    }  # fmt: skip
    made.tests["finite"] = math.isfinite
    made.globals |= {
        "counted": words.counted, "milliseconds": words.milliseconds,
        "moment": words.moment, "nan": float("nan"), "number": words.number,
        "seconds": words.seconds, "span": words.span, "unit": words.unit,
        "verbs": {kind.value: kind.verb for kind in Kind},
    }  # fmt: skip
    for name in ("script.js", "style.css"):
        part = files("stream.replay.report").joinpath("page", name).read_text(encoding="utf-8")
        stem = name.partition(".")[0]
        made.globals[stem] = Markup(part)
        digest = b64encode(sha256(part.encode()).digest()).decode()
        made.globals[f"{stem}_hash"] = f"sha256-{digest}"
    return made


def _cleaned(value: Any) -> Any:
    """What is printed; Jinja escapes it afterwards."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _measured(value: Interval, metric: str, signed: bool) -> tuple[str, str]:
    """A mean and its bounds in the metric's unit."""
    return words.measured(value, words.unit(metric), signed=signed)
