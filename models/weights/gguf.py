"""A Llama's GGUF to a folder of safetensors: ``python -m models.weights.gguf FILE.gguf FOLDER``.

The quantised numbers become the float32 numbers that they stand for, exactly. transformers can
read a GGUF too, but needs torch and a minute of a busy CPU for it, and loses how the tokenizer
splits digits and which token ends a turn; this takes seconds. For files whose checksum is known:
it asks for what they have and knows no other architecture.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file

_PARTS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL = 3  # GGUF's type of a token that is no text


def convert(gguf: Path, folder: Path) -> None:
    """Writes config, tokenizer and float32 weights into ``folder``, which exists."""
    reader = GGUFReader(gguf)
    told = {name: field.contents() for name, field in reader.fields.items()}
    config = _config(told)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for tensor in reader.tensors:
        layer, part = _place(tensor.name)
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if part in heads:
            values = _unpaired(values, heads[part])
        weights[f"{layer}{_PARTS[part]}.weight"] = np.ascontiguousarray(values)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write(folder / "config.json", config)
    _write(folder / "tokenizer.json", _tokenizer(told))
    _write(folder / "tokenizer_config.json", _tokenizer_config(told))


def _place(name: str) -> tuple[str, str]:
    """``blk.3.attn_q.weight`` as ("model.layers.3.", "attn_q")."""
    found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", name)
    if found is None or found[2] not in _PARTS:
        raise ValueError(f"{name} is no weight of a Llama")
    return (f"model.layers.{found[1]}." if found[1] else ""), found[2]


def _unpaired(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows (heads * d, k) whose rotary halves lie in turns, as GGUF has them, one after the other.

    llama.cpp rotates neighbours, transformers the first half with the second.
    """
    turns = weight.reshape(heads, -1, 2, weight.shape[1])
    return turns.swapaxes(1, 2).reshape(weight.shape)


def _config(told: dict[str, Any]) -> dict[str, Any]:
    """The same in the names of transformers."""
    heads = told["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": told["llama.embedding_length"],
        "intermediate_size": told["llama.feed_forward_length"],
        "num_hidden_layers": told["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": told["llama.attention.head_count_kv"],
        "head_dim": told["llama.embedding_length"] // heads,
        "max_position_embeddings": told["llama.context_length"],
        "rms_norm_eps": told["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": told["llama.rope.freq_base"]},
        "vocab_size": told["llama.vocab_size"],
        "tie_word_embeddings": True,  # there is no output matrix among the tensors
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": told["tokenizer.ggml.bos_token_id"],
        "eos_token_id": told["tokenizer.ggml.eos_token_id"],
        "pad_token_id": told["tokenizer.ggml.padding_token_id"],
        "dtype": "float32",
    }


def _tokenizer(told: dict[str, Any]) -> dict[str, Any]:
    """The BPE in the words of the tokenizers library; ``smollm`` splits numbers to digits."""
    if told["tokenizer.ggml.pre"] != "smollm":
        raise ValueError(f"no tokenizer is known as {told['tokenizer.ggml.pre']}")
    tokens, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    special = [n for n, kind in enumerate(kinds) if kind == _CONTROL]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    digits = {"type": "Digits", "individual_digits": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": n, "content": tokens[n], **plain, "special": True} for n in special
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [digits, {**bytes_, "use_regex": True}],
        },
        "post_processor": None,
        "decoder": {**bytes_, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in told["tokenizer.ggml.merges"]],
        },
    }


def _tokenizer_config(told: dict[str, Any]) -> dict[str, Any]:
    tokens = told["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[told["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[told["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[told["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[told["tokenizer.ggml.unknown_token_id"]],
        "chat_template": told["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": told["llama.context_length"],
    }


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1), "utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
