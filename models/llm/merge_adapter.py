"""Merges an adapter into its LLM: ``python -m models.llm.merge_adapter LLM ADAPTER OUT``.

A process of its own, since torch and peft take a gigabyte that goes back when it ends. OUT gets a
model in Hugging Face's layout, and for methods that put something in front of a prompt (prompt and
prefix tuning) models/llm/on_torch.py's soft.safetensors: the keys and values of that. Only
models/llm/peft_methods.py reads the adapter, and it believes numbers and known fields only.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from models.llm.scorer import SOFT


def merge(llm: Path, adapter: Path, out: Path) -> None:
    """Writes the LLM in the folder ``llm`` with the adapter in ``adapter`` into ``out``.

    In 32 bits. Raises ``DamagedWeights`` or ``MissingWeights``.
    """
    import torch

    from models.llm import body, peft_methods

    base = body.body(llm, torch.device("cpu"), dtype=torch.float32)
    tuned = peft_methods.load(base, adapter)
    tuning = peft_methods.saved(adapter)
    if tuning.method in ("prompt", "prefix"):
        _save_soft(tuned, out / SOFT)
        merged = tuned.get_base_model()
    elif tuning.method in peft_methods.TENSORS:
        merged = tuned
    else:
        merged = tuned.merge_and_unload()
    _complete_biases(merged)
    merged.config.use_cache = True  # (training has no use for it)
    _with_output(llm, merged).save_pretrained(out)
    shutil.copyfile(llm / "tokenizer.json", out / "tokenizer.json")


def _with_output(llm: Path, body: Any) -> Any:
    """The causal model of a tuned body: its output layer is the LLM's own."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(llm, dtype=torch.float32)
    setattr(model, model.base_model_prefix, body)
    model.config = body.config
    model.tie_weights()
    return model


def _complete_biases(model: Any) -> None:
    """A configuration can say that all of a kind have biases, not some: the others get zeros."""
    import torch
    from torch import nn

    for flag, names in (
        ("attention_bias", ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("mlp_bias", ("gate_proj", "up_proj", "down_proj")),
    ):
        parts: list[Any] = [
            module
            for name, module in model.named_modules()
            if name.rpartition(".")[2] in names and isinstance(module, nn.Linear)
        ]
        if hasattr(model.config, flag) and any(part.bias is not None for part in parts):
            setattr(model.config, flag, True)
            for part in parts:
                if part.bias is None:
                    part.bias = nn.Parameter(torch.zeros(part.out_features))


def _save_soft(tuned: Any, file: Path) -> None:
    """The keys and values that stand in front of a prompt, as peft's forward would make them.

    (layers, 2, heads, tokens, width) in 32 bits.
    """
    import torch
    from safetensors.torch import save_file

    with torch.inference_mode():
        front: Any = tuned.get_prompt(batch_size=1)
        if isinstance(front, torch.Tensor):  # embeddings: (1, tokens, h)
            front = tuned.get_base_model()(inputs_embeds=front, use_cache=True).past_key_values
        pairs = [torch.cat([layer.keys, layer.values]) for layer in front.layers]
        save_file({"past": torch.stack(pairs).contiguous().float()}, file)


if __name__ == "__main__":
    merge(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
