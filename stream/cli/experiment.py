"""``weft experiment``: the paper's experiments on a log of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.files.progress import say

if TYPE_CHECKING:
    from stream.experiments.train import Lab
    from stream.replay.questions.prepare import Request


def _log(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every experiment has."""
    for option in reversed(
        (
            click.option("--events", type=click.Path(path_type=Path), required=True,
                         help="A shopper log."),
            click.option("--catalog", type=click.Path(path_type=Path), required=True,
                         help="Its products."),
            click.option("--report", type=click.Path(path_type=Path), required=True,
                         help="The report's folder to be."),
            click.option("--protocol", type=click.Choice(["time", "last"]), default="time",
                         show_default=True, help="What is asked; see `weft replay`."),
            click.option("--sample-users", type=click.IntRange(1),
                         help="Ask so many shoppers at most."),
            click.option("--seed", type=int, default=0, show_default=True),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _example(words: str) -> str:
    """A help's last lines."""
    files = "--events e.jsonl.gz --catalog c.jsonl.gz"
    return f"\b\nExample:\n  weft experiment {words} {files} --report out/"


def _budget(command: Callable[..., None]) -> Callable[..., None]:
    """What the LLM's tuning gets."""
    for option in reversed(
        (
            click.option("--epochs", type=click.IntRange(1), default=16, show_default=True,
                         help="Of the sequence model beside it, at most."),
            click.option("--llm-tokens", type=click.IntRange(1), default=150_000,
                         show_default=True, help="That the LLM is tuned on, at most."),
            click.option("--llm-users", type=click.IntRange(1), default=2000, show_default=True,
                         help="Whose histories it is tuned on, at most."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.group()
def command() -> None:
    """The paper's experiments: variants that differ in one thing and answer the same questions.

    Each writes a report as `weft replay` does. Trainings are kept under the report's folder: one
    that was killed goes on.

    \b
    Examples:
      weft experiment mixup --events e.jsonl.gz --catalog c.jsonl.gz --report out/
      weft experiment peft --events e.jsonl.gz --catalog c.jsonl.gz --report out/
    """


@command.command(epilog=_example("mixup"))
@_log
@click.option("--strategies", help="Names with commas; all by default.")
@click.option("--epochs", type=click.IntRange(1), default=16, show_default=True,
              help="Of each, at most.")  # fmt: skip
def mixup(strategies: str | None, epochs: int, **options: Any) -> None:
    """Every strategy of mixing an item's ID with its title."""
    from models.space.mixup import STRATEGIES
    from stream.experiments.experiments import mixup as run

    chosen = tuple(strategies.split(",")) if strategies else STRATEGIES
    if unknown := set(chosen) - set(STRATEGIES):
        raise click.UsageError(f"no strategy {min(unknown)!r}; there are {', '.join(STRATEGIES)}")
    _run(lambda lab: run(lab, chosen), options, epochs=epochs)


@command.command(epilog=_example("peft"))
@_log
@_budget
@click.option("--methods", help="Names with commas; by default all but full, without a GPU.")
def peft(methods: str | None, **options: Any) -> None:
    """Every way to tune the LLM by few parameters, on the same budget."""
    from models.llm.peft_methods import METHODS
    from stream.experiments.experiments import peft as run

    chosen = tuple(methods.split(",")) if methods else _feasible(METHODS)
    if unknown := set(chosen) - set(METHODS):
        raise click.UsageError(f"no method {min(unknown)!r}; there are {', '.join(METHODS)}")
    _run(lambda lab: run(lab, _llm(lab), chosen), options)


@command.command(epilog=_example("llm"))
@_log
@_budget
def llm(**options: Any) -> None:
    """The LLM taken away; its prompt's parts; its adapter replaced by chance."""
    from stream.experiments.experiments import llm as run

    _run(lambda lab: run(lab, _llm(lab)), options)


@command.command(epilog=_example("transfer --bundle other/"))
@_log
@click.option("--bundle", required=True, help="Trained on another shop's log.")
@click.option("--rerank", type=click.Choice(["gate", "always", "never"]), default="gate",
              show_default=True, help="What decides the LLM's weight.")  # fmt: skip
def transfer(bundle: str, rerank: str, **options: Any) -> None:
    """A bundle of another shop on this one's log, untuned: the paper's zero-shot."""
    from dataclasses import replace

    from stream.bundles.library import folders, locate
    from stream.cli.replay import shown
    from stream.replay.questions.prepare import Live
    from stream.replay.run import replay

    request, encoder, say, paces = _prepared(options)
    path = str(locate(bundle, folders(request.settings)))
    lives = (Live("zero-shot", "", "never"), Live("another shop's bundle", path, rerank))
    request = replace(request, lives=lives, baselines=("most-popular", "recently-popular"))
    with paces as bars:
        shown(replay(request, encoder, say, bars))


def _feasible(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Full fine-tuning on a CPU would take the others' time together."""
    import torch

    return methods if torch.cuda.is_available() else tuple(m for m in methods if m != "full")


def _llm(lab: Lab) -> Path:
    from models.weights import locate as weights

    settings = lab.request.settings
    return weights.smollm2(settings.llm, settings.data_dir, lab.say)


def _run(experiment: Callable[[Lab], Any], options: dict[str, Any], **budget: int) -> None:
    import torch

    from stream.cli.replay import shown
    from stream.experiments.train import Budget, Lab
    from stream.files.progress import Bars
    from stream.replay.questions.prepare import prepare

    names = {"epochs": "epochs", "llm_tokens": "llm_tokens", "llm_users": "llm_shoppers"}
    budget |= {own: options.pop(name) for name, own in names.items() if name in options}
    request, encoder, say, _ = _prepared(options)
    if request.settings.threads:
        torch.set_num_threads(request.settings.threads)
    prepared = prepare(request, encoder, say)
    say(f"{len(prepared.asked.baskets):,} questions; {prepared.asked.words}")
    with Bars() as bars:
        shown(experiment(Lab(request, prepared, Budget(**budget), say, bars)))
    click.echo(f"the report: {request.report / 'report.html'}", err=True)


def _prepared(options: dict[str, Any]) -> tuple[Request, Any, Callable[[str], None], Any]:
    import shlex
    import sys

    from stream import settings
    from stream.assemble import cached_encoder
    from stream.files.progress import Paces
    from stream.replay.questions.prepare import Request

    chosen = settings.load()
    request = Request(
        options["events"], options["catalog"], chosen, options["report"], (),
        protocol=options["protocol"], shoppers=options["sample_users"] or 0,
        seed=options["seed"], command=shlex.join(["weft", *sys.argv[1:]]),
    )  # fmt: skip
    request.report.mkdir(parents=True, exist_ok=True)
    return request, cached_encoder(chosen, say), say, Paces()
