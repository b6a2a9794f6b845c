"""`weft demo`: see it work, with nothing to set up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click


@click.command(
    epilog="\b\nExamples:\n  weft demo\n  weft demo --seconds 60 --bundle none\n"
    "  weft demo --catalog catalog.jsonl.gz --events events.jsonl.gz --json"
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    help="End so long after the catalogue is in; without it, on Ctrl-C.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print each list as one line, as on the topic."
)
@click.option(
    "--catalog", type=click.Path(path_type=Path), help="A catalogue of your own (a file)."
)
@click.option(
    "--events", type=click.Path(path_type=Path), help="A shopper log of your own (a file)."
)
@click.option("--rerank", type=click.Choice(["gate", "always", "never"]), help="Ask the LLM?")
@click.option(
    "--bundle",
    help="The models that serve: a bundle's folder, name or id, or none for zero-shot. By default "
    "the one that was trained on the sample shop's own log; none with files of your own.",
)
@click.option(
    "--rate", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True,
    help="Shopper events a second.",
)  # fmt: skip
def command(
    seconds: float | None,
    as_json: bool,
    catalog: Path | None,
    events: Path | None,
    rerank: str | None,
    bundle: str | None,
    rate: float,
) -> None:
    """See Weft work on a sample shop: broker, index and models in this process.

    Prints who does what and what is recommended with reasons, shows a new product becoming
    retrievable, and the address at which a Kafka client of librdkafka's can subscribe meanwhile.
    The shop is invented, and so is the log that its models were tuned on. With --catalog and
    --events it plays your own files (the formats of `weft catalog publish` and `weft events
    publish`).
    """
    if (catalog is None) != (events is None):
        raise click.UsageError("--catalog and --events go together: events name the items")
    import logging
    import signal
    import sys
    from dataclasses import replace

    from rich.console import Console

    from stream.contracts.topics import TopicNames
    from stream.demo.run import Demo, notes_shown
    from stream.demo.shop import FileShop, SampleShop, served
    from stream.demo.view import DemoView
    from stream.settings import load

    settings = load(rerank=rerank, bundle=bundle, group="weft-demo")
    settings = replace(settings, bundle=served(settings, own_files=catalog is not None))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show an arrow
    names = TopicNames(settings.topic_prefix, settings.group)
    shop = FileShop(names, catalog, events) if catalog and events else SampleShop(names)
    view = DemoView(Console(stderr=as_json))

    def emit(value: bytes) -> None:
        sys.stdout.write(value.decode() + "\n")
        sys.stdout.flush()

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await Demo(settings, shop, view, rate, emit if as_json else None).run(seconds, stop)

    with notes_shown(view):
        asyncio.run(run())
