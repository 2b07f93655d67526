"""Optical flow by a network in a file, ONNX or TorchScript.

Both take two pictures, (1, 3, H, W) float32 RGB from 0 to 255, and give (1, 2, H, W): where each pixel of the first
picture lies in the second, pixels (right, down). Where there are several outputs, as those of RAFT, the last one
counts. An ONNX model may have its channels last, and may want one fixed size: pictures are stretched to it and the flow
back. Otherwise sides are padded to multiples of 8.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError, first_line
from recon4d.formats.onnx_model import OnnxModel, OnnxUse
from recon4d.geometry.flow_check import resized_flow
from recon4d.geometry.picture_sizes import at_size, padded
from recon4d.motion.flow import Frame, flow_of_equals

if TYPE_CHECKING:
    import torch

MULTIPLE = 64  # of the sides: what networks with six halvings divide by, and all with fewer


class OnnxFlow:
    """Flow between any two pictures. Raises InputError, MissingDependency."""

    on_any_pictures = True

    def __init__(self, path: Path) -> None:
        self._model = OnnxModel(path, OnnxUse("motion", pictures=2))

    def knows(self, source: str, target: str) -> bool:
        return True

    def flow(self, source: Frame, target: Frame) -> np.ndarray:
        return flow_of_equals(self._estimate, source, target)

    def _estimate(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        wanted, (height, width) = self._model.inputs[0], source.shape[:2]
        if wanted.size is None:
            pictures = [padded(picture, MULTIPLE) for picture in (source, target)]
        else:
            pictures = [at_size(picture, wanted.size) for picture in (source, target)]
        out = self._model.run(pictures)[-1]
        found = _flow_of_output(self._model.path, np.asarray(out), pictures[0].shape[:2])
        return found[:height, :width] if wanted.size is None else resized_flow(found, width, height)


class TorchScriptFlow:
    """Flow between any two pictures; ``device`` as PyTorch names it. Raises InputError."""

    on_any_pictures = True

    def __init__(self, path: Path, device: str = "cpu") -> None:
        import torch

        self._path, self._device = path, device
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch prefers another form of file by now
                self._model = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"motion: {path} is not a usable TorchScript model: {first_line(error)}") from error

    def knows(self, source: str, target: str) -> bool:
        return True

    def flow(self, source: Frame, target: Frame) -> np.ndarray:
        return flow_of_equals(self._estimate, source, target)

    def _estimate(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        import torch

        height, width = source.shape[:2]
        pictures = [padded(picture, MULTIPLE) for picture in (source, target)]
        tensors = [torch.from_numpy(picture).permute(2, 0, 1)[None].to(self._device) for picture in pictures]
        try:
            with torch.inference_mode():
                out = self._model(*tensors)
        except (RuntimeError, torch.jit.Error) as error:
            raise InputError(
                f"motion: the model {self._path} fails on two pictures (1, 3, {pictures[0].shape[0]}, "
                f"{pictures[0].shape[1]}): {first_line(error)}"
            ) from error
        last = _last(self._path, out).float().cpu().numpy()
        return _flow_of_output(self._path, last, pictures[0].shape[:2])[:height, :width]


def _last(path: Path, out: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    last = out[-1] if isinstance(out, (list, tuple)) and out else out
    if not isinstance(last, torch.Tensor):
        raise InputError(f"motion: the model {path} gives {type(last).__name__}, a tensor of flow is expected")
    return last


def _flow_of_output(path: Path, out: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W, 2) float32 flow, NaN where the model gives no number. Raises InputError when it is not of this shape."""
    if out.shape == (1, 2, *shape):
        flow = np.moveaxis(out[0], 0, 2)
    elif out.shape == (1, *shape, 2):
        flow = out[0]
    else:
        raise InputError(
            f"motion: the model {path} gives {out.shape} for pictures of {shape[1]}x{shape[0]} pixels, "
            f"{(1, 2, *shape)} is expected"
        )
    flow = np.ascontiguousarray(flow, dtype=np.float32)
    return np.where(np.isfinite(flow).all(axis=-1, keepdims=True), flow, np.float32(np.nan))
