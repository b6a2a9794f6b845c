"""`weft train` as a person runs it: killed, resumed, and a bundle that opens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from models.bundle.files import open_bundle
from tests import tiny_llama
from tests.terminal import WEFT
from tests.training_log import START, events, items


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue, a log and an LLM of two layers."""
    folder = tmp_path_factory.mktemp("files")
    catalogue = [{"item_id": item.item_id, "title": item.title} for item in items()]
    (folder / "catalog.jsonl").write_text("\n".join(map(json.dumps, catalogue)), "utf-8")
    rows = [
        {"type": "click", "user_id": e.user_id, "item_id": e.item_id, "ts": e.ts}
        for e in sorted(events(shoppers=90), key=lambda event: event.ts)
    ]
    rows[5]["query"] = "red things"
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    tiny_llama.write(folder / "llm")
    return folder


def command(files: Path, out: Path, *more: str) -> list[str]:
    return [
        *WEFT, "train", "--events", str(files / "events.jsonl"),
        "--catalog", str(files / "catalog.jsonl"), "--out", str(out), "--preset", "quick",
        "--epochs", "4", "--llm-tokens", "4000", "--rank", "4", *more,
    ]  # fmt: skip


def environment(files: Path, weights_dir: Path) -> dict[str, str]:
    return os.environ | {
        "WEFT_DATA_DIR": str(weights_dir), "WEFT_LLM": str(files / "llm"), "WEFT_THREADS": "1",
        "WEFT_ENCODER_TYPE": "fp32",
    }  # fmt: skip


@pytest.mark.long
def test_a_training_that_was_killed_goes_on_and_ends_in_the_same_bundle(
    files: Path, weights_dir: Path, tmp_path: Path
) -> None:
    told = environment(files, weights_dir)
    whole = subprocess.run(
        command(files, tmp_path / "whole"), env=told, capture_output=True, text=True, check=False
    )
    assert whole.returncode == 0, whole.stderr
    assert "weft models use" in whole.stdout
    running = subprocess.Popen(command(files, tmp_path / "killed"), env=told)
    while not list(tmp_path.glob(".killed.work/member-*/checkpoint.pt")):
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "killed").exists()
    done = subprocess.run(
        command(files, tmp_path / "killed"), env=told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    bundles = [open_bundle(tmp_path / name) for name in ("whole", "killed")]
    files_of = [{n: f.sha256 for n, f in b.manifest.files.items()} for b in bundles]
    assert files_of[0] == files_of[1]
    manifest = bundles[0].manifest
    assert manifest.llm is not None
    assert manifest.llm.method == "lora"
    assert manifest.told.data["events"] == 90 * 6 + 1  # a click with a query is a search as well
    assert 0 < manifest.told.metrics["validation HR@10 retriever"]["mean"] <= 1
    assert manifest.told.command.startswith("weft train --events ")
    assert manifest.told.split["refit"]
    assert manifest.told.split["trained_until"] == manifest.told.data["last_ts"]


def test_a_bundle_can_do_without_training(files: Path, weights_dir: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*WEFT, "train", "--events", str(files / "events.jsonl"),
         "--catalog", str(files / "catalog.jsonl"), "--out", str(tmp_path / "out"),
         "--preset", "untrained", "--no-llm"],
        env=environment(files, weights_dir), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    bundle = open_bundle(tmp_path / "out")
    titles = [item.title.casefold() for item in items()]
    assert set(bundle.words()) <= {word for title in titles for word in title.split()}
    assert bundle.words()
    assert bundle.manifest.told.space["mixup"]["strategy"] == "title"
    assert bundle.manifest.dim == 384


def test_a_log_that_is_too_short_is_refused_with_what_to_do(
    files: Path, weights_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "short.jsonl").write_text(
        json.dumps({"type": "click", "user_id": "u", "item_id": "red-0", "ts": START}), "utf-8"
    )
    done = subprocess.run(
        [*WEFT, "train", "--events", str(tmp_path / "short.jsonl"),
         "--catalog", str(files / "catalog.jsonl"), "--out", str(tmp_path / "out"), "--no-llm"],
        env=environment(files, weights_dir), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "InvalidFile" in done.stderr
    assert "longer log" in done.stderr
    assert not (tmp_path / "out").exists()
