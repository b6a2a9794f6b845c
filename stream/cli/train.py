"""``weft train``: a log of events and its catalogue in, a bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.files.progress import say

if TYPE_CHECKING:
    from models.training.presets import Preset


@click.command(
    epilog="\b\nExamples:\n"
    "  weft train --events events.jsonl.gz --catalog catalog.jsonl.gz --out bundle/\n"
    "  weft train --events e.jsonl --catalog c.jsonl --out bundle/ --preset quick --no-llm\n"
    "  weft models use bundle/"
)
@click.option("--events", type=click.Path(path_type=Path), required=True, help="A shopper log.")
@click.option("--catalog", type=click.Path(path_type=Path), required=True, help="Its products.")
@click.option("--columns", help="Which column of EVENTS is which field: see weft events publish.")
@click.option("--catalog-columns", help="The same of CATALOG: see weft catalog publish.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The bundle's folder to be."
)
@click.option(
    "--preset", type=click.Choice(["quick", "standard", "best", "small", "untrained", "demo"]),
    default="standard", show_default=True,
    help="How much to train; untrained: not at all, only what the catalogue's own words weigh.",
)  # fmt: skip
@click.option(
    "--strategy",
    type=click.Choice(
        ["id", "title", "average", "count", "beta", "gate", "concat", "score", "residual"]
    ),
    help="How an item's ID and title are mixed; by default the preset's.",
)
@click.option(
    "--zero-shot/--from-scratch", default=None,
    help="Begin as the zero-shot retriever (small logs, shelves that turn over), or from nothing.",
)  # fmt: skip
@click.option(
    "--method",
    type=click.Choice(
        ["none", "lora", "qlora", "dora", "rslora", "ia3", "prompt", "prefix", "bitfit", "full"]
    ),
    help="How the LLM is tuned. By default not at all, which finds as much (docs/log.md), unless "
    "--rank or --llm-tokens ask for it: then by LoRA.",
)
@click.option("--no-llm", is_flag=True, help="A bundle without an LLM.")
@click.option(
    "--split", type=click.Choice(["time", "last"]), default="time", show_default=True,
    help="What validates: the log's last tenth, or each shopper's last events but one.",
)  # fmt: skip
@click.option("--until", help="Learn from events before this time: 2020-09-22, or epoch ms.")
@click.option(
    "--hold-out-categories", multiple=True,
    help="Categories not to learn from, which a replay then measures apart: how many, drawn "
         "by the seed, or a name; repeat it for more names.",
)  # fmt: skip
@click.option(
    "--refit/--no-refit", default=True,
    help="Train once more with validation's part when it has chosen; by default so. For a replay "
         "of the same log, train with --until, or not so.",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), help="Of the sequence model, at most.")
@click.option("--llm-tokens", type=click.IntRange(1), help="That the LLM trains on, at most.")
@click.option("--rank", type=click.IntRange(1), help="Of the LLM's adapter.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="For the LLM: auto, cpu or cuda.")
@click.option(
    "--work", type=click.Path(path_type=Path),
    help="Where a run that is killed goes on from; by default beside the bundle.",
)  # fmt: skip
@click.option("--name", help="The bundle's name; by default its folder's.")
def command(events: Path, catalog: Path, out: Path, **options: Any) -> None:
    """Train a bundle: mix-up retrieval, the sequence model, and an LLM that reranks.

    EVENTS and CATALOG are files as `weft events publish` and `weft catalog publish` take them.
    A run that was killed goes on where it was when it is started again with the same options.
    """
    import shlex
    import sys

    import torch

    from models.training.run import Request, train
    from models.weights import locate
    from stream import settings
    from stream.assemble import cached_encoder
    from stream.cli.moments import moment
    from stream.files.columns import EVENTS, PRODUCTS, column_map
    from stream.files.progress import Bars, report_aside
    from stream.files.training_rows import held_out_categories, sources

    chosen = settings.load()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    products = column_map(options["catalog_columns"], PRODUCTS)
    held_out: tuple[str, ...] = ()
    if asked := options["hold_out_categories"]:
        held_out = held_out_categories(catalog, asked, options["seed"], products)
        say(f"held out of training: {', '.join(held_out)}")
    told = sources(
        catalog, events, report_aside, products, column_map(options["columns"], EVENTS),
        moment(options["until"]), held_out,
    )  # fmt: skip
    encoder = cached_encoder(chosen, say)
    llm = None if options["no_llm"] else locate.smollm2(chosen.llm, chosen.data_dir, say)
    request = Request(
        preset=_preset(options),
        name=options["name"] or out.resolve().name,
        split=options["split"],
        seed=options["seed"],
        llm=llm,
        llm_source=chosen.llm,
        command=shlex.join(["weft", *sys.argv[1:]]),
        held_out=held_out,
        refit=options["refit"],
    )
    work = options["work"] or out.resolve().with_name(f".{out.resolve().name}.work")
    with Bars() as bars:
        manifest = train(request, told, encoder, out, work, say, bars)
    click.echo(f"{out}: {manifest.name}@{manifest.id}, {manifest.bytes / 2**20:.1f} MiB")
    for name, value in manifest.told.metrics.items():
        click.echo(f"  {name}: {value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]")
    click.echo(f"serve it: weft models use {out}")


def _preset(options: dict[str, Any]) -> Preset:
    """The preset with what the options change of it."""
    from dataclasses import replace

    from models.training.presets import PRESETS

    preset = PRESETS[options["preset"]]
    if not preset.training.epochs:
        for name, said in (
            ("--strategy", options["strategy"] not in (None, preset.sequence.mixup.strategy)),
            ("--from-scratch", options["zero_shot"] is False), ("--epochs", options["epochs"]),
        ):  # fmt: skip
            if said:
                raise click.UsageError(f"--preset untrained learns nothing: leave out {name}")
    sequence, llm, training = preset.sequence, preset.llm, preset.training
    if options["strategy"]:
        sequence = replace(sequence, mixup=replace(sequence.mixup, strategy=options["strategy"]))
    if options["zero_shot"] is not None:
        sequence = replace(sequence, mixup=replace(sequence.mixup, zero_shot=options["zero_shot"]))
    if options["epochs"]:
        training = replace(training, epochs=options["epochs"])
    told = {"method": _method(options), "rank": options["rank"],
            "max_tokens": options["llm_tokens"], "device": options["device"]}  # fmt: skip
    llm = replace(llm, **{name: value for name, value in told.items() if value})
    return replace(preset, sequence=sequence, llm=llm, training=training)


def _method(options: dict[str, Any]) -> str | None:
    """How the LLM is tuned; None: as the preset says."""
    from models.llm.tuned import UNTUNED

    asks = options["rank"] or options["llm_tokens"]  # for a tuning, with or without its name
    if options["method"] == UNTUNED and asks:
        raise click.UsageError("--method none tunes nothing: leave out --rank and --llm-tokens")
    named: str | None = options["method"]
    return named if named or asks else UNTUNED
