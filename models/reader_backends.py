"""The tuned LLM of a bundle's reader, merged once, on the back end that suits this machine."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from models import making, weights
from models.errors import BundleInvalid
from models.llm import CausalScorer
from models.llm_backends import is_plain_llama, is_quick, load_scorer
from models.making import Say
from models.manifest import UNTUNED
from models.reader_merge import SOFT
from models.reader_states import Kept, StateModel

_KIND: Final = "int8"  # the graph alone; _BODY: what torch loads; _WHOLE: with the output layer
_BODY: Final = "body"
_WHOLE: Final = "whole"
_FORMAT: Final = "1"  # of models/reader_graph.py and reader_merge.py: another has it made anew
_BIASES: Final = ("bitfit",)  # methods whose model has biases, which the graph does not know


def load_states(
    reader: Path, told: Mapping[str, Any], source: str, data_dir: Path, threads: int, say: Say
) -> tuple[StateModel, Kept | None]:
    """The tuned model, and what stands in front of every prompt, if anything.

    ``reader``: a bundle's folder of that name; ``told``: what its manifest says of it; ``source``
    of the LLM: "", a folder or a hub name. The first call merges (a minute). Raises
    ``BundleInvalid``, ``MissingWeights``, ``DamagedWeights``.
    """
    llm = _own_llm(told, source, data_dir, say)
    on_torch = is_quick() or not is_plain_llama(llm) or told["method"] in _BIASES
    folder = _merged(llm, reader, told, data_dir, _BODY if on_torch else _KIND, say)
    model: StateModel
    if on_torch:
        from models.reader_torch import TorchStates

        model = TorchStates(folder, threads=threads)
    else:
        from models.reader_onnx import OnnxStates

        name = f"{folder.name.lower()}-{_KIND}"
        model = OnnxStates(name, folder / "model.onnx", folder / "tokenizer.json", threads)
    return model, _soft(folder, model)


def load_merged(
    adapter: Path, told: Mapping[str, Any], source: str, data_dir: Path, threads: int, say: Say
) -> CausalScorer:
    """A causal LLM with its adapter merged, output layer and all, which is done once.

    Arguments and errors as of ``load_states``; methods that put something in front of a prompt
    are refused. An untuned LLM is loaded as it is.
    """
    return load_scorer(str(_whole(adapter, told, source, data_dir, say)), data_dir, threads, say)


def _whole(adapter: Path, told: Mapping[str, Any], source: str, data_dir: Path, say: Say) -> Path:
    llm = _own_llm(told, source, data_dir, say)
    if told["method"] == UNTUNED:
        return llm
    folder = _merged(llm, adapter, told, data_dir, _WHOLE, say)
    if (folder / SOFT).is_file():
        raise BundleInvalid(f"{told['method']} tuning is not served here: use lora")
    return folder


def _own_llm(told: Mapping[str, Any], source: str, data_dir: Path, say: Say) -> Path:
    """The LLM that was asked. Raises ``BundleInvalid`` where ``source`` is another."""
    llm = weights.smollm2(source, data_dir, say)
    found = weights.fingerprint(llm)
    if found != told["llm_sha256"]:
        how = "validated with" if told["method"] == UNTUNED else "tuned on"
        raise BundleInvalid(
            f"its LLM was {how} {told['llm']} with sha256 {str(told['llm_sha256'])[:12]}…, "
            f"and the one here has {found[:12]}…: set WEFT_LLM to that one"
        )
    return llm


def _merged(
    llm: Path, reader: Path, told: Mapping[str, Any], data_dir: Path, kind: str, say: Say
) -> Path:
    """The folder of the merged model, or of its graph and tokenizer, made once for these sums."""
    layers = told.get("layers", 0)
    if type(layers) is not int or not 0 <= layers <= 1024:
        raise BundleInvalid(f"its reader's 'layers' are {layers!r}")
    of = {
        "llm": str(told["llm_sha256"]),
        "reader": _sum(reader),
        "layers": str(layers),
        "format": _FORMAT,
        "kind": kind,
    }
    key = hashlib.sha256("\n".join(of.values()).encode()).hexdigest()[:8]

    def make(fresh: Path) -> None:
        say(f"merging the reader's {told['method']} adapter into {llm.name}, once")
        if kind != _KIND:
            _merge(llm, reader, layers, fresh, kind)
            return
        from models import reader_graph  # onnx takes a second to import: only where it is needed

        with tempfile.TemporaryDirectory(dir=fresh) as scratch:
            whole = Path(scratch)
            _merge(llm, reader, layers, whole, kind)
            reader_graph.write(whole, fresh / "model.onnx", _KIND)
            for name in ("tokenizer.json", SOFT):
                if (whole / name).is_file():
                    shutil.move(whole / name, fresh / name)

    return making.once(data_dir / "weights" / f"{llm.name}-reader-{key}", of, make, say)


def _merge(llm: Path, reader: Path, layers: int, out: Path, kind: str) -> None:
    command = [sys.executable, "-m", "models.reader_merge"]
    command += [str(llm), str(reader), str(layers), str(out), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BundleInvalid(f"its reader's adapter could not be merged: {words[0]}")


def _sum(reader: Path) -> str:
    """One sum of the adapter's files; the head is read apart."""
    digest = hashlib.sha256()
    for path in sorted(reader.glob("*")):
        if path.is_file() and path.name != "head.safetensors":
            digest.update(f"{path.name} {making.sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _soft(folder: Path, model: StateModel) -> Kept | None:
    file = folder / SOFT
    if not file.is_file():
        return None
    from safetensors.numpy import load_file

    return model.keep(load_file(file)["past"])
