"""The LLM's reranker: how much likelier a title is for having read the shopper's history.

score = NAT (log p(title | history) - log p(title | general line)) / tokens. The second part takes
what makes a title likely for anyone (plain words, short names); without it an untuned model ranks
by plainness. This is the pointwise mutual information of history and title, as in "domain
conditional PMI" (Holtzman et al., arXiv 2104.08315).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from models.llm.scorer import Branch, CausalScorer, Tokens, log_likelihoods, seconds_per_token
from models.ports import Deadline, FloatArray, RerankRequest
from models.rerank import prompt
from models.rerank.fusion import NAT

if TYPE_CHECKING:
    from models.llm.tuned import LlmFacts

#: Titles whose general part is kept: about 250 bytes each.
GENERAL_KEPT: Final = 50_000
#: Share of the newest measurement in the estimate of the time that a token takes.
_NEWEST: Final = 0.3
#: After a call that refused all the estimate shrinks so much, lest one slow moment refuse for ever.
_FORGIVING: Final = 0.9


@dataclass(frozen=True, slots=True)
class _Question:
    """One request in tokens; ``texts`` has the candidates in their order, with repetitions."""

    position: int
    branch: Branch  # equal texts once, empty ones not; without any where there is nothing to read
    texts: tuple[Tokens, ...]


class LikelihoodReranker:
    """Reranker by likelihood ratio. The general part of at most ``kept`` titles is remembered.

    It looks at the clock before each forward; ``seconds_per_token`` is the first estimate of what
    one takes, which each corrects. For one thread at a time.
    """

    def __init__(
        self, scorer: CausalScorer, seconds_per_token: float, kept: int = GENERAL_KEPT
    ) -> None:
        self.seconds_per_token = seconds_per_token
        self.name = f"{scorer.name}/likelihood"
        self.scorer = scorer
        self._kept = kept
        self._general: OrderedDict[Tokens, float] = OrderedDict()
        self._general_prefix = prompt.general_prefix(scorer.tokenize)

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        """For each request its candidates' scores (c,), or None where the time did not suffice.

        Works in chunks of as many requests as run through together well, and stops before the
        first that would not end in time; so the deadline is missed by one chunk's error at most.
        A request without anything to read scores 0 throughout, and so does an item without text.
        """
        answers: list[FloatArray | None] = [None] * len(requests)
        waiting = [self._question(i, request) for i, request in enumerate(requests)]
        while waiting:
            chunk = self._next_chunk(waiting)
            general = self._general_branch(chunk)
            tokens = general.cost + sum(question.branch.cost for question in chunk)
            if tokens and tokens * self.seconds_per_token > deadline.remaining():
                if len(waiting) == len(requests):
                    self.seconds_per_token *= _FORGIVING
                break
            began = deadline.clock()
            ratios = self._ratios(chunk, general)
            if tokens:
                took = (deadline.clock() - began) / tokens
                self.seconds_per_token += _NEWEST * (took - self.seconds_per_token)
            for question, scores in zip(chunk, ratios, strict=True):
                answers[question.position] = scores
            waiting = waiting[len(chunk) :]
        return answers

    def forget(self) -> None:
        """Drops the kept general parts."""
        self._general.clear()

    def _question(self, position: int, request: RerankRequest) -> _Question:
        tokenize = self.scorer.tokenize
        texts = tuple(prompt.candidate(item, tokenize) for item in request.candidates)
        prefix = prompt.history_prefix(request.history, tokenize)
        distinct = tuple(dict.fromkeys(filter(None, texts))) if prefix else ()
        return _Question(position, Branch(prefix, distinct), texts)

    def _next_chunk(self, waiting: Sequence[_Question]) -> Sequence[_Question]:
        """The first question, and those behind it that fit the same forward."""
        size, room = 0, self.scorer.tokens_at_once
        for question in waiting:
            room -= question.branch.cost + self._general_branch([question]).cost
            if size and room < 0:
                break
            size += 1
        return waiting[:size]

    def _general_branch(self, chunk: Sequence[_Question]) -> Branch:
        """The general part of those texts of which it is not kept yet."""
        texts = dict.fromkeys(text for question in chunk for text in question.branch.continuations)
        unknown = tuple(text for text in texts if text not in self._general)
        return Branch(self._general_prefix, unknown)

    def _ratios(self, chunk: Sequence[_Question], general: Branch) -> list[FloatArray]:
        """The scores of each question of the chunk (c,); general parts are kept on the way."""
        branches = [question.branch for question in chunk]
        *conditional, unconditional = log_likelihoods(self.scorer, [*branches, general])
        found = dict(zip(general.continuations, unconditional.tolist(), strict=True))
        ratios = []
        for question, likelihoods in zip(chunk, conditional, strict=True):
            scores: dict[Tokens, float] = {}
            texts = question.branch.continuations
            for text, likelihood in zip(texts, likelihoods.tolist(), strict=True):
                usual = found[text] if text in found else self._general[text]
                scores[text] = NAT * (likelihood - usual) / len(text)
            ratios.append(np.array([scores.get(t, 0.0) for t in question.texts], dtype=np.float32))
        self._keep(found, branches)
        return ratios

    def _keep(self, found: Mapping[Tokens, float], used: Sequence[Branch]) -> None:
        """Keeps what was found; what was used is the youngest, and the oldest go."""
        self._general.update(found)
        for text in (text for branch in used for text in branch.continuations):
            self._general.move_to_end(text)
        while len(self._general) > self._kept:
            self._general.popitem(last=False)


def load_reranker(
    source: str,
    data_dir: Path,
    threads: int,
    say: Callable[[str], None],
    told: LlmFacts | None = None,
    adapter: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> LikelihoodReranker:
    """The reranker on this machine's quickest back end, warmed up and timed.

    ``source``: "", a folder or a hub name; ``threads``: 0 for all cores; ``told`` and ``adapter``:
    the LLM that a bundle was validated with and its adapter's folder, None for any LLM as it is.
    The first call on a machine prepares the weights (a minute or two); later ones take seconds.
    Raises ``MissingWeights``, ``DamagedWeights``, and ``BundleInvalid`` where the LLM is not the
    bundle's, or its adapter does not fit.
    """
    if told is None or adapter is None:
        from models.llm.choose import load_scorer  # heavy: onnxruntime, or torch

        scorer = load_scorer(source, data_dir, threads, say)
    else:
        from models.llm.tuned import load_tuned  # heavy: onnxruntime, or torch

        scorer = load_tuned(adapter, told, source, data_dir, threads, say)
    return LikelihoodReranker(scorer, seconds_per_token(scorer, clock))


def default_candidates() -> int:
    """How many candidates are scored a list: 50, or 20 on a CPU without AMX and no GPU."""
    from models.llm.choose import is_quick  # heavy: torch

    return 50 if is_quick() else 20
