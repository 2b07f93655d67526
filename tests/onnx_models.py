"""Tiny ONNX models with known answers, and TorchScript ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

OPSET, IR = 17, 8  # of 2022: every onnxruntime in use reads them


def write_onnx(
    path: Path,
    inputs: dict[str, Sequence[int | str]],
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str], dict]],
    constants: dict[str, np.ndarray],
    outputs: dict[str, Sequence[int | str]],
    data_file: str | None = None,
) -> Path:
    """A model of nodes (operator, inputs, outputs, attributes) on float32 tensors; ``data_file`` gets its weights."""
    from onnx import TensorProto, helper, numpy_helper, save

    def described(tensors: dict) -> list:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in tensors.items()]

    graph = helper.make_graph(
        [helper.make_node(kind, list(taken), list(given), **more) for kind, taken, given, more in nodes],
        "test",
        described(inputs),
        described(outputs),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    apart = {"save_as_external_data": True, "convert_attribute": True, "location": data_file, "size_threshold": 0}
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    save(model, path, **(apart if data_file else {}))
    return path


def write_flow_model(path: Path, size: tuple[int | str, int | str] = ("h", "w"), channels_last: bool = False) -> Path:
    """A "flow" model whose answer tells what it was fed: right is the first picture's red, down the second's blue.

    Args:
        size: (height, width), numbers where the model wants that one.
    """
    first, second = ("a", "b")
    shape = [1, *size, 3] if channels_last else [1, 3, *size]
    nodes = []
    if channels_last:
        nodes += [("Transpose", [name], [f"{name}_first"], {"perm": [0, 3, 1, 2]}) for name in "ab"]
        first, second = "a_first", "b_first"
    nodes += [
        ("Gather", [first, "red"], ["right"], {"axis": 1}),
        ("Gather", [second, "blue"], ["down"], {"axis": 1}),
        ("Concat", ["right", "down"], ["flow"], {"axis": 1}),
        ("Neg", ["flow"], ["early"], {}),
    ]
    constants = {"red": np.array([0]), "blue": np.array([2])}
    outputs = {"early": [1, 2, *size], "flow": [1, 2, *size]}
    return write_onnx(path, {"a": shape, "b": shape}, nodes, constants, outputs)


def write_segmentation_model(path: Path, channels: np.ndarray, size: tuple[int | str, int | str] = ("h", "w")) -> Path:
    """A model that gives ``channels`` (C, 3) @ RGB for each pixel."""
    weights = np.asarray(channels, dtype=np.float32)[:, :, None, None]
    nodes = [("Conv", ["picture", "weights"], ["out"], {})]
    return write_onnx(path, {"picture": [1, 3, *size]}, nodes, {"weights": weights}, {"out": [1, len(channels), *size]})
