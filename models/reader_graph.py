"""The history reader's LLM as an ONNX graph: keys and values in, states, keys and values out.

The network is that of models/llm_graph.py. All tokens of all prompts of a forward are rows of one
matrix, without padding; only inside the attention each prompt's rows are gathered to a square of
their own, behind the keys and values kept of its earlier tokens. These are half as long numbers,
and the new ones are rounded to them before they are used, so that a state is the same whether its
beginning was kept or computed anew.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from models.llm_graph import LlamaGraph


def write(folder: Path, target: Path, kind: str) -> None:
    """Writes the model in ``folder`` to the file ``target`` as ``kind`` (INT8 or FP32).

    Inputs: tokens, positions (n,) of b prompts; past (layers, 2, p, c) float16, all prompts' kept
    keys and values one after the other; queries (b, s), the rows among n of each prompt; keys
    (b, t), the rows among p + n that each may see; mask (b, 1, shared * s, t), added to the
    attention's logits, ``shared`` the query heads of a key's head; back (n,), where among b * s
    each row lies; reads (m,). Outputs: states (m, h) behind the last norm, present
    (layers, 2, n, c) float16.
    """
    onnx.save(_StateGraph(folder, kind).model(), target)


class _StateGraph(LlamaGraph):
    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(folder, kind)
        self._present: list[str] = []

    def model(self) -> onnx.ModelProto:
        """The whole network."""
        hidden = self._norm(self._hidden(), "norm.weight")
        self._nodes.append(helper.make_node("Identity", [hidden], ["states"]))
        self._nodes.append(helper.make_node("Concat", self._present, ["present"], axis=0))
        ints, floats, halves = TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT16
        heads, shared, width = self._heads
        layers, row = len(self._present), heads * width
        inputs: list[tuple[str, int, list[str | int]]] = [
            ("tokens", ints, ["n"]),
            ("positions", ints, ["n"]),
            ("past", halves, [layers, 2, "p", row]),
            ("queries", ints, ["b", "s"]),
            ("keys", ints, ["b", "t"]),
            ("mask", floats, ["b", 1, "r", "t"]),
            ("back", ints, ["n"]),
            ("reads", ints, ["m"]),
        ]
        graph = helper.make_graph(
            self._nodes,
            "llama-states",
            [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
            [
                helper.make_tensor_value_info("states", floats, ["m", heads * shared * width]),
                helper.make_tensor_value_info("present", halves, [layers, 2, "n", row]),
            ],
            list(self._constants.values()),
        )
        return self._sealed(graph)

    def _mixed(self, query: str, key: str, value: str) -> str:
        """The visible rows' values, mixed by the attention's shares, (n, heads * width)."""
        heads, shared, width = self._heads
        seen_keys, seen_values = self._seen(key, value)
        query = self._op("Gather", query, "queries", axis=0)
        query = self._reshape(query, [0, 0, heads, shared, width])
        query = self._op("Transpose", query, perm=[0, 2, 3, 1, 4])
        query = self._reshape(query, [0, 0, -1, width])  # (b, heads, shared * s, width)
        query = self._op("Mul", query, self._scalar("scale", width**-0.5))
        logits = self._op("MatMul", query, self._op("Transpose", seen_keys, perm=[0, 2, 3, 1]))
        shares = self._op("Softmax", self._op("Add", logits, "mask"), axis=-1)
        mixed = self._op("MatMul", shares, self._op("Transpose", seen_values, perm=[0, 2, 1, 3]))
        mixed = self._reshape(mixed, [0, 0, shared, -1, width])
        mixed = self._op("Transpose", mixed, perm=[0, 3, 1, 2, 4])
        mixed = self._reshape(mixed, [-1, heads * shared * width])
        return self._op("Gather", mixed, "back", axis=0)

    def _seen(self, key: str, value: str) -> tuple[str, str]:
        """Keys and values that each prompt sees, (b, t, heads, width); the new ones are kept."""
        heads, _, width = self._heads
        one = self._ints(0)
        pair = [self._op("Unsqueeze", self._half(part), one) for part in (key, value)]
        new = self._op("Concat", *pair, axis=0)  # (2, n, c)
        self._present.append(self._op("Unsqueeze", new, one))
        old = self._op("Gather", "past", self._index(self._layer), axis=0)
        seen = self._op("Gather", self._op("Concat", old, new, axis=1), "keys", axis=1)
        seen = self._op("Cast", seen, to=TensorProto.FLOAT)  # (2, b, t, c)
        parts = self._halves(seen)
        keys, values = (self._reshape(part, [0, 0, heads, width]) for part in parts)
        return keys, values

    def _half(self, values: str) -> str:
        return self._op("Cast", values, to=TensorProto.FLOAT16)

    def _halves(self, pair: str) -> tuple[str, str]:
        """(2, …) as its two parts."""
        first, second = (self._op("Gather", pair, self._index(i), axis=0) for i in (0, 1))
        return first, second
