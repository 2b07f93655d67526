"""How a depth network in an ONNX file is fed and what its numbers mean: presets, and the sidecar beside the model."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from recon4d.errors import InputError, OptionsError
from recon4d.formats.onnx_model import LAYOUTS
from recon4d.scene.depth import DepthKind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LONGEST_SIDECAR = 65536  # bytes
LARGEST_SIDE = 8192  # pixels; beyond it a size is a slip of the pen
ORDERS = ("rgb", "bgr")
KEYS = (  # of a sidecar
    *("preset", "size", "short_side", "multiple", "values", "mean", "std"),
    *("channels", "layout", "kind", "output", "metres_per_value"),
)


@dataclass(frozen=True)
class Normalisation:
    """What becomes of 0..255:  fed = (value / divisor - mean) / std, channel by channel in the order they are fed."""

    divisor: float
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """(..., 3) float32 of the same."""
        mean, std = (np.asarray(numbers, dtype=np.float32) for numbers in (self.mean, self.std))
        return (pictures / np.float32(self.divisor) - mean) / std


BYTES = Normalisation(1.0)
VALUES = {
    "0..1": Normalisation(255.0),
    "0..255": BYTES,
    "-1..1": Normalisation(255.0, (0.5,), (0.5,)),
    # Mean and standard deviation of ImageNet's pictures, as torchvision's models take them.
    "imagenet": Normalisation(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True)
class Recipe:
    """How a network is fed and what it gives; None where it is not said."""

    size: tuple[int, int] | None = None  # (width, height) pictures are stretched to
    short_side: int | None = None  # pixels: instead of a size, for models that take any
    multiple: int | None = None  # of which both sides must be
    values: Normalisation | None = None
    channels: str | None = None  # rgb or bgr
    layout: str | None = None  # nchw or nhwc
    kind: DepthKind | None = None
    output: str | None = None  # name of the model's output
    metres_per_value: float | None = None

    def over(self, other: Recipe) -> Recipe:
        """This one, completed by another."""
        if self.size or self.short_side:
            other = replace(other, size=None, short_side=None)
        mine, its = ({field.name: getattr(recipe, field.name) for field in fields(Recipe)} for recipe in (self, other))
        return Recipe(**{name: its[name] if value is None else value for name, value in mine.items()})


IMAGENET, DISPARITY, METRES = VALUES["imagenet"], DepthKind.AFFINE_DISPARITY, DepthKind.METRIC_Z
PRESETS = {
    # Li et al., ICCV workshops 2021; the division by 255 is inside the graph.
    "tcmonodepth": Recipe(short_side=192, multiple=32, values=BYTES, kind=DISPARITY),
    # Ranftl et al., PAMI 2022: the small network of MiDaS 2.1, and DPT large and hybrid.
    "midas-small": Recipe(size=(256, 256), multiple=32, values=IMAGENET, kind=DISPARITY),
    "dpt": Recipe(short_side=384, multiple=32, values=VALUES["-1..1"], kind=DISPARITY),
    # Yang et al., CVPR and NeurIPS 2024: patches of 14 pixels, trained at 518.
    "depth-anything": Recipe(short_side=518, multiple=14, values=IMAGENET, kind=DISPARITY),
    "depth-anything-v2": Recipe(short_side=518, multiple=14, values=IMAGENET, kind=DISPARITY),
    "depth-anything-v2-metric": Recipe(short_side=518, multiple=14, values=IMAGENET, kind=METRES),
    # Wofk et al., ICRA 2019; trained on NYU Depth v2, metres.
    "fastdepth": Recipe(size=(224, 224), multiple=32, values=VALUES["0..1"], kind=METRES),
    # Godard et al., ICCV 2019: the sigmoid whose shifted multiple is inverse depth.
    "monodepth2": Recipe(size=(640, 192), multiple=32, values=VALUES["0..1"], kind=DISPARITY),
}


def preset(name: str) -> Recipe:
    """The preset of this name. Raises OptionsError."""
    if name not in PRESETS:
        raise OptionsError(f"depth: there is no preset '{name}' of ONNX models; known are {', '.join(PRESETS)}")
    return PRESETS[name]


def values_named(name: str) -> Normalisation:
    """The normalisation of this name. Raises OptionsError."""
    if name not in VALUES:
        raise OptionsError(f"depth: input values are {', '.join(VALUES)}, not '{name}'")
    return VALUES[name]


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of ``WIDTHxHEIGHT`` pixels. Raises OptionsError."""
    found = re.fullmatch(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*", text, flags=re.ASCII)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= side <= LARGEST_SIDE for side in size):
        raise OptionsError(f"depth: '{text}' is no input size: write WIDTHxHEIGHT in pixels, such as 320x192")
    return size


def sidecar_of(model: Path) -> Path | None:
    """The file beside a model that says how it is fed: MODEL.json or MODEL.toml for MODEL.onnx.

    Raises InputError when there are both.
    """
    found = [path for suffix in (".json", ".toml") if (path := model.with_suffix(suffix)).is_file()]
    if len(found) > 1:
        raise InputError(f"depth: both {found[0]} and {found[1].name} tell how {model.name} is fed: remove one")
    return found[0] if found else None


def read_sidecar(path: Path) -> tuple[Recipe, str | None]:
    """What a sidecar says, and the preset it names to complete it. Raises InputError."""
    table = _table(path)
    unknown = sorted(set(table) - set(KEYS))
    if unknown:
        raise InputError(f"depth: {path} has '{unknown[0]}', which is none of {', '.join(KEYS)}")
    try:
        said = Recipe(
            size=_size(table.get("size")),
            short_side=_whole(table.get("short_side"), "short_side"),
            multiple=_whole(table.get("multiple"), "multiple"),
            values=_values(table),
            channels=_one_of(table.get("channels"), ORDERS, "channels"),
            layout=_one_of(table.get("layout"), LAYOUTS, "layout"),
            kind=_kind(table.get("kind")),
            output=_one_of(table.get("output"), None, "output"),
            metres_per_value=_metres(table.get("metres_per_value")),
        )
        name = _one_of(table.get("preset"), None, "preset")
        if name is not None:
            preset(name)
        return said, name
    except (OptionsError, ValueError) as error:
        raise InputError(f"depth: {path}: {str(error).removeprefix('depth: ')}") from error


def _table(path: Path) -> dict[str, object]:
    with open(path, "rb") as file:
        content = file.read(LONGEST_SIDECAR + 1)
    if len(content) > LONGEST_SIDECAR:
        raise InputError(f"depth: {path} is longer than {LONGEST_SIDECAR} bytes: that is no sidecar of a model")
    try:
        text = content.decode("utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # both parsers' errors are ValueErrors
        raise InputError(f"depth: {path} is not readable as {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(table, dict):
        raise InputError(f"depth: {path} holds no table of keys ({', '.join(KEYS)})")
    return table


def _size(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(type(side) is int for side in value):
        value = f"{value[0]}x{value[1]}"
    if not isinstance(value, str):
        raise ValueError("size is neither WIDTHxHEIGHT nor two whole numbers")
    return parse_size(value)


def _whole(value: object, name: str) -> int | None:
    if value is not None and not (type(value) is int and 1 <= value <= LARGEST_SIDE):
        raise ValueError(f"{name} is {value!r}, a whole number of pixels is expected")
    return value


def _metres(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"metres_per_value is {value!r}, a positive number is expected")
    return float(value)


def _values(table: dict[str, object]) -> Normalisation | None:
    """From ``values``, or from ``mean`` and ``std`` of pictures 0..1."""
    name, mean, std = (table.get(key) for key in ("values", "mean", "std"))
    if mean is None and std is None:
        return None if name is None else values_named(str(name))
    if name is not None:
        raise ValueError("values, and mean or std, are both given: keep one")
    return Normalisation(255.0, _channels(mean, "mean", 0.0), _channels(std, "std", 1.0))


def _channels(value: object, name: str, default: float) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else [default if value is None else value]
    good = len(numbers) in (1, 3) and all(
        isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in numbers
    )
    if not good or (name == "std" and any(x <= 0 for x in numbers)):
        raise ValueError(f"{name} is {value!r}, one number or three are expected (of pictures 0..1)")
    return tuple(float(x) for x in numbers)


def _one_of(value: object, known: tuple[str, ...] | None, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or (known is not None and value not in known):
        raise ValueError(f"{name} is {value!r}, {' or '.join(known) if known else 'a name'} is expected")
    return value


def _kind(value: object) -> DepthKind | None:
    kinds = tuple(kind.value for kind in DepthKind)
    name = _one_of(value, kinds, "kind")
    return None if name is None else DepthKind(name)
