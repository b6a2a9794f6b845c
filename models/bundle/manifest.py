"""What a bundle says of itself: its manifest, read from JSON that nobody vouches for.

What serving needs stands beside what tells where the bundle comes from and how good it was, and
``files`` has each file's length and sum.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any, Final

from models.errors import BundleInvalid
from models.llm.tuned import LlmFacts

FORMAT: Final = 2
NAME: Final = "manifest.json"
#: Bytes of a manifest at most; an honest one has a few thousand.
MOST_BYTES: Final = 4 << 20
_DEPTH: Final = 12
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ID: Final = re.compile(r"[0-9a-f]{12}")
#: A bundle's name goes to lists, logs and paths.
_NAMED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE: Final = re.compile(r"(?:llm/)?[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.(?:json|safetensors)")
#: Sizes in a space's description, at most: a hostile one must not make a model for ever.
_MOST: Final = 65_536
_CANDIDATES: Final = 20
_ENCODER: Final = re.compile(r"(?P<model>.+)-(?:int8|fp32|bf16)-(?P<sum>[0-9a-f]{8})")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """The title encoder that a bundle was trained with: model, sum of its weights, length.

    The number type is left out: its effect on the vectors is far below what training is moved by.
    ``sum`` is that of ``models.weights.locate.fingerprint``, at least its first 8 digits.
    """

    model: str
    sum: str
    dim: int

    @classmethod
    def of(cls, name: str, dim: int) -> EncoderFacts:
        """Out of an encoder's name (``models.encoder.choose``); another name is a model's."""
        found = _ENCODER.fullmatch(name)
        return cls(found["model"], found["sum"], dim) if found else cls(name, "", dim)

    def fits(self, other: EncoderFacts) -> bool:
        """Whether both are one model with the same weights."""
        same = self.sum[:8] == other.sum[:8]
        return self.model == other.model and same and self.dim == other.dim

    def __str__(self) -> str:
        return f"{self.model} ({self.sum[:8] or 'no sum'}, {self.dim} dimensions)"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file's length and sum."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Described:
    """What training says of a bundle; the rest of the manifest is found while sealing.

    ``space`` is {dim, strategy, …} with the whole of ``SequenceConfig.to_json()``; ``gate`` has
    the ``weight`` (0 to 1) that validation chose for the LLM and what ``popularity`` is worth (0 to
    1; 0 where it is not there); ``llm`` is None without an LLM; ``metrics`` {name: {mean, low,
    high}}; ``created`` ISO 8601.
    """

    name: str
    created: str
    encoder: EncoderFacts
    space: Json
    gate: Json
    versions: Json = field(default_factory=dict)
    data: Json = field(default_factory=dict)
    split: Json = field(default_factory=dict)
    metrics: Json = field(default_factory=dict)
    mix: Json = field(default_factory=dict)
    llm: LlmFacts | None = None
    licences: Json = field(default_factory=dict)
    seed: int = 0
    preset: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A sealed bundle's: what was described, its files, and the ``id`` that both decide."""

    id: str
    told: Described
    files: Mapping[str, FileFacts]

    @property
    def name(self) -> str:
        """The bundle's name, chosen by whoever trained it."""
        return self.told.name

    @property
    def encoder(self) -> EncoderFacts:
        """The title encoder that it needs."""
        return self.told.encoder

    @property
    def dim(self) -> int:
        """The space's d."""
        return int(self.told.space["dim"])

    @property
    def weight(self) -> float:
        """The LLM's share in the order, as validation chose it."""
        return float(self.told.gate["weight"])

    @property
    def trend(self) -> float:
        """What the most popular item gains on its cosine, as validation chose it."""
        return float(self.told.gate.get("popularity", 0.0))

    @property
    def llm(self) -> LlmFacts | None:
        """The LLM that reranks; None without one."""
        return self.told.llm

    @property
    def candidates(self) -> int:
        """How many candidates the LLM had to order when its weight was chosen."""
        return int(self.told.gate.get("candidates", _CANDIDATES))

    @property
    def bytes(self) -> int:
        """What the files take."""
        return sum(facts.bytes for facts in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        told = {name: getattr(self.told, name) for name in _TOLD}
        told["encoder"] = _plain(self.encoder)
        told["llm"] = None if self.llm is None else _plain(self.llm)
        files = {path: _plain(facts) for path, facts in self.files.items()}
        return {"format": FORMAT, "id": self.id, **told, "files": files}


_TOLD: Final = tuple(entry.name for entry in fields(Described))
#: The fields that the id vouches for, besides the files.
_DECISIVE: Final = ("encoder", "space", "gate", "mix", "llm")


def sealed(told: Described, files: Mapping[str, FileFacts]) -> Manifest:
    """The manifest of ``files``. Raises ``BundleInvalid`` for what no reader would take."""
    whole = Manifest("0" * 12, told, dict(sorted(files.items()))).to_json()
    plain = json.loads(json.dumps(whole))  # as a reader will find it
    plain["id"] = _id({name: plain[name] for name in _DECISIVE}, files)
    return parse(json.dumps(plain).encode())


def parse(content: bytes) -> Manifest:
    """The manifest, every field checked. Raises ``BundleInvalid``."""
    whole = _loaded(content)
    if whole.get("format") != FORMAT:
        raise BundleInvalid(
            f"its format is {whole.get('format')!r}, this Weft reads {FORMAT}: use the release "
            "that trained it, or train it anew"
        )
    kinds: dict[str, type | tuple[type, ...]] = dict.fromkeys(_TOLD, dict)
    kinds |= {"name": str, "created": str, "preset": str, "command": str, "seed": int}
    kinds |= {"llm": (dict, type(None)), "files": dict, "id": str}
    if strange := sorted(set(whole) - {*kinds, "format"}):
        raise BundleInvalid(f"its manifest has the unknown field {strange[0]!r}")
    for name, kind in kinds.items():
        if name not in whole or not isinstance(whole[name], kind) or isinstance(whole[name], bool):
            raise BundleInvalid(f"its manifest's {name!r} is missing or of the wrong type")
    _check_text(whole)
    _check_space(whole["space"])
    _check_weight(whole["gate"])
    _check_metrics(whole["metrics"])
    parts = {"encoder": _encoder(whole["encoder"]), "llm": _llm(whole["llm"])}
    files = {path: _file(path, facts) for path, facts in whole["files"].items()}
    told = Described(**{**{name: whole[name] for name in _TOLD}, **parts})
    if whole["id"] != _id({name: whole[name] for name in _DECISIVE}, files):
        raise BundleInvalid("its manifest is not the one that was sealed: its id does not fit it")
    return Manifest(whole["id"], told, files)


def _id(decisive: Json, files: Mapping[str, FileFacts]) -> str:
    """12 hex digits over the files' sums and all that decides what is served."""
    sums = {path: facts.sha256 for path, facts in files.items()}
    text = json.dumps({"format": FORMAT, **decisive, "files": sums}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(facts: EncoderFacts | LlmFacts | FileFacts) -> dict[str, Any]:
    return {entry.name: getattr(facts, entry.name) for entry in fields(facts)}


def _loaded(content: bytes) -> dict[str, Any]:
    if len(content) > MOST_BYTES:
        raise BundleInvalid(f"its manifest is longer than {MOST_BYTES >> 20} MiB")
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleInvalid(f"its manifest is no JSON ({type(error).__name__})") from error
    if not isinstance(whole, dict):
        raise BundleInvalid("its manifest is no JSON object")
    _check_plain(whole, _DEPTH)
    return whole


def _check_plain(value: Any, depth: int) -> None:
    """Nothing too deep, no NaN: what is printed and compared later is sound."""
    if depth == 0:
        raise BundleInvalid("its manifest is nested too deeply")
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inside:
        _check_plain(part, depth - 1)
    if isinstance(value, float) and not math.isfinite(value):
        raise BundleInvalid("its manifest holds a number that is not finite")


def _check_text(whole: dict[str, Any]) -> None:
    if not _NAMED.fullmatch(whole["name"]):
        raise BundleInvalid("its name may hold letters, digits, '.', '_' and '-', 64 at most")
    if not _ID.fullmatch(whole["id"]):
        raise BundleInvalid("its id is not 12 hex digits")


def _check_space(space: dict[str, Any]) -> None:
    if not isinstance(space.get("strategy"), str):
        raise BundleInvalid("its space names no strategy")
    _whole_number(space.get("dim"), "its space's dim", low=1)

    def bounded(part: Any) -> None:
        if isinstance(part, dict):
            for inner in part.values():
                bounded(inner)
        elif not isinstance(part, (str, int, float, bool)):
            raise BundleInvalid("its space is described by something else than plain values")
        elif isinstance(part, (int, float)) and not 0 <= part <= _MOST:
            raise BundleInvalid(f"its space is described by a number that is not 0 to {_MOST}")

    bounded(space)


def _check_weight(gate: dict[str, Any]) -> None:
    for name, told in (("weight", gate.get("weight")), ("popularity", gate.get("popularity", 0))):
        number = isinstance(told, (int, float)) and not isinstance(told, bool)
        if not number or not 0 <= float(told or 0) <= 1:
            raise BundleInvalid(f"its gate's {name} is no number from 0 to 1")
    _whole_number(gate.get("candidates", _CANDIDATES), "its gate's candidates", low=1, most=500)


def _check_metrics(metrics: dict[str, Any]) -> None:
    for name, told in metrics.items():
        numbers = told.values() if isinstance(told, dict) else ()
        if "mean" not in (told if isinstance(told, dict) else ()) or any(
            isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers
        ):
            raise BundleInvalid(f"its metric {name!r} is not {{mean, low, high}} in numbers")


def _encoder(told: dict[str, Any]) -> EncoderFacts:
    if set(told) != {"model", "sum", "dim"} or not all(
        isinstance(told[name], str) for name in ("model", "sum")
    ):
        raise BundleInvalid("its encoder is not {model, sum, dim}")
    if not re.fullmatch(r"(?:[0-9a-f]{8,64})?", told["sum"]):
        raise BundleInvalid("its encoder's sum is not 8 to 64 hex digits")
    return EncoderFacts(
        told["model"], told["sum"], _whole_number(told["dim"], "its encoder's dim", low=1)
    )


def _llm(told: dict[str, Any] | None) -> LlmFacts | None:
    if told is None:
        return None
    names = {entry.name for entry in fields(LlmFacts)}
    if set(told) != names or not all(isinstance(value, str) for value in told.values()):
        raise BundleInvalid("its LLM is not {name, sha256, source, method}")
    if not told["name"] or not told["method"]:
        raise BundleInvalid("its LLM's name or method is missing")
    if not _SHA256.fullmatch(told["sha256"]):
        raise BundleInvalid("its LLM's 'sha256' is none")
    return LlmFacts(**told)


def _file(path: str, facts: Any) -> FileFacts:
    """Checked: a plain name in the folder or in ``llm/``, of a kind that holds no code."""
    if not _FILE.fullmatch(path) or ".." in PurePosixPath(path).parts or path == NAME:
        raise BundleInvalid(
            f"its manifest names the file {path[:80]!r}: only .safetensors and .json files in the "
            "bundle's folder, or in its folder llm/, are loaded"
        )
    if not isinstance(facts, dict) or set(facts) != {"bytes", "sha256"}:
        raise BundleInvalid(f"its manifest does not tell the length and sum of {path}")
    if not _SHA256.fullmatch(str(facts["sha256"])):
        raise BundleInvalid(f"its manifest has no sha256 of {path}")
    return FileFacts(
        _whole_number(facts["bytes"], f"the length of {path}", most=1 << 50), facts["sha256"]
    )


def _whole_number(value: Any, words: str, *, low: int = 0, most: int = _MOST) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= most:
        raise BundleInvalid(f"{words} is no whole number from {low} to {most}")
    return value
