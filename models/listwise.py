"""The listwise reranker: all candidates in one prompt, a letter each, and the letters' chances.

::

    Shopping history, oldest first:
    Bought:
    Strap top, Black Vest top
    Which one is next?
    (A) Tilda dress, White Dress
    (B) Straw hat
    Next: (

One forward gives the log p of every letter behind the open bracket, without generating (as FIRST,
arXiv 2406.15657, does). For larger LLMs, tuned for it: untuned at 135M the letters are no better
than chance (docs/log.md).

Here, unlike with every other reranker, **candidates see each other**: that is what a listwise
model can do more, and why a score means something within its own request only. Equal texts share
a letter. More candidates than letters are dealt out like cards, in the retriever's order, to
windows of alike quality; a score is the letter's log p less its window's mean, so that windows
compare, times NAT. What an LLM prefers by position alone is halved by a second pass with each
window's order reversed (``both_ways``).
"""

from __future__ import annotations

import string
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.domain import Item
from models.fusion import NAT
from models.llm import Branch, CausalScorer, Tokens, log_likelihoods, seconds_per_token
from models.pace import Paced
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.prompt import Tokenize, one_line
from models.reader_prompt import ReaderFormat, reader_prompt

#: Candidates of one prompt at most.
LETTERS: Final = string.ascii_uppercase[:20]
FORMAT: Final = ReaderFormat()
QUESTION: Final = "Which one is next?\n"
ANSWER: Final = "Next: ("
END: Final = "\n"


def listwise_prompt(
    history: Sequence[Read], candidates: Sequence[Item], tokenize: Tokenize
) -> Tokens:
    """The prompt up to where a letter goes; empty where there is nothing to read or to choose.

    ``history`` is oldest first; the candidates, at most as many as letters, each have a text.
    """
    read = reader_prompt(history, FORMAT, tokenize).tokens
    return prompt_of(read, [candidate_text(item, tokenize) for item in candidates], tokenize)


def prompt_of(read: Tokens, texts: Sequence[Tokens], tokenize: Tokenize) -> Tokens:
    """The same of a history's own prompt in ``FORMAT``, and the candidates' texts."""
    if not read or not texts:
        return ()
    lines = [
        tokenize("(") + tokenize(letter) + tokenize(")") + text + tokenize(END)
        for letter, text in zip(LETTERS[: len(texts)], texts, strict=True)
    ]
    return read + tokenize(QUESTION) + tuple(t for line in lines for t in line) + tokenize(ANSWER)


def letters(tokenize: Tokenize) -> tuple[int, ...]:
    """The token of each letter, in the candidates' order. Raises ``ValueError`` without such."""
    found = [tokenize(letter) for letter in LETTERS]
    if any(len(tokens) != 1 for tokens in found):
        raise ValueError("this tokenizer has no token of its own for each letter")
    return tuple(token for (token,) in found)


def candidate_text(item: Item, tokenize: Tokenize) -> Tokens:
    """What follows a letter, without the line's end; empty for an item without a text."""
    text = one_line(item.text)
    return tokenize(f" {text}")[: FORMAT.text_tokens] if text else ()


@dataclass(frozen=True, slots=True)
class _Question:
    """One request: ``texts`` has the candidates in their order; ``windows`` the distinct ones."""

    position: int
    texts: tuple[Tokens, ...]
    windows: tuple[tuple[Tokens, ...], ...]  # each once a pass, in the order of its letters
    branches: tuple[Branch, ...]  # of each window

    @property
    def cost(self) -> int:
        """Tokens of its forwards."""
        return sum(branch.cost for branch in self.branches)


class ListwiseReranker(Paced):
    """Reranker by letters. Raises ``ValueError`` for a tokenizer without a token for each."""

    needs_vectors = False

    def __init__(
        self, scorer: CausalScorer, seconds_per_token: float, *, both_ways: bool = False
    ) -> None:
        super().__init__(seconds_per_token)
        self.name = f"{scorer.name}/listwise"
        self._scorer = scorer
        self._both_ways = both_ways
        self._letters = letters(scorer.tokenize)

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        """For each request its candidates' scores (c,), or None where the time did not suffice.

        A request without anything to read scores 0 throughout, and so does an item without text.
        """
        answers: list[FloatArray | None] = [None] * len(requests)
        waiting = [self._question(i, request) for i, request in enumerate(requests)]
        while waiting:
            chunk = self._next_chunk(waiting)
            tokens = sum(question.cost for question in chunk)
            if not self._in_time(tokens, deadline):
                if len(waiting) == len(requests):
                    self._forgive()
                break
            began = deadline.clock()
            found = log_likelihoods(self._scorer, [b for q in chunk for b in q.branches])
            self._learn(tokens, deadline.clock() - began)
            for question in chunk:
                own, found = found[: len(question.branches)], found[len(question.branches) :]
                answers[question.position] = _scores(question, own)
            waiting = waiting[len(chunk) :]
        return answers

    def forget_histories(self) -> None:
        """Nothing is kept."""

    def _question(self, position: int, request: RerankRequest) -> _Question:
        tokenize = self._scorer.tokenize
        texts = tuple(candidate_text(item, tokenize) for item in request.candidates)
        windows = self._windows(list(dict.fromkeys(filter(None, texts))))
        read = reader_prompt(request.history, FORMAT, tokenize).tokens if windows else ()
        branches = []
        for window in windows:
            prompt = prompt_of(read, window, tokenize)
            if not prompt:
                return _Question(position, texts, (), ())
            own = tuple((letter,) for letter in self._letters[: len(window)])
            branches.append(Branch(prompt, own))
        return _Question(position, texts, windows, tuple(branches))

    def _windows(self, texts: Sequence[Tokens]) -> tuple[tuple[Tokens, ...], ...]:
        """The texts dealt out to as few windows as their number takes, a second time reversed."""
        count = -(-len(texts) // len(LETTERS))
        once = tuple(tuple(texts[start::count]) for start in range(count))
        return once + tuple(window[::-1] for window in once) if self._both_ways else once

    def _next_chunk(self, waiting: Sequence[_Question]) -> Sequence[_Question]:
        """The first question, and those behind it that fit the same forward."""
        size, room = 0, self._scorer.tokens_at_once
        for question in waiting:
            room -= question.cost
            if size and room < 0:
                break
            size += 1
        return waiting[:size]


def load_listwise(
    folder: Path,
    told: Mapping[str, Any],
    data_dir: Path,
    threads: int,
    say: Callable[[str], None],
    source: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> ListwiseReranker:
    """A tuned listwise reranker on this machine's quickest back end, warmed up and timed.

    ``folder``: of its adapter; ``told``: {llm, llm_sha256, method, layers, both_ways}; the rest as
    of ``models.reader.load_reader``. Raises ``BundleInvalid``, ``MissingWeights``,
    ``DamagedWeights``.
    """
    from models.reader_backends import load_merged  # heavy: onnxruntime, or torch

    scorer = load_merged(folder, told, source, data_dir, threads, say)
    seconds = seconds_per_token(scorer, clock)
    return ListwiseReranker(scorer, seconds, both_ways=bool(told.get("both_ways")))


def _scores(question: _Question, found: Sequence[FloatArray]) -> FloatArray:
    """Each candidate's mean over the passes (c,), within its window; 0 without a text."""
    sums: dict[Tokens, list[float]] = {}
    for window, log_p in zip(question.windows, found, strict=True):
        for text, value in zip(window, (NAT * (log_p - log_p.mean())).tolist(), strict=True):
            sums.setdefault(text, []).append(value)
    scores = [float(np.mean(sums[text])) if text in sums else 0.0 for text in question.texts]
    return np.array(scores, dtype=np.float32)
