"""Ways to tune an LLM by few parameters, by name, through the peft library.

    method   what trains                                                          source
    lora     B A beside each target's weights, of a low rank                      arXiv 2106.09685
    qlora    the same on weights held in 4 bits; needs CUDA and bitsandbytes      arXiv 2305.14314
    dora     the same, and apart from the direction each column's length          arXiv 2402.09353
    rslora   the same, scaled by 1 / sqrt(rank), so that high ranks train too     arXiv 2312.03732
    ia3      a factor for each key, value and inner feed-forward activation       arXiv 2205.05638
    prompt   vectors in front of the prompt's own                                 arXiv 2104.08691
    prefix   keys and values of each layer in front of the prompt's own           arXiv 2101.00190
    bitfit   biases only                                                          arXiv 2106.10199
    full     everything but the embeddings                                        the reference

BitFit (Ben Zaken et al.) tunes the biases that a model has. A Llama has none: there the norms'
gains train, and biases that are added to the targets and begin at zero.

Saved are peft's own two files, adapter_config.json and adapter_model.safetensors, which peft loads
by itself; bitfit and full have no format in peft and are plain tensors. A method.json beside them
is what ``load`` here goes by: peft's configuration can name modules to import, so it is not read,
and pickles are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.errors import DamagedWeights, InvalidSettings

METHODS: Final = (
    "lora", "qlora", "dora", "rslora", "ia3", "prompt", "prefix", "bitfit", "full",
)  # fmt: skip
TARGETS: Final = ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")
CONFIG: Final = "adapter_config.json"
ADAPTER: Final = "adapter_model.safetensors"
METHOD: Final = "method.json"
TENSORS: Final = {"bitfit": "bitfit.safetensors", "full": "model.safetensors"}

_LORAS: Final = ("lora", "qlora", "dora", "rslora")
_IA3: Final = ("k_proj", "v_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to tune. ``rank`` is LoRA's; ``virtual`` the tokens of prompt and prefix tuning.

    ``targets`` are the names of linear layers, for the LoRAs and BitFit's added biases; where a
    model has none of these names, all its linear layers. ``from_layer``: layers below it stay as
    they are, and no gradient needs to reach them (the LoRAs).
    """

    method: str = "lora"
    rank: int = 16
    targets: tuple[str, ...] = TARGETS
    virtual: int = 20

    def __post_init__(self) -> None:
        """Raises ``InvalidSettings``."""
        if self.method not in METHODS:
            raise InvalidSettings(f"no method {self.method!r}; there are {', '.join(METHODS)}")
        if not 1 <= self.rank <= 1024 or not 1 <= self.virtual <= 1024:
            raise InvalidSettings("a rank and a number of virtual tokens can be 1 to 1024")


def check(method: str) -> None:
    """Raises ``InvalidSettings`` where this machine lacks what the method needs."""
    from importlib.util import find_spec

    if method == "qlora" and not (torch.cuda.is_available() and find_spec("bitsandbytes")):
        lacks = "bitsandbytes" if torch.cuda.is_available() else "a CUDA device"
        raise InvalidSettings(
            f"qlora needs CUDA and bitsandbytes, and {lacks} is not here: "
            "use lora, which learns the same adapters on weights of 16 or 32 bits"
        )


def apply(model: Any, tuning: Tuning) -> Any:
    """The model (a transformers body) with the method's parameters, and only these, trainable.

    They have the number type of the model's weights and begin where the model is as it was
    (prompt and prefix tuning: near random, from torch's generator). Changes ``model`` itself.
    Raises ``InvalidSettings``.
    """
    check(tuning.method)
    model.requires_grad_(False)
    if tuning.method == "full":
        model.requires_grad_(True)
        model.get_input_embeddings().requires_grad_(False)
        return model
    if tuning.method == "bitfit":
        return _with_biases(model, tuning.targets)
    from peft import get_peft_model

    kind = next(p.dtype for p in model.parameters() if p.is_floating_point())
    tuned = get_peft_model(model, _config(model, tuning), autocast_adapter_dtype=False)
    for parameter in trainable(tuned):
        parameter.data = parameter.data.to(kind)
    return tuned


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that train, in the order of their names."""
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return [found[name] for name in sorted(found)]


def save(model: Any, tuning: Tuning, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Writes what was trained; ``dtype`` (bf16: half the bytes) instead of the model's own."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {**asdict(tuning), "targets": list(tuning.targets)}
    (folder / METHOD).write_text(json.dumps(told, indent=2), "utf-8")
    if tuning.method in TENSORS:
        found = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
        save_file(_cast(found, dtype), folder / TENSORS[tuning.method])
        return
    from peft import get_peft_model_state_dict

    config = model.peft_config["default"].to_dict()
    told = {name: sorted(v) if isinstance(v, set) else v for name, v in config.items()}
    told["base_model_name_or_path"] = Path(told.get("base_model_name_or_path") or "").name
    told["inference_mode"] = True
    (folder / CONFIG).write_text(json.dumps(told, indent=2, sort_keys=True), "utf-8")
    found = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(_cast(found, dtype), folder / ADAPTER)


def load(base: Any, folder: Path) -> Any:
    """``base`` (the body that was tuned) with what ``save`` wrote; nothing of it is trainable.

    Raises ``DamagedWeights`` for what does not fit the base, or is none of the methods.
    """
    tuning = saved(folder)
    if tuning.method == "qlora":  # the adapters are LoRA's; the base is held as the caller has it
        tuning = Tuning(**{**asdict(tuning), "method": "lora"})
    model = apply(base, tuning)
    file = folder / TENSORS.get(tuning.method, ADAPTER)
    try:
        tensors = load_file(file)
    except Exception as error:  # the library raises its own, of no common base
        raise DamagedWeights(f"cannot read {file}: {error}") from error
    _put(model, tuning, tensors, file)
    model.requires_grad_(False)
    return model.eval()


def _put(model: Any, tuning: Tuning, tensors: dict[str, Tensor], file: Path) -> None:
    """The tensors into the model, each in its place. Raises ``DamagedWeights``."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    own = tuning.method in TENSORS
    wanted: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not own:
        wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    if shapes != {name: tuple(value.shape) for name, value in tensors.items()}:
        raise DamagedWeights(f"{file} was not trained on this LLM: names or shapes differ")
    if not own:
        set_peft_model_state_dict(model, tensors)
        return
    with torch.no_grad():
        for name, value in tensors.items():
            wanted[name].copy_(value)


def saved(folder: Path) -> Tuning:
    """How the adapter in ``folder`` was tuned. Raises ``DamagedWeights``."""
    try:
        told = json.loads((folder / METHOD).read_text("utf-8"))
        return Tuning(**{**told, "targets": tuple(map(str, told["targets"]))})
    except (OSError, ValueError, TypeError, KeyError, InvalidSettings) as error:
        raise DamagedWeights(f"{folder} holds no adapter that is known here: {error}") from error


def _config(model: Any, tuning: Tuning) -> Any:
    """Peft's own configuration of the method."""
    import peft

    task = peft.TaskType.FEATURE_EXTRACTION
    if tuning.method in _LORAS:
        return peft.LoraConfig(
            task_type=task,
            r=tuning.rank,
            # LoRA: B A times alpha / r = 2. rsLoRA: alpha / sqrt(r), the same 2 at r = 16
            lora_alpha=8 if tuning.method == "rslora" else 2 * tuning.rank,
            target_modules=list(_present(model, tuning.targets)) or "all-linear",
            use_dora=tuning.method == "dora",
            use_rslora=tuning.method == "rslora",
        )
    if tuning.method == "ia3":
        if _present(model, _IA3) != _IA3:
            raise InvalidSettings(f"ia3 needs layers named {', '.join(_IA3)}: use lora")
        return peft.IA3Config(
            task_type=task, target_modules=list(_IA3), feedforward_modules=[_IA3[2]]
        )
    if tuning.method == "prompt":
        return peft.PromptTuningConfig(task_type=task, num_virtual_tokens=tuning.virtual)
    return peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=tuning.virtual)


def _present(model: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that a layer of the model has."""
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return tuple(name for name in names if name in there)


def _with_biases(model: Any, targets: Sequence[str]) -> Any:
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    if not biases:
        for name, module in model.named_modules():
            if name.rpartition(".")[2] in targets and isinstance(module, nn.Linear):
                weight = module.weight
                zero = torch.zeros(module.out_features, dtype=weight.dtype, device=weight.device)
                module.bias = nn.Parameter(zero)
                biases.append(module.bias)
            elif name.rpartition(".")[2].endswith("norm"):
                biases += list(module.parameters())
    for bias in biases:
        bias.requires_grad_(True)
    return model


def _cast(tensors: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    return {n: t.detach().to("cpu", dtype or t.dtype).contiguous() for n, t in tensors.items()}
