"""What is installed, as a CycloneDX 1.6 document and as a plain list for an audit.

    python .ci/sbom.py build/

Reads the packages' own metadata and asks nobody. The weights that packages carry are components
too, with their sha256. The same environment gives the same bytes, so no time and no serial number.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from models.weights import MINILM, SMOLLM2, Carried

Component = dict[str, Any]


def installed() -> dict[str, Distribution]:
    """The distributions that are there, by their normal name (PEP 503); of two the first."""
    found: dict[str, Distribution] = {}
    for each in distributions():
        if each.metadata["Name"]:
            found.setdefault(normal(each.metadata["Name"]), each)
    return dict(sorted(found.items()))


def normal(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def component(name: str, of: Distribution) -> Component:
    """One package."""
    purl = f"pkg:pypi/{name}@{of.version}"
    told: Component = {
        "type": "library", "bom-ref": purl, "name": name, "version": of.version, "purl": purl,
    }  # fmt: skip
    if licence := licence_of(of):
        told["licenses"] = [licence]
    return told


def licence_of(of: Distribution) -> dict[str, Any] | None:
    """An SPDX expression where the package has one, else the name that it gives, if short."""
    if expression := of.metadata.get("License-Expression"):
        return {"expression": expression}
    named = [
        line.rpartition(" :: ")[2]
        for line in of.metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    name = ", ".join(named) or (of.metadata.get("License") or "").strip()
    return {"license": {"name": name}} if name and len(name) < 100 else None


def weights(model: Carried) -> Component:
    """A model that a package carries."""
    return {
        "type": "machine-learning-model",
        "bom-ref": f"weights:{model.name}",
        "name": model.name,
        "licenses": [{"license": {"id": model.licence}}],
        "hashes": [{"alg": "SHA-256", "content": model.sha256}],
    }


def needs(of: Distribution, there: dict[str, Distribution]) -> Iterator[str]:
    """The references of what it requires and is installed; extras included."""
    for told in of.requires or []:
        match = re.match(r"[A-Za-z0-9._-]+", told)
        name = normal(match[0]) if match else ""
        if name in there:
            yield f"pkg:pypi/{name}@{there[name].version}"


def document(there: dict[str, Distribution]) -> dict[str, Any]:
    """The whole of it; Weft itself is what the document is about."""
    parts = [component(name, of) for name, of in there.items()]
    (weft,) = (part for part in parts if part["name"] == "weft")
    others = [part for part in parts if part is not weft]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**weft, "type": "application"}},
        "components": [*others, weights(MINILM), weights(SMOLLM2)],
        "dependencies": [
            {
                "ref": f"pkg:pypi/{name}@{of.version}",
                "dependsOn": sorted(set(needs(of, there))),
            }
            for name, of in there.items()
        ],
    }


def main(folder: Path) -> None:
    """Writes both files into ``folder``."""
    there = installed()
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(there), indent=1, ensure_ascii=False) + "\n"
    (folder / "sbom.cdx.json").write_text(text, "utf-8")
    # a local build (+cpu) is audited as the release that it is of
    versions = {name: of.version.partition("+")[0] for name, of in there.items() if name != "weft"}
    lines = [f"{name}=={version}" for name, version in versions.items()]
    (folder / "packages.txt").write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{folder}/sbom.cdx.json: {len(there)} packages; {folder}/packages.txt: the list")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "build"))
