"""The report of a replay: what its page holds, and that outside words do no harm on it."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from stream.replay.report.report import report
from tests.replay_result import HARM, ID_ONLY, PROTOCOL, bare, harmful, rich

#: What may stand in a page without an end tag.
_VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page as a browser reads it: its elements, and whether each is closed where it should."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.astray: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.astray.append(tag)

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _attrs in self.elements)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_says_the_verdict_before_anything_else() -> None:
    page = Page(report(rich())).text

    first = page.index("weft mix-up is better than ID only: it finds 9.0")
    assert first < page.index("How it was asked") < page.index("Who finds what comes next")


@pytest.mark.parametrize("result", [rich(), rich(12), bare(), bare(ID_ONLY), harmful()])
def test_every_page_closes_its_elements_and_names_each_id_once(result: object) -> None:
    page = Page(report(result))  # type: ignore[arg-type]
    ids = [attrs["id"] for _tag, attrs in page.elements if "id" in attrs]

    assert page.astray == []
    assert len(ids) == len(set(ids))


def test_every_link_within_the_page_and_every_label_has_its_goal() -> None:
    page = Page(report(rich()))
    ids = {attrs["id"] for _tag, attrs in page.elements if "id" in attrs}
    goals = {
        str(a["href"])[1:] for t, a in page.elements if t == "a" and a["href"] != "result.json"
    }
    labels = {a["aria-labelledby"] for _tag, a in page.elements if "aria-labelledby" in a}

    assert goals
    assert labels
    assert goals | labels <= ids


def test_outside_words_bring_no_element_no_handler_and_no_mark_of_direction() -> None:
    html = report(harmful())
    page = Page(html)
    ours = Page(report(replace(rich(), protocol=replace(PROTOCOL, warning="It leaks."))))

    assert page.count("script") == 1
    assert {tag for tag, _attrs in page.elements} <= {tag for tag, _attrs in ours.elements}
    assert not [name for _tag, attrs in page.elements for name in attrs if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    assert "<script>document" not in html
    assert '<script>document.title="owned"</script>' in page.text  # shown as what it is


def test_words_of_an_example_stand_in_a_direction_of_their_own() -> None:
    example = replace(rich().examples[0], targets=("فستان \u202eأحمر",))
    html = report(replace(rich(), examples=(example,)))

    assert "<li><bdi>فستان \ufffdأحمر</bdi></li>" in html


@pytest.mark.parametrize("result", [rich(), bare(ID_ONLY)])
def test_markup_of_our_own_is_not_shown_as_text(result: object) -> None:
    """No word of these results holds a "<": an escaped one would be a plot's or a template's."""
    assert "&lt;" not in report(result)  # type: ignore[arg-type]


def test_lone_surrogates_can_be_written_to_a_file() -> None:
    assert report(replace(rich(), title="broken \ud800 title")).encode()


def test_the_page_loads_nothing() -> None:
    page = Page(html := report(rich()))
    style = html[html.index("<style>") : html.index("</style>")]

    assert not re.search(r"https?://|url\(|@import|//cdn", html)
    assert "expression(" not in style
    assert not [a for _tag, a in page.elements if {"src", "srcset", "style", "data"} & set(a)]
    assert page.count("link") == page.count("iframe") == page.count("img") == 0


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else() -> None:
    html = report(rich())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    told = dict(part.strip().split(" ", 1) for part in policy[1].split(";"))

    def hashed(tag: str) -> str:
        inside = html.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        return f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"

    assert told == {
        "default-src": "'none'", "style-src": hashed("style"), "script-src": hashed("script"),
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip


def test_twenty_contenders_make_a_page_that_is_light() -> None:
    assert len(report(rich(8))) < 500_000


def test_every_plot_says_its_figures_in_words() -> None:
    page = Page(report(rich()))
    plots = [attrs for tag, attrs in page.elements if tag == "svg" and attrs.get("role") == "img"]
    ladder = str(plots[1]["aria-label"])

    assert len(plots) == 1 + 2 + 8 + 1 + 1  # timeline, ladders, slices, coverage, latency
    assert ladder.startswith("Hits in the first ten (HR@10), of 100 questions")
    assert "▲ weft mix-up 9.0 [8.6, 9.4]; ▲ no prompt’s history 8.9 [8.5, 9.3]" in ladder


def test_what_is_absent_is_said_to_be() -> None:
    text = Page(report(bare(ID_ONLY))).text

    for words in (
        "No list’s latency was measured", "was not cut into slices", "No example shoppers",
        "Coverage was not measured",
    ):  # fmt: skip
        assert words in text


def test_a_hit_is_marked_in_words_also_below_the_lines_shown() -> None:
    example = rich().examples[0]
    long = replace(
        example.lists[0],
        titles=tuple(f"item {n}" for n in range(40)),
        reasons=(),
        hits=tuple(n in (1, 36) for n in range(40)),
    )
    html = report(replace(rich(), examples=(replace(example, lists=(long,)),)))

    assert 'class="hit"><span class="place">2</span><span><bdi>item 1</bdi>' in html
    assert html.count("✓ hit</span>") == 3  # one explains the mark
    assert "at place 37: <bdi>item 36</bdi>" in html
    assert "<bdi>item 10</bdi>" not in html


def test_the_command_is_shown_line_by_line_as_it_was_given() -> None:
    html = report(replace(rich(), command="weft replay \\\n  --events a&b"))

    assert "weft replay \\\n  --events a&amp;b</pre>" in html


def test_harm_is_harm() -> None:
    """The page of harm would do its deeds if words were not escaped: else it tests nothing."""
    assert Page(f"<p>{HARM}</p>").count("img") == 1
