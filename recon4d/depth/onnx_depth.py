"""Depth by any network of single pictures in one ONNX file, through onnxruntime.

What must be known is looked for, in this order, in the options, in the sidecar, in a preset, and in the model's own
shape; a size the model insists on cannot be overridden. Nothing is guessed: a network fed with the wrong range of
numbers runs and is silently wrong.

The sidecar lies beside the model and has its name, ``MODEL.json`` or ``MODEL.toml``. Its keys, all optional:

================  ====================================================================================
preset            name of a preset that completes the rest, see `onnx_recipe.PRESETS`
size              [width, height] or "WIDTHxHEIGHT": pictures are stretched to it
short_side        instead of a size: the shorter side in pixels, the sides' ratio is kept
multiple          both sides are multiples of it
values            "0..1", "0..255", "-1..1" or "imagenet"; or, instead of it,
mean, std         one number or three, of pictures 0..1, in the order of ``channels``
channels          "rgb" (default) or "bgr"
layout            "nchw" or "nhwc" where the model's shape does not tell
kind              what the numbers mean, a `DepthKind`: "affine_disparity", "metric_z", ...
output            name of the output, where there are several
metres_per_value  for metric_z in another unit
================  ====================================================================================

    {"preset": "midas-small", "size": [384, 256], "values": "0..1"}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.depth.network_maps import network_map, of_one_shape
from recon4d.depth.onnx_recipe import (
    BYTES,
    PRESETS,
    VALUES,
    Recipe,
    preset,
    read_sidecar,
    sidecar_of,
    values_named,
)
from recon4d.errors import InputError, OptionsError
from recon4d.formats.onnx_model import AUTO, CPU, NUMBERS, OnnxModel, OnnxUse
from recon4d.geometry.picture_sizes import at_size
from recon4d.geometry.proportions import same_proportions
from recon4d.scene.depth import DepthKind, DepthMap

MPS = "mps"  # Apple's GPUs, which onnxruntime does not know by this name


@dataclass(frozen=True)
class OnnxRequest:
    """A model, and what the user said about it; None: the sidecar, the preset or the model says."""

    path: Path
    device: str = AUTO  # cpu, cuda, or auto: CUDA where onnxruntime has it; mps: the CPU
    kind: DepthKind | None = None
    preset: str | None = None  # a name of PRESETS
    input_size: tuple[int, int] | None = None  # (width, height)
    input_values: str | None = None  # a name of VALUES
    metres_per_value: float | None = None


class OnnxDepth:
    """A network and how it is fed. Made by `open_onnx_depth`."""

    def __init__(self, model: OnnxModel, recipe: Recipe, remarks: tuple[str, ...]) -> None:
        assert recipe.kind is not None
        assert recipe.values is not None
        self._model, self._recipe = model, recipe
        self.field_of_view_deg = None
        self._together = model.inputs[0].any_batch
        self.kind, self.remarks, self.device = recipe.kind, remarks, model.device

    def estimate(self, pictures: Sequence[np.ndarray]) -> list[DepthMap]:
        """Depth of pictures (H, W, 3) uint8 RGB, on grids of the model's own size that cover the whole picture.

        They go through the model together where it takes several of one size at once. What `network_map` says holds
        for numbers that are no depth.

        Raises:
            InputError: the model fails, or gives no map.
        """
        fed = [self._fed(picture) for picture in pictures]
        maps: dict[int, DepthMap] = {}
        for places in of_one_shape(fed):
            values = self._run(np.stack([fed[place] for place in places]))
            maps |= {place: network_map(self.kind, grid) for place, grid in zip(places, values)}
        return [maps[place] for place in range(len(fed))]

    def _fed(self, picture: np.ndarray) -> np.ndarray:
        """(h, w, 3) float32 as the model takes it, or bytes."""
        resized = at_size(picture, self._size(picture.shape[1], picture.shape[0]))
        ordered = resized[..., ::-1] if self._recipe.channels == "bgr" else resized
        if self._model.inputs[0].dtype is np.uint8:
            return np.rint(ordered)
        return self._recipe.values(ordered)

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """What a picture of this size is stretched to."""
        recipe = self._recipe
        if recipe.size is not None:
            return recipe.size
        multiple = recipe.multiple or 1
        scale = recipe.short_side / min(width, height)
        return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (width, height))

    def _run(self, pictures: np.ndarray) -> np.ndarray:
        """(B, h', w') numbers for pictures (B, h, w, 3)."""
        if self._together and len(pictures) > 1:
            try:
                return self._maps(pictures)
            except InputError:  # a free first axis may be free in name only; one by one shows whether that was it
                maps = np.concatenate([self._maps(picture[None]) for picture in pictures])
                self._together = False
                return maps
        return np.concatenate([self._maps(picture[None]) for picture in pictures])

    def _maps(self, pictures: np.ndarray) -> np.ndarray:
        name = self._recipe.output
        out = np.asarray(self._model.run([pictures], None if name is None else [name])[0])
        factor = self._recipe.metres_per_value
        maps = _maps_of_output(self._model.path, out, pictures.shape).astype(np.float32)
        return maps if factor is None else maps * np.float32(factor)


def open_onnx_depth(request: OnnxRequest) -> OnnxDepth:
    """Open a model and find out how it is fed.

    Raises:
        MissingDependency: onnxruntime is not installed.
        InputError: the model or its sidecar cannot be used.
        OptionsError: an option contradicts the model, or what must be known is said nowhere.
    """
    said = Recipe(
        size=request.input_size,
        values=None if request.input_values is None else values_named(request.input_values),
        kind=request.kind,
        metres_per_value=request.metres_per_value,
    )
    sidecar, its_preset = sidecar_of(request.path), None
    if sidecar is not None:
        written, its_preset = read_sidecar(sidecar)
        said = said.over(written)
    name = request.preset or its_preset
    recipe = said if name is None else said.over(preset(name))
    device = CPU if request.device == MPS else request.device
    use = OnnxUse("depth", pictures=1, device=device, numbers=tuple(NUMBERS), layout=recipe.layout)
    model = OnnxModel(request.path, use)
    recipe = _fitted_to(model, said, recipe)
    _check_known(request.path, model, recipe)
    remarks = [f"kind {recipe.kind.value}", f"the network runs on {model.device.upper()}"]
    if sidecar is not None:
        remarks.append(f"fed as {sidecar.name} says")
    if (likely := _likely(request.path)) not in (None, name):
        remarks.append(f"the file's name looks like one for the preset {likely}, which was not named")
    return OnnxDepth(model, recipe, tuple(remarks))


def _fitted_to(model: OnnxModel, said: Recipe, recipe: Recipe) -> Recipe:
    """The recipe with what the model itself determines. ``said`` is what was told of this very model."""
    wanted, path = model.inputs[0], model.path
    if wanted.size is not None:
        if said.size not in (None, wanted.size):
            raise OptionsError(
                f"depth: the model {path} takes {_shown(wanted.size)} pixels only, not {_shown(said.size)}: leave the "
                "input size away"
            )
        recipe = Recipe(size=wanted.size).over(recipe)
    elif recipe.size is not None and any(side % (recipe.multiple or 1) for side in recipe.size):
        raise OptionsError(
            f"depth: the input size {_shown(recipe.size)} of the model {path} must be multiples of {recipe.multiple}"
        )
    if wanted.dtype is np.uint8:
        recipe = Recipe(values=BYTES).over(recipe)
    if recipe.output is None and len(model.outputs) == 1:
        recipe = Recipe(output=model.outputs[0]).over(recipe)
    return recipe


def _check_known(path: Path, model: OnnxModel, recipe: Recipe) -> None:
    """Refuse to guess. Raises OptionsError."""
    choices = f"a preset (--depth.preset {', '.join(PRESETS)})"
    if recipe.values is None:
        raise OptionsError(
            f"depth: nothing says in which range of numbers the model {path} takes its pictures, and a wrong one gives "
            f"wrong depth without any error: name {choices}{_hint(path)} or --depth.input-values "
            f"({', '.join(VALUES)}), or write them into {path.with_suffix('.json').name}"
        )
    if recipe.kind is None:
        raise OptionsError(
            f"depth: nothing says what the numbers of the model {path} mean: name --depth.kind "
            f"({', '.join(kind.value for kind in DepthKind)}) or {choices}{_hint(path)}"
        )
    if recipe.size is None and recipe.short_side is None:
        raise OptionsError(
            f"depth: the model {path} takes pictures of any size, and nothing says which it was made for: give an "
            f"input size (--depth.input-size WIDTHxHEIGHT) or {choices}{_hint(path)}"
        )
    if recipe.output not in model.outputs:
        side = path.with_suffix(".json").name
        raise InputError(
            f"depth: the model {path} has the outputs {', '.join(model.outputs)}: name that of depth as 'output' in "
            f"{side}"
        )


def _hint(path: Path) -> str:
    likely = _likely(path)
    return f", probably {likely}," if likely else ""


def _likely(path: Path) -> str | None:
    """The preset a file is probably for, by its name: the user decides."""
    name = path.name.lower().replace("_", "-")
    return max((known for known in PRESETS if known in name), key=len, default=None)


def _maps_of_output(path: Path, out: np.ndarray, fed: tuple[int, ...]) -> np.ndarray:
    """(B, h, w) of (B, 1, h, w), (B, h, w, 1), (B, h, w), or (h, w) for one. Raises InputError for anything else."""
    count, height, width = fed[:3]
    maps = out
    if maps.ndim == 4 and 1 in (maps.shape[1], maps.shape[3]):
        maps = maps[:, 0] if maps.shape[1] == 1 else maps[..., 0]
    elif maps.ndim == 2 and count == 1:
        maps = maps[None]
    fits = maps.ndim == 3 and len(maps) == count and min(maps.shape[1:]) > 1 and maps.dtype.kind in "fui"
    if not (fits and same_proportions(maps.shape[1:], (height, width))):
        raise InputError(
            f"depth: the model {path} gives {out.dtype} {out.shape} for {count} pictures of {width}x{height} pixels, "
            f"one map ({count}, 1, {height}, {width}) is expected"
        )
    return maps


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
