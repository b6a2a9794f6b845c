"""GGUF to safetensors, as a process of its own: ``python -m models.convert FILE.gguf FOLDER``.

The quantised numbers become the float32 numbers that they stand for, exactly, so that any causal
language model of transformers' can be loaded from the folder afterwards without the gguf package.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path


def convert(gguf: Path, folder: Path) -> None:
    """Writes config, tokenizer and float32 weights into ``folder``, which exists."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    loaded = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    # The loaded model remembers that it was quantised and refuses to be saved: its numbers move
    # to a plain one.
    config = copy.deepcopy(loaded.config)
    config.__dict__.pop("quantization_config", None)
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict(), strict=True)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
