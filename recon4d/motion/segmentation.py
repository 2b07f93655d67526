"""A hint of what may move, by a segmentation network in an ONNX file: people, or whatever stands out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from recon4d.errors import InputError
from recon4d.formats.onnx_model import OnnxModel, OnnxUse
from recon4d.geometry.picture_sizes import at_size, padded

MULTIPLE = 32  # of the sides, where the model takes any size
SLACK = 0.01  # by which probabilities may leave 0..1, or their sum 1: half precision


class Segmentation:
    """A network that tells the foreground of a picture.

    It takes one picture, (1, 3, H, W) or (1, H, W, 3) float32 RGB from 0 to 1. Its first output has one channel, the
    probability of the foreground, or several, of which the first is the background: probabilities, or numbers that
    softmax makes probabilities of. Pictures are stretched to the model's size where it has one.

    Raises:
        MissingDependency: onnxruntime is not installed.
        InputError: not a readable model, or not one of a single picture.
    """

    def __init__(self, path: Path) -> None:
        self._model = OnnxModel(path, OnnxUse("motion", pictures=1))

    def foreground(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W) float32 probability 0..1 for a picture (H, W, 3) uint8. Raises InputError."""
        wanted, (height, width) = self._model.inputs[0], rgb.shape[:2]
        picture = padded(rgb, MULTIPLE) if wanted.size is None else at_size(rgb, wanted.size)
        out = np.asarray(self._model.run([picture / np.float32(255)])[0], dtype=np.float32)
        found = self._foreground(self._channels_first(out, picture.shape[:2]))
        if wanted.size is None:
            return np.ascontiguousarray(found[:height, :width])
        return cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)

    def _channels_first(self, out: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """(C, H, W) of the model's output."""
        layers = out[0] if out.ndim == 4 and out.shape[0] == 1 else out
        if layers.shape[-2:] == shape:
            return layers.reshape(-1, *shape)
        if layers.ndim == 3 and layers.shape[:2] == shape:
            return np.moveaxis(layers, 2, 0)
        raise InputError(
            f"motion: the model {self._model.path} gives {out.shape} for a picture of {shape[1]}x{shape[0]} pixels, "
            f"(1, channels, {shape[0]}, {shape[1]}) is expected"
        )

    def _foreground(self, layers: np.ndarray) -> np.ndarray:
        """(H, W) probability from (C, H, W)."""
        low, high = float(layers.min()), float(layers.max())
        probable = low >= -SLACK and high <= 1 + SLACK  # False for NaN
        if len(layers) == 1:
            if not probable:
                raise InputError(
                    f"motion: the one channel of the model {self._model.path} goes from {low:.3g} to {high:.3g}, "
                    "probabilities from 0 to 1 are expected"
                )
            return np.clip(layers[0], 0, 1)
        if not (probable and np.abs(layers.sum(axis=0) - 1).max() <= SLACK):
            if not np.isfinite(layers).all():
                raise InputError(f"motion: the model {self._model.path} gives numbers that are not finite")
            layers = np.exp(layers - layers.max(axis=0))
            layers /= layers.sum(axis=0)
        return np.clip(1 - layers[0], 0, 1)
