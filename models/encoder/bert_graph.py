"""BERT as an ONNX graph, written straight from safetensors: no torch, half a second.

Written by hand for what a general export cannot do:

- **No padding in the linear layers.** They run on the batch's tokens one after the other (t, d);
  only attention sees the padded (b, l, d), by a gather before and after it.
- **A text's vector does not depend on its batch.** ONNX Runtime's own dynamic quantisation has one
  scale a tensor, so that a neighbour's outlier coarsens every vector (cosine to itself alone: down
  to .985). Here each token has its own scale, found as it goes by (LLM.int8(), arXiv 2208.07339,
  calls it vector-wise), and each output column of a weight has one.
- **Speed.** Fused dequantising, biases folded into the ops that take one, LayerNormalization in
  place of the several times slower SkipLayerNormalization.

Weights keep 7 bits: AVX2's multiply-add of 8-bit pairs saturates at 16 bits when both factors use
all of theirs, and on every CPU the same numbers must come out.
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

from models.encoder.batching import INT8, MAX_TOKENS, pooling

_CONTRIB = "com.microsoft"
_WEIGHT_LEVELS = 63
_MIDDLE = 128  # the zero of activations of either sign, in uint8
_LOW = 16  # the zero of GELU's output: it is never below -.17, so the range lies above
_GELU_LEAST = 0.1701


def write(folder: Path, target: Path, kind: str) -> None:
    """Writes the model in ``folder`` to the file ``target`` as ``kind`` (INT8 or FP32).

    The folder's model must be one that ``encoder_text.is_plain_bert`` knows.

    Inputs: ids, position (t,) of the tokens; row (b, l), where each padded place finds its token;
    place (t,), where each token lies in (b * l); mask (b, l). Output: vector (b, d), unit rows.
    """
    onnx.save(_Graph(folder, kind).model(), target)


class _Graph:
    """Collects nodes and constants; each method adds one part and returns its output's name."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        self._weights = {
            name.removeprefix("bert."): np.asarray(value, dtype=np.float32)
            for path in sorted(folder.glob("*.safetensors"))
            for name, value in load_file(path).items()
        }
        self._pooling = pooling(folder)
        self._quantised = kind == INT8
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._spread: dict[str, str] = {}

    def model(self) -> onnx.ModelProto:
        """The whole network."""
        hidden = self._embeddings()
        for layer in range(self._config["num_hidden_layers"]):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        self._pool(hidden)
        ints = TensorProto.INT64
        inputs = [("ids", ["t"]), ("position", ["t"]), ("row", ["b", "l"]), ("place", ["t"])]
        graph = helper.make_graph(
            self._nodes,
            "bert",
            [helper.make_tensor_value_info(name, ints, shape) for name, shape in inputs]
            + [helper.make_tensor_value_info("mask", TensorProto.INT32, ["b", "l"])],
            [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["b", self._width])],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    @property
    def _width(self) -> int:
        return int(self._config["hidden_size"])

    def _embeddings(self) -> str:
        weights = self._weights
        kinds = weights["embeddings.token_type_embeddings.weight"]  # a title is all of kind 0
        positions = weights["embeddings.position_embeddings.weight"][:MAX_TOKENS] + kinds[0]
        words = self._constant("words", weights["embeddings.word_embeddings.weight"])
        summed = self._op(
            "Add",
            self._op("Gather", words, "ids"),
            self._op("Gather", self._constant("positions", positions), "position"),
        )
        return self._norm(summed, "embeddings.LayerNorm")

    def _layer(self, hidden: str, at: str) -> str:
        """One transformer layer, (t, d) to (t, d), normalised after each half as BERT does."""
        attended = self._attention(hidden, f"{at}attention.self.")
        out = self._linear(self._levels(attended), f"{at}attention.output.dense")
        hidden = self._residual(out, hidden, f"{at}attention.output.")
        wide = self._linear(self._levels(hidden), f"{at}intermediate.dense")
        bias = self._weight(f"{at}intermediate.dense.bias")
        # int8 is coarser than the tanh approximation, which is quicker; fp32 stays exact
        gelu = "FastGelu" if self._quantised else "BiasGelu"
        wide = self._op(gelu, wide, bias, domain=_CONTRIB)
        out = self._linear(self._levels(wide, after_gelu=True), f"{at}output.dense")
        return self._residual(out, hidden, f"{at}output.")

    def _attention(self, hidden: str, at: str) -> str:
        names = ("query", "key", "value")
        weights = np.concatenate([self._weights[f"{at}{name}.weight"] for name in names])
        self._weights[f"{at}all.weight"] = weights
        padded = self._op("Gather", self._linear(self._levels(hidden), f"{at}all"), "row", axis=0)
        parts = self._ops("Split", padded, outputs=3, axis=-1, num_outputs=3)
        biases = np.concatenate([self._weights[f"{at}{name}.bias"] for name in names])
        attended = self._op(
            "MultiHeadAttention",
            *parts,
            self._constant(f"{at}bias", biases),
            "mask",
            domain=_CONTRIB,
            num_heads=self._config["num_attention_heads"],
        )
        flat = self._op("Reshape", attended, self._constant("flat", np.array([-1, self._width])))
        return self._op("Gather", flat, "place", axis=0)

    def _levels(self, values: str, *, after_gelu: bool = False) -> tuple[str, str, str]:
        """Tokens (t, k) as uint8 with a scale each (t, 1) and one zero; as they are in fp32."""
        if not self._quantised:
            return values, "", ""
        zero = _LOW if after_gelu else _MIDDLE
        largest = values if after_gelu else self._op("Abs", values)
        axis = self._constant("axis", np.array([1]))
        peak = self._op("ReduceMax", largest, axis, keepdims=0)
        step = self._scalar(f"step_{zero}", 1 / (255 - zero))
        scale = self._op("Mul", peak, step)
        if after_gelu:  # wide enough for the negative part
            scale = self._op("Max", scale, self._scalar("least", _GELU_LEAST / _LOW))
        zeros = self._constant(f"zero_{zero}", np.array(zero, dtype=np.uint8))
        # A token of all zeros has scale 0: whatever its levels, its products are 0 again.
        levels = self._op("QuantizeLinear", values, scale, self._for_each_token(zeros), axis=0)
        return levels, self._op("Unsqueeze", scale, axis), zeros

    def _for_each_token(self, value: str) -> str:
        """A scalar as (t,); one node for all that ask."""
        if value not in self._spread:
            self._spread[value] = self._op("Expand", value, self._op("Shape", "ids"))
        return self._spread[value]

    def _linear(self, tokens: tuple[str, str, str], name: str) -> str:
        """(t, k) to (t, n), without the bias: the op that follows adds it."""
        values, scale, zero = tokens
        weight = self._weights[f"{name}.weight"].T  # (k, n)
        if not self._quantised:
            return self._op("MatMul", values, self._constant(name, weight))
        steps = np.maximum(np.abs(weight).max(axis=0), 1e-12) / _WEIGHT_LEVELS  # (n,)
        product = self._op(
            "MatMulIntegerToFloat",
            values,
            self._constant(name, np.rint(weight / steps).astype(np.int8)),
            self._scalar("one", 1.0),
            self._constant(f"{name}.steps", steps),
            zero,
            self._constant(f"{name}.zeros", np.zeros(len(steps), dtype=np.int8)),
            domain=_CONTRIB,
        )
        return self._op("Mul", product, scale)

    def _residual(self, out: str, hidden: str, at: str) -> str:
        summed = self._op("Add", out, self._op("Add", hidden, self._weight(f"{at}dense.bias")))
        return self._norm(summed, f"{at}LayerNorm")

    def _norm(self, values: str, name: str) -> str:
        gain, shift = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        epsilon = float(self._config["layer_norm_eps"])
        return self._op("LayerNormalization", values, gain, shift, axis=-1, epsilon=epsilon)

    def _pool(self, hidden: str) -> None:
        """Unit vectors (b, d) of the tokens' (t, d); the mean's divisor falls to normalising."""
        if self._pooling == "cls":
            first = self._constant("first", np.array(0))
            pooled = self._op("Gather", hidden, self._op("Gather", "row", first, axis=1), axis=0)
        else:
            mask = self._op("Cast", "mask", to=TensorProto.FLOAT)
            mask = self._op("Unsqueeze", mask, self._constant("last", np.array([2])))
            masked = self._op("Mul", self._op("Gather", hidden, "row", axis=0), mask)
            axis = self._constant("axis", np.array([1]))
            pooled = self._op("ReduceSum", masked, axis, keepdims=0)
        self._nodes.append(helper.make_node("LpNormalization", [pooled], ["vector"], axis=1, p=2))

    def _op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self._ops(kind, *inputs, outputs=1, domain=domain, **attributes)[0]

    def _ops(
        self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        names = [f"n{len(self._nodes)}.{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _scalar(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, dtype=np.float32))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(value.copy(order="C"), name)
        return name
