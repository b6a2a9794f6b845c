"""A Llama of two layers and random weights in Hugging Face's layout: quick, and of the real shape.

Two query heads share each key's head, the vocabulary is the bytes and one marker.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

MARKER = "<|im_end|>"
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": 257,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": None,
    "eos_token_id": 256,
}


def write(folder: Path, *, tied: bool = True) -> Path:
    """The model's files; ``tied``: the output's weights are the embeddings."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**_CONFIG, "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(_weights(tied), folder / "model.safetensors")
    _tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def _weights(tied: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(0, 0.15, (rows, columns)).astype(np.float32)

    found = {"model.embed_tokens.weight": matrix(257, 64), "model.norm.weight": gains(random)}
    if not tied:
        found["lm_head.weight"] = matrix(257, 64)
    shapes = {
        "self_attn.q_proj": (64, 64),
        "self_attn.k_proj": (32, 64),
        "self_attn.v_proj": (32, 64),
        "self_attn.o_proj": (64, 64),
        "mlp.gate_proj": (160, 64),
        "mlp.up_proj": (160, 64),
        "mlp.down_proj": (64, 160),
    }
    for layer in range(2):
        at = f"model.layers.{layer}."
        found |= {f"{at}{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        found[f"{at}input_layernorm.weight"] = gains(random)
        found[f"{at}post_attention_layernorm.weight"] = gains(random)
    return found


def gains(random: np.random.Generator) -> np.ndarray:
    return (1 + random.normal(0, 0.2, 64)).astype(np.float32)


def _tokenizer() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(MARKER, special=True)])
    return tokenizer
