"""One HTML file that needs nothing else: style and script inside, all else forbidden.

The page's policy names the script and the style by their hashes. So even a title that slipped
through as markup could neither run nor load anything.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from stream.replay.report_text import text, whole_days

_POLICY: Final = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; "
    "base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: ``key`` is its id, ``nav`` its name in the page's list of parts.

    ``html`` stands under the heading. ``nav`` "" leaves it out of that list.
    """

    key: str
    heading: str
    html: str
    nav: str = ""


def page(title: str, eyebrow: str, facts: str, sections: Sequence[Section]) -> str:
    """The whole file. ``title``, ``eyebrow`` and ``facts`` are text; they are escaped here."""
    links = "".join(
        f'<li><a href="#{each.key}">{text(each.nav)}</a></li>' for each in sections if each.nav
    )
    body = "\n".join(
        f'<section id="{each.key}" aria-labelledby="{each.key}-h">'
        f'<h2 id="{each.key}-h">{text(each.heading)}</h2>\n{each.html}\n</section>'
        for each in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
{_head(f"{title} · {eyebrow}")}
</head>
<body>
<a class="skip" href="#main">Skip to the verdict</a>
<div class="sheet">
<header>
<p class="eyebrow">{text(eyebrow)}</p>
<h1><bdi>{text(title)}</bdi></h1>
<p class="facts">{whole_days(text(facts))}</p>
<nav aria-label="Parts of this report"><ul>{links}</ul></nav>
</header>
<main id="main" tabindex="-1">
{body}
</main>
<footer>Made by Weft. This file loads nothing and sends nothing.</footer>
<p id="said" class="unseen" role="status"></p>
</div>
<script>{_part("script.js")}</script>
</body>
</html>
"""


def _head(title: str) -> str:
    style = _part("style.css")
    policy = _POLICY.format(style=_hash(style), script=_hash(_part("script.js")))
    return f"""<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>{style}</style>"""


@cache
def _part(name: str) -> str:
    return files("stream.replay").joinpath("page", name).read_text(encoding="utf-8")


def _hash(part: str) -> str:
    return f"sha256-{b64encode(sha256(part.encode()).digest()).decode()}"
