from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.errors import DamagedWeights, InvalidSettings
from models.llm import body, peft_methods
from models.llm.body import Masters
from models.llm.peft_methods import Tuning
from tests import tiny_llama

CPU = torch.device("cpu")
HERE = [method for method in peft_methods.METHODS if method != "qlora"]
torch.set_num_threads(1)  # the models are tiny
TOKENS = torch.tensor([[72, 101, 108, 108, 111, 32], [119, 111, 114, 108, 100, 33]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("llm"))


def tuned(folder: Path, tuning: Tuning, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = peft_methods.apply(body.body(folder, CPU, dtype=dtype), tuning)
    return model


def learn(model: torch.nn.Module, steps: int = 5) -> list[float]:
    """Losses of a few steps towards a state drawn once."""
    wanted = torch.randn(64, generator=torch.Generator().manual_seed(3))
    masters = Masters(peft_methods.trainable(model))
    optimiser = torch.optim.AdamW(masters.copies, lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = (body.states(model, TOKENS).float() - wanted).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        masters.gather()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        masters.spread()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("lora", {"lora_A", "lora_B"}),
        ("dora", {"lora_A", "lora_B", "lora_magnitude_vector"}),
        ("rslora", {"lora_A", "lora_B"}),
        ("ia3", {"ia3_l"}),
        ("prompt", {"prompt_encoder"}),
        ("prefix", {"prompt_encoder"}),
        ("bitfit", {"bias", "norm", "input_layernorm", "post_attention_layernorm"}),
        ("full", {"layers", "norm"}),
    ],
)
def test_only_the_methods_own_parameters_train(folder: Path, method: str, parts: set[str]) -> None:
    model = tuned(folder, Tuning(method, 4))
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all(any(part in name.split(".") for part in parts) for name in names), names
    assert {part for part in parts if any(part in name.split(".") for name in names)} == parts
    assert not any("embed_tokens" in name for name in names)


@pytest.mark.parametrize("method", HERE)
def test_steps_lower_the_loss_and_leave_the_rest_as_it_was(folder: Path, method: str) -> None:
    model = tuned(folder, Tuning(method, 4))
    before = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    losses = learn(model)
    assert losses[-1] < losses[0]
    after = dict(model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("method", HERE)
def test_what_was_saved_gives_the_same_states(folder: Path, method: str, tmp_path: Path) -> None:
    model = tuned(folder, Tuning(method, 4))
    learn(model)
    peft_methods.save(model, Tuning(method, 4), tmp_path)
    loaded = peft_methods.load(body.body(folder, CPU, dtype=torch.float32), tmp_path)
    model.eval()
    with torch.inference_mode():
        assert torch.equal(body.states(loaded, TOKENS), body.states(model, TOKENS))
    assert not peft_methods.trainable(loaded)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "prompt", "prefix"])
def test_peft_itself_reads_what_was_saved(folder: Path, method: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = tuned(folder, Tuning(method, 4))
    learn(model)
    peft_methods.save(model, Tuning(method, 4), tmp_path)
    base = body.body(folder, CPU, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    model.eval()
    with torch.inference_mode():
        assert torch.equal(body.states(loaded, TOKENS), body.states(model, TOKENS))


def test_saved_as_bf16_it_is_half_as_long(folder: Path, tmp_path: Path) -> None:
    model = tuned(folder, Tuning("lora", 4))
    peft_methods.save(model, Tuning("lora", 4), tmp_path, torch.bfloat16)
    found = load_file(tmp_path / peft_methods.ADAPTER)
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    peft_methods.load(body.body(folder, CPU, dtype=torch.float32), tmp_path)


def test_an_adapter_names_no_path_of_the_machine_it_was_made_on(
    folder: Path, tmp_path: Path
) -> None:
    peft_methods.save(tuned(folder, Tuning()), Tuning(), tmp_path)
    assert str(folder.parent) not in (tmp_path / peft_methods.CONFIG).read_text("utf-8")


def test_an_llm_without_the_targets_names_is_adapted_in_all_its_linear_layers(
    folder: Path,
) -> None:
    model = tuned(folder, Tuning("lora", 4, targets=("c_attn",)))
    names = {
        n.split(".lora_")[0].split(".")[-1] for n, p in model.named_parameters() if p.requires_grad
    }
    assert {"q_proj", "k_proj", "gate_proj"} <= names


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without CUDA")
def test_qlora_without_cuda_says_what_to_use_instead(folder: Path) -> None:
    with pytest.raises(InvalidSettings, match="a CUDA device is not here: use lora"):
        tuned(folder, Tuning("qlora"))


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(InvalidSettings, match="lorra"):
        Tuning("lorra")


def test_an_adapter_of_another_llm_is_refused(folder: Path, tmp_path: Path) -> None:
    peft_methods.save(tuned(folder, Tuning("lora", 4)), Tuning("lora", 4), tmp_path)
    found = load_file(tmp_path / peft_methods.ADAPTER)
    name = sorted(found)[0]
    found[name] = torch.zeros(4, 65)
    save_file(found, tmp_path / peft_methods.ADAPTER)
    with pytest.raises(DamagedWeights, match="not trained on this LLM"):
        peft_methods.load(body.body(folder, CPU), tmp_path)


def test_a_configuration_that_names_a_module_imports_nothing(folder: Path, tmp_path: Path) -> None:
    peft_methods.save(tuned(folder, Tuning("lora", 4)), Tuning("lora", 4), tmp_path)
    file = tmp_path / peft_methods.CONFIG
    told = json.loads(file.read_text("utf-8"))
    told |= {"megatron_config": {}, "megatron_core": "antigravity", "auto_mapping": {"x": "y"}}
    file.write_text(json.dumps(told), "utf-8")
    peft_methods.load(body.body(folder, CPU), tmp_path)
    assert "antigravity" not in sys.modules


def test_an_adapter_of_an_unknown_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / peft_methods.METHOD).write_text('{"method": "poly", "targets": []}', "utf-8")
    with pytest.raises(DamagedWeights, match="no adapter that is known"):
        peft_methods.load(body.body(folder, CPU), tmp_path)


@pytest.mark.parametrize("method", ["lora", "prefix", "prompt"])
def test_attention_by_products_is_attention(folder: Path, method: str) -> None:
    model = tuned(folder, Tuning(method, 4))
    learn(model, 2)
    model.eval()
    ours = states_with(model, "weft_products")
    assert torch.allclose(ours, states_with(model, "sdpa"), atol=1e-5)


def states_with(model: torch.nn.Module, attention: str) -> Tensor:
    config = next(m.config for m in model.modules() if m.__class__.__name__ == "LlamaModel")
    config._attn_implementation = attention  # type: ignore[union-attr]
    with torch.inference_mode():
        return body.states(model, TOKENS)


def test_weights_of_16_bits_gather_steps_that_are_too_small_for_them(folder: Path) -> None:
    model = tuned(folder, Tuning("lora", 4), torch.bfloat16)
    masters = Masters(peft_methods.trainable(model))
    start = [copy.detach().clone() for copy in masters.copies]
    for _ in range(100):
        for copy in masters.copies:
            copy.data += 1e-4
        masters.spread()
    for parameter, began in zip(peft_methods.trainable(model), start, strict=True):
        assert parameter.dtype == torch.bfloat16
        assert torch.allclose(parameter.float(), began + 0.01, atol=4e-3)
