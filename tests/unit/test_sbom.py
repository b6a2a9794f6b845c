"""The list of what is installed, and what the audit says where it can and cannot be asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from models.weights import MINILM, SMOLLM2

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sbom")
    for name in ("once", "again"):
        command = [sys.executable, ".ci/sbom.py", str(out / name)]
        environment = os.environ | {"PYTHONPATH": "."}
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    return out


@pytest.fixture(scope="module")
def document(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "once" / "sbom.cdx.json").read_text("utf-8"))
    return told


def test_every_declared_dependency_is_a_component_of_the_version_that_is_installed(
    document: dict[str, Any],
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = [re.split(r"[^\w-]", told)[0] for told in project["dependencies"]]
    assert names
    found = {part["name"]: part.get("version") for part in document["components"]}
    assert {name: found.get(name) for name in names} == {name: version(name) for name in names}
    assert document["metadata"]["component"]["name"] == "weft"


def test_references_are_unique_and_lead_somewhere(document: dict[str, Any]) -> None:
    parts = [document["metadata"]["component"], *document["components"]]
    references = [part["bom-ref"] for part in parts]
    assert len(set(references)) == len(references)
    for edge in document["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= set(references)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")


def test_the_weights_are_components_with_their_sums(document: dict[str, Any]) -> None:
    models = {p["name"]: p for p in document["components"] if p["type"] == "machine-learning-model"}
    for model in (MINILM, SMOLLM2):
        assert models[model.name]["hashes"] == [{"alg": "SHA-256", "content": model.sha256}]


def test_the_same_environment_gives_the_same_bytes(folder: Path) -> None:
    for name in ("sbom.cdx.json", "packages.txt"):
        once, again = ((folder / run / name).read_bytes() for run in ("once", "again"))
        assert once == again
        assert once


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
