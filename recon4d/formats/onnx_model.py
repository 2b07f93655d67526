"""A network as an ONNX file: which pictures it takes, running it, and one sentence when it cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError, OptionsError, require
from recon4d.formats.onnx_file import has_external_data

if TYPE_CHECKING:
    import onnxruntime

FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
NUMBERS = FLOATS | {"tensor(uint8)": np.uint8}
LAYOUTS = ("nchw", "nhwc")
CPU, CUDA, AUTO = "cpu", "cuda", "auto"
PROVIDERS = {CPU: "CPUExecutionProvider", CUDA: "CUDAExecutionProvider"}
WARNINGS_OFF = 3  # of onnxruntime's log levels


@dataclass(frozen=True)
class OnnxUse:
    """How a stage uses a model.

    Raises:
        OptionsError: no such device or layout.
    """

    stage: str  # messages begin with its name
    pictures: int  # inputs, each of which takes one picture
    device: str = CPU  # cpu, cuda, or auto: CUDA where onnxruntime has it
    numbers: tuple[str, ...] = tuple(FLOATS)  # types of tensors the stage can feed
    layout: str | None = None  # nchw or nhwc where the model's shape does not tell

    def __post_init__(self) -> None:
        if self.device not in (*PROVIDERS, AUTO):
            raise OptionsError(f"{self.stage}: ONNX models run on {', '.join(PROVIDERS)}, not on '{self.device}'")
        if self.layout not in (None, *LAYOUTS):
            raise OptionsError(f"{self.stage}: a layout is {' or '.join(LAYOUTS)}, not '{self.layout}'")


@dataclass(frozen=True)
class PictureInput:
    """An input that takes one picture, or several of one size where ``batch`` is free."""

    name: str
    dtype: type
    channels_last: bool
    size: tuple[int, int] | None  # (width, height) where the model wants that one
    any_batch: bool  # takes several pictures at once

    def tensor(self, rgb: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) or (B, H, W, 3) of pictures (B, H, W, 3), or of one (H, W, 3)."""
        pictures = rgb if rgb.ndim == 4 else rgb[None]
        return np.ascontiguousarray(pictures if self.channels_last else np.moveaxis(pictures, 3, 1), dtype=self.dtype)


class OnnxModel:
    """A model that takes pictures only. May run in several threads at once.

    Raises:
        MissingDependency: onnxruntime is not installed.
        OptionsError: it cannot run on the wanted device.
        InputError: not a readable model, one with weights in other files (the key of a result holds the content of
            one file), or its inputs are not so many pictures of three channels.
    """

    def __init__(self, path: Path, use: OnnxUse) -> None:
        self.path, self.stage = path, use.stage
        self._session = _open(path, use)
        self.device = CUDA if PROVIDERS[CUDA] in self._session.get_providers() else CPU
        inputs = self._session.get_inputs()
        if len(inputs) != use.pictures:
            names = ", ".join(item.name for item in inputs)
            raise InputError(
                f"{use.stage}: the model {path} has {len(inputs)} inputs ({names}), {use.pictures} are expected"
            )
        self.inputs = [_picture_input(path, use, item) for item in inputs]
        if len({(item.size, item.channels_last) for item in self.inputs}) > 1:
            raise InputError(f"{use.stage}: the model {path} wants its pictures in different shapes")
        self.outputs = [item.name for item in self._session.get_outputs()]

    def run(self, pictures: Sequence[np.ndarray], outputs: Sequence[str] | None = None) -> list[np.ndarray]:
        """The named outputs, or all, for one picture (H, W, 3), or batch (B, H, W, 3), per input, of the model's size.

        Raises InputError when it refuses them.
        """
        fed = {item.name: item.tensor(picture) for item, picture in zip(self.inputs, pictures)}
        try:
            return self._session.run(outputs, fed)
        except Exception as error:  # onnxruntime's errors have no base of their own
            height, width = pictures[0].shape[-3:-1]
            raise InputError(
                f"{self.stage}: the model {self.path} fails on {width}x{height} pixels: {error}"
            ) from error


def _open(path: Path, use: OnnxUse) -> onnxruntime.InferenceSession:
    onnxruntime = require("onnxruntime", "onnx")
    if not path.is_file():
        raise InputError(f"{use.stage}: there is no model {path}")
    if has_external_data(path):
        raise InputError(
            f"{use.stage}: the model {path} keeps weights in other files (external data): save it as one file, with "
            "onnx.save_model(onnx.load(MODEL), NEW_FILE)"
        )
    found = onnxruntime.get_available_providers()
    if use.device == CUDA and PROVIDERS[CUDA] not in found:
        raise _no_cuda(
            use, f"the installed onnxruntime has {', '.join(found)}: pip install onnxruntime-gpu in its place"
        )
    wanted = [PROVIDERS[CPU]]
    if use.device != CPU and PROVIDERS[CUDA] in found:
        wanted.insert(0, PROVIDERS[CUDA])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = WARNINGS_OFF
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise InputError(f"{use.stage}: {path} is not a usable ONNX model: {error}") from error
    if use.device == CUDA and PROVIDERS[CUDA] not in session.get_providers():  # it falls back without an error
        raise _no_cuda(use, "onnxruntime did not start it: its CUDA and cuDNN must be those of the machine")
    return session


def _no_cuda(use: OnnxUse, why: str) -> OptionsError:
    return OptionsError(f"{use.stage}: the model cannot run on CUDA, {why}, or use the device cpu")


def _picture_input(path: Path, use: OnnxUse, item: onnxruntime.NodeArg) -> PictureInput:
    """What an input wants. A dimension that is no number may be anything."""
    shape = [side if isinstance(side, int) and side > 0 else None for side in item.shape]
    if len(shape) != 4 or shape[0] not in (1, None) or item.type not in use.numbers:
        raise _no_picture(path, use, item)
    channels_last = shape[1] != 3 and shape[3] == 3 if use.layout is None else use.layout == "nhwc"
    channels, height, width = (shape[3], *shape[1:3]) if channels_last else shape[1:]
    if channels not in (3, None) or (height is None) != (width is None):
        raise _no_picture(path, use, item)
    size = None if height is None else (width, height)
    return PictureInput(item.name, NUMBERS[item.type], channels_last, size, shape[0] is None)


def _no_picture(path: Path, use: OnnxUse, item: onnxruntime.NodeArg) -> InputError:
    return InputError(
        f"{use.stage}: input {item.name} of the model {path} is {item.type} {item.shape}, floats (1, 3, height, width) "
        "or (1, height, width, 3) are expected"
    )
