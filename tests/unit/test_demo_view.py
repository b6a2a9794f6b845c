"""What the demo prints, read back from recorded consoles of 80 and 120 columns and from a pipe."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from models.domain import Item, Kind, Recommendation, RecommendedItem
from stream.contracts.codec import ShopperEvent
from stream.demo.view import DemoView, Summary, shopper_name
from stream.safe_text import clean

DRESS = Item("W1", "Linen midi dress, sand", ts=0, price=69.95, currency="EUR")
LONG = Item("W2", "Sequinned " * 30 + "dress", ts=0)
ITEMS = {"W1": DRESS, "W2": LONG}
SUMMARY = Summary(60.2, 4001, 4001, 300, 200, 150, "always", 0.3, 0.0, 34.4, 88.6)


class Screen:
    """A view on a console that keeps what was printed."""

    def __init__(self, width: int = 80, terminal: bool = True) -> None:
        self.file = io.StringIO()
        console = Console(
            file=self.file, width=width, force_terminal=terminal, color_system="truecolor"
        )
        self.view = DemoView(console, shown=3)

    @property
    def raw(self) -> str:
        return self.file.getvalue()

    @property
    def lines(self) -> list[str]:
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.raw)
        return [line.rstrip() for line in text.splitlines()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def click(user_id: str = "nora", item_id: str = "W1") -> ShopperEvent:
    return ShopperEvent(Kind.CLICK, user_id, 0, item_id=item_id)


def search(query: str) -> ShopperEvent:
    return ShopperEvent(Kind.SEARCH, "nora", 0, query=query)


def made(*titles: str, reranked: bool = True, reason: str = "popular this week") -> Recommendation:
    lines = tuple(RecommendedItem(t, 0.9 - n / 10, reason, "popularity") for n, t in
                  enumerate(titles))  # fmt: skip
    return Recommendation(lines, reranked, "model")


def test_an_event_is_one_line_that_says_who_did_what_to_what() -> None:
    screen = Screen()
    screen.view.happened(click(), DRESS)
    assert screen.lines == ["Nora      clicked  Linen midi dress, sand  €69.95"]


def test_only_the_name_has_the_shoppers_colour() -> None:
    screen = Screen()
    screen.view.happened(click(), DRESS)
    assert re.fullmatch(
        r"\x1b\[1;\d+mNora +\x1b\[0mclicked  Linen midi dress, sand.*\n", screen.raw
    )


def test_a_search_an_unknown_item_and_an_erasure_have_words_too() -> None:
    screen = Screen()
    screen.view.happened(search("linen dress"), None)
    screen.view.happened(click(item_id="unheard-of"), None)
    screen.view.happened(ShopperEvent(None, "nora", 0), None)
    assert screen.lines == [
        "Nora      searched for “linen dress”",
        "Nora      clicked  unheard-of",
        "Nora      asked to be forgotten",
    ]


@pytest.mark.parametrize(
    ("user_id", "shown"),
    [
        ("nora", "Nora"),
        ("nora-2", "Nora 2"),
        ("1a674938eb6b4f9b3ef35eda901f7c8a", "1a674938…"),
        ("U42", "U42"),
        ("evil\x1b[2Jid", "evil�[2J…"),
    ],
)
def test_sample_ids_become_names_and_others_are_cut_short(user_id: str, shown: str) -> None:
    assert shopper_name(user_id) == shown


def test_a_list_shows_its_first_lines_with_scores_and_reasons_and_what_made_it() -> None:
    screen = Screen(width=120)
    screen.view.recommended("nora", made("W1", "W2", "W3", "W4"), ITEMS, ms=84.4)
    head, first, *_, third = screen.lines[:4]
    assert head == "  → for Nora: 3 of 4, reranked by the LLM, 84 ms"
    assert re.fullmatch(r" +1 Linen midi dress, sand +0\.90 popular this week", first)
    assert "W3" in third
    assert "W4" not in screen.text


def test_a_list_that_was_not_reranked_does_not_say_so() -> None:
    screen = Screen()
    screen.view.recommended("nora", made("W1", reranked=False), ITEMS, ms=None)
    assert screen.lines[0] == "  → for Nora: 1 of 1, retrieved"


def test_at_80_columns_a_shared_reason_stands_once_under_its_title() -> None:
    screen = Screen(width=80)
    screen.view.recommended("nora", made("W1", "W2"), ITEMS, ms=1)
    assert [line.strip() for line in screen.lines if "popular" in line] == ["popular this week"]


def test_an_empty_list_is_no_error() -> None:
    screen = Screen()
    screen.view.recommended("nora", made(), ITEMS, ms=1)
    assert screen.lines[0] == "  → for Nora: 0 of 0, reranked by the LLM, 1 ms"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    screen = Screen(width)
    everything(screen.view)
    assert max(len(line) for line in screen.lines) <= width


def test_a_pipe_gets_plain_whole_lines_without_escapes() -> None:
    screen = Screen(width=80, terminal=False)
    everything(screen.view)
    assert "\x1b" not in screen.raw
    assert "" not in screen.lines
    assert any(len(line) > 100 for line in screen.lines)
    assert "    1. Linen midi dress, sand (0.90) popular this week" in screen.lines


def test_control_and_direction_characters_of_titles_reach_no_terminal() -> None:
    evil = "Red\x1b[2J\x07 dress\u202e\u2066\x9b31m\nnew line"
    screen = Screen(terminal=False)
    everything(screen.view, Item("W1", evil, ts=0, currency=evil, price=1.0), evil)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", screen.raw)
    assert "Red�[2J� dress��" in screen.raw


def test_a_title_in_brackets_is_text_and_no_markup() -> None:
    screen = Screen()
    screen.view.happened(click(), Item("W1", "[bold]Dress[/bold] [link=x]y", ts=0))
    assert "[bold]Dress[/bold] [link=x]y" in screen.text


def test_scripts_that_need_joiners_keep_them() -> None:
    assert clean("می‌خواهم") == "می‌خواهم"
    assert clean("robe d’été – 裙子") == "robe d’été – 裙子"


def test_a_new_product_is_followed_from_publication_to_its_first_list() -> None:
    screen = Screen(width=120)
    screen.view.arriving(DRESS)
    screen.view.retrievable(38.4, 1, "linen dress")
    screen.view.first_shown(DRESS, "lena", 2)
    assert [line for line in screen.lines if line] == [
        "✦ new     published: Linen midi dress, sand  €69.95",
        "✦ new     retrievable 38 ms later: place 1 for “linen dress”",
        "✦ new     shown to Lena at place 2: Linen midi dress, sand",
    ]


def test_the_summary_says_what_came_in_and_what_went_out() -> None:
    screen = Screen(terminal=False)
    screen.view.summary(SUMMARY)
    assert screen.lines == [
        "items: 4,001 published = 4,001 indexed",
        "events: 300 in 60 s",
        "lists: 200, of which 150 reranked (75%)",
        "LLM: asked at weight 0.3 (--rerank always; the gate's weight is 0)",
        "event to list: p50 34 ms, p99 89 ms",
    ]


def test_a_summary_of_nothing_is_one_too() -> None:
    screen = Screen(terminal=False)
    screen.view.summary(Summary(0.0, 10, 9, 0, 0, 0, "gate", 0.0, 0.0, None, None, 3))
    assert screen.lines == [
        "items: 10 published but 9 indexed",
        "events: 0 in 0 s",
        "lists: 0, of which 0 reranked",
        "LLM: not asked (--rerank gate; the gate's weight is 0)",
        "dead letters: 3",
    ]


def everything(view: DemoView, item: Item = DRESS, words: str = "linen dress") -> None:
    items = {"W1": item, "W2": LONG}
    view.opening("127.0.0.1:9092", 4000, "Qdrant Edge", words, words)
    view.note(words)
    view.happened(click("a very long id of a shopper" * 3), item)
    view.happened(search(words), None)
    view.recommended("nora", made("W1", "W2", "W3"), items, ms=84.0)
    view.recommended(words, made("W2", reason=f"because {words}"), items, ms=None)
    view.arriving(item)
    view.retrievable(12.0, 3, words)
    view.first_shown(item, words, 1)
    view.summary(SUMMARY)
