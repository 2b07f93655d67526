"""Two eyes from one camera, and their pictures side by side or as red-cyan anaglyph."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recon4d.errors import OptionsError
from recon4d.fill.path_base import CameraPath
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

BASELINE = 1 / 30  # of the focus distance: the stereographers' rule of thumb for comfortable depth

# Rows: red, green, blue of the anaglyph; columns: red, green, blue of an eye's picture, all linear light.
# Source: Dubois, A projection method to generate anaglyph stereo images, ICASSP 2001, in the author's numbers for
# red-cyan glasses and usual primaries.
LEFT_EYE = np.array(
    [
        [0.4561, 0.500484, 0.176381],
        [-0.0400822, -0.0378246, -0.0157589],
        [-0.0152161, -0.0205971, -0.00546856],
    ]
)
RIGHT_EYE = np.array(
    [
        [-0.0434706, -0.0879388, -0.00155529],
        [0.378476, 0.73364, -0.0184503],
        [-0.0721527, -0.112961, 1.2264],
    ]
)
# Both eyes' rows add up to 1 within 5e-6, the rounding of the source: exactly 1 keeps greys grey.
_TOTAL = (LEFT_EYE + RIGHT_EYE).sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class StereoPair:
    """Two parallel cameras whose pictures agree at one depth."""

    world_from_left: Rigid3
    world_from_right: Rigid3
    left: Camera
    right: Camera
    baseline: float  # scene units


def stereo_pair(
    world_from_cam: Rigid3, camera: Camera, focus_depth: float, baseline: float | None = None
) -> StereoPair:
    """The eyes half a baseline to the left and to the right of a camera.

    Args:
        focus_depth: z of the plane that both eyes see at the same pixels: the screen, scene units.
        baseline: scene units; None: 1/30 of ``focus_depth``.

    The cameras are parallel and the principal points shifted; cameras turned to each other would shift the pictures'
    edges up and down against each other (keystone), which tires.

    Raises OptionsError where a length is not above 0.
    """
    baseline = BASELINE * focus_depth if baseline is None else baseline
    if not (np.isfinite([focus_depth, baseline]).all() and focus_depth > 0 and baseline > 0):
        raise OptionsError(f"stereo: focus distance {focus_depth} and baseline {baseline} are needed above 0")
    half = baseline / 2
    shift = camera.fx * half / focus_depth
    aside = world_from_cam.rotation[..., :, 0] * half
    return StereoPair(
        Rigid3(world_from_cam.rotation, world_from_cam.translation - aside),
        Rigid3(world_from_cam.rotation, world_from_cam.translation + aside),
        replace(camera, cx=camera.cx - shift),
        replace(camera, cx=camera.cx + shift),
        baseline,
    )


def stereo_paths(
    path: CameraPath, focus_depth: float | np.ndarray, baseline: float | None = None
) -> tuple[CameraPath, CameraPath]:
    """The paths of the left and the right eye, see `stereo_pair`.

    Args:
        focus_depth: one or (N,): a path that comes nearer to its focus takes the screen along, see
            `CameraPath.depth_of`.
        baseline: scene units, the same all the way; None: 1/30 of the median of ``focus_depth``.
    """
    depths = np.broadcast_to(np.asarray(focus_depth, dtype=np.float64), len(path))
    baseline = BASELINE * float(np.median(depths)) if baseline is None else baseline
    pairs = [
        stereo_pair(path.world_from_cam[i], camera, float(depths[i]), baseline) for i, camera in enumerate(path.cameras)
    ]
    return (
        CameraPath(_stacked([p.world_from_left for p in pairs]), tuple(p.left for p in pairs), path.times),
        CameraPath(_stacked([p.world_from_right for p in pairs]), tuple(p.right for p in pairs), path.times),
    )


def _stacked(poses: list[Rigid3]) -> Rigid3:
    return Rigid3(np.stack([p.rotation for p in poses]), np.stack([p.translation for p in poses]))


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(H, 2W, 3) uint8 of two (H, W, 3) uint8: the left eye's picture on the left (parallel view)."""
    _check(left, right)
    return np.concatenate([left, right], axis=1)


def half_side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, W even: each picture squeezed to half its width, as 3D screens expect; light is averaged."""
    _check(left, right)
    height, width = left.shape[:2]
    if width % 2:
        raise OptionsError(f"stereo: half side by side needs an even width, {width} is not; choose another size")
    halves = [_linear(eye).reshape(height, width // 2, 2, 3).mean(axis=2) for eye in (left, right)]
    return _encoded(np.concatenate(halves, axis=1))


def anaglyph(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 sRGB for red (left) and cyan (right) glasses of two (H, W, 3) uint8 sRGB.

    The sums are of light, so pictures are decoded first and encoded again after; what falls outside is clipped.
    """
    _check(left, right)
    return _encoded(_linear(left) @ _WEIGHTS[0] + _linear(right) @ _WEIGHTS[1])


def _check(left: np.ndarray, right: np.ndarray) -> None:
    if left.shape != right.shape or left.ndim != 3 or left.dtype != np.uint8 or right.dtype != np.uint8:
        raise ValueError(f"stereo: pictures {left.shape} {left.dtype} and {right.shape} {right.dtype} are no pair")


def _linear(picture: np.ndarray) -> np.ndarray:
    """float32 light 0..1 of sRGB bytes. Source: IEC 61966-2-1."""
    return _LIGHT[picture]


def _encoded(light: np.ndarray) -> np.ndarray:
    """sRGB bytes of light, clipped to 0..1."""
    index = np.clip(np.round(light * (len(_BYTES) - 1)), 0, len(_BYTES) - 1).astype(np.uint16)
    return _BYTES[index]


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Light of the 256 bytes, and the byte of 65536 steps of light: fine enough that every byte comes back."""
    code, light = np.arange(256) / 255, np.arange(65536) / 65535
    decoded = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return decoded.astype(np.float32), np.round(encoded * 255).astype(np.uint8)


_LIGHT, _BYTES = _tables()
_WEIGHTS = tuple(np.ascontiguousarray((eye / _TOTAL).T, dtype=np.float32) for eye in (LEFT_EYE, RIGHT_EYE))
