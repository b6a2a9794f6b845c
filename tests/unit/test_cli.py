from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stream.cli import cli

ROOT = Path(__file__).parents[2]
#: None of them may be imported to print a help text.
HEAVY = ("torch", "transformers", "onnxruntime", "confluent_kafka", "qdrant_client", "faust")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command's words, groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = list(commands(cli))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*words, "--help"])
    assert result.exit_code == 0
    before, example, after = result.output.partition("Example")
    assert before.startswith("Usage:")
    if "Commands:" not in result.output:  # a group's commands have theirs
        assert example
        assert f"weft {' '.join(words)}" in after


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_help_text_imports_anything_heavy(words: tuple[str, ...]) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from stream.cli import cli; "
        f"CliRunner().invoke(cli, {[*words, '--help']!r}); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_workers_help_lists_every_setting() -> None:
    from stream.settings import describe

    output = CliRunner().invoke(cli, ["worker", "--help"]).output
    for variable, _, _ in describe():
        assert variable in output


def test_an_error_of_ours_is_one_line_and_exit_code_1() -> None:
    program = [sys.executable, "-c", "from stream.cli import main; main()"]
    environment = os.environ | {"WEFT_PARTITIONS": "many"}
    done = subprocess.run(
        [*program, "catalog", "publish", str(ROOT / "Makefile")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "weft: InvalidSettings: partitions='many' must be a whole number"
    ]


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["serve"])
    assert result.exit_code == 2
    assert "No such command" in result.output
