"""``weft replay``: historical logs through the live code, measured, in a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.files.progress import say

if TYPE_CHECKING:
    from stream.replay.questions.prepare import Live
    from stream.replay.result.result import Result
    from stream.settings import Settings


@click.command(
    epilog="\b\nExamples:\n"
    "  weft replay --events events.jsonl.gz --catalog catalog.jsonl.gz --report out/\n"
    "  weft replay --events e.jsonl.gz --catalog c.jsonl.gz --protocol time --baselines all\\\n"
    "      --bundle none --bundle bundle/ --rerank never --rerank gate --report out/\n"
    "  weft replay --compare before/ after/\n"
    "  weft replay --compare out/ out/ --of-a item-knn --of-b 'bundle mine, no LLM'"
)
@click.option("--events", type=click.Path(path_type=Path), help="A shopper log.")
@click.option("--catalog", type=click.Path(path_type=Path), help="Its products.")
@click.option("--report", type=click.Path(path_type=Path), help="The report's folder to be.")
@click.option(
    "--protocol", type=click.Choice(["prequential", "time", "last"]), default="prequential",
    show_default=True, help="What is asked: each basket, those after a boundary, last events.",
)  # fmt: skip
@click.option("--columns", help="Which column of EVENTS is which field: see weft events publish.")
@click.option("--catalog-columns", help="The same of CATALOG: see weft catalog publish.")
@click.option("--from", "first", help="Ask from this time on: 2020-09-22, or epoch ms.")
@click.option("--until", help="Ask and apply what is before this time.")
@click.option(
    "--bundle", "bundles", multiple=True,
    help="What serves: a bundle, or none; more than one to compare. By default what is set.",
)  # fmt: skip
@click.option(
    "--rerank", "reranks", multiple=True, type=click.Choice(["gate", "always", "never"]),
    help="What decides the LLM's weight; more than one to compare.",
)  # fmt: skip
@click.option("--no-llm", is_flag=True, help="The same as --rerank never.")
@click.option(
    "--baselines",
    default="none",
    show_default=True,
    help="Names with commas, or all; a wrong name lists them.",
)
@click.option("--targets", type=click.Choice(["all", "new"]), default="all", show_default=True,
              help="Ask for all items of a basket, or those new to the shopper.")  # fmt: skip
@click.option("--sample-users", type=click.IntRange(1), help="Ask so many shoppers at most.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True,
              help="Processes among which the shoppers are shared.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--compare", nargs=2, type=click.Path(path_type=Path), metavar="A B",
              help="Put two replays' folders side by side instead.")  # fmt: skip
@click.option("--of-a", default="", help="Which contender of A; by default the first live one.")
@click.option("--of-b", default="", help="The same of B.")
def command(
    compare: tuple[Path, Path] | None, of_a: str, of_b: str, as_json: bool, **options: Any
) -> None:
    """Replay a log through the live processors and measure what they recommended.

    Each basket of a shopper is one question: were its items in the newest list that the shopper
    had before? It is asked before anything of the basket is applied. A replay that was killed
    goes on where it was when it is started again with the same options.
    """
    if compare:
        _compare(*compare, of_a, of_b, as_json=as_json, report=options["report"])
        return
    if of_a or of_b:
        raise click.UsageError("--of-a and --of-b choose contenders of --compare A B")
    missing = [f"--{name}" for name in ("events", "catalog", "report") if not options[name]]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)}; or give --compare A B")
    _replay(as_json=as_json, **options)


def _replay(*, as_json: bool, **options: Any) -> None:
    import json
    import shlex
    import sys
    from dataclasses import asdict

    from stream import settings
    from stream.assemble import cached_encoder
    from stream.cli.moments import moment
    from stream.files.columns import EVENTS, PRODUCTS, column_map
    from stream.files.progress import Paces
    from stream.replay.play.baselines import names_of
    from stream.replay.questions.prepare import Request
    from stream.replay.run import replay

    chosen = settings.load()
    reranks = ("never",) if options["no_llm"] else options["reranks"] or (chosen.rerank,)
    request = Request(
        options["events"], options["catalog"], chosen, options["report"],
        _lives(chosen, options["bundles"], reranks), names_of(options["baselines"]),
        options["protocol"], moment(options["first"]), moment(options["until"]),
        options["targets"] == "new", options["sample_users"] or 0, options["jobs"],
        options["seed"], shlex.join(["weft", *sys.argv[1:]]), "",
        column_map(options["columns"], EVENTS), column_map(options["catalog_columns"], PRODUCTS),
    )  # fmt: skip
    request.report.mkdir(parents=True, exist_ok=True)
    with Paces() as paces:
        result = replay(request, cached_encoder(chosen, say), say, paces)
    if as_json:
        click.echo(json.dumps(asdict(result)))
    else:
        shown(result)
    click.echo(f"the report: {request.report / 'report.html'}", err=True)


def _lives(
    chosen: Settings, bundles: tuple[str, ...], reranks: tuple[str, ...]
) -> tuple[Live, ...]:
    """Each bundle with each way to decide the weight, named by what they differ in."""
    from stream.bundles.library import NONE, folders, locate
    from stream.replay.questions.prepare import Live

    lives = []
    for asked in bundles or (chosen.bundle or NONE,):
        path = "" if asked == NONE else str(locate(asked, folders(chosen)))
        label = "zero-shot" if asked == NONE else f"bundle {Path(asked).name}"
        for rerank in dict.fromkeys(reranks):
            words = {"gate": "", "always": ", LLM always", "never": ", no LLM"}[rerank]
            lives.append(Live(label + words, path, rerank))
    return tuple(lives)


def shown(result: Result) -> None:
    """The verdict and a table."""
    from stream.replay.result.verdict import verdict

    for sentence in verdict(result):
        click.echo(sentence)
    click.echo("")
    width = max(len(each.name) for each in result.contenders)
    click.echo(f"{'':{width}}  HR@10                  NDCG@10                lists reranked")
    for each in result.contenders:
        cells = [each.metrics[name] for name in ("HR@10", "NDCG@10")]
        shown = "  ".join(f"{c.mean:.4f} [{c.low:.4f}, {c.high:.4f}]" for c in cells)
        click.echo(f"{each.name:{width}}  {shown}  {each.reranked:.0%}")


def _compare(a: Path, b: Path, of_a: str, of_b: str, *, as_json: bool, report: Path | None) -> None:
    import json

    from stream.replay.report.compare import compare

    found = compare(a, b, of_a, of_b)
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / "compare.html").write_text(found.page(), "utf-8")
        click.echo(f"the page: {report / 'compare.html'}", err=True)
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    for sentence in found.words():
        click.echo(sentence)
