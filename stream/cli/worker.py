"""`weft worker`: the process that a shop runs."""

from __future__ import annotations

from pathlib import Path

import click

from stream.index.registry import ADAPTERS
from stream.settings import describe


def settings_rows() -> list[tuple[str, str, str]]:
    """(variable, default, words) of every setting."""
    return describe({"index": ADAPTERS})


def _settings_table() -> str:
    rows = [
        f"  {name}  (default: {default or 'none'})\n      {words}"
        for name, default, words in settings_rows()
    ]
    return "\b\n" + "\n".join(rows)


@click.command(
    epilog="\b\nSettings, from the environment or from a TOML file (names in lower case, without "
    "WEFT_;\na secret may also be a file that WEFT_<NAME>_FILE names):\n\n"
    + _settings_table()
    + "\n\n\b\nExamples:\n  weft worker\n  WEFT_KAFKA=broker:9092 weft worker --rerank always\n"
    "  weft worker --config weft.toml"
)
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file.")
@click.option("--rerank", type=click.Choice(["gate", "always", "never"]), help="Ask the LLM?")
def command(config: Path | None, rerank: str | None) -> None:
    """Turn events into recommendations until stopped.

    Start as many as there are partitions, each with a data folder of its own (WEFT_DATA_DIR);
    Kafka shares the partitions out among them. Ctrl-C or SIGTERM ends one cleanly, and nothing
    is lost if it ends otherwise.
    """
    from stream.settings import load
    from stream.worker import run_worker

    run_worker(load(file=config, rerank=rerank))
