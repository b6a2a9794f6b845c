"""A Llama-like causal LM as an ONNX graph, written straight from safetensors: no torch, seconds.

Written by hand, as models/encoder/bert_graph.py is and for its reasons (a scale for each token, so
that one token's outlier does not coarsen the others), and for these:

- **Only what is asked is computed**: behind the last attention only the rows that predict a
  target go on, and of the logits only the target's log-probability leaves the graph.
- **Massive activations.** In a few layers the MLP's inner values of one token are a thousand
  times those of all others (Sun et al., arXiv 2402.17762); its scale a token keeps them apart.
- **Queries that share a key's head** run through one matrix product with it: no key is copied.

Weights keep 7 bits: AVX2's multiply-add of 8-bit pairs saturates at 16 bits when both factors use
all of theirs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

INT8, FP32 = "int8", "fp32"
_CONTRIB = "com.microsoft"
_WEIGHT_LEVELS = 63
_LEVELS = 127
_MOST_POSITIONS = 4096


def write(folder: Path, target: Path, kind: str) -> None:
    """Writes the model in ``folder`` to the file ``target`` as ``kind`` (INT8 or FP32).

    Inputs: tokens, positions (n,); mask (n, n), added to the attention's logits; reads, targets
    (m,). Output: log_p (m,), of ``targets`` behind the rows ``reads``.
    """
    onnx.save(LlamaGraph(folder, kind).model(), target)


class LlamaGraph:
    """Collects nodes and constants; each method adds one part and returns its output's name."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        self._weights = {
            name.removeprefix("model."): value
            for path in sorted(folder.glob("*.safetensors"))
            for name, value in load_file(path).items()
        }
        self._quantised = kind == INT8
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def model(self) -> onnx.ModelProto:
        """The whole network."""
        self._log_p(self._hidden())
        ints, floats = TensorProto.INT64, TensorProto.FLOAT
        shapes = {"tokens": "n", "positions": "n", "reads": "m", "targets": "m"}
        graph = helper.make_graph(
            self._nodes,
            "llama",
            [helper.make_tensor_value_info(name, ints, [size]) for name, size in shapes.items()]
            + [helper.make_tensor_value_info("mask", floats, ["n", "n"])],
            [helper.make_tensor_value_info("log_p", floats, ["m"])],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def _hidden(self) -> str:
        """Rows ``reads`` of the last layer's hidden states (m, h), before the last norm."""
        self._rotation()
        hidden = self._embedded()
        layers = self._config["num_hidden_layers"]
        for layer in range(layers):
            hidden = self._attention(hidden, f"layers.{layer}.")
            if layer == layers - 1:
                hidden = self._op("Gather", hidden, "reads", axis=0)
            hidden = self._mlp(hidden, f"layers.{layer}.")
        return hidden

    @property
    def _heads(self) -> tuple[int, int, int]:
        """Key heads, query heads that share one, and the width of a head."""
        config = self._config
        keys = int(config.get("num_key_value_heads") or config["num_attention_heads"])
        queries = int(config["num_attention_heads"])
        return keys, queries // keys, int(config["hidden_size"]) // queries

    def _rotation(self) -> None:
        """Tables of the rotary embedding, (positions, half a head)."""
        width = self._heads[2]
        rope = self._config.get("rope_parameters") or {}
        theta = float(rope.get("rope_theta") or self._config.get("rope_theta", 10_000.0))
        rates = theta ** -(np.arange(0, width, 2, dtype=np.float64) / width)
        count = min(int(self._config["max_position_embeddings"]), _MOST_POSITIONS)
        angles = np.arange(count)[:, None] * rates
        self._constant("cos", np.cos(angles).astype(np.float32))
        self._constant("sin", np.sin(angles).astype(np.float32))
        self._one_batch = self._op("Unsqueeze", "positions", self._ints(0))

    def _embedded(self) -> str:
        table = self._weights["embed_tokens.weight"]
        if not self._quantised:
            return self._op("Gather", self._constant("words", table), "tokens")
        half = self._constant("words", table.astype(np.float16))  # exact enough at half the memory
        return self._op("Cast", self._op("Gather", half, "tokens"), to=TensorProto.FLOAT)

    def _attention(self, hidden: str, at: str) -> str:
        """Hidden states (n, h) with what each row's visible rows add."""
        keys, shared, width = self._heads
        names = [f"{at}self_attn.{part}_proj.weight" for part in "qkv"]
        merged = np.concatenate([self._weights[name] for name in names])
        levels = self._levels(self._norm(hidden, f"{at}input_layernorm.weight"))
        both = self._linear(levels, f"{at}qkv", merged)
        turned, value = self._split(both, keys * (shared + 1) * width, keys * width)
        turned = self._rotated(turned, keys * (shared + 1))
        query, key = self._split(turned, keys * shared * width, keys * width)
        mixed = self._mixed(query, key, value)
        weight = self._weights[f"{at}self_attn.o_proj.weight"]
        return self._op("Add", hidden, self._linear(self._levels(mixed), f"{at}o", weight))

    def _mixed(self, query: str, key: str, value: str) -> str:
        """The visible rows' values, mixed by the attention's shares, (n, heads * width).

        The queries of one key's head lie below one another: (keys, shared * n, width).
        """
        keys, shared, width = self._heads
        query = self._reshape(query, [0, keys, shared, width])
        query = self._op("Transpose", query, perm=[1, 2, 0, 3])
        query = self._reshape(query, [keys, -1, width])
        key = self._op("Transpose", self._reshape(key, [0, keys, width]), perm=[1, 2, 0])
        value = self._op("Transpose", self._reshape(value, [0, keys, width]), perm=[1, 0, 2])
        logits = self._op("MatMul", query, key)
        logits = self._op("Mul", logits, self._scalar("scale", width**-0.5))
        count, by_head = self._op("Shape", "tokens"), self._ints(keys, shared)
        square = self._op("Concat", by_head, count, count, axis=0)
        logits = self._op("Add", self._op("Reshape", logits, square), "mask")
        shares = self._op("Softmax", logits, axis=-1)
        tall = self._op("Concat", self._ints(keys, -1), count, axis=0)
        mixed = self._op("MatMul", self._op("Reshape", shares, tall), value)
        heads = self._op("Concat", by_head, count, self._ints(width), axis=0)
        mixed = self._op("Transpose", self._op("Reshape", mixed, heads), perm=[2, 0, 1, 3])
        return self._reshape(mixed, [-1, keys * shared * width])

    def _mlp(self, hidden: str, at: str) -> str:
        """Hidden states (n, h) with the gated MLP's addition."""
        inner = int(self._config["intermediate_size"])
        gate, up, down = (self._weights[f"{at}mlp.{p}_proj.weight"] for p in ("gate", "up", "down"))
        merged = np.concatenate([gate, up])
        levels = self._levels(self._norm(hidden, f"{at}post_attention_layernorm.weight"))
        both = self._linear(levels, f"{at}gate_up", merged)
        opened, passed = self._split(both, inner, inner)
        opened = self._op("QuickGelu", opened, domain=_CONTRIB, alpha=1.0)  # at 1 this is SiLU
        product = self._op("Mul", opened, passed)
        return self._op("Add", hidden, self._linear(self._levels(product), f"{at}down", down))

    def _log_p(self, hidden: str) -> None:
        levels = self._levels(self._norm(hidden, "norm.weight"))
        head = self._weights.get("lm_head.weight", self._weights["embed_tokens.weight"])
        logits = self._linear(levels, "head", head)
        # (LogSoftmax is several times quicker than ReduceLogSumExp here)
        log_p = self._op("LogSoftmax", logits, axis=-1)
        column = self._ints(1)
        targets = self._op("Unsqueeze", "targets", column)
        chosen = self._op("GatherElements", log_p, targets, axis=1)
        self._nodes.append(helper.make_node("Squeeze", [chosen, column], ["log_p"]))

    def _norm(self, values: str, name: str) -> str:
        gain = self._constant(name, self._weights[name])
        epsilon = float(self._config["rms_norm_eps"])
        return self._op("SimplifiedLayerNormalization", values, gain, axis=-1, epsilon=epsilon)

    def _rotated(self, values: str, heads: int) -> str:
        """(n, heads * width) turned by each row's position."""
        batch = self._op("Unsqueeze", values, self._ints(0))
        turned = self._op(
            "RotaryEmbedding", batch, self._one_batch, "cos", "sin", domain=_CONTRIB,
            num_heads=heads,
        )  # fmt: skip
        return self._op("Squeeze", turned, self._ints(0))

    def _levels(self, values: str) -> tuple[str, str]:
        """Rows (n, k) as uint8 around 128 with a scale each (n, 1); as they are in fp32."""
        if not self._quantised:
            return values, ""
        last = self._ints(1)
        peak = self._op("ReduceMax", self._op("Abs", values), last, keepdims=0)
        scale = self._op("Mul", peak, self._scalar("step", 1 / _LEVELS))
        scale = self._op("Max", scale, self._scalar("least", 1e-9))  # a row may be all zeros
        zeros = self._op("Expand", self._zero(), self._op("Shape", scale))
        levels = self._op("QuantizeLinear", values, scale, zeros, axis=0)
        return levels, self._op("Unsqueeze", scale, last)

    def _linear(self, rows: tuple[str, str], name: str, weight: NDArray[Any]) -> str:
        """Rows (n, k) times a weight (out, k): (n, out)."""
        values, scale = rows
        columns = np.asarray(weight, dtype=np.float32).T
        if not self._quantised:
            return self._op("MatMul", values, self._constant(name, columns))
        steps = np.maximum(np.abs(columns).max(axis=0), 1e-12) / _WEIGHT_LEVELS  # (out,)
        product = self._op(
            "MatMulIntegerToFloat",
            values,
            self._constant(name, np.rint(columns / steps).astype(np.int8)),
            self._scalar("one", 1.0),
            self._constant(f"{name}.steps", steps),
            self._zero(),
            self._constant(f"{name}.zeros", np.zeros(len(steps), dtype=np.int8)),
            domain=_CONTRIB,
        )
        return self._op("Mul", product, scale)

    def _split(self, values: str, *sizes: int) -> tuple[str, ...]:
        """(n, sum of sizes) in columns."""
        outputs = [f"s{len(self._nodes)}.{i}" for i in range(len(sizes))]
        node = helper.make_node("Split", [values, self._ints(*sizes)], outputs, axis=1)
        self._nodes.append(node)
        return tuple(outputs)

    def _reshape(self, values: str, shape: list[int]) -> str:
        return self._op("Reshape", values, self._ints(*shape))

    def _zero(self) -> str:
        return self._constant("zero", np.array(128, dtype=np.uint8))

    def _op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        output = f"n{len(self._nodes)}"
        node = helper.make_node(kind, list(inputs), [output], domain=domain, **attributes)
        self._nodes.append(node)
        return output

    def _ints(self, *values: int) -> str:
        return self._constant(f"ints{values}", np.array(values, dtype=np.int64))

    def _scalar(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, dtype=np.float32))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name
