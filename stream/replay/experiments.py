"""The paper's experiments (arXiv 2410.11327), each as one result with its report.

    mixup     every strategy of mixing an item's ID with its title, the same training for all
    peft      every way to tune the LLM, the same tokens, shoppers and seed for all
    llm       the LLM taken away, its prompt's parts taken away, its adapter replaced by chance

Variants answer the same questions, so differences are paired. (The paper's fourth, zero-shot
transfer, is a replay of one shop's bundle on another's log: ``weft experiment transfer``.)
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from models.errors import InvalidSettings
from models.evaluation import Values
from models.llm_tokens import Tokenizer
from models.mixup import STRATEGIES
from models.reader_prompt import OPENING
from models.training import gate, peft_methods
from models.training.peft_methods import METHODS
from models.training.presets import PRESETS
from models.training.questions import Questions, gains, hits
from models.training.reader import ReaderConfig, train_reader
from models.training.reader_windows import Prompts
from models.training.run import retriever_of
from models.training.space import Space, shopper_vectors
from models.training.trained_reader import TrainedReader, reader_states, states_of
from stream.replay.contest import Answered, finished
from stream.replay.lab import Lab, timed
from stream.replay.result import Result

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


@dataclass(frozen=True, slots=True)
class _Space:
    """The retriever that the LLM stands beside: its space, what it wants, and on validation."""

    space: Space
    wanted: Tensor
    validation: Questions
    looked: Tensor
    retriever: Callable[[Any], Tensor]


def _retriever(lab: Lab) -> _Space:
    member = lab.member(_STRATEGY)
    space = Space.of(lab.prepared.log, member)
    log = lab.prepared.log
    validation = lab.split.validation.sample(lab.budget.asked, 2)
    return _Space(
        space, lab.wanted(member, space.table), validation,
        shopper_vectors(log, validation, member, space.table),
        retriever_of(log, member, space.table),
    )  # fmt: skip


def _config(lab: Lab, method: str) -> ReaderConfig:
    budget = lab.budget
    return replace(
        PRESETS["standard"].reader, method=method, seed=lab.request.seed,
        max_tokens=budget.llm_tokens, max_shoppers=budget.llm_shoppers, layers=budget.llm_layers,
    )  # fmt: skip


def _trained(lab: Lab, beside: _Space, llm: Path, method: str) -> tuple[TrainedReader, float]:
    began = time.monotonic()
    reader = train_reader(
        lab.prepared.log, lab.split.ends, beside.space.table, llm, _config(lab, method),
        lab.request.work / f"reader-{method}", lab.bar(method), retriever=beside.retriever,
    )  # fmt: skip
    return reader, time.monotonic() - began


def _read(lab: Lab, reader: TrainedReader, questions: Questions, name: str) -> Tensor:
    """The reader's states (q, d), made once."""
    return lab.kept(
        f"states-{name}",
        lambda: reader_states(
            reader, lab.prepared.log, questions.starts, questions.ends, progress=lab.bar(name)
        ),
    )


def peft(lab: Lab, llm: Path, methods: Sequence[str] = METHODS) -> Result:
    """Each method alone in the retriever's space; gains are over LoRA."""
    began = time.monotonic()
    beside = _retriever(lab)
    told = [lab.answered(_RETRIEVER, f"mix-up by {_STRATEGY} alone", beside.wanted,
                         beside.space.items, 0.0)]  # fmt: skip
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
        f"Every method had {budget.llm_tokens:,} tokens of {budget.llm_shoppers:,} shoppers, "
        f"{budget.llm_layers or 'all'} layers and seed {lab.request.seed}: the verdict is on "
        "this budget. What is ranked is the reader alone, so that it shows."
    )
    return finished(
        lab.request, lab.prepared, told, time.monotonic() - began,
        reference="lora" if "lora" in names else names[0], notes=(note, *left_out),
    )  # fmt: skip


def _method(lab: Lab, beside: _Space, llm: Path, method: str) -> Answered:
    reader, seconds = _trained(lab, beside, llm, method)
    parameters = sum(p.numel() for p in peft_methods.trainable(reader.model))
    looked = _read(lab, reader, beside.validation, f"{method}-validation")
    chosen = gate.choose_weight(beside.validation, _measured(lab, beside, looked), 0)
    read = _read(lab, reader, lab.questions(), method)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    words = (
        f"{parameters:,} trainable parameters, {seconds:.0f} s, the process at most {peak:,.0f} "
        f"MiB so far; validation's weight beside the retriever: {chosen.weight:g}"
    )
    return lab.answered(method, words, read, beside.space.items, seconds)


def llm(lab: Lab, folder: Path) -> Result:
    """The tuned reader beside the retriever and alone, then with one part taken away."""
    began = time.monotonic()
    beside = _retriever(lab)
    items = beside.space.items
    reader, seconds = _trained(lab, beside, folder, "lora")
    looked = _read(lab, reader, beside.validation, "llm-validation")
    measured = _measured(lab, beside, looked)
    chosen = gate.choose_weight(beside.validation, measured, 0)
    shown = chosen.weight or _best_weight(measured)
    read = _read(lab, reader, lab.questions(), "llm")
    both = gate.fused(beside.wanted, read, shown)
    gated = "what validation chose" if chosen.weight else "validation's gate is closed: 0"
    told = [
        lab.answered(_RETRIEVER, f"mix-up by {_STRATEGY} alone", beside.wanted, items, 0.0),
        lab.answered("with the LLM", f"fused at {shown:g} ({gated})", both, items, seconds),
        lab.answered("the LLM alone", "the tuned reader's own order", read, items, seconds),
    ]
    for name, words, make in _ablations(lab, reader):
        changed, took = timed(lambda make=make, name=name: lab.kept(f"states-{name}", make))  # type: ignore[misc]
        told.append(lab.answered(f"alone, {name}", words, changed, items, took))
    return finished(
        lab.request, lab.prepared, told, time.monotonic() - began, reference=_RETRIEVER,
        notes=("Parts are taken away from the reader alone: beside the retriever at a small "
               "weight none of it would show.",),
    )  # fmt: skip


def _measured(lab: Lab, beside: _Space, looked: Tensor) -> dict[float, Values]:
    """Validation's ranks at each of the reader's weights beside the retriever."""
    log, items = lab.prepared.log, beside.space.items
    return gate.read_ranks(log, beside.validation, beside.looked, looked, items)


def _best_weight(measured: Mapping[float, Values]) -> float:
    """Where validation finds most, though its interval shows no gain; 0 is left out."""
    found = {
        weight: float(gains(placed).mean() + 1e-6 * hits(placed).mean())
        for weight, placed in measured.items()
        if weight
    }
    return max(found, key=lambda weight: found[weight])


def _ablations(lab: Lab, reader: TrainedReader) -> Iterator[tuple[str, str, Callable[[], Tensor]]]:
    """(name, words, how to make the states) of each part that is taken away."""
    log, asked = lab.prepared.log, lab.questions()

    def states(form_of: TrainedReader) -> Tensor:
        return reader_states(form_of, log, asked.starts, asked.ends, progress=lab.bar("states"))

    def formed(**changes: Any) -> TrainedReader:
        return replace(reader, form=replace(reader.form, **changes))

    def without_opening() -> Tensor:
        tokenize = Tokenizer(reader.llm_folder / "tokenizer.json")
        prompts, opening = Prompts(log, reader.form, tokenize), len(tokenize(OPENING))
        texts = [
            prompts(start, stop)[0].tokens[opening:]
            for start, stop in zip(asked.starts.tolist(), asked.ends.tolist(), strict=True)
        ]
        return states_of(reader, texts, progress=lab.bar("states"))

    yield "no opening line", "the prompt begins with the first step", without_opening
    yield "one to two steps", "only the newest steps are read", lambda: states(formed(lines=1))
    yield "three words a title", "4 tokens of each title", lambda: states(formed(text_tokens=4))
    yield (
        "no adapter",
        "the LLM as it was, under the trained head",
        lambda: _without(reader, states),
    )
    yield (
        "random adapter",
        "an adapter of the same size, drawn by the seed",
        lambda: _random(reader, states, lab.request.seed),
    )


def _without(reader: TrainedReader, states: Callable[[TrainedReader], Tensor]) -> Tensor:
    with reader.model.disable_adapter():
        return states(reader)


@torch.no_grad()
def _random(reader: TrainedReader, states: Callable[[TrainedReader], Tensor], seed: int) -> Tensor:
    """Each of the adapter's matrices shuffled: the same numbers, and nothing learnt in them."""
    kept = {}
    generator = torch.Generator().manual_seed(seed)
    for name, value in reader.model.named_parameters():
        if "lora_" in name:
            kept[name] = value.detach().clone()
            order = torch.randperm(value.numel(), generator=generator)
            value.copy_(value.flatten()[order].view_as(value))
    found = states(reader)
    for name, value in reader.model.named_parameters():
        if name in kept:
            value.copy_(kept[name])
    return found
