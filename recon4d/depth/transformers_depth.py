"""Depth by any model of single pictures that the transformers library knows (`AutoModelForDepthEstimation`).

Weights are read in the safetensors format only, and no code that comes with a model is run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.depth.devices import chosen_device, chosen_dtype
from recon4d.depth.model_files import Wanted, quiet_loading
from recon4d.depth.network_kinds import kind_of, kind_or_refuse
from recon4d.depth.network_maps import network_map, of_one_shape
from recon4d.depth.network_pictures import SETTINGS, WHOLE, Fed, Prepare, open_pictures
from recon4d.errors import DepthError, InputError, first_line
from recon4d.geometry.resample import sample_grid
from recon4d.scene.depth import DepthKind, DepthMap

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# What is read of a repository of the hub.
FILES = Wanted(
    needed=(("config.json",), (SETTINGS,), ("model.safetensors", "model-*.safetensors")),
    also=("model.safetensors.index.json",),
)
# Parts of published weights that may be missing because nothing computes with them: the first fusion of a DPT neck has
# nothing to add to, mask tokens are for training, poolers are for classes.
UNUSED = ("fusion_stage.layers.0.residual_layer1.", "mask_token", "pooler.")
NEAREST, FARTHEST = 1e-4, 1e4  # metres that Depth Pro can say


@dataclass(frozen=True)
class TransformersRequest:
    """A model, and how it is to run."""

    folder: Path  # config.json, preprocessor_config.json and *.safetensors, as the hub has them
    device: str = "auto"  # cpu, cuda, mps; auto: the GPU where PyTorch sees one
    dtype: str = "auto"  # float32, float16, bfloat16; auto: float16 on cuda, else float32
    kind: DepthKind | None = None  # None: as the architecture tells


class TransformersDepth:
    """A model and what it is fed. Made by `open_transformers_depth`."""

    def __init__(self, model: PreTrainedModel, prepare: Prepare, kind: DepthKind, remarks: tuple[str, ...]) -> None:
        self._model, self._prepare = model, prepare
        self._fields_of_view: list[float] = []
        self.kind, self.remarks = kind, remarks
        self.device, self.dtype = str(model.device.type), str(model.dtype).removeprefix("torch.")

    @property
    def field_of_view_deg(self) -> float | None:
        """Horizontal field of view, the median of the pictures so far, where the model estimates it (Depth Pro)."""
        return float(np.median(self._fields_of_view)) if self._fields_of_view else None

    def estimate(self, pictures: Sequence[np.ndarray]) -> list[DepthMap]:
        """Depth of pictures (H, W, 3) uint8 RGB, on grids of the model's own size that cover the whole picture.

        Those of one size go through the model together. What `network_map` says holds for numbers that are no depth.

        Raises:
            InputError: the model cannot take such pictures, or gives no map.
            DepthError: it fails, as for want of memory.
        """
        maps: dict[int, DepthMap] = {}
        for places in of_one_shape(pictures):
            fed = self._prepare([pictures[place] for place in places])
            maps |= {
                place: network_map(self.kind, _inside(grid, fed.window)) for place, grid in zip(places, self._run(fed))
            }
        return [maps[place] for place in range(len(pictures))]

    def _run(self, fed: Fed) -> np.ndarray:
        """(B, h, w) float32 for pictures as the model takes them."""
        import torch

        count, _, height, width = fed.pixels.shape
        try:
            with torch.inference_mode():
                out = self._model(pixel_values=fed.pixels.to(self._model.device, self._model.dtype))
        except torch.OutOfMemoryError as error:
            raise DepthError(
                f"depth: {count} pictures of {width}x{height} pixels at once do not fit into the memory of the "
                f"{self.device} device: lower --depth.batch, or choose another --depth.dtype"
            ) from error
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise DepthError(
                f"depth: the model fails on {count} pictures of {width}x{height} pixels: {first_line(error)}"
            ) from error
        numbers = out.predicted_depth.float().cpu().numpy()
        numbers = numbers[:, 0] if numbers.ndim == 4 and numbers.shape[1] == 1 else numbers
        if numbers.ndim != 3 or len(numbers) != count:
            raise InputError(f"depth: the model gives {numbers.shape} for {count} pictures, one map each is expected")
        return self._z(numbers, out) if self._model.config.model_type == "depth_pro" else numbers

    def _z(self, inverse: np.ndarray, out: object) -> np.ndarray:
        """Depth Pro's canonical inverse depth (B, h, w) as z:  z = width / (focal length * inverse).

        Width over focal length is 2 tan(field of view / 2), and taken as 1 where the model does not estimate it.
        Source: Bochkovskii et al., ICLR 2025, section 3.1; the bounds are those of the published code.
        """
        ratio = np.ones(len(inverse))
        if getattr(out, "field_of_view", None) is not None:
            degrees = out.field_of_view.float().cpu().numpy().reshape(len(inverse)).astype(np.float64)
            self._fields_of_view += [angle for angle in degrees.tolist() if math.isfinite(angle)]
            sensible = (degrees > 0) & (degrees < 180)
            ratio = np.where(sensible, 2 * np.tan(np.radians(degrees) / 2), np.nan)
        return 1 / np.clip(inverse * ratio[:, None, None], 1 / FARTHEST, 1 / NEAREST)


def open_transformers_depth(request: TransformersRequest) -> TransformersDepth:
    """Load a model.

    Raises:
        InputError: the folder holds no model of depth that can be used.
        OptionsError: the device is not there, or nothing says what the numbers mean.
    """
    device = chosen_device(request.device)
    dtype = chosen_dtype(request.dtype, device)
    with quiet_loading("transformers"):  # its warnings of weights are judged in `_model`
        config = _config(request.folder)
        kind = kind_or_refuse(config, request.kind)
        prepare = open_pictures(request.folder, config.model_type)
        model = _model(request.folder, config, device, dtype)
    known = kind_of(config)
    why = f"as {config.model_type} models give"
    if request.kind is not None:
        why = "as told" if known in (None, kind) else f"as told, though {config.model_type} models give {known.value}"
    return TransformersDepth(model, prepare, kind, (f"kind {kind.value} ({why})", f"{dtype} on {device}"))


def _config(folder: Path) -> PretrainedConfig:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES as known

    if not (folder / "config.json").is_file():
        raise InputError(f"depth: {folder} holds no model of the transformers library: it has no config.json")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a setting that is not as it should be may raise anything
        raise InputError(f"depth: {folder / 'config.json'} cannot be used: {first_line(error)}") from error
    if config.model_type not in known:
        raise InputError(
            f"depth: {folder} is a model of type '{config.model_type}', of depth are {', '.join(sorted(known))}"
        )
    return config


def _model(folder: Path, config: PretrainedConfig, device: str, dtype: str) -> PreTrainedModel:
    """The model with all of its weights, ready to run."""
    import torch
    from transformers import AutoModelForDepthEstimation

    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"depth: {folder} has no weights in the safetensors format, and others, which can run code, are not read: "
            "take a revision that has them, or save the model again with save_pretrained"
        )
    try:
        model, told = AutoModelForDepthEstimation.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # of the config's numbers, of the file, of the memory
        raise InputError(f"depth: the model in {folder} cannot be loaded: {first_line(error)}") from error
    missing = sorted(key for key in told["missing_keys"] if not any(part in key for part in UNUSED))
    if missing:  # the library only warns and takes random numbers
        raise InputError(
            f"depth: the weights in {folder} lack {len(missing)} parts that the model needs, as {missing[0]}: they "
            "belong to another model, or the download is not complete"
        )
    return model.to(device=torch.device(device), dtype=getattr(torch, dtype)).eval()


def _inside(grid: np.ndarray, window: tuple[float, float, float, float]) -> np.ndarray:
    """The part of a map (h, w) that a window in shares of it covers, as finely sampled; NaN where it has no number."""
    if window == WHOLE:
        return grid
    left, top, right, bottom = window
    height, width = grid.shape
    x, y = (
        (start + (np.arange(count) + 0.5) / count * (end - start)) * side
        for start, end, side in ((left, right, width), (top, bottom, height))
        for count in (max(1, round((end - start) * side)),)
    )
    values, valid = sample_grid(grid, np.isfinite(grid), *np.meshgrid(x, y))
    return np.where(valid, values, np.float32(np.nan))
