"""Where optical flow comes from: one source per file; the table says which file holds which source."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from recon4d.errors import InputError

SOURCES = {
    "dis": "recon4d.motion.flow_dis:DisFlow",
    "files": "recon4d.motion.flow_files:FlowOfFiles",
    "onnx": "recon4d.motion.flow_models:OnnxFlow",
    "torchscript": "recon4d.motion.flow_models:TorchScriptFlow",
}
MODEL_SUFFIXES = {".onnx": "onnx", ".pt": "torchscript", ".pth": "torchscript", ".ts": "torchscript"}


@dataclass(frozen=True)
class Frame:
    """A picture by its name."""

    name: str
    rgb: np.ndarray  # (H, W, 3) uint8


class FlowSource(Protocol):
    """Optical flow between pictures. May be asked from several threads at once."""

    on_any_pictures: bool  # it works on pictures, not on names: also on one that has been warped

    def knows(self, source: str, target: str) -> bool:
        """Whether there is flow from the frame called ``source`` to the one called ``target``."""

    def flow(self, source: Frame, target: Frame) -> np.ndarray:
        """(H, W, 2) float32 displacement (right, down) of every pixel of ``source``, in pixels of ``target``.

        NaN where the source does not know. Raises InputError.
        """


def open_flow(path: Path | None, frames: Sequence[tuple[str, str]]) -> FlowSource:
    """The source of flow that a path names: a folder of files, a model (.onnx, .pt), or None for OpenCV's DIS.

    Args:
        frames: rows of (name, source file name) in the order of time; what files know of is matched to them.

    Raises:
        InputError: nothing there that gives flow.
        MissingDependency: the model needs a package that is not installed.
    """
    if path is None:
        return source_class("dis")()
    if path.is_dir():
        return source_class("files")(path, frames)
    if not path.exists():
        raise InputError(f"motion: there is no {path}: --motion.flow takes a folder of flow files or a model file")
    kind = MODEL_SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f"motion: {path} is no source of optical flow: a folder of flow files, a model as .onnx, or a "
            "TorchScript model as .pt is expected"
        )
    return source_class(kind)(path)


def source_class(name: str) -> Callable[..., FlowSource]:
    """The class of the source called ``name``, one of `SOURCES`."""
    module, _, found = SOURCES[name].partition(":")
    return getattr(importlib.import_module(module), found)


def flow_of_equals(
    estimate: Callable[[np.ndarray, np.ndarray], np.ndarray], source: Frame, target: Frame
) -> np.ndarray:
    """Flow by a method that wants two pictures of one size; a target of another size is brought to the source's."""
    import cv2

    height, width = source.rgb.shape[:2]
    if target.rgb.shape == source.rgb.shape:
        return estimate(source.rgb, target.rgb)
    flow = estimate(source.rgb, cv2.resize(target.rgb, (width, height), interpolation=cv2.INTER_AREA))
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    scale = np.array([target.rgb.shape[1] / width, target.rgb.shape[0] / height])
    return ((centres + flow) * scale - centres).astype(np.float32)
