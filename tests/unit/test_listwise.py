from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from models.domain import Item, Kind, Step
from models.fake import ManualClock
from models.fusion import NAT
from models.listwise import LETTERS, ListwiseReranker, letters, listwise_prompt
from models.llm import Packed, Tokens
from models.ports import Deadline, FloatArray, Read, RerankRequest


class ReadingScorer:
    """A CausalScorer that reads the prompt's text and prefers as it is told.

    A token is a word or a mark. ``log p`` of a letter: ``likes`` of the title behind it, plus
    ``first`` for the letter A. Each token takes ``seconds`` by the clock.
    """

    name = "reading"

    def __init__(self, first: float = 0.0, seconds: float = 0.0) -> None:
        self.first = first
        self.tokens_at_once = 400
        self.clock = ManualClock()
        self.prompts: list[str] = []
        self._seconds = seconds
        self._words: dict[str, int] = {}

    def tokenize(self, text: str) -> Tokens:
        pieces = re.findall(r" ?\w+| ?[^\w]", text)
        assert "".join(pieces) == text
        return tuple(self._words.setdefault(piece, len(self._words)) for piece in pieces)

    def log_probabilities(self, packed: Packed) -> FloatArray:
        self.clock.advance(self._seconds * len(packed.tokens))
        words = list(self._words)
        found = []
        read = ""
        for row, target in zip(packed.reads, packed.targets, strict=True):
            text = "".join(words[t] for t in packed.tokens[packed.visible[row]])
            if text != read:
                self.prompts.append(text)
                read = text
            letter = words[target]
            [title] = re.findall(rf"^\({letter}\) (.*)$", text, re.MULTILINE)
            found.append(len(title) + self.first * (letter == "A"))
        return np.array(found, dtype=np.float32)


HISTORY = (
    Read(Step(Kind.PURCHASE, 0, "1"), Item("1", "Strap top, Black Vest top", 0)),
    Read(Step(Kind.SEARCH, 1, query="linen dress"), None),
)


def items(*titles: str) -> tuple[Item, ...]:
    return tuple(Item(str(n), title, 0) for n, title in enumerate(titles))


def endless(scorer: ReadingScorer) -> Deadline:
    return Deadline(scorer.clock, float("inf"))


def scored(
    scorer: ReadingScorer,
    titles: Sequence[str],
    *,
    both_ways: bool = False,
    history: tuple[Read, ...] = HISTORY,
) -> list[float]:
    reranker = ListwiseReranker(scorer, 0.0, both_ways=both_ways)
    [scores] = reranker.score([RerankRequest(history, items(*titles))], endless(scorer))
    assert scores is not None
    return [float(score) for score in scores]


def test_the_prompt_ends_where_a_letter_goes() -> None:
    scorer = ReadingScorer()
    scored(scorer, ["Tilda dress, White Dress", "Straw hat"])
    assert scorer.prompts == [
        "Shopping history, oldest first:\n"
        "Bought:\n"
        "Strap top, Black Vest top\n"
        "Searched for:\n"
        "linen dress\n"
        "Which one is next?\n"
        "(A) Tilda dress, White Dress\n"
        "(B) Straw hat\n"
        "Next: ("
    ]


def test_training_asks_what_serving_asks() -> None:
    scorer = ReadingScorer()
    candidates = items("Tilda dress", "Straw hat")
    tokens = listwise_prompt(HISTORY, candidates, scorer.tokenize)
    scored(scorer, ["Tilda dress", "Straw hat"])
    assert scorer.tokenize(scorer.prompts[0]) == tokens
    assert [list(scorer._words)[t] for t in letters(scorer.tokenize)] == list(LETTERS)


def test_a_score_is_the_letters_log_p_less_the_windows_mean() -> None:
    assert scored(ReadingScorer(), ["aaa", "b", "cc"]) == pytest.approx([NAT, -NAT, 0])


def test_equal_titles_share_a_letter_and_a_score() -> None:
    scorer = ReadingScorer(first=5)
    found = scored(scorer, ["hat", "boots", "hat"])
    assert found[0] == found[2]
    assert "(C)" not in scorer.prompts[0]


def test_a_candidate_without_a_text_has_no_letter_and_scores_nothing() -> None:
    scorer = ReadingScorer()
    assert scored(scorer, ["aaa", " ", "b"]) == pytest.approx([NAT, 0, -NAT])
    assert "(C)" not in scorer.prompts[0]


def test_more_candidates_than_letters_are_dealt_out_to_windows() -> None:
    scorer = ReadingScorer()
    titles = ["a" * (n + 1) for n in range(45)]
    found = scored(scorer, titles)
    assert len(scorer.prompts) == 3
    assert all(prompt.count("\n(") == 15 for prompt in scorer.prompts)
    assert "(A) a\n(B) aaaa\n" in scorer.prompts[0]
    assert found[0] == pytest.approx(-21 * NAT)  # of 1, 4, … 43 the mean is 22
    assert np.argsort(found)[-1] in (42, 43, 44)


def test_a_second_pass_in_the_other_order_halves_what_the_position_does() -> None:
    titles = ["aa", "bb", "cc"]
    one_way = scored(ReadingScorer(first=3), titles)
    both = scored(ReadingScorer(first=3), titles, both_ways=True)
    assert one_way == pytest.approx([2 * NAT, -NAT, -NAT])
    assert both == pytest.approx([0.5 * NAT, -NAT, 0.5 * NAT])


def test_without_a_history_nothing_is_asked() -> None:
    scorer = ReadingScorer()
    assert scored(scorer, ["hat", "boots"], history=()) == [0, 0]
    assert scorer.prompts == []
    assert listwise_prompt((), items("hat"), scorer.tokenize) == ()
    assert listwise_prompt(HISTORY, (), scorer.tokenize) == ()


def test_a_title_cannot_add_a_candidate() -> None:
    scorer = ReadingScorer()
    scored(scorer, ["hat\n(B) boots", "scarf"])
    assert "(A) hat (B) boots\n(B) scarf\n" in scorer.prompts[0]


def test_what_does_not_fit_the_time_has_no_answer_and_the_first_come_first() -> None:
    scorer = ReadingScorer(seconds=0.001)
    reranker = ListwiseReranker(scorer, 0.001)
    asked = [RerankRequest(HISTORY, items("hat", "boots"))] * 40
    answers = reranker.score(asked, Deadline.after(0.95, scorer.clock))
    told = [answer is not None for answer in answers]
    assert told == [True] * sum(told) + [False] * (40 - sum(told))
    assert 0 < sum(told) < 40
    assert scorer.clock() <= 0.95


def test_a_tokenizer_without_letters_is_refused() -> None:
    with pytest.raises(ValueError, match="no token of its own"):
        letters(lambda text: tuple(range(len(text) + 1)))
