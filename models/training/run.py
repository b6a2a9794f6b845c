"""From a log to a bundle, stage by stage; each stage that is done is not done again.

    log ──▶ members of the sequence model ──▶ shares of the title ──▶ LLM ──▶ gate ──┐
            chosen on validation, which they have not seen                           │
        ┌────────────────────────────────────────────────────────────────────────────┘
        └─▶ the same again with validation's part ──▶ bundle

Everything between stands in a work folder, so that a run which was killed goes on where it was.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from safetensors.torch import save_file
from torch import Tensor

from models.atomic_folder import Say, once
from models.bundle.files import (
    LLM,
    SEQUENCE,
    Described,
    EncoderFacts,
    Manifest,
    write_bundle,
    write_items,
    write_words,
)
from models.domain import Item
from models.errors import InvalidFile
from models.evaluation.intervals import Interval, bootstrap
from models.llm import peft_methods
from models.ports import TitleEncoder
from models.space.sequence import Member, SequenceModel
from models.training import gate
from models.training.data.log import FORMAT, Logged, Places, TrainingLog
from models.training.data.splits import Split, by_time, gains, hits, last_events, ranks
from models.training.data.write_log import prepare
from models.training.llm.run import LlmConfig
from models.training.llm.stage import Bars, StagedLlm, ranks_beside, staged
from models.training.presets import Preset
from models.training.sequence.evaluate import Space, Titles, fitted, shopper_vectors
from models.training.sequence.train import (
    SequenceTraining,
    Trained,
    counted,
    refit_member,
    train_member,
)
from models.weights import locate

#: What validates: the log's last tenth (a bundle has no test of its own), or last events.
SPLITS: Final[Mapping[str, Callable[[TrainingLog], Split]]] = {
    "time": partial(by_time, test=0.0),
    "last": last_events,
}
_SEED: Final = 0  # of the resampling


@dataclass(frozen=True, slots=True)
class Request:
    """What to train. ``split`` is one of ``SPLITS``; ``llm`` None: a bundle without an LLM.

    With ``refit`` the models are trained anew on validation's part too, by the settings that it
    chose: what sells now is in the log's end. By time that is the whole log; by last events all but
    each shopper's last one, which is left for a test.
    """

    preset: Preset
    name: str
    split: str = "time"
    seed: int = 0
    llm: Path | None = None
    llm_source: str = ""
    command: str = ""
    held_out: tuple[str, ...] = ()  # categories that the sources left out
    refit: bool = True


@dataclass(frozen=True, slots=True)
class Sources:
    """The log and its catalogue, to be read once. ``key`` stands for their content."""

    key: str
    items: Callable[[], Iterable[Item]]
    events: Callable[[], Iterable[Logged]]


def train(
    request: Request,
    sources: Sources,
    encoder: TitleEncoder,
    out: Path,
    work: Path,
    say: Say,
    bar: Bars,
) -> Manifest:
    """Trains all parts and writes the bundle ``out``.

    ``bar`` gives each stage, by its name, something to show its progress with. Raises
    ``InvalidFile`` where there is too little to learn from, ``InvalidSettings`` for a tuning that
    this machine cannot do, ``BundleInvalid``, ``MissingWeights``.
    """
    if request.llm is not None:
        peft_methods.check(request.preset.llm.method)
    log = prepared(work / "log", sources, encoder, say)
    split = SPLITS[request.split](log)
    if not len(split.validation):
        raise InvalidFile(
            f"the log has {log.summary.events} events of {log.shoppers} shoppers, and none to "
            "validate with: train on a longer log, or with --split last"
        )
    say(
        f"{log.shoppers:,} shoppers, {log.summary.events:,} events, {log.items:,} items; "
        f"{len(split.validation):,} questions validate"
    )
    trained, shares = sequence_model(request, log, split, work, bar)
    model = together([each.member for each in trained], log)
    space = Space.of(log, model)
    validation = split.validation.sample(request.preset.asked, 1)
    wanted = shopper_vectors(log, validation, model, space.table)
    alone = ranks(log, validation, wanted, space.items)
    groups = validation.groups()
    metrics = {
        "validation HR@10 retriever": bootstrap(hits(alone), _SEED, groups),
        "validation NDCG@10 retriever": bootstrap(gains(alone), _SEED, groups),
    }
    popular = gate.choose_trend(log, validation, wanted, space.items, _SEED)
    metrics |= {
        "validation HR@10 gain by popularity": popular.hit_gain,
        "validation NDCG@10 gain by popularity": popular.ndcg_gain,
    }
    say(f"what the most popular item gains on its cosine: {popular.weight:g}")
    llm, chosen = _llm(request, log, split.ends, work, bar), None
    if llm is not None:
        asked = validation.sample(request.preset.asked_llm, 2)
        searched = shopper_vectors(log, asked, model, space.table)
        measured = ranks_beside(
            log, asked, searched, space.items, popular.weight, llm.served(work), bar("gate")
        )
        chosen = gate.choose_weight(asked, measured, _SEED)
        metrics |= _told_gate(chosen)
        say(f"the weight of the LLM: {chosen.weight:g}")
    ends = split.ends
    if request.refit:
        say("validation has chosen: once more, with what it asked")
        llm = None  # the first LLM need not stay beside the second
        ends, again = split.known, work / "refit"
        model = _refit(request, log, split, trained, again, bar)
        llm = _llm(request, log, ends, again, bar)

    def fill(folder: Path) -> None:
        state = {n: v.detach().contiguous() for n, v in model.state_dict().items()}
        save_file(_halved(state), folder / SEQUENCE)
        write_items(folder, log.item_ids, counted(log, ends)[1:])
        write_words(folder, log.vocabulary.words[: model.config.mixup.words])
        if llm is not None:
            llm.save(folder / LLM)

    told = _described(request, log, split, ends, encoder, model, shares, metrics)
    told = replace(told, gate={"weight": 0.0, "popularity": popular.weight})
    if llm is not None and chosen is not None:
        weighed = {**told.gate, "weight": chosen.weight, "candidates": gate.CANDIDATES}
        told = replace(told, gate=weighed, llm=llm.facts)
    return write_bundle(out, told, fill, say)


def prepared(folder: Path, sources: Sources, encoder: TitleEncoder, say: Say) -> TrainingLog:
    """The log as arrays, made once of these sources with this encoder."""

    def make(fresh: Path) -> None:
        say("reading the log and encoding the titles, once")
        prepare(fresh, sources.items(), sources.events(), lambda texts: encoder.encode(texts))

    of = {"key": sources.key, "encoder": encoder.name, "format": str(FORMAT)}
    return TrainingLog(once(folder, of, make, say))


def sequence_model(
    request: Request, log: TrainingLog, split: Split, work: Path, bar: Bars
) -> tuple[list[Trained], list[Mapping[str, float]]]:
    """All members, trained with seeds of their own, and each class's share of the title."""
    sequence = request.preset.sequence
    config = replace(sequence, mixup=fitted(sequence.mixup, log))
    found: list[Trained] = []
    shares: list[Mapping[str, float]] = []
    for number in range(config.members):
        how, label = _member(request, number)
        trained = train_member(log, split, config, how, work, bar(label))
        sample = split.validation.sample(request.preset.asked, 1)
        shares.append(gate.choose_shares(log, sample, trained.member, Titles(log)))
        found.append(trained)
    return found, shares


def _refit(
    request: Request, log: TrainingLog, split: Split, trained: Sequence[Trained], work: Path,
    bar: Bars,
) -> SequenceModel:  # fmt: skip
    """The members anew on what lies before the test."""
    found: list[Member] = []
    for number, each in enumerate(trained):
        how, label = _member(request, number)
        found.append(refit_member(log, split, each, how, work, bar(f"{label}, whole log")))
    return together(found, log)


def _member(request: Request, number: int) -> tuple[SequenceTraining, str]:
    """How the member of that number is trained, and what its progress is called."""
    members = request.preset.sequence.members
    label = "sequence model" + (f" {number + 1}/{members}" if members > 1 else "")
    return replace(request.preset.training, seed=request.seed * 1000 + number), label


def together(members: Sequence[Member], log: TrainingLog) -> SequenceModel:
    """The members as one model: their vectors side by side."""
    model = SequenceModel(replace(members[0].config, members=len(members)), log.items)
    for own, member in zip(model.members, members, strict=True):
        own.load_state_dict(member.state_dict())
    return model.eval().requires_grad_(False)


def _llm(
    request: Request, log: TrainingLog, ends: Places, work: Path, bar: Bars
) -> StagedLlm | None:
    """The LLM, tuned on the events up to ``ends`` as asked for; None where none is to be."""
    if request.llm is None:
        return None
    config: LlmConfig = replace(request.preset.llm, seed=request.seed)
    return staged(log, ends, request.llm, request.llm_source, config, work / "llm", bar)


def _told_gate(chosen: gate.Gate) -> dict[str, Interval]:
    return {
        "validation HR@10 fused": chosen.hit_rate,
        "validation NDCG@10 fused": chosen.ndcg,
        "validation HR@10 gain by the likelihood reranker": chosen.hit_gain,
        "validation NDCG@10 gain by the likelihood reranker": chosen.ndcg_gain,
    }


def _halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The large tables in float16."""
    return {n: v.half() if v.is_floating_point() and v.numel() > 65_536 else v
            for n, v in state.items()}  # fmt: skip


def trained_until(log: TrainingLog, ends: Places) -> int:
    """The ts (epoch ms) of the newest event that was learnt; 0 where none was."""
    some = ends > log.offsets[:-1]
    return int(log.ts[ends[some] - 1].max(initial=0))


def _described(
    request: Request, log: TrainingLog, split: Split, ends: Places, encoder: TitleEncoder,
    model: SequenceModel, shares: list[Mapping[str, float]], metrics: Mapping[str, Interval],
) -> Described:  # fmt: skip
    summary = log.summary
    libraries = ("torch", "transformers", "peft")
    return Described(
        name=request.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        encoder=EncoderFacts.of(encoder.name, encoder.dim),
        space={"dim": model.config.dim, "strategy": model.config.mixup.strategy,
               **model.config.to_json()},
        gate={},
        versions={"weft": importlib.metadata.version("weft"),
                  **{name: importlib.metadata.version(name) for name in libraries}},
        data={"fingerprint": summary.fingerprint, "events": summary.events,
              "shoppers": summary.shoppers, "items": summary.items,
              "first_ts": summary.first_ts, "last_ts": summary.last_ts},
        split={"words": split.words, "validation": len(split.validation), "refit": request.refit,
               "trained_until": trained_until(log, ends),
               **({"held_out_categories": list(request.held_out)} if request.held_out else {})},
        metrics={name: asdict(value) for name, value in metrics.items()},
        mix={f"member {n}": share for n, share in enumerate(shares, 1)},
        licences={"encoder": locate.MINILM.licence, "llm": locate.SMOLLM2.licence}
        if not request.llm_source else {"encoder": locate.MINILM.licence},
        seed=request.seed,
        preset=request.preset.name,
        command=request.command,
    )  # fmt: skip
