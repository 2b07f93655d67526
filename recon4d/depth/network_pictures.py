"""Pictures as a model of the transformers library takes them, and which part of its map they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError, first_line

if TYPE_CHECKING:
    import torch
    from transformers import BaseImageProcessor

SETTINGS = "preprocessor_config.json"
WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Fed:
    """Pictures of one size, ready for a model."""

    pixels: torch.Tensor  # (B, 3, h, w) float32
    window: tuple[float, float, float, float]  # left, top, right, bottom of the picture in what is fed, as shares of it


Prepare = Callable[[Sequence[np.ndarray]], Fed]


def open_pictures(folder: Path, model_type: str) -> Prepare:
    """What prepares pictures (H, W, 3) uint8 RGB of one size for the model in a folder.

    Pillow resizes them, as when these models were published: the result does not depend on whether torchvision is
    installed.

    Raises:
        InputError: the folder does not say how, or in a way this version of transformers does not know.
    """
    from transformers import AutoImageProcessor

    if not (folder / SETTINGS).is_file():
        raise InputError(
            f"depth: {folder} has no {SETTINGS}, so nothing says how this model takes pictures: copy that file from "
            "where the model comes from"
        )
    if model_type == "depth_pro":
        return _depth_pro(folder)
    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
    except (ImportError, ValueError, OSError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"depth: {folder / SETTINGS} cannot be used: {first_line(error)}") from error

    def prepare(pictures: Sequence[np.ndarray]) -> Fed:
        return _prepared(processor, model_type, pictures)

    return prepare


def _prepared(processor: BaseImageProcessor, model_type: str, pictures: Sequence[np.ndarray]) -> Fed:
    height, width = pictures[0].shape[:2]
    zoe = model_type == "zoedepth"
    divisor = getattr(processor, "size_divisor", None)
    pads = getattr(processor, "do_pad", False)
    off = {} if zoe or not pads else {"do_pad": False}
    if getattr(processor, "do_center_crop", False):
        off["do_center_crop"] = False  # depth of a part of the picture is of no use
    try:
        pixels = processor(list(pictures), return_tensors="pt", input_data_format="channels_last", **off).pixel_values
    except (ValueError, RuntimeError, TypeError, ZeroDivisionError) as error:
        what = f"depth: pictures of {width}x{height} pixels cannot be brought to the model's size"
        raise InputError(f"{what}: {first_line(error)}") from error
    if zoe:
        return Fed(pixels, _zoe_window(width, height) if pads else WHOLE)
    return _padded(pixels, divisor) if pads and divisor else Fed(pixels, WHOLE)


def _zoe_window(width: int, height: int) -> tuple[float, float, float, float]:
    """ZoeDepth reflects this much of the picture at its borders, against false depth there.

    Source: infer() of the published code; ZoeDepthImageProcessor.pad_image of transformers.
    """
    x, y = (int(math.sqrt(side / 2) * 3) for side in (width, height))
    left, top = x / (width + 2 * x), y / (height + 2 * y)
    return left, top, 1 - left, 1 - top


def _padded(pixels: torch.Tensor, divisor: int) -> Fed:
    """Zeros on both sides up to multiples of ``divisor``, as DPTImageProcessor has them; we note where."""
    import torch

    height, width = pixels.shape[-2:]
    more_x, more_y = -width % divisor, -height % divisor
    left, top = more_x // 2, more_y // 2
    padded = torch.nn.functional.pad(pixels, (left, more_x - left, top, more_y - top))
    full_height, full_width = padded.shape[-2:]
    window = (left / full_width, top / full_height, (left + width) / full_width, (top + height) / full_height)
    return Fed(padded, window)


def _depth_pro(folder: Path) -> Prepare:
    """As DepthProImageProcessor, which cannot be loaded without torchvision: normalised first, then stretched."""
    import torch
    from transformers import ImageProcessingMixin

    try:
        table, _ = ImageProcessingMixin.get_image_processor_dict(folder, local_files_only=True)
        size = int(table["size"]["height"]), int(table["size"]["width"])
        factor = float(table.get("rescale_factor", 1 / 255))
        mean, std = (
            torch.tensor([float(x) for x in table.get(key, [0.5] * 3)]).reshape(1, 3, 1, 1)
            for key in ("image_mean", "image_std")
        )
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"depth: {folder / SETTINGS} gives no usable size, mean and deviation: {first_line(error)}"
        ) from error

    def prepare(pictures: Sequence[np.ndarray]) -> Fed:
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
        pixels = (pixels * factor - mean) / std
        return Fed(torch.nn.functional.interpolate(pixels, size, mode="bilinear", align_corners=False), WHOLE)

    return prepare
