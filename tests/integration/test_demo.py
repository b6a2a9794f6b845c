"""The main job from end to end: broker, catalogue, shoppers, models, lists, as a person runs it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from stream.contracts.codec import decode_recommendation
from tests.terminal import WEFT, interruptible

DATA = Path(os.environ.get("WEFT_DATA", "../shared/data"))


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`weft demo` to its end; folder has the models. The LLM has the time that it needs."""
    environment = os.environ | {"WEFT_DATA_DIR": str(folder), "WEFT_DEADLINE": "60"}
    command = [*WEFT, "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_every_line_of_json_is_a_list_by_the_contract_and_the_summary_adds_up(
    weights_dir: Path,
) -> None:
    done = demo(weights_dir, "--seconds", "8", "--rerank", "never", "--json", "--rate", "5")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines  # how many come in eight seconds is the machine's
    for line in lines:
        user = json.loads(line)["user_id"]
        made = decode_recommendation(user.encode(), line.encode())
        assert made is not None
        assert len(made.recommendation.items) == 10
        assert not made.recommendation.reranked
    assert "4,001 published = 4,001 indexed" in done.stderr


def test_the_llm_takes_part_by_the_bundles_own_gate_and_the_new_product_is_found(
    weights_dir: Path,
) -> None:
    done = demo(weights_dir, "--seconds", "20", "--rate", "0.5")
    assert done.returncode == 0, done.stderr
    assert "reranked by the LLM" in done.stdout
    assert "retrievable" in done.stdout
    assert "place 1 for" in done.stdout
    assert "python -m stream.demo.sample" in done.stdout


def test_ctrl_c_ends_it_in_order_with_a_summary(weights_dir: Path) -> None:
    environment = {"WEFT_DATA_DIR": str(weights_dir)}
    command = ["demo", "--rerank", "never"]
    with interruptible(command, environment, subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "→ for" in line:
                break
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        code = process.wait(120)
    assert "items: 4,00" in rest, rest
    assert "Traceback" not in rest
    assert code == 0


def test_one_file_without_the_other_says_what_to_do(tmp_path: Path) -> None:
    done = demo(tmp_path, "--catalog", "catalog.jsonl")
    assert done.returncode == 2
    assert "go together" in done.stderr


@pytest.mark.data
@pytest.mark.long
@pytest.mark.skipif(not DATA.is_dir(), reason="no shared event logs: set WEFT_DATA")
def test_a_real_log_over_a_part_of_a_real_catalogue_makes_lists(
    weights_dir: Path, tmp_path: Path
) -> None:
    folder = DATA / "hm_sample"
    with gzip.open(folder / "events.jsonl.gz", "rt") as log:
        events = [next(log) for _ in range(60)]
    wanted = {json.loads(line)["item_id"] for line in events}
    with gzip.open(folder / "catalog.jsonl.gz", "rt") as rows:
        products = [
            r for n, r in enumerate(rows) if n % 100 == 0 or json.loads(r)["item_id"] in wanted
        ]
    (tmp_path / "catalog.jsonl").write_text("".join(products))
    (tmp_path / "events.jsonl").write_text("".join(events))
    files = ("--catalog", f"{tmp_path}/catalog.jsonl", "--events", f"{tmp_path}/events.jsonl")
    done = demo(
        weights_dir, *files, "--seconds", "10", "--rerank", "never", "--json", "--rate", "6"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()
    assert f"{len(products):,} published = {len(products):,} indexed" in done.stderr
