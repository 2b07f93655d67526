"""What is known about the lens before the pictures are looked at: given, a prior focal length, or a guess."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from recon4d.errors import OptionsError
from recon4d.poses.lens import Lens
from recon4d.poses.native import load_pycolmap

GUESSED_FOCAL = 1.2  # of the longest side, as COLMAP guesses: about 45 degrees


class Knowledge(str, Enum):
    """How well the lens is known."""

    GIVEN = "given"  # by the user: kept fixed
    PRIOR = "prior"  # focal length from the file's metadata: a start, refined
    GUESS = "guess"  # nothing is known


@dataclass(frozen=True)
class LensKnowledge:
    """A lens to start from, and how well it is known."""

    lens: Lens
    knowledge: Knowledge


def lens_knowledge(
    camera: str | None, model: str, width: int, height: int, prior_focal_px: float | None
) -> LensKnowledge:
    """The lens from ``--poses.camera`` and ``--poses.camera-model``, else from the prior, else guessed.

    Args:
        camera: ``fx,fy,cx,cy[,distortion...]`` in pixels of the frames as written, or None.
        model: COLMAP's model name in lower case, or ``auto``: PINHOLE for four given numbers, SIMPLE_RADIAL when
            nothing is given.
        width, height: size of the frames, pixels.
        prior_focal_px: focal length from metadata, pixels of the frames, or None.

    Raises:
        OptionsError: the numbers cannot be read or do not fit the model.
    """
    if camera is not None:
        return LensKnowledge(_given_lens(camera, model, width, height), Knowledge.GIVEN)
    focal = prior_focal_px or GUESSED_FOCAL * max(width, height)
    name = "SIMPLE_RADIAL" if model == "auto" else model.upper()
    native = load_pycolmap().Camera.create_from_model_name(1, name, focal, width, height)
    return LensKnowledge(Lens.from_native(native), Knowledge.PRIOR if prior_focal_px else Knowledge.GUESS)


def _given_lens(camera: str, model: str, width: int, height: int) -> Lens:
    try:
        values = [float(word) for word in camera.split(",")]
    except ValueError:
        values = []
    if len(values) < 4 or not np.isfinite(values).all() or min(values[:2]) <= 0:
        raise OptionsError(
            f"--poses.camera {camera!r} is not fx,fy,cx,cy[,distortion...] in pixels of the frames: give at least four "
            "numbers, focal lengths above 0"
        )
    if model == "auto":
        if len(values) != 4:
            raise OptionsError(
                f"--poses.camera has {len(values) - 4} distortion values: name their model with --poses.camera-model "
                "(opencv takes k1,k2,p1,p2; opencv_fisheye k1,k2,k3,k4; simple_radial k)"
            )
        return Lens("PINHOLE", width, height, tuple(values))
    return lens_of_model(model.upper(), width, height, tuple(values[:4]), tuple(values[4:]))


def lens_of_model(
    model: str, width: int, height: int, pinhole: tuple[float, ...], distortion: tuple[float, ...]
) -> Lens:
    """A lens from fx, fy, cx, cy and distortion values, whatever order COLMAP's model wants. Raises OptionsError."""
    native = load_pycolmap().Camera.create_from_model_name(1, model, 1.0, width, height)
    fx, fy, cx, cy = pinhole
    one_focal = len(native.focal_length_idxs()) == 1
    if one_focal and abs(fx - fy) > 1e-6 * fx:
        raise OptionsError(
            f"--poses.camera-model {model.lower()} has one focal length, fx {fx:g} and fy {fy:g} were given: "
            "make them equal or use opencv"
        )
    params = ((fx,) if one_focal else (fx, fy)) + (cx, cy) + tuple(distortion)
    if len(params) != len(native.params):
        wanted = native.params_info.split(", ")[3 if one_focal else 4 :]
        raise OptionsError(
            f"--poses.camera-model {model.lower()} takes {len(wanted)} distortion values after fx,fy,cx,cy "
            f"({','.join(wanted) or 'none'}), {len(distortion)} were given"
        )
    return Lens(model, width, height, params)
