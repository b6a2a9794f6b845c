from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.errors import InvalidFile
from stream.cli import cli
from stream.cli.import_ import _NAMES
from stream.importers.run import SOURCES
from testbed.published_logs import WRITERS, hm, lines
from testbed.waiting import eventually
from tests.terminal import WEFT, on_a_terminal


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_as_published_becomes_a_log_and_a_catalogue(tmp_path: Path, name: str) -> None:
    files, out = tmp_path / "files", tmp_path / "out"
    files.mkdir()
    WRITERS[name](files)
    result = CliRunner().invoke(cli, ["import", name, str(files), "--out", str(out)])
    assert result.exit_code == 0, result.output
    events, items = lines(out / "events.jsonl.gz"), lines(out / "catalog.jsonl.gz")
    assert result.stdout.startswith(f"{len(events)} events and {len(items)} products in {out} in ")
    assert result.stdout.endswith(" rows set aside\n")
    assert result.stderr.count("  set aside: ") >= 1
    assert all(f"  note: {note}\n" in result.stderr for note in SOURCES[name].notes)
    assert ("not by ts" in result.stderr) == (name in ("hm", "amazon2014"))
    assert f"the licence is the publisher's: {SOURCES[name].home}\n" in result.stderr


def test_more_rows_set_aside_than_are_shown_are_counted_by_file(tmp_path: Path) -> None:
    hm(tmp_path)
    with (tmp_path / "articles.csv").open("a") as file:
        file.write("short\n" * 20)
    result = CliRunner().invoke(cli, ["import", "hm", str(tmp_path), "--out", str(tmp_path / "o")])
    assert "… and 16 more of articles.csv\n" in result.stderr
    assert result.stdout.endswith(", 24 rows set aside\n")


def test_a_sample_of_the_shoppers_can_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "UserBehavior.csv").write_text(
        "".join(f"{user},1,1,pv,1511544070\n" for user in range(1000))
    )
    arguments = ["import", "taobao", str(tmp_path), "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(cli, [*arguments, "--sample-users", "0.1"])
    assert "not by ts" not in result.stderr
    assert 50 < len(lines(tmp_path / "o" / "events.jsonl.gz")) < 150
    assert result.exit_code == 0
    for share in ("0", "1.5"):
        assert CliRunner().invoke(cli, [*arguments, "--sample-users", share]).exit_code == 2


def test_a_killed_import_leaves_no_folder_and_the_next_sweeps_up_after_it(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "UserBehavior.csv").write_text("1,2268,2520,pv,1511544070\n" * 1_000_000)
    words = ["import", "taobao", str(files), "--out", str(tmp_path / "o")]
    with subprocess.Popen([*WEFT, *words]) as process:
        eventually(lambda: list(tmp_path.glob(".o.new-*")))
        process.kill()
    begun = list(tmp_path.glob(".o.new-*"))
    assert list(tmp_path.glob(".o.new-*")) == begun
    assert not (tmp_path / "o").exists()
    (files / "UserBehavior.csv").write_text("1,2268,2520,pv,1511544070\n")
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert len(lines(tmp_path / "o" / "events.jsonl.gz")) == 1
    assert not list(tmp_path.glob(".o.new-*"))


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [*WEFT, "import", "hm", str(tmp_path), "--out", str(tmp_path / "o")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"weft: InvalidFile: there is no transactions_train.csv in {tmp_path}, unpacked or .gz\n"
    )


def test_an_out_that_cannot_be_written_is_an_invalid_file(tmp_path: Path) -> None:
    hm(tmp_path)
    out = tmp_path / "articles.csv" / "o"  # a file is no folder
    result = CliRunner().invoke(cli, ["import", "hm", str(tmp_path), "--out", str(out)])
    assert isinstance(result.exception, InvalidFile)


def test_the_command_knows_every_importer() -> None:
    assert set(_NAMES) == set(SOURCES)


def test_a_terminal_gets_a_bar_that_leaves_the_summary(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "UserBehavior.csv").write_text("1,2268,2520,pv,1511544070\n" * 20_000)
    words = ["import", "taobao", str(files), "--out", str(tmp_path / "o")]
    code, shown = on_a_terminal(words, {"TERM": "xterm"})
    assert code == 0
    assert "20,000 events and 1 products in" in shown
    assert "━" in shown
