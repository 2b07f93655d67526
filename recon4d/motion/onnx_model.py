"""A network as an ONNX file: which pictures it takes, running it, and one sentence when it cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError, require
from recon4d.formats.onnx_file import has_external_data

if TYPE_CHECKING:
    import onnxruntime

NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
WARNINGS_OFF = 3  # of onnxruntime's log levels


@dataclass(frozen=True)
class PictureInput:
    """An input that takes one picture."""

    name: str
    dtype: type
    channels_last: bool
    size: tuple[int, int] | None  # (width, height) where the model wants that one

    def tensor(self, rgb: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) or (1, H, W, 3) of a picture (H, W, 3)."""
        picture = rgb if self.channels_last else np.moveaxis(rgb, 2, 0)
        return np.ascontiguousarray(picture[None], dtype=self.dtype)


class OnnxModel:
    """A model that takes pictures only. May run in several threads at once.

    Raises:
        MissingDependency: onnxruntime is not installed.
        InputError: not a readable model, one with weights in other files (the key of a result holds the content of
            one file), or its inputs are not so many pictures of three channels.
    """

    def __init__(self, path: Path, pictures: int) -> None:
        self.path = path
        self._session = _open(path)
        inputs = self._session.get_inputs()
        if len(inputs) != pictures:
            names = ", ".join(item.name for item in inputs)
            raise InputError(f"motion: the model {path} has {len(inputs)} inputs ({names}), {pictures} are expected")
        self.inputs = [_picture_input(path, item) for item in inputs]
        if len({(item.size, item.channels_last) for item in self.inputs}) > 1:
            raise InputError(f"motion: the model {path} wants its two pictures in different shapes")

    def run(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
        """All outputs for pictures (H, W, 3) float of the model's size. Raises InputError when it refuses them."""
        fed = {item.name: item.tensor(picture) for item, picture in zip(self.inputs, pictures)}
        try:
            return self._session.run(None, fed)
        except Exception as error:  # onnxruntime's errors have no base of their own
            height, width = pictures[0].shape[:2]
            raise InputError(f"motion: the model {self.path} fails on {width}x{height} pixels: {error}") from error


def _open(path: Path) -> onnxruntime.InferenceSession:
    onnxruntime = require("onnxruntime", "onnx")
    if not path.is_file():
        raise InputError(f"motion: there is no model {path}")
    if has_external_data(path):
        raise InputError(
            f"motion: the model {path} keeps weights in other files (external data): save it as one file, with "
            "onnx.save_model(onnx.load(MODEL), NEW_FILE)"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = WARNINGS_OFF
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise InputError(f"motion: {path} is not a usable ONNX model: {error}") from error


def _picture_input(path: Path, item: onnxruntime.NodeArg) -> PictureInput:
    """What an input wants. A dimension that is no number may be anything."""
    shape = [side if isinstance(side, int) and side > 0 else None for side in item.shape]
    if len(shape) != 4 or shape[0] not in (1, None) or item.type not in NUMBERS:
        raise _no_picture(path, item)
    channels_last = shape[1] != 3 and shape[3] == 3
    channels, height, width = (shape[3], *shape[1:3]) if channels_last else shape[1:]
    if channels not in (3, None) or (height is None) != (width is None):
        raise _no_picture(path, item)
    return PictureInput(item.name, NUMBERS[item.type], channels_last, None if height is None else (width, height))


def _no_picture(path: Path, item: onnxruntime.NodeArg) -> InputError:
    return InputError(
        f"motion: input {item.name} of the model {path} is {item.type} {item.shape}, floats (1, 3, height, width) or "
        "(1, height, width, 3) are expected"
    )
