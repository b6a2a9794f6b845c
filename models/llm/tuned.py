"""The LLM of a bundle: which one it was validated with, and how it is loaded with its adapter."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models import atomic_folder
from models.atomic_folder import Say
from models.errors import BundleInvalid
from models.llm.choose import load_scorer
from models.llm.scorer import CausalScorer
from models.weights import locate

#: The method of an LLM that is asked as it is; it has no adapter.
UNTUNED: Final = "none"
_FORMAT: Final = "2"  # of models/llm/merge_adapter.py: another number has the files written anew


@dataclass(frozen=True, slots=True)
class LlmFacts:
    """The LLM that a bundle was validated with.

    ``sha256`` is that of ``models.weights.locate.fingerprint``; ``source`` a folder or a hub name,
    "" for the default one; ``method`` one of models/llm/peft_methods.py, or ``UNTUNED``.
    """

    name: str
    sha256: str
    source: str = ""
    method: str = UNTUNED

    @property
    def tuned(self) -> bool:
        """Whether it has an adapter."""
        return self.method != UNTUNED


def load_tuned(
    adapter: Path, told: LlmFacts, source: str, data_dir: Path, threads: int, say: Say
) -> CausalScorer:
    """The LLM with its adapter merged, which is done once (a minute); untuned as it is.

    ``adapter``: a bundle's folder of the LLM; ``source``: where the LLM is here, as of
    ``load_scorer``. Raises ``BundleInvalid``, ``MissingWeights``, ``DamagedWeights``.
    """
    llm = locate.smollm2(source, data_dir, say)
    if (found := locate.fingerprint(llm)) != told.sha256:
        how = "tuned on" if told.tuned else "validated with"
        raise BundleInvalid(
            f"its LLM was {how} {told.name} with sha256 {told.sha256[:12]}…, and the one here has "
            f"{found[:12]}…: set WEFT_LLM to that one"
        )
    folder = _merged(llm, adapter, told, data_dir, say) if told.tuned else llm
    return load_scorer(str(folder), data_dir, threads, say)


def _merged(llm: Path, adapter: Path, told: LlmFacts, data_dir: Path, say: Say) -> Path:
    """The folder of the merged model, made once for these sums."""
    of = {"llm": told.sha256, "adapter": _sum(adapter), "format": _FORMAT}
    key = hashlib.sha256("\n".join(of.values()).encode()).hexdigest()[:8]

    def make(fresh: Path) -> None:
        say(f"merging the {told.method} adapter into {llm.name}, once")
        command = [
            sys.executable,
            "-m",
            "models.llm.merge_adapter",
            str(llm),
            str(adapter),
            str(fresh),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            words = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise BundleInvalid(f"its LLM's adapter could not be merged: {words[0]}")

    return atomic_folder.once(data_dir / "weights" / f"{llm.name}-tuned-{key}", of, make, say)


def _sum(adapter: Path) -> str:
    """One sum of the adapter's files."""
    digest = hashlib.sha256()
    for path in sorted(adapter.glob("*")):
        if path.is_file():
            digest.update(f"{path.name} {atomic_folder.sha256_of(path)}\n".encode())
    return digest.hexdigest()
