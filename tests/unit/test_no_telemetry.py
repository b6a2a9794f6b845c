"""Nothing that Weft runs on tells its maker: onnxruntime would, from 1.29 on."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

_SESSION = "import onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"


def left_by(script: str, home: Path, model: Path) -> list[Path]:
    """What a process wrote into its home; telemetry keeps an identifier and a queue there."""
    home.mkdir()
    subprocess.run(
        [sys.executable, "-c", f"import sys; {script}; {_SESSION}", str(model)],
        env={"HOME": str(home)},  # nothing of ours: CI=1 alone would stop it
        check=True,
        capture_output=True,
    )
    return [file for file in home.rglob("*") if file.is_file()]


def test_onnxruntime_keeps_no_telemetry_once_weft_is_imported(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(identity())
    assert left_by("import models", tmp_path / "ours", model) == []
    if [int(part) for part in version("onnxruntime").split(".")[:2]] >= [1, 29]:
        assert left_by("pass", tmp_path / "theirs", model), "then this test sees nothing any more"


def identity() -> bytes:
    """The smallest model: y = x, for one float."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())
