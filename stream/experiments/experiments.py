"""The paper's experiments (arXiv 2410.11327), each as one result with its report.

    mixup     every strategy of mixing an item's ID with its title, the same training for all
    peft      every way to tune the LLM, the same tokens, shoppers and seed for all
    llm       the LLM taken away, its prompt's parts taken away, its adapter replaced by chance

Variants answer the same questions, so differences are paired. The LLM orders the retriever's first
candidates, as it is served. (The paper's fourth, zero-shot transfer, is a replay of one shop's
bundle on another's log: ``weft experiment transfer``.)
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from models.errors import InvalidSettings
from models.evaluation.intervals import Values
from models.llm import peft_methods
from models.llm.peft_methods import METHODS
from models.llm.scorer import CausalScorer, Packed, Tokens
from models.ports import Deadline, FloatArray, Read, Reranker, RerankRequest
from models.rerank import prompt
from models.rerank.likelihood import LikelihoodReranker, load_reranker
from models.space.mixup import STRATEGIES
from models.training import gate
from models.training.data.splits import gains, hits
from models.training.llm.run import LlmConfig
from models.training.llm.stage import StagedLlm, ranks_beside, staged
from models.training.presets import PRESETS
from models.training.sequence.evaluate import Space
from stream.experiments.train import Beside, Lab
from stream.replay.finish import Answered, finished
from stream.replay.result.result import Result

#: The mix-up of which the LLM experiments' space is made.
_STRATEGY: Final = "average"
_RETRIEVER: Final = "no LLM"


def mixup(lab: Lab, strategies: Sequence[str] = STRATEGIES) -> Result:
    """Each strategy trained alike; gains are over the ID alone."""
    began = time.monotonic()
    told = []
    for strategy in strategies:
        at = time.monotonic()
        member = lab.member(strategy)
        space = Space.of(lab.prepared.log, member)
        seconds = time.monotonic() - at
        wanted = lab.wanted(member, space.table)
        words = f"mix-up by {strategy}, {lab.budget.epochs} epochs at most"
        told.append(lab.answered(strategy, words, wanted, space.items, seconds))
    reference = "id" if "id" in strategies else strategies[0]
    return finished(
        lab.request, lab.prepared, told, time.monotonic() - began, reference=reference,
        notes=(f"One seed a strategy ({lab.request.seed}); the same training for all.",),
    )  # fmt: skip


def peft(lab: Lab, llm: Path, methods: Sequence[str] = METHODS) -> Result:
    """Each method's own order of the retriever's candidates; gains are over LoRA."""
    began = time.monotonic()
    beside = lab.beside(_STRATEGY)
    told = [_alone(lab, beside)]
    left_out = []
    for method in methods:
        try:
            peft_methods.check(method)
        except InvalidSettings as error:
            left_out.append(f"{method} is left out: {error}")
            lab.say(left_out[-1])
            continue
        told.append(_method(lab, beside, llm, method))
    names = [each.name for each in told]
    budget = lab.budget
    note = (
        f"Every method had {budget.llm_tokens:,} tokens of {budget.llm_shoppers:,} shoppers and "
        f"seed {lab.request.seed}: the verdict is on this budget. The LLM alone orders the "
        f"retriever's first {gate.CANDIDATES}, so that it shows."
    )
    return finished(
        lab.request, lab.prepared, told, time.monotonic() - began,
        reference="lora" if "lora" in names else names[0], notes=(note, *left_out),
    )  # fmt: skip


def _alone(lab: Lab, beside: Beside) -> Answered:
    """The retriever without the LLM."""
    words = f"mix-up by {_STRATEGY} alone"
    return lab.answered(_RETRIEVER, words, beside.wanted, beside.items, 0.0)


def _method(lab: Lab, beside: Beside, llm: Path, method: str) -> Answered:
    tuned, seconds = _tuned(lab, llm, method)
    assert tuned.trained is not None
    parameters = sum(p.numel() for p in peft_methods.trainable(tuned.trained.model))
    served = tuned.served(_work(lab, method))
    chosen = gate.choose_weight(beside.validation, _measured(lab, beside, method, served), 0)
    scores = lab.scored(method, beside, lambda: served)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    words = (
        f"{parameters:,} trainable parameters, {seconds:.0f} s, the process at most {peak:,.0f} "
        f"MiB so far; validation's weight beside the retriever: {chosen.weight:g}"
    )
    return lab.reranked(method, words, beside, scores, 1.0, seconds)


def _tuned(lab: Lab, llm: Path, method: str) -> tuple[StagedLlm, float]:
    """The LLM tuned by the method on the budget, and the seconds that it took."""
    began = time.monotonic()
    config: LlmConfig = replace(
        PRESETS["standard"].llm, method=method, seed=lab.request.seed,
        max_tokens=lab.budget.llm_tokens, max_shoppers=lab.budget.llm_shoppers,
    )  # fmt: skip
    made = staged(
        lab.prepared.log, lab.split.ends, llm, lab.request.settings.llm, config,
        _work(lab, method), lambda _: lab.bar(method),
    )  # fmt: skip
    return made, time.monotonic() - began


def _work(lab: Lab, method: str) -> Path:
    return lab.request.work / f"llm-{method}"


def _measured(lab: Lab, beside: Beside, name: str, served: Reranker) -> Mapping[float, Values]:
    """Validation's ranks at each of the LLM's weights beside the retriever."""

    def make() -> torch.Tensor:
        found = ranks_beside(
            lab.prepared.log, beside.validation, beside.looked, beside.items, 0.0, served,
            lab.bar(f"{name}, gate"),
        )  # fmt: skip
        return torch.from_numpy(np.stack([found[weight] for weight in gate.WEIGHTS]))

    return dict(zip(gate.WEIGHTS, lab.kept(f"gate-{name}", make).numpy(), strict=True))


def llm(lab: Lab, folder: Path) -> Result:
    """The tuned LLM beside the retriever and alone, then with one part taken away."""
    began = time.monotonic()
    beside = lab.beside(_STRATEGY)
    tuned, seconds = _tuned(lab, folder, "lora")
    served = tuned.served(_work(lab, "lora"))
    measured = _measured(lab, beside, "lora", served)
    chosen = gate.choose_weight(beside.validation, measured, 0)
    shown = chosen.weight or _best_weight(measured)
    gated = "what validation chose" if chosen.weight else "validation's gate is closed: 0"
    scores = lab.scored("lora", beside, lambda: served)
    words = f"its own order of the retriever's first {gate.CANDIDATES}"
    told = [
        _alone(lab, beside),
        lab.reranked(
            "with the LLM", f"fused at {shown:g} ({gated})", beside, scores, shown, seconds
        ),
        lab.reranked("the LLM alone", words, beside, scores, 1.0, seconds),
    ]
    for name, words, make in _ablations(lab, tuned, served):
        at = time.monotonic()
        scores = lab.scored(name, beside, make)
        took = time.monotonic() - at
        told.append(lab.reranked(f"alone, {name}", words, beside, scores, 1.0, took))
    return finished(
        lab.request, lab.prepared, told, time.monotonic() - began, reference=_RETRIEVER,
        notes=("Parts are taken away from the LLM alone: beside the retriever at a small weight "
               "none of it would show.",),
    )  # fmt: skip


def _best_weight(measured: Mapping[float, Values]) -> float:
    """Where validation finds most, though its interval shows no gain; 0 is left out."""
    found = {
        weight: float(gains(placed).mean() + 1e-6 * hits(placed).mean())
        for weight, placed in measured.items()
        if weight
    }
    return max(found, key=lambda weight: found[weight])


def _ablations(
    lab: Lab, tuned: StagedLlm, served: LikelihoodReranker
) -> Iterator[tuple[str, str, Callable[[], Reranker]]]:
    """(name, words, how to make the reranker) of each part that is taken away."""
    settings, work = lab.request.settings, _work(lab, "lora")

    def loaded(adapter: Path | None = None) -> LikelihoodReranker:
        facts = tuned.facts if adapter else None
        data_dir = work if adapter else settings.data_dir
        return load_reranker(str(tuned.folder), data_dir, settings.threads, lab.say, facts, adapter)

    yield (
        "no opening line",
        "the prompts begin with the first step",
        lambda: LikelihoodReranker(_NoOpening(served.scorer), 0.0),
    )
    yield (
        "the newest step only",
        "nothing before it is read",
        lambda: _Changed(served, lambda history: history[-1:]),
    )
    yield (
        "three words a title",
        "the history's titles are cut to three words",
        lambda: _Changed(served, lambda history: tuple(map(_cut, history))),
    )
    yield "no adapter", "the LLM as it was", loaded
    yield (
        "random adapter",
        "the adapter's own numbers, shuffled by the seed",
        lambda: loaded(_shuffled(work / "adapter", work / "shuffled", lab.request.seed)),
    )


class _NoOpening:
    """CausalScorer: another one, whose prompts have no opening line."""

    def __init__(self, inside: CausalScorer) -> None:
        self.name, self.tokens_at_once = inside.name, inside.tokens_at_once
        self._inside = inside

    def tokenize(self, text: str) -> Tokens:
        return () if text in (prompt.OPENING, prompt.GENERAL) else self._inside.tokenize(text)

    def log_probabilities(self, packed: Packed) -> FloatArray:
        return self._inside.log_probabilities(packed)


class _Changed:
    """Reranker: another one, which is told of histories that have been changed."""

    def __init__(
        self, inside: Reranker, change: Callable[[tuple[Read, ...]], tuple[Read, ...]]
    ) -> None:
        self.name = inside.name
        self._inside, self._change = inside, change

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        changed = [replace(each, history=self._change(each.history)) for each in requests]
        return self._inside.score(changed, deadline)


def _cut(read: Read) -> Read:
    """The step, its item's title cut to three words."""
    if read.item is None:
        return read
    return replace(read, item=replace(read.item, title=" ".join(read.item.text.split()[:3])))


def _shuffled(adapter: Path, out: Path, seed: int) -> Path:
    """Each of the adapter's matrices shuffled: the same numbers, and nothing learnt in them."""
    shutil.copytree(adapter, out, dirs_exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: value.flatten()[torch.randperm(value.numel(), generator=generator)].view_as(value)
        for name, value in load_file(adapter / peft_methods.ADAPTER).items()
    }
    save_file(tensors, out / peft_methods.ADAPTER)
    return out
