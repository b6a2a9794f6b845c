"""What the audit of the list of packages says where it can and cannot be asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def audit(list_: Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{path}:/usr/bin:/bin"}
    command = [str(ROOT / ".ci" / "audit"), str(list_)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        (None, 0, "not installed"),
        ("exit 0", 0, ""),
        ("exit 1", 0, "did not reach its data"),
        ('while [ "$1" != --output ]; do shift; done; echo "{}" > "$2"; exit 1', 1, "are known"),
    ],
    ids=["not there", "nothing known", "no network", "vulnerable"],
)
def test_the_audit_fails_for_what_is_known_and_says_when_nobody_was_asked(
    program: str | None, code: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "packages.txt").write_text("orjson==3.10.0\n")
    if program is not None:
        (tmp_path / "pip-audit").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "pip-audit").chmod(0o755)
    done = audit(tmp_path / "packages.txt", tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert bool(done.stderr) == bool(words)
