from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library

from models.domain import Item, Kind, Step
from models.llm import Tokens
from models.llm_tokens import Tokenizer
from models.ports import Read
from models.reader_prompt import ReaderFormat, price_band, reader_line, reader_prompt
from tests import tiny_llama

FORMAT = ReaderFormat()


class Words:
    """A tokenizer of one token a word, with the blank before it, that can be read back."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> Tokens:
        pieces = re.findall(r" ?[^ \n]+|[ \n]", text)
        assert "".join(pieces) == text
        return tuple(self._known.setdefault(piece, len(self._known)) for piece in pieces)

    def read(self, tokens: Sequence[int]) -> str:
        known = list(self._known)
        return "".join(known[token] for token in tokens)


WORDS = Words()


def text_of(history: Sequence[Read], form: ReaderFormat = FORMAT) -> str:
    return WORDS.read(reader_prompt(history, form, WORDS).tokens)


def bought(title: str, ts: int = 0) -> Read:
    return Read(Step(Kind.PURCHASE, ts, title), Item(title, title, 0))


def clicked(title: str, query: str | None = None, ts: int = 0) -> Read:
    return Read(Step(Kind.CLICK, ts, title, query), Item(title, title, 0))


def searched(query: str) -> Read:
    return Read(Step(Kind.SEARCH, 0, None, query), None)


WAY = [
    bought("Strap top, Black Vest top"),
    bought("Linen shirt"),
    searched("linen midi dress"),
    clicked("Tilda dress, White Dress", "linen midi dress"),
    clicked("Straw hat", "sun hat"),
    clicked("Straw bag", "sun hat"),
    bought("Straw bag"),
]
WAY_TEXT = (
    "Shopping history, oldest first:\n"
    "Bought:\n"
    "Strap top, Black Vest top\n"
    "Linen shirt\n"
    "Searched for:\n"
    "linen midi dress\n"
    "Clicked:\n"
    "Tilda dress, White Dress\n"
    "Searched for:\n"
    "sun hat\n"
    "Clicked:\n"
    "Straw hat\n"
    "Straw bag\n"
    "Bought:\n"
    "Straw bag\n"
)


def test_a_line_a_step_oldest_first_and_how_it_was_reached_where_that_changes() -> None:
    assert text_of(WAY) == WAY_TEXT


def test_a_real_tokenizer_reads_the_same_back(tmp_path: Path) -> None:
    file = tiny_llama.write(tmp_path) / "tokenizer.json"
    wide = ReaderFormat(text_tokens=40)  # its tokens are bytes
    found = reader_prompt(WAY, wide, Tokenizer(file))
    assert Library.from_file(str(file)).decode(list(found.tokens)) == WAY_TEXT


def test_each_step_ends_at_its_newline() -> None:
    found = reader_prompt(WAY, FORMAT, WORDS)
    upto = [WORDS.read(found.tokens[: end + 1]) for end in found.ends]
    assert [text.splitlines()[-1] for text in upto] == [
        "Strap top, Black Vest top",
        "Linen shirt",
        "linen midi dress",
        "Tilda dress, White Dress",
        "Straw hat",
        "Straw bag",
        "Straw bag",
    ]
    assert all(text.endswith("\n") for text in upto)
    assert found.ends[-1] == len(found.tokens) - 1
    assert found.steps == tuple(range(7))


def test_a_new_step_only_appends_its_line() -> None:
    for n in range(1, len(WAY)):
        before = reader_prompt(WAY[:n], FORMAT, WORDS).tokens
        line = reader_line(WAY[n], WAY[n - 1], FORMAT, WORDS)
        assert reader_prompt(WAY[: n + 1], FORMAT, WORDS).tokens == before + line


def test_steps_without_a_text_are_passed_over() -> None:
    silent = Read(Step(Kind.CLICK, 0, "x"), Item("x", " ", 0))
    gone = Read(Step(Kind.CLICK, 0, "y"), None)
    found = reader_prompt([silent, *WAY[:2], gone, searched(" \n"), WAY[2]], FORMAT, WORDS)
    assert WORDS.read(found.tokens) == "\n".join(WAY_TEXT.splitlines()[:6]) + "\n"
    assert found.steps == (1, 2, 5)
    assert reader_line(silent, None, FORMAT, WORDS) == ()


def test_a_history_without_a_text_has_no_prompt() -> None:
    for history in ([], [searched(" ")], [Read(Step(Kind.CLICK, 0, "y"), None)]):
        found = reader_prompt(history, FORMAT, WORDS)
        assert (found.tokens, found.ends, found.steps) == ((), (), ())


def test_a_repeated_search_is_a_step_of_its_own() -> None:
    found = reader_prompt([searched("hat"), searched("hat")], FORMAT, WORDS)
    assert WORDS.read(found.tokens).endswith("Searched for:\nhat\nhat\n")
    assert len(found.ends) == 2


def test_a_text_keeps_its_first_tokens() -> None:
    long = " ".join(f"word{n}" for n in range(40))
    kept = " ".join(f"word{n}" for n in range(12))
    assert f"\n{kept}\n" in text_of([clicked(long)])
    assert f"\n{kept}\n" in text_of([searched(long)])


def test_the_longest_history_has_a_bounded_prompt() -> None:
    long = "word " * 5000
    history = [clicked(long, f"{n} {long}", n) for n in range(50)]
    assert len(reader_prompt(history, FORMAT, WORDS).tokens) <= 23 * 2 * (12 + 5) + 10


@pytest.mark.parametrize("breaking", ["\n", "\r", "\x0b", "\x85", "\u2028", "\x00", "\u202e"])
def test_no_text_ends_its_line_or_passes_for_a_heading(breaking: str) -> None:
    hostile = [clicked(f"Bought:{breaking}"), searched(f"{breaking}Searched for: {breaking}")]
    assert text_of(hostile).splitlines()[1:] == [
        "Clicked:",
        "Bought",
        "Searched for:",
        "Searched for",
    ]


def test_up_to_twice_the_lines_less_one_all_steps_are_read() -> None:
    history = [bought(f"shirt {n}", n) for n in range(23)]
    assert reader_prompt(history, FORMAT, WORDS).steps == tuple(range(23))


def test_of_more_steps_the_newest_are_read_and_never_fewer_than_the_lines() -> None:
    history = [bought(f"shirt {n}", n) for n in range(300)]
    for end in range(24, 300):
        steps = reader_prompt(history[:end], FORMAT, WORDS).steps
        assert steps == tuple(range(end - len(steps), end))
        assert 12 <= len(steps) <= 23


def test_the_beginning_of_a_long_history_stays_for_many_events() -> None:
    history = [bought(f"shirt {n}", n) for n in range(2000)]
    firsts = [reader_prompt(history[:n], FORMAT, WORDS).steps[0] for n in range(30, 2000)]
    assert firsts == sorted(firsts)
    assert len(firsts) / len(set(firsts)) > 5.5  # (12 + 1) / 2 on average


def test_which_steps_are_read_does_not_depend_on_older_ones_that_were_dropped() -> None:
    history = [bought(f"shirt {n}", n) for n in range(300)]
    whole = reader_prompt(history, FORMAT, WORDS).tokens
    assert reader_prompt(history[-50:], FORMAT, WORDS).tokens == whole


def test_attributes_follow_a_title_that_does_not_say_them() -> None:
    item = Item("1", "Straw hat, natural", 0, category="Hat", brand="Ada & Co", colour="natural",
                price=29.95, currency="EUR")  # fmt: skip
    read = Read(Step(Kind.CLICK, 0, "1"), item)
    every = ReaderFormat(attributes=("category", "brand", "colour", "price_band"))
    assert text_of([read]).endswith("\nStraw hat, natural\n")
    assert text_of([read], every).endswith("\nStraw hat, natural, Ada & Co, 20-50 EUR\n")
    bare = Read(Step(Kind.CLICK, 0, "2"), Item("2", "Scarf", 0))
    assert text_of([bare], every).endswith("\nScarf\n")


@pytest.mark.parametrize(
    ("price", "band"),
    [
        (0.99, "0.5-1"), (1, "1-2"), (9.99, "5-10"), (10, "10-20"), (49, "20-50"),
        (1234, "1000-2000"), (None, ""), (0, ""), (-1, ""), (float("inf"), ""),
    ],
)  # fmt: skip
def test_a_price_lies_in_a_band(price: float | None, band: str) -> None:
    assert price_band(Item("1", "hat", 0, price=price)) == band


def test_a_format_survives_a_manifest() -> None:
    form = ReaderFormat(8, 16, ("brand", "colour"))
    assert ReaderFormat.of(form.told()) == form
    assert ReaderFormat.of({}) == ReaderFormat()


@pytest.mark.parametrize(
    "told", [{"lines": 0}, {"text_tokens": "12"}, {"attributes": ["size"]}, {"columns": 3}]
)
def test_what_is_no_format_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"it can be|not known|no format"):
        ReaderFormat.of(told)
