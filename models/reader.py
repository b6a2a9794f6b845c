"""The history reader: a tuned LLM reads a shopper's steps, and its state is what to look for.

One pass over the prompt gives the state at the last step's end; a small head brings it to the
item space. A candidate's score is the cosine of its vector with it, so a thousand candidates cost
hardly more than one, and none can influence another. What was computed of a prompt is kept, so a
new event costs its own tokens (models/reader_cache.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.errors import BundleInvalid
from models.llm import Tokens
from models.pace import Paced
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.reader_cache import CACHE_BYTES, Entry, Found, Key, PrefixCache, step_keys
from models.reader_head import Head, load_head
from models.reader_prompt import OPENING, ReaderFormat, ReaderPrompt, reader_prompt
from models.reader_states import Kept, Segment, StateModel

#: Forwards of a chunk: enough to sort prompts by length, few enough to look at the clock often.
_FORWARDS: Final = 4


@dataclass(frozen=True, slots=True)
class _Task:
    """One prompt to read: what is kept of it, and what is left to run (maybe nothing)."""

    position: int
    keys: tuple[Key, ...]
    found: Found
    segment: Segment | None


class HistoryReader(Paced):
    """Reranker by a reader's vector.

    ``soft``: tokens of a tuned prompt, as keys and values, that stand before every prompt;
    ``cache_bytes``: what is kept of prompts at most.
    """

    needs_vectors = True

    def __init__(
        self,
        model: StateModel,
        head: Head,
        form: ReaderFormat,
        seconds_per_token: float = 0.0,
        *,
        soft: Kept | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(seconds_per_token)
        self.name = f"{model.name}/reader"
        self.tokens_run = 0
        self._model = model
        self._head = head
        self._form = form
        self._cache = PrefixCache(cache_bytes)
        opening = model.tokenize(OPENING)
        self._opening = len(opening)
        self._soft = soft.tokens if soft else 0
        [ran] = model.run([Segment(opening, (), soft)])
        self._root = ran.kept

    @property
    def dim(self) -> int:
        """d, the length of a vector; that of the space it was trained for."""
        return self._head.dim

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        """For each request its candidates' scores (c,), or None where the time did not suffice.

        A request without anything to read scores 0 throughout. A candidate without a vector
        scores the mean of those that have one: neither for nor against it.
        """
        for request in requests:
            if len(request.vectors) != len(request.candidates):
                raise ValueError("the history reader needs the vector of every candidate")
        prompts = [self._prompt(request.history) for request in requests]
        vectors = self._vectors(prompts, deadline)
        return [
            _cosines(request.vectors, vector) if vector is not None or not prompt.tokens else None
            for request, prompt, vector in zip(requests, prompts, vectors, strict=True)
        ]

    def shopper_vectors(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        """For each request's shopper the reader's unit vector (d,), to search with or to mix.

        None where there is nothing to read, or the time did not suffice. Candidates are not
        looked at.
        """
        return self._vectors([self._prompt(request.history) for request in requests], deadline)

    def forget(self, history: Sequence[Read] | None = None) -> None:
        """Drops what is kept of this history's prompt, and of those that share its beginning.

        Without one, of all prompts.
        """
        if history is None:
            self._cache.clear()
        else:
            self._cache.forget(step_keys(self._prompt(history)))

    def forget_histories(self) -> None:
        """Drops what is kept of all prompts.

        Not of one shopper's alone: windows of it that have slid on, and titles that have changed
        since, could be found no more, and what is kept of a few dozen shoppers is soon made anew.
        """
        self.forget()

    def _prompt(self, history: Sequence[Read]) -> ReaderPrompt:
        return reader_prompt(history, self._form, self._model.tokenize)

    def _vectors(
        self, prompts: Sequence[ReaderPrompt], deadline: Deadline
    ) -> list[FloatArray | None]:
        """The unit vectors (d,), in chunks: each is begun only if it should end in time."""
        answers: list[FloatArray | None] = [None] * len(prompts)
        waiting = [i for i, prompt in enumerate(prompts) if prompt.tokens]
        began_with = len(waiting)
        while waiting and deadline.remaining() > 0:
            tasks = self._chunk(prompts, waiting, deadline)
            if not tasks:
                if len(waiting) == began_with:
                    self._forgive()
                break
            began, before = deadline.clock(), self.tokens_run
            for task, vector in zip(tasks, self._read(tasks), strict=True):
                answers[task.position] = vector
            self._learn(self.tokens_run - before, deadline.clock() - began)
            waiting = waiting[len(tasks) :]
        return answers

    def _chunk(
        self, prompts: Sequence[ReaderPrompt], waiting: Sequence[int], deadline: Deadline
    ) -> list[_Task]:
        """The first of those that wait, as many as a few forwards take and the time allows."""
        most, tokens = _FORWARDS * self._model.tokens_at_once, 0
        tasks: list[_Task] = []
        for i in waiting:
            task = self._task(i, prompts[i])
            tokens += len(task.segment.tokens) if task.segment else 0
            if not self._in_time(tokens, deadline) or (tasks and tokens > most):
                break
            tasks.append(task)
        return tasks

    def _task(self, position: int, prompt: ReaderPrompt) -> _Task:
        keys = step_keys(prompt)
        found = self._cache.find(keys)
        if found.steps == len(keys) and found.vector is None:  # its state was not asked for
            found = Found(found.steps - 1, found.entry if found.steps > 1 else None)
        if found.steps == len(keys):
            return _Task(position, keys, found, None)
        begin, kept = self._opening, self._root
        if found.entry is not None:
            begin = prompt.ends[found.steps - 1] + 1
            kept = found.entry.kept.first(self._soft + begin)
        new: Tokens = prompt.tokens[begin:]
        return _Task(position, keys, found, Segment(new, (len(new) - 1,), kept))

    def _read(self, tasks: Sequence[_Task]) -> list[FloatArray]:
        """The tasks' vectors; what was run is kept."""
        running = [(task, task.segment) for task in tasks if task.segment is not None]
        found = {t.position: t.found.vector for t in tasks if t.found.vector is not None}
        if running:
            answers = self._model.run([segment for _, segment in running])
            self.tokens_run += sum(len(segment.tokens) for _, segment in running)
            vectors = self._head(np.concatenate([ran.states for ran in answers]))
            for (task, _), ran, vector in zip(running, answers, vectors, strict=True):
                found[task.position] = vector
                self._cache.keep(Entry(task.keys, ran.kept, vector))
        return [found[task.position] for task in tasks]


def seconds_per_token(model: StateModel, clock: Callable[[], float]) -> float:
    """Seconds that a token takes in a forward of common size; a first, slower one warms up."""
    line = model.tokenize("Linen midi dress, White Dress\n")
    segments = [Segment(line * 8, (0,))] * 2
    model.run(segments)
    began = clock()
    model.run(segments)
    return (clock() - began) / sum(len(segment.tokens) for segment in segments)


def load_reader(
    folder: Path,
    told: Mapping[str, Any],
    data_dir: Path,
    threads: int,
    say: Callable[[str], None],
    source: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> HistoryReader:
    """The reader of a bundle on this machine's quickest back end, warmed up and timed.

    ``folder``: the bundle's ``reader``; ``told``: its section of the manifest; ``source`` of the
    LLM: "", a folder or a hub name; ``threads``: 0 for all cores. The first call merges the adapter
    into the LLM (a minute); later ones take seconds. Raises ``BundleInvalid``,
    ``MissingWeights``, ``DamagedWeights``.
    """
    from models.reader_backends import load_states  # heavy: onnxruntime, or torch

    try:
        form = ReaderFormat.of(told.get("format", {}))
    except (ValueError, AttributeError) as error:
        raise BundleInvalid(f"its reader's prompt has an unknown format: {error}") from error
    head = load_head(folder)
    model, soft = load_states(folder, told, source, data_dir, threads, say)
    if head.width != model.width:
        raise BundleInvalid(
            f"its reader's head reads states of {head.width} numbers, the LLM's have {model.width}"
        )
    return HistoryReader(model, head, form, seconds_per_token(model, clock), soft=soft)


def _cosines(vectors: Sequence[FloatArray | None], shopper: FloatArray | None) -> FloatArray:
    """Each candidate's cosine with the shopper's vector (c,); 0 throughout without one."""
    scores = np.zeros(len(vectors), dtype=np.float32)
    known = [i for i, vector in enumerate(vectors) if vector is not None]
    if shopper is None or not known:
        return scores
    # (summed row by row: a matrix product may round equal rows apart)
    found = (np.stack([v for v in vectors if v is not None]) * shopper).sum(axis=1)
    scores[:] = found.mean()
    scores[known] = found
    return scores
