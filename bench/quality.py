"""How good the models are on a real log: each part's gain over the one before, with its interval.

    python -m bench.quality --data ../shared/data/amazon_beauty [--seeds 3] [--no-llm] [--json]
    python -m bench.quality --data ../shared/data/hm_sample

All items are ranked, what the shopper had before is left out, a tie has the mean of its ranks.
Amazon Beauty is asked by leave-one-out (the papers' protocol: it leaks the future, see
docs/quality.md); any other log by global time, and H&M event by event as well, as its published
floor was. Everything is chosen on validation; the test is looked at once, here. Each seed trains
anew; intervals are 95 %, shoppers resampled, of the mean over the seeds; differences are paired by
question. Trainings are kept under --work, go on after a kill, and are not done again.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.frame import parsed
from models.domain import Item, Kind
from models.evaluation.intervals import Values, bootstrap, paired_difference
from models.recommend import trending
from models.rerank import fusion, prompt
from models.rerank.likelihood import LikelihoodReranker
from models.space.recency import DECAY
from models.space.sequence import Member, SequenceConfig, SequenceModel
from models.training import gate
from models.training.data.log import Logged, Places, TrainingLog
from models.training.data.splits import (
    Questions,
    Split,
    by_time,
    gains,
    hits,
    last_events,
    ranks,
)
from models.training.data.trends import popular_before
from models.training.llm.run import LlmConfig
from models.training.llm.stage import ranks_beside, staged
from models.training.presets import PRESETS
from models.training.run import Sources, prepared, together
from models.training.sequence.evaluate import Space, Titles, fitted, shopper_vectors
from models.training.sequence.train import (
    SequenceTraining,
    Trained,
    counted,
    refit_member,
    train_member,
)
from models.weights import locate
from stream.assemble import cached_encoder
from stream.files.progress import Bars
from stream.settings import load

K = 10


@dataclass(frozen=True)
class Row:
    """One recommender: ranks (seeds, q) on the test, and its validation NDCG@10."""

    name: str
    ranks: Values
    validation: float | None = None


@dataclass(frozen=True)
class Llm:
    """How the LLM is tuned and weighed."""

    tuning: LlmConfig
    folder: Path
    asked: int  # questions of validation that choose its weight


@dataclass
class Bench:
    log: TrainingLog
    split: Split
    work: Path
    bars: Bars
    llm: Llm | None

    def trained(self, strategy: str, seed: int, how: SequenceTraining, sequence: SequenceConfig
                ) -> Trained:  # fmt: skip
        name, _, words = strategy.partition("+")
        few = sequence.mixup.words if words else 0
        mixup = fitted(replace(sequence.mixup, strategy=name, words=few), self.log)
        config, how = replace(sequence, mixup=mixup), replace(how, seed=seed)
        bar = self.bars(f"{strategy}, seed {seed}")
        return train_member(self.log, self.split, config, how, self.work, bar)

    def refit(self, trained: Trained, seed: int, how: SequenceTraining) -> Member:
        """As `weft train` does once validation has chosen."""
        config, how = trained.member.config, replace(how, seed=seed)
        words = "+words" if config.mixup.words else ""
        bar = self.bars(f"{config.mixup.strategy}{words}, seed {seed}, refit")
        return refit_member(self.log, self.split, trained, how, self.work, bar)

    def ranked(self, model: Member | SequenceModel, questions: Questions) -> Values:
        space = Space.of(self.log, model)
        wanted = shopper_vectors(self.log, questions, model, space.table)
        return ranks(self.log, questions, wanted, space.items)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def read(file: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def sources(folder: Path) -> Sources:
    def items() -> Iterator[Item]:
        for row in read(folder / "catalog.jsonl.gz"):
            yield Item(
                row["item_id"], row["title"] or "", 0, category=row["category"], brand=row["brand"]
            )

    def events() -> Iterator[Logged]:
        for row in read(folder / "events.jsonl.gz"):
            kind = Kind.PURCHASE if row["type"] == "purchase" else Kind.CLICK
            yield Logged(row["user_id"], row["ts"], kind, row["item_id"])

    return Sources(folder.name, items, events)


def popular(bench: Bench, questions: Questions, counts: NDArray[np.int32]) -> Values:
    """By the events of each item (n + 1,)."""
    items = torch.from_numpy(counts.astype(np.float32))[:, None]
    return ranks(bench.log, questions, torch.ones(len(questions), 1), items)


def zero_shot(bench: Bench, questions: Questions, trend: float) -> Values:
    """The recency-weighted mean of title vectors, and popularity, as `weft worker` has them."""
    titles = torch.from_numpy(np.asarray(bench.log.titles, np.float32))
    found = torch.zeros(len(questions), titles.shape[1])
    for n, (start, end) in enumerate(zip(questions.starts, questions.ends, strict=True)):
        rows = torch.from_numpy(bench.log.rows[max(start, end - 50) : end].astype(np.int64))
        ages = torch.arange(len(rows) - 1, -1, -1)
        found[n] = (DECAY**ages) @ titles[rows]
    unit = torch.nn.functional.normalize(found, dim=-1)
    gains = popular_before(bench.log, questions) if trend else None
    return ranks(bench.log, questions, unit, titles[: bench.log.items + 1], gains, trend)


def named(strategy: str, seeds: int = 1) -> str:
    """A strategy's row; of more ``seeds`` searched as one."""
    way, _, words = strategy.partition("+")
    name = {"id": "ID only", "title": "title only"}.get(way, f"mix-up, {way}")
    name += " + words" if words else ""
    return name if seeds == 1 else f"{name}, {seeds} seeds as one"


@dataclass
class Ladder:
    """Its rows; of each strategy the members, the ensemble of these, and popularity's gain."""

    rows: list[Row]
    weight: float = 0.0  # the LLM's beside the last strategy's ensemble
    trained: dict[str, list[Trained]] = field(default_factory=dict)
    ensembles: dict[str, SequenceModel] = field(default_factory=dict)
    trends: dict[str, float] = field(default_factory=dict)  # popularity's, as validation has it


def ladder(bench: Bench, strategies: Sequence[str], seeds: int, how: SequenceTraining,
           sequence: SequenceConfig) -> Ladder:  # fmt: skip
    """Every strategy alone and as an ensemble of its seeds."""
    test, validation = bench.split.test, bench.split.validation
    rows = untrained(bench, counted(bench.log, bench.split.ends))
    made = Ladder(rows)
    for strategy in strategies:
        trained = [bench.trained(strategy, seed, how, sequence) for seed in range(seeds)]
        made.trained[strategy] = trained
        members = [each.member for each in trained]
        name = named(strategy)
        looked = [float(gains(bench.ranked(m, validation)).mean()) for m in members]
        found = np.stack([bench.ranked(m, test) for m in members])
        rows.append(Row(name, found, float(np.mean(looked))))
        if strategy.partition("+")[0] in ("average", "beta", "score"):
            sample = validation.sample(4000, 1)
            for member in members:
                shares = gate.choose_shares(bench.log, sample, member, Titles(bench.log))
                say(f"{name}: title's shares {shares}")
            found = np.stack([bench.ranked(m, test) for m in members])
            rows.append(Row(f"{name}, shares by class", found))
        ensemble = together(members, bench.log)
        if seeds > 1:
            found = bench.ranked(ensemble, test)
            looked_at = float(gains(bench.ranked(ensemble, validation)).mean())
            rows.append(Row(named(strategy, seeds), found[None], looked_at))
        made.ensembles[strategy] = ensemble
        space, sample = Space.of(bench.log, ensemble), validation.sample(4000, 1)
        searched = shopper_vectors(bench.log, sample, ensemble, space.table)
        made.trends[strategy] = gate.choose_trend(
            bench.log, sample, searched, space.items, 0
        ).weight
        rows.append(raised(bench, ensemble, named(strategy, seeds), made.trends[strategy]))
    if bench.llm is not None:
        trend = made.trends[strategies[-1]]
        more, made.weight = with_llm(bench, bench.llm, ensemble, rows[-1].name, trend)
        rows += more
    return made


def untrained(bench: Bench, counts: NDArray[np.int32]) -> list[Row]:
    """What needs no training; popularity by the events of each item (n + 1,)."""
    test, preset = bench.split.test, PRESETS["untrained"]
    worded = bench.trained("title+words", 0, preset.training, preset.sequence)
    return [
        Row("most popular", popular(bench, test, counts)[None]),
        Row("zero-shot titles", zero_shot(bench, test, 0.0)[None]),
        Row("zero-shot titles + popularity", zero_shot(bench, test, trending.WEIGHT)[None]),
        Row("zero-shot titles + words", bench.ranked(worded.member, test)[None]),
    ]


def raised(bench: Bench, model: SequenceModel, name: str, trend: float) -> Row:
    """The model with what was popular on the days before each question raised, as live."""
    test, space = bench.split.test, Space.of(bench.log, model)
    wanted = shopper_vectors(bench.log, test, model, space.table)
    gains = popular_before(bench.log, test)
    found = ranks(bench.log, test, wanted, space.items, gains, trend)
    return Row(f"{name} + popularity at {trend:g}", found[None])


def refitted(bench: Bench, first: Ladder, how: SequenceTraining) -> list[Row]:
    """The same models trained anew on all before the test, as `weft train` ships them.

    Baselines that need no training are as they were, but for popularity.
    """
    test = bench.split.test
    rows = untrained(bench, counted(bench.log, bench.split.known))
    for strategy, trained in first.trained.items():
        members = [bench.refit(each, seed, how) for seed, each in enumerate(trained)]
        rows.append(Row(named(strategy), np.stack([bench.ranked(m, test) for m in members])))
        ensemble, name = together(members, bench.log), named(strategy, len(members))
        if len(members) > 1:
            rows.append(Row(name, bench.ranked(ensemble, test)[None]))
        rows.append(raised(bench, ensemble, name, trend := first.trends[strategy]))
    if bench.llm is not None and (weight := first.weight):
        beside = Beside(bench, bench.llm, ensemble, bench.split.known, trend)
        answered = beside.ranks(test, "test", (weight,))
        rows.append(Row(f"{rows[-1].name} + LLM at {weight:g}", answered[weight][None]))
    return rows


class Beside:
    """The LLM tuned, or not, on what a model does not see after ``ends``, and asked beside it.

    With what is popular raised, as it is served. Its answers are kept under --work.
    """

    def __init__(
        self, bench: Bench, llm: Llm, model: SequenceModel, ends: Places, trend: float
    ) -> None:
        self.bench, self.llm, self.model, self.ends, self.trend = bench, llm, model, ends, trend
        self.space = Space.of(bench.log, model)
        asked = [asdict(llm.tuning), trend, fusion.NAT, gate.CANDIDATES]
        told = json.dumps(asked, sort_keys=True).encode() + Path(prompt.__file__).read_bytes()
        digest = hashlib.sha256(told + self.space.table.contiguous().numpy().tobytes()).hexdigest()
        self._place = bench.work / f"llm-{digest[:12]}"
        self._reranker: LikelihoodReranker | None = None

    def ranks(self, questions: Questions, stage: str, weights: Sequence[float]
              ) -> dict[float, Values]:  # fmt: skip
        kept = self._place / f"{stage}-{len(questions)}-{'-'.join(map(str, weights))}.npz"
        if not kept.is_file():
            searched = shopper_vectors(self.bench.log, questions, self.model, self.space.table)
            found = ranks_beside(
                self.bench.log, questions, searched, self.space.items, self.trend, self._served(),
                self.bench.bars("gate"), weights,
            )  # fmt: skip
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, np.array(list(found)), np.stack(list(found.values())))
        with np.load(kept) as told:
            return dict(zip(told["arr_0"].tolist(), told["arr_1"], strict=True))

    def _served(self) -> LikelihoodReranker:
        if self._reranker is None:
            made = staged(self.bench.log, self.ends, self.llm.folder, "", self.llm.tuning,
                          self._place, self.bench.bars)  # fmt: skip
            self._reranker = made.served(self._place)
        return self._reranker


def with_llm(
    bench: Bench, llm: Llm, model: SequenceModel, name: str, trend: float
) -> tuple[list[Row], float]:
    """The LLM beside ``model`` at the weight that validation chooses, that weight, and alone."""
    beside = Beside(bench, llm, model, bench.split.ends, trend)
    validation = bench.split.validation.sample(llm.asked, 2)
    looked = beside.ranks(validation, "validation", gate.WEIGHTS)
    weight = gate.choose_weight(validation, looked, 0).weight
    say(f"the LLM's weight, by validation: {weight:g}, on {len(validation):,} questions:")
    for each, found in looked.items():
        by = paired_difference(gains(found), gains(looked[0.0]), 0, validation.groups())
        say(f"  {each:<4g} HR@10 {hits(found).mean():.4f} NDCG@10 {gains(found).mean():.4f}, "
            f"{by.mean:+.4f} [{by.low:+.4f}, {by.high:+.4f}]")  # fmt: skip
    answered = beside.ranks(bench.split.test, "test", (weight, 1.0))
    alone = Row(f"{name} + LLM at 1", answered[1.0][None])
    return [alone, Row(f"{name} + LLM at {weight:g}", answered[weight][None])], weight


def told(rows: Sequence[Row], questions: Questions, base: str) -> list[dict[str, Any]]:
    """Metrics, intervals and the paired difference from the row named ``base``."""
    groups = questions.groups()
    reference = next(row for row in rows if row.name == base)
    lines = []
    for row in rows:
        line: dict[str, Any] = {"name": row.name, "seeds": len(row.ranks)}
        line["validation NDCG@10"] = row.validation
        for metric, of in (("HR@10", hits), ("NDCG@10", gains)):
            mine = np.mean([of(r, K) for r in row.ranks], axis=0)
            other = np.mean([of(r, K) for r in reference.ranks], axis=0)
            line[metric] = asdict(bootstrap(mine, 0, groups))
            line[f"{metric} by seed"] = [float(of(r, K).mean()) for r in row.ranks]
            line[f"{metric} gain"] = asdict(paired_difference(mine, other, 0, groups))
            line[f"{metric} ratio"] = float(mine.mean() / max(other.mean(), 1e-9))
        lines.append(line)
    return lines


def printed(title: str, lines: Sequence[dict[str, Any]], base: str, count: int) -> None:
    print(f"\n{title}, {count:,} questions; gains are over {base}\n")
    print("| | validation NDCG@10 | HR@10 | gain | NDCG@10 | gain |")
    print("| --- | --- | --- | --- | --- | --- |")
    for line in lines:
        looked = line["validation NDCG@10"]
        cells = [line["name"], "" if looked is None else short(looked)]
        for metric in ("HR@10", "NDCG@10"):
            own, gain = line[metric], line[f"{metric} gain"]
            cells.append(f"{short(own['mean'])} [{short(own['low'])}, {short(own['high'])}]")
            sign = f"{gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
            cells.append(
                "" if line["name"] == base else f"{sign}, {line[f'{metric} ratio'] - 1:+.1%}"
            )
        print("| " + " | ".join(cells) + " |")


def short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


@dataclass(frozen=True, slots=True)
class Asked:
    """How a log is asked: split, trained, cut into slices, and which rows gains are over."""

    splits: Sequence[Callable[[TrainingLog], Split]]
    preset: str
    strategies: Sequence[str]
    sliced: bool
    bases: Sequence[str]


def measured(bench: Bench, how: Asked, args: argparse.Namespace) -> list[dict[str, Any]]:
    """All tables of a split: as validation saw the models, and refitted where that is asked for."""
    preset, ends = PRESETS[how.preset], bench.split.ends
    strategies = args.strategies.split(",") if args.strategies else how.strategies
    first = ladder(bench, strategies, args.seeds, preset.training, preset.sequence)
    lines = tables(bench, how, args.seeds, first.rows, "", counted(bench.log, ends))
    if args.refit:
        rows = refitted(bench, first, preset.training)
        counts = counted(bench.log, bench.split.known)
        lines += tables(bench, how, args.seeds, rows, "; refit on all before the test", counts)
    return lines


def tables(bench: Bench, how: Asked, seeds: int, rows: Sequence[Row], words: str,
           counts: NDArray[np.int32]) -> list[dict[str, Any]]:  # fmt: skip
    """All targets; of a shelf that turns over cold ones (without ``counts``) and warm ones, too."""
    test = bench.split.test
    cold = counts[test.targets] == 0
    slices = {"all targets": np.ones(len(test), bool)}
    if how.sliced:
        slices |= {
            "cold targets (never learnt)": cold, "warm targets": ~cold,
            "shoppers with fewer than 10 events": test.ends - test.starts < 10,
        }  # fmt: skip
    last = next((row.name for row in rows[::-1] if "LLM" not in row.name), "")
    lines = []
    for name, which in slices.items():
        if not which.any():
            continue
        part = [Row(r.name, r.ranks[:, which], r.validation) for r in rows]
        for base in dict.fromkeys((*how.bases, named("id", seeds), last)):
            if base not in {row.name for row in rows}:
                continue
            found = told(part, test.take(which), base)
            printed(f"{bench.split.words}{words}: {name}", found, base, int(which.sum()))
            lines += [{**line, "slice": name + words, "gains over": base} for line in found]
    return lines


def sampled(split: Split, questions: int) -> Split:
    """At most so many questions of the test."""
    few = np.sort(np.random.default_rng(3).permutation(len(split.test))[:questions])
    return split if len(few) == len(split.test) else replace(split, test=split.test.take(few))


BEAUTY = Asked(
    [last_events], "standard", ("id", "average", "average+words"), sliced=False, bases=("ID only",)
)
#: A log whose shelf turns over, as any other is taken to be.
SHELF = Asked(
    [by_time], "small", ("id", "title", "title+words", "residual+words"), sliced=True,
    bases=("title only", "zero-shot titles"),
)  # fmt: skip
LOGS = {
    "amazon_beauty": BEAUTY,
    "hm_sample": replace(SHELF, splits=[lambda log: by_time(log, baskets=False), by_time]),
}


def main() -> None:
    args = parsed(
        __doc__, data=Path(), work=Path(".weft/quality"), seeds=3, strategies="", refit=False,
        no_llm=False, tuning='{"method": "none"}', questions=10**9, asked=4000, threads=0,
    )  # fmt: skip
    if args.threads:
        torch.set_num_threads(args.threads)
    settings = replace(load(), encoder_type="fp32", threads=args.threads)
    encoder = cached_encoder(settings, say)
    work = args.work / args.data.name
    log = prepared(work / "log", sources(args.data), encoder, say)
    llm = None
    if not args.no_llm:
        tuning = replace(PRESETS["standard"].llm, **json.loads(args.tuning))
        llm = Llm(tuning, locate.smollm2("", settings.data_dir, say), args.asked)
    how = LOGS.get(args.data.name, SHELF)
    with Bars() as bars:
        lines = [
            {**line, "protocol": split.words}
            for split in [make(log) for make in how.splits]
            for line in measured(
                Bench(log, sampled(split, args.questions), work, bars, llm), how, args
            )
        ]
    if args.json:
        print(json.dumps({"data": args.data.name, "shoppers": log.shoppers, "rows": lines}))


if __name__ == "__main__":
    main()
