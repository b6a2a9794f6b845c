"""Words of titles as numbers: the same ones always, the common ones first, none lost by order."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.space import words
from models.space.words import LENGTH, Vocabulary

TITLES = ["Red linen dress", "red wool coat", "Blue linen shirt", "RED hat, linen"]


def test_the_words_of_the_most_titles_come_first_and_rare_ones_are_left_out() -> None:
    assert Vocabulary.of(TITLES).words == ("linen", "red")  # three each: by the alphabet
    assert Vocabulary.of([*TITLES, "a wool hat", "red shoe"]).words == (
        "red", "linen", "hat", "wool",
    )  # fmt: skip


def test_a_word_of_few_titles_weighs_more() -> None:
    known = Vocabulary.of([*TITLES, "a wool hat", "red shoe"])
    expected = [math.log(7 / count) for count in (4, 3, 2, 2)]
    assert known.weights == pytest.approx(expected, abs=1e-4)


def test_a_word_counts_once_a_title() -> None:
    assert Vocabulary.of(["so so so", "very so", "very very"]).words == ("so", "very")
    assert not len(Vocabulary.of(["solo solo"]))


def test_at_most_so_many_are_told_apart() -> None:
    assert Vocabulary.of(TITLES, most=1).words == ("linen",)


def test_the_order_of_titles_changes_nothing() -> None:
    mixed = TITLES * 3
    random.Random(0).shuffle(mixed)
    assert Vocabulary.of(mixed).words == Vocabulary.of(TITLES * 3).words


def test_a_titles_known_words_are_numbered_once_each_and_in_order() -> None:
    known = Vocabulary(["red", "linen", "dress"])
    found = known.numbers(["Linen RED linen-dress!", "unknown", ""])
    assert found.shape == (3, LENGTH)
    assert found.dtype == np.int32
    assert found[0, :4].tolist() == [2, 1, 3, 0]
    assert not found[1:].any()


def test_of_a_long_title_the_first_words_are_read() -> None:
    many = [f"w{n}" for n in range(LENGTH + 5)]
    found = Vocabulary(many).numbers([" ".join(many)])
    assert found[0].tolist() == list(range(1, LENGTH + 1))


def test_letters_of_any_script_are_words_and_signs_are_not() -> None:
    known = Vocabulary.of(["Größe 38 – rosé_rosa", "größe 38 ロゴ", "ロゴ rosé rosa"])
    assert set(known.words) == {"grösse", "38", "ロゴ", "rosé", "rosa"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी साड़ी", 2),
        ("กางเกงยีนส์", 1),
        ("İpek gömlek", 2),
        ("L'Oréal 0.5-oz (new)", 6),
    ],
)
def test_a_words_marks_belong_to_it(text: str, words: int) -> None:
    known = Vocabulary.of([text, text])
    assert len(known) == words
    assert (known.numbers([text]) > 0).sum() == words


def test_one_spelling_of_a_letter_is_as_good_as_another() -> None:
    known = Vocabulary.of(["cre\u0302pe", "cr\u00eape"])
    assert known.words == ("cr\u00eape",)


def test_many_common_words_are_not_counted_out_at_each_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(words, "_COUNTED", 10)
    forgets: list[int] = []

    class Counting(Counter[str]):
        def __init__(self, told: Iterable[str] = ()) -> None:
            forgets.append(1)
            super().__init__(told)

    monkeypatch.setattr(words, "Counter", Counting)
    texts = [f"model{n // 2}" for n in range(400)]
    assert 190 <= len(Vocabulary.of(texts)) <= 200  # some were met once when others were forgotten
    assert len(forgets) < 10


def test_words_met_once_are_forgotten_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(words, "_COUNTED", 10)
    texts = [f"dress only{n}" for n in range(100)]
    assert Vocabulary.of(texts).words == ("dress",)


@given(st.lists(st.text(), max_size=20))
def test_any_text_has_numbers_within_the_vocabulary(texts: list[str]) -> None:
    known = Vocabulary.of(texts * 2)
    found = known.numbers(texts)
    assert found.min(initial=0) >= 0
    assert found.max(initial=0) <= len(known)
    for row in found:
        there = row[row > 0].tolist()
        assert len(set(there)) == len(there)
