"""Results of replays made by hand, for the report's tests: rich, bare, and full of harm."""

from __future__ import annotations

from dataclasses import replace

from models.evaluation.intervals import Interval
from stream.replay.result.result import (
    Contender,
    Data,
    Example,
    ExampleList,
    ExampleStep,
    Protocol,
    Result,
    Slice,
)

DAY = 86_400_000
FIRST = 1_598_918_400_000  # 2020-09-01

DATA = Data(
    "hm_sample/events.jsonl.gz", "hm_sample/catalog.jsonl.gz", "9f2c" * 16, 20_000, 41_230,
    412_881, FIRST, FIRST + 21 * DAY, 37, 412,
)  # fmt: skip
PROTOCOL = Protocol(
    "prequential",
    "Every basket of a shopper is one question, asked before any of it is learnt from.",
    48_210,
    48_210,
    FIRST + 14 * DAY,
    FIRST + 21 * DAY,
)
COMMAND = (
    "weft replay --events ../shared/data/hm_sample/events.jsonl.gz \\\n"
    "  --catalog ../shared/data/hm_sample/catalog.jsonl.gz \\\n"
    "  --bundle bundles/hm-mixup --baselines all --seed 7 --report replays/hm"
)
#: Name, kind, words, HR@10, coverage, p50 in ms (0: made in bulk).
FIELD = (
    ("weft mix-up", "live", "Bundle hm-mixup; the LLM weighs 0.30", 9.0, 34, 41),
    ("weft zero-shot", "live", "No bundle: titles and popularity only", 6.1, 41, 12),
    ("ID only", "variant", "SASRec on ids, 2 blocks, 64 wide; no titles", 8.5, 22, 9),
    ("no prompt’s history", "variant", "As mix-up, the prompt without the history", 8.9, 33, 37),
    ("most popular", "baseline", "Over the whole log before the question", 2.2, 0.3, 0),
    ("recently popular", "baseline", "Half-life of 2 days, tuned of 1, 2, 4, 7", 4.8, 1.1, 0),
    ("last items again", "baseline", "Newest first", 5.5, 38, 0),
    ("item-kNN", "baseline", "Cosine, 100 neighbours, shrink 10", 7.4, 44, 0),
    ("title similarity", "baseline", "MiniLM, mean of the last 3", 3.3, 52, 0),
    ("BM25", "baseline", "On titles, k1 1.2, b 0.75", 2.9, 49, 0),
    ("ALS", "baseline", "implicit, 64 factors, alpha 10", 5.9, 29, 0),
    ("BPR", "baseline", "implicit, 64 factors, 60 epochs", 5.1, 26, 0),
)  # fmt: skip


def around(mean: float, half: float) -> Interval:
    return Interval(mean, mean - half, mean + half)


def contender(
    name: str = "mix-up", kind: str = "live", hits: float = 9.0, gain: Interval | None = None,
    **more: object,
) -> Contender:  # fmt: skip
    """One with ``hits`` of 100 and a ``gain`` in shares, not of 100."""
    metrics = {"HR@10": around(hits / 100, 0.004), "NDCG@10": around(hits / 180, 0.003)}
    gains = {} if gain is None else {"HR@10": gain}
    made = Contender(name, kind, f"{name} in a line", metrics, gains)
    return replace(made, **more)  # type: ignore[arg-type]


ZERO = Interval(0, 0, 0)
ID_ONLY = contender("ID only", "variant", 8.5, ZERO)


def bare(*contenders: Contender, **more: object) -> Result:
    """No latency, no slices, no examples, nothing noted."""
    made = Result(
        "A bare replay", "weft replay --report x", "2026-11-25T06:00:00Z", 7, {}, "", DATA,
        PROTOCOL, "ID only", contenders,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def rich(fillers: int = 0) -> Result:
    """Everything that a replay of H&M finds, with ``fillers`` more contenders."""
    field = FIELD + tuple(
        (f"variant {n} of the prompt, longer", "variant", "A filler", 6 + n * 0.2, 20 + n, 30 + n)
        for n in range(fillers)
    )
    return Result(
        title="H&M sample, three weeks", command=COMMAND, made_at="2026-11-25T06:41:07Z", seed=7,
        versions={"weft": "0.1.0", "python": "3.11.7", "torch": "2.9.0", "numpy": "2.4.6"},
        machine="2 cores, AMD EPYC 7B13, 16 GB, Linux 6.1", data=DATA, protocol=PROTOCOL,
        reference="ID only", contenders=tuple(_of(*each) for each in field),
        examples=tuple(_example(n) for n in range(4)),
        notes=("4,000 of 20,000 shoppers were asked: a sample by hash.",
               "RecBole does not install here; ALS and BPR come from implicit."),
        seconds=1284.0,
    )  # fmt: skip


def _of(name: str, kind: str, words: str, hits: float, reach: float, p50: float) -> Contender:
    share = hits / 100
    metrics = {}
    for k, more in ((5, 0.62), (10, 1.0), (20, 1.5), (100, 3.1)):
        metrics[f"HR@{k}"] = around(share * more, 0.0042 * more)
        metrics[f"recall@{k}"] = around(share * more * 0.92, 0.004 * more)
        metrics[f"NDCG@{k}"] = around(share * 0.52 * more**0.4, 0.0023)
        metrics[f"MRR@{k}"] = around(share * 0.4 * more**0.2, 0.002)
        metrics[f"MAP@{k}"] = around(share * 0.38 * more**0.2, 0.002)
        metrics[f"coverage@{k}"] = around(reach / 100 * more**0.3, 0)
    metrics |= {
        "novelty@10": around(9.4 + reach / 20, 0.1), "diversity@10": around(0.61, 0.01),
        "gini@10": around(0.93 - reach / 200, 0), "head share@10": around(0.4 - reach / 200, 0),
        "cold recall@10": around(share * 0.4, 0.003), "repeat share@10": around(0.12, 0.004),
    }  # fmt: skip
    gains = {
        "HR@10": around((hits - 8.5) / 100, 0.003 if name != "ID only" else 0),
        "NDCG@10": around((hits - 8.5) * 0.0052, 0.0016 if name != "ID only" else 0),
    }
    times = {} if not p50 else {"p50": p50, "p95": p50 * 2.1, "p99": p50 * 3.4}
    return Contender(
        name, kind, words, metrics, gains, _slices(hits), times,
        0.34 if "mix" in name else 0.0, 0.002, 60 + p50 * 9,
    )  # fmt: skip


def _slices(hits: float) -> tuple[Slice, ...]:
    cut = [
        ("item's age", "cold", 4_210, 0.42), ("item's age", "young", 11_700, 0.8),
        ("item's age", "warm", 32_300, 1.2), ("shopper's events", "none", 2_900, 0.5),
        ("shopper's events", "few", 17_400, 0.85), ("shopper's events", "many", 27_910, 1.2),
        ("query", "with", 1_020, 1.4), ("query", "without", 47_190, 0.98),
    ]  # fmt: skip
    cut += [("category", f"Ladies {n}", 4_000 - 130 * n, 0.7 + n / 30) for n in range(18)]
    return tuple(
        Slice(of, name, count, {"HR@10": around(hits * times / 100, 0.3 / count**0.5),
                                "NDCG@10": around(hits * times / 190, 0.16 / count**0.5)},
              {"HR@10": around((hits - 8.5) * times / 100, 0.2 / count**0.5),
               "NDCG@10": around((hits - 8.5) * times / 190, 0.1 / count**0.5)})
        for of, name, count, times in cut
    )  # fmt: skip


_TITLES = (
    "Slim-fit trousers, dark blue", "Ribbed cotton vest top", "Oversized linen shirt, white",
    "Wide high-waist jeans, light denim", "Padded-shoulder cardigan in a soft wool blend with "
    "mother-of-pearl buttons", "Tie-belt trench coat", "Pleated midi skirt, sage", "Canvas shopper",
    "Seam-free sports leggings", "Fine-knit polo-neck jumper", "Block-heel ankle boots",
    "Chiffon blouse, dotted",
)  # fmt: skip


def _example(n: int) -> Example:
    history = tuple(
        ExampleStep(kind, text, FIRST + 14 * DAY + (n * 60 + step * 7) * 60_000)
        for step, (kind, text) in enumerate((
            ("click", _TITLES[n]), ("search", "wide jeans"), ("click", _TITLES[3]),
            ("purchase", _TITLES[3]), ("click", _TITLES[n + 4])))
    )  # fmt: skip
    target = _TITLES[(n + 6) % 12]
    lists = tuple(
        ExampleList(name, shown := tuple(_TITLES[(n + turn * 3 + i) % 12] for i in range(12)),
                    tuple("because of wide jeans" if i % 3 else "" for i in range(12)),
                    tuple(each == target for each in shown))
        for turn, name in enumerate(("weft mix-up", "ID only", "recently popular", "item-kNN"))
    )  # fmt: skip
    return Example(f"Shopper {'ABCD'[n]}", history if n != 2 else (), lists, (target,))


#: A title that would run, load, turn the writing round, or end its element.
HARM = (
    '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">'
    "</bdi></li>\"'><!-- \u202egnitirw\u2066 \x00\x1b[31m\x07 https://evil.example/x.png"
)


def harmful() -> Result:
    """``HARM`` wherever words come from outside."""
    whole = rich()
    step = ExampleStep("<b>" + HARM, HARM, 10**17)
    shown = ExampleList(HARM, (HARM, HARM), (HARM,), (True, False))
    example = Example(HARM, (step, replace(step, kind="search")), (shown,), (HARM,))
    each = whole.contenders[0]
    cut = tuple(replace(s, of=HARM, name=HARM + s.name) for s in each.slices[:3])
    bad = replace(
        each, name=HARM, words=HARM, kind=HARM, slices=cut,
        metrics=each.metrics | {HARM: around(0.5, 0.1)},
    )  # fmt: skip
    return replace(
        whole, title=HARM, command=HARM, made_at=HARM, versions={HARM: HARM}, machine=HARM,
        data=replace(DATA, events_file=HARM, catalog_file=HARM, fingerprint=HARM),
        protocol=replace(PROTOCOL, name=HARM, words=HARM, warning=HARM),
        contenders=(bad, *whole.contenders[1:]), examples=(example,), notes=(HARM,),
    )  # fmt: skip
