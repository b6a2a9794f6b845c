"""A causal LLM without its output layer, ready to be tuned, and that layer by itself.

Where the CPU multiplies bf16 in hardware, the weights are bf16 (four times quicker here), and the
parameters that train have copies in 32 bits that the optimiser moves: ``Masters``. No autocast is
needed, which would turn each adapter's input to 32 bits and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from models.errors import MissingWeights

#: Kinds of LLM whose attention is plain: causal over all, no window, no cap, no sinks.
_PLAIN: Final = ("llama",)
_ATTENTION: Final = "weft_products"


class Masters:
    """Copies in 32 bits of the parameters that train; the same tensors where these have 32."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.copies = [p if p.dtype == torch.float32 else _copy(p) for p in parameters]

    def gather(self) -> None:
        """Hands the parameters' gradients to the copies."""
        for parameter, copy in zip(self._parameters, self.copies, strict=True):
            if copy is not parameter:
                copy.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None

    @torch.no_grad()
    def spread(self) -> None:
        """Rounds the copies into the parameters."""
        for parameter, copy in zip(self._parameters, self.copies, strict=True):
            if copy is not parameter:
                parameter.copy_(copy)


def device_of(name: str) -> torch.device:
    """``auto``: a CUDA device where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def quickest(device: torch.device) -> torch.dtype:
    """bf16 where the hardware multiplies it, else fp32: without it bf16 is seven times slower."""
    cpu = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if device.type != "cpu" or cpu else torch.float32


def body(
    folder: Path,
    device: torch.device,
    *,
    dtype: torch.dtype | None = None,
    four_bits: bool = False,
) -> Any:
    """The LLM's body: its last states after the norm. Raises ``MissingWeights``."""
    from transformers import AutoModel

    kind = dtype or quickest(device)
    more: dict[str, Any] = {}
    if four_bits:
        from transformers import BitsAndBytesConfig

        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=kind
        )
        more["device_map"] = {"": device}
    try:
        model: Any = AutoModel.from_pretrained(folder, dtype=kind, **more)
    except (OSError, ValueError) as error:
        raise MissingWeights(
            f"no causal LLM can be loaded from {folder}: {error}; "
            "`weft models fetch` prepares the default one"
        ) from error
    if device.type == "cpu" and model.config.model_type in _PLAIN:
        _use_products(model)
    model.config.use_cache = False
    return model if four_bits else model.to(device)


def states(model: Any, tokens: Tensor) -> Tensor:
    """Last states (b, l, h) of tokens (b, l), padded at the right: causal, so no mask is needed."""
    found: Tensor = model(input_ids=tokens, use_cache=False).last_hidden_state
    return found[:, -tokens.shape[1] :]  # virtual tokens stand in front


def output_rows(base: Any, folder: Path) -> Tensor:
    """The output layer (v, h) of the LLM whose ``body`` is ``base``, as its weights are."""
    if base.config.tie_word_embeddings:
        layer: Any = base.get_input_embeddings()
    else:
        from transformers import AutoModelForCausalLM

        layer = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").get_output_embeddings()
    kind = next(p.dtype for p in base.parameters() if p.is_floating_point())
    rows: Tensor = layer.weight.detach().to(kind)
    return rows


def _use_products(model: Any) -> None:
    """Attention by two batched matrix products: histories are short, and a quarter is saved.

    On a CPU torch's fused attention spends more on a short sequence's bf16 than all of the
    feed-forward network does on its gate.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(_ATTENTION, _products)
    AttentionMaskInterface.register(_ATTENTION, lambda *_, **__: None)
    model.set_attn_implementation(_ATTENTION)


def _products(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention (b, l, heads, d) of queries (b, heads, l, d) over keys (b, shared, k, d).

    The newest key belongs to the newest query; padding stands at the right, so no mask is read.
    """
    batch, heads, length, d = query.shape
    shared, seen = key.shape[1], key.shape[2]
    group = heads // shared
    scores = torch.bmm(
        (query * scaling).reshape(batch * shared, group * length, d),
        key.reshape(batch * shared, seen, d).transpose(1, 2),
    ).view(batch * shared, group, length, seen)
    hidden = torch.full((length, seen), -torch.inf, dtype=scores.dtype, device=scores.device)
    weights = torch.softmax(scores + hidden.triu(1 + seen - length), dim=-1)
    found = torch.bmm(
        weights.view(batch * shared, group * length, seen), value.reshape(batch * shared, seen, d)
    )
    return found.view(batch, heads, length, d).transpose(1, 2).contiguous(), None


def _copy(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().float().clone())
