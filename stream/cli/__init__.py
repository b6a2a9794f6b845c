"""The command line. Each command lives in a module of its own, imported when it is asked for.

So `weft worker --help` imports neither torch nor Kafka (tests/unit/test_cli.py holds that).
"""

from __future__ import annotations

import importlib
import sys

import click

from models.errors import WeftError

_COMMANDS = {
    "demo": ("stream.cli.demo", "See Weft work on a sample shop, with nothing to set up."),
    "worker": ("stream.cli.worker", "Turn events into recommendations until stopped."),
    "catalog": ("stream.cli.catalog", "Publish catalogue updates from a file."),
    "events": ("stream.cli.events", "Publish shopper events from a file."),
    "import": ("stream.cli.import_", "Turn a public fashion log's files into Weft's."),
    "recs": ("stream.cli.recs", "Read the recommendations topic."),
    "dlq": ("stream.cli.dlq", "Messages that could not be used: look, send back, delete."),
    "schema": ("stream.cli.schema", "Print the contracts of the topics."),
    "replay": ("stream.cli.replay", "Replay a log through the live code; measure, compare."),
    "experiment": ("stream.cli.experiment", "The paper's experiments, each with its report."),
    "train": ("stream.cli.train", "Train a bundle of models on a log of events."),
    "models": ("stream.cli.models", "The models' weights; list, show and use trained bundles."),
    "doctor": ("stream.cli.doctor", "Say what is missing, and how to get it."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="weft", prog_name="weft")
def cli() -> None:
    """Weft: fashion recommendations from a stream of events.

    Start with `weft demo`; `weft doctor` says what a real set-up still needs.
    """


def main() -> None:
    """The console script: an error of ours is one line and exit code 1, never a traceback."""
    try:
        cli.main(standalone_mode=True)
    except WeftError as error:
        click.echo(f"weft: {type(error).__name__}: {error}", err=True)
        sys.exit(1)
