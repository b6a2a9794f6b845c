"""Bundles: sealed whole, opened only when all of it fits."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.bundle import files as bundles
from models.bundle.files import EncoderFacts, open_bundle, read_manifest
from models.errors import BundleInvalid
from models.llm.tuned import LlmFacts
from models.space.trained import TrainedSpace
from testbed.stand_ins import HashEncoder
from tests import tiny_bundle

ENCODER = HashEncoder(24)
TUNED = LlmFacts("SmolLM2", "a" * 64, "", "lora")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tiny_bundle.write(tmp_path / "tiny", ENCODER)
    return tmp_path / "tiny"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest and leaves its id as it was."""
    told = json.loads((path / "manifest.json").read_text())
    change(told)
    (path / "manifest.json").write_text(json.dumps(told))


def reseal(path: Path) -> None:
    """Seals the folder as it is now: sums and id are right, as a forger's would be."""
    told = read_manifest(path).told
    (path / "manifest.json").unlink()
    bundles.seal(path, told)


def refused(path: Path, words: str) -> None:
    with pytest.raises(BundleInvalid, match=words) as caught:
        TrainedSpace(open_bundle(path), ENCODER)
    assert str(path) in str(caught.value)


def tensors(header: object, data: bytes = b"") -> bytes:
    """A safetensors file by hand."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_what_is_written_is_what_is_opened(path: Path) -> None:
    bundle = open_bundle(path)
    told = bundle.manifest.told
    assert (told.name, told.seed, told.preset) == ("tiny", 7, "quick")
    assert bundle.label == f"tiny@{bundle.id}"
    assert bundle.item_ids() == ["i1", "i2", "i3"]
    assert bundle.counts().tolist() == [5, 5, 5]
    assert (bundle.manifest.dim, bundle.manifest.weight) == (16, 0.4)
    assert sorted(p.name for p in path.iterdir()) == [
        "items.json",
        "items.safetensors",
        "manifest.json",
        "sequence.safetensors",
    ]
    assert bundle.manifest.bytes == sum(
        p.stat().st_size for p in path.iterdir() if p.name != "manifest.json"
    )


def test_the_id_is_the_contents_and_not_the_names(tmp_path: Path) -> None:
    first = tiny_bundle.write(tmp_path / "a", ENCODER)
    again = tiny_bundle.write(tmp_path / "b", ENCODER, name="other")
    assert first.id == again.id
    assert tiny_bundle.write(tmp_path / "c", ENCODER, seed=1).id != first.id
    assert tiny_bundle.write(tmp_path / "d", ENCODER, gate={"weight": 0.5}).id != first.id


def test_a_bundle_appears_whole_or_not_at_all(tmp_path: Path, path: Path) -> None:
    before = read_manifest(path).id

    def interrupted(folder: Path) -> None:
        (folder / "sequence.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bundles.write_bundle(path, read_manifest(path).told, interrupted, print)
    assert open_bundle(path).id == before
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["tiny"]


def test_a_bundle_that_would_be_refused_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="from 0 to 1"):
        tiny_bundle.write(tmp_path / "x", ENCODER, gate={"weight": 2})
    with pytest.raises(BundleInvalid, match="names the same item twice"):
        tiny_bundle.write(tmp_path / "x", ENCODER, ids=["i1", "i1"])
    assert not (tmp_path / "x").exists()


# -- damage ------------------------------------------------------------------------------


def test_a_changed_byte_is_seen(path: Path) -> None:
    file = path / "sequence.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    refused(path, "sequence.safetensors is damaged: its sha256")


def test_a_file_cut_short_is_seen(path: Path) -> None:
    file = path / "sequence.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    refused(path, r"sequence.safetensors is damaged: \d+ bytes instead of \d+")


def test_a_missing_file_is_named(path: Path) -> None:
    (path / "items.json").unlink()
    refused(path, "items.json is missing")


def test_no_manifest_is_no_bundle(path: Path) -> None:
    (path / "manifest.json").unlink()
    refused(path, "has no manifest.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b'{"format": 1}', b"\xff"])
def test_a_manifest_that_is_none_is_refused(path: Path, content: bytes) -> None:
    (path / "manifest.json").write_bytes(content)
    refused(path, "manifest|format")


# -- what does not fit -------------------------------------------------------------------


def test_another_encoder_is_refused_and_said(path: Path) -> None:
    with pytest.raises(BundleInvalid, match=r"hash-24.*and this is hash-32"):
        TrainedSpace(open_bundle(path), HashEncoder(32))


def test_an_encoder_fits_whatever_its_number_type() -> None:
    trained = EncoderFacts.of("all-MiniLM-L6-v2-fp32-53aa5117", 384)
    assert trained == EncoderFacts("all-MiniLM-L6-v2", "53aa5117", 384)
    assert trained.fits(EncoderFacts.of("all-MiniLM-L6-v2-int8-53aa5117", 384))
    assert EncoderFacts("all-MiniLM-L6-v2", "53aa5117" + "0" * 56, 384).fits(trained)
    assert not trained.fits(EncoderFacts.of("all-MiniLM-L6-v2-int8-00aa5117", 384))
    assert not trained.fits(EncoderFacts.of("all-MiniLM-L12-v2-int8-53aa5117", 384))


def llm_of(path: Path, llm: LlmFacts | None, *files: str) -> None:
    """Seals the folder with such an LLM, and these empty files of it."""
    told = read_manifest(path).told
    (path / "manifest.json").unlink()
    (path / "llm").mkdir()
    for name in files:
        (path / "llm" / name).write_bytes(tensors({}))
    bundles.seal(path, replace(told, llm=llm))


def test_a_tuned_llm_is_told_of_and_its_adapter_is_there(path: Path) -> None:
    llm_of(path, TUNED, "adapter_model.safetensors")
    assert open_bundle(path).manifest.llm == TUNED


def test_a_tuned_llm_without_its_adapter_is_refused(path: Path) -> None:
    llm_of(path, TUNED)
    refused(path, "its LLM's adapter is missing")


@pytest.mark.parametrize("llm", [None, replace(TUNED, method="none")])
def test_an_adapter_of_no_tuned_llm_is_refused(path: Path, llm: LlmFacts | None) -> None:
    llm_of(path, llm, "adapter_model.safetensors")
    refused(path, "its manifest tells of no tuned LLM")


def test_a_wrong_dimension_is_refused(path: Path) -> None:
    told = read_manifest(path).told
    space = {**told.space, "dim": 32}
    (path / "manifest.json").unlink()
    bundles.seal(path, replace(told, space=space))
    refused(path, "its space has 16 dimensions, not 32")


# -- hostile ones ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../evil.safetensors",
        "/etc/passwd.json",
        "llm/../../x.json",
        "a/b.json",
        "model.pkl",
        "x.py",
        ".hidden.json",
        "manifest.json",
        "llm\\x.json",
        "",
        "x\x00.json",
    ],
)
def test_a_path_that_leads_elsewhere_or_holds_code_is_refused(path: Path, name: str) -> None:
    facts = {"bytes": 1, "sha256": "0" * 64}
    edit(path, lambda told: told["files"].update({name: facts}))
    refused(path, "names the file")


def test_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    (path / "items.json").replace(outside)
    (path / "items.json").symlink_to(outside)
    refused(path, "items.json is a link")


def test_a_linked_folder_or_manifest_is_refused(path: Path, tmp_path: Path) -> None:
    (path / "llm").symlink_to(tmp_path)
    refused(path, "llm is a link")
    (path / "llm").unlink()
    (path / "manifest.json").replace(tmp_path / "m.json")
    (path / "manifest.json").symlink_to(tmp_path / "m.json")
    refused(path, "its manifest is a link")


def test_a_pipe_is_refused_and_not_waited_for(path: Path) -> None:
    (path / "items.json").unlink()
    os.mkfifo(path / "items.json")
    refused(path, "items.json is no plain file")


def test_an_extra_file_is_refused(path: Path) -> None:
    (path / "hook.py").write_text("raise SystemExit")
    refused(path, "holds 'hook.py', which its manifest does not name")


def test_an_extra_folder_is_refused(path: Path) -> None:
    (path / "code").mkdir()
    refused(path, "a folder 'code'")


def test_a_pickle_in_a_tensor_files_clothes_is_not_loaded(path: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (path / "sequence.safetensors").write_bytes(pickle.dumps(Evil()))
    reseal(path)
    refused(path, "no safetensors file")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**60]}},
        {"w": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}},
        {"w": {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}},
        {"w": {"shape": [1]}},
        {"w": 7},
        {},
    ],
)
def test_a_tensor_that_is_not_as_long_as_its_shape_is_refused(path: Path, header: object) -> None:
    (path / "sequence.safetensors").write_bytes(tensors(header, b"\0\0\0\0"))
    reseal(path)
    refused(path, "tensor")


@pytest.mark.parametrize(("numbers", "words"), [(1, "larger than its file"), (99_999, "missing")])
def test_other_shapes_than_the_models_are_refused(path: Path, numbers: int, words: str) -> None:
    told = {"w": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}}
    (path / "sequence.safetensors").write_bytes(tensors(told, bytes(4 * numbers)))
    reseal(path)
    refused(path, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["red"]', "it knows 0 words, and words.json has 1"),
        ('["red", "red"]', "words.json names the same word twice"),
        ('{"red": 1}', "words.json is no list of words"),
    ],
)
def test_words_that_are_not_the_models_are_refused(path: Path, text: str, words: str) -> None:
    (path / "words.json").write_text(text)
    reseal(path)
    with pytest.raises(BundleInvalid, match=words):
        TrainedSpace(open_bundle(path), ENCODER)


def test_a_list_of_words_may_be_json_of_any_encoding(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny", ENCODER, words=["linen", "red"])
    for encoding in ("utf-16", "utf-8-sig"):
        (tmp_path / "tiny" / "words.json").write_bytes('["linen", "red"]'.encode(encoding))
        reseal(tmp_path / "tiny")
        assert open_bundle(tmp_path / "tiny").words() == ["linen", "red"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(17, 16, dtype=torch.int32), "of a type that no weight has"),
        (torch.full((3, 16), torch.inf), "not finite, or huge"),
        (torch.full((3, 16), 3e38), "not finite, or huge"),
    ],
)
def test_weights_that_are_none_are_refused(tmp_path: Path, value: torch.Tensor, words: str) -> None:
    tiny_bundle.write(tmp_path / "tiny", ENCODER, words=["linen", "red"])
    file = tmp_path / "tiny" / "sequence.safetensors"
    name = "members.0.mixup.title.words.weight"
    save_file({**load_file(file), name: value[:3].contiguous()}, file)
    reseal(tmp_path / "tiny")
    with pytest.raises(BundleInvalid, match=words):
        TrainedSpace(open_bundle(tmp_path / "tiny"), ENCODER)


def test_a_bundle_without_the_words_that_its_model_knows_is_refused(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny", ENCODER, words=["linen", "red"])
    (tmp_path / "tiny" / "words.json").unlink()
    reseal(tmp_path / "tiny")
    with pytest.raises(BundleInvalid, match=r"knows 2 words, and words\.json has 0"):
        TrainedSpace(open_bundle(tmp_path / "tiny"), ENCODER)


@pytest.mark.parametrize(
    "change",
    [
        {"layers": 65_000},
        {"members": 10**9},
        {"heads": 3},
        {"layers": "two"},
        {"length": -1},
        {"unheard": 1},
        {"mixup": {"strategy": "average", "title_dim": 24, "dim": 10**12, "hidden": 0}},
        {"mixup": {"strategy": "nonsense", "title_dim": 24, "dim": 16, "hidden": 0}},
        {"mixup": {"strategy": "average", "title_dim": 24, "dim": 16, "words": 10**12}},
        {"mixup": {"strategy": "average", "title_dim": 24, "dim": 16, "words": -1}},
        {"mixup": {"strategy": "average", "title_dim": 24, "dim": 16, "hidden": -3200}},
        {"mixup": None},
    ],
)
def test_a_description_of_no_sound_model_is_refused(path: Path, change: dict[str, Any]) -> None:
    told = read_manifest(path).told
    space = {**told.space, **change}

    def sealed_and_loaded() -> None:
        (path / "manifest.json").unlink()
        bundles.seal(path, replace(told, space=space))
        TrainedSpace(open_bundle(path), ENCODER)

    with pytest.raises(BundleInvalid):
        sealed_and_loaded()


def test_numbers_that_are_not_finite_are_refused(path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    state = load_file(path / "sequence.safetensors")
    state["members.0.norm.weight"][0] = np.nan
    save_file(state, path / "sequence.safetensors")
    reseal(path)
    refused(path, "not finite")


def test_a_configuration_that_names_code_is_refused(path: Path) -> None:
    told = read_manifest(path).told
    (path / "llm").mkdir()
    (path / "llm" / "config.json").write_text('{"auto_map": {"AutoModel": "x.Evil"}}')
    (path / "llm" / "model.safetensors").write_bytes(tensors({}))
    (path / "manifest.json").unlink()
    bundles.seal(path, replace(told, llm=TUNED))
    refused(path, "asks for code to be run")


@pytest.mark.parametrize("field", ["gate", "space", "encoder", "llm", "mix"])
def test_a_manifest_changed_after_sealing_is_refused(path: Path, field: str) -> None:
    change: dict[str, Any] = {
        "gate": {"weight": 1.0},
        "encoder": {"model": "other", "sum": "", "dim": 24},
        "llm": {"name": "x", "sha256": "a" * 64, "source": "", "method": "none"},
        "mix": {"cold": 1.0},
    }
    edit(path, lambda told: told.update({field: change.get(field, {**told["space"], "a": 1})}))
    refused(path, "not the one that was sealed")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../../x"),
        ("name", "a\x1b[2J"),
        ("id", "xyz"),
        ("gate", {"weight": True}),
        ("gate", {}),
        ("metrics", {"HR@10": 0.1}),
        ("metrics", {"HR@10": {"mean": "high"}}),
        ("encoder", {"model": "x"}),
        ("files", []),
        ("seed", "1"),
        ("llm", {"name": "x"}),
        ("llm", {"name": "", "sha256": "a" * 64, "source": "", "method": "none"}),
        ("llm", {"name": "x", "sha256": "a", "source": "", "method": "none"}),
        ("llm", {"name": "x", "sha256": "a" * 64, "source": "", "method": None}),
        ("extra", 1),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(path: Path, field: str, value: object) -> None:
    edit(path, lambda told: told.update({field: value}))
    refused(path, "its ")
