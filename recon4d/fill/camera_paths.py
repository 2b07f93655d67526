"""Shapes of camera moves: how each picture's camera leaves the reference camera of `path_base`.

Every shape starts from the reference pose, keeps its roll, is C1 in time, and at amplitude 0 is the reference pose.
Lengths are shares of the focus distance, so that a room and a valley move alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from recon4d.errors import OptionsError
from recon4d.fill.autopilot import steer
from recon4d.fill.path_base import CameraPath, PathBase
from recon4d.geometry.pose_splines import poses_between
from recon4d.geometry.rotations import cross_matrix
from recon4d.scene.transforms import Rigid3

STEEP = np.cos(np.radians(30))  # views within so much of straight up or down have no horizon to turn around


@dataclass(frozen=True)
class PathShape:
    """How far a path goes."""

    amplitude: float = 0.3  # share of the focus distance; of `follow` of the offset, of `line` with ends of the way
    turns: float = 1.0  # of circle, spiral and a whole orbit
    there_and_back: bool = False  # the second half is the first, backwards
    whole_turn: bool = False  # orbit: all the way round instead of to and fro
    dolly_zoom: bool = False  # dolly: the focal length changes so that what is looked at keeps its size
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)  # follow: right, up, back, scene units
    ends: tuple[float, float] | None = None  # line: from the camera of one frame of the clip to that of another


PathMaker = Callable[[PathBase, PathShape], CameraPath]


def make_path(kind: str, base: PathBase, shape: PathShape) -> CameraPath:
    """The path called ``kind``, one of `PATHS`.

    Raises:
        OptionsError: there is no such path, or its shape cannot be.
    """
    if kind not in PATHS:
        raise OptionsError(f"camera path: {kind!r} is not known, use one of {', '.join(PATHS)} or a file")
    if not (np.isfinite(shape.amplitude) and shape.amplitude >= 0):
        raise OptionsError(f"camera path: the amplitude is {shape.amplitude}, a number from 0 on is needed")
    return PATHS[kind](base, shape)


def ease(u: np.ndarray) -> np.ndarray:
    """0..1 -> 0..1, at rest at both ends."""
    return u * u * (3 - 2 * u)


def _stroke(base: PathBase, shape: PathShape) -> np.ndarray:
    """(N,) 0 to 1, at rest at both ends, or there and exactly back."""
    count = len(base)
    if not shape.there_and_back:
        return ease(np.arange(count) / max(count - 1, 1))
    k = np.arange(count)
    return ease(np.minimum(k, count - 1 - k) / max((count - 1) // 2, 1))


def _cycle(base: PathBase, shape: PathShape) -> np.ndarray:
    """(N,) 0 to 1 less one step, so that the picture after the last is the first; there and back: 0 to 1 to 0."""
    return _stroke(base, shape) if shape.there_and_back else np.arange(len(base)) / len(base)


def _moved(base: PathBase, in_cam: np.ndarray, look: bool) -> CameraPath:
    """Cameras shifted by ``in_cam`` (N, 3), reference camera axes, scene units; ``look``: turned to keep the focus.

    The turn is that of a tripod head, about up and then level: it has no roll. Where the view is steep, the picture's
    own upward axis stands for up.
    """
    centres = (base.world_from_cam @ in_cam[:, None, :])[:, 0]
    rotation = base.world_from_cam.rotation
    if look:
        up = _turning_axes(base)
        before, after = base.axis(2), base.focus - centres
        rotation = _level_frame(after, up) @ np.swapaxes(_level_frame(before, up), -1, -2) @ rotation
    return CameraPath(Rigid3(rotation, centres), base.cameras, base.times)


def _turning_axes(base: PathBase) -> np.ndarray:
    """(N, 3) up, or the first picture's own upward axis for all where one view is steep: a switch would be a jump."""
    steep = (np.abs(base.axis(2) @ base.up) > STEEP).any()
    return -base.axis(1) if steep else np.broadcast_to(base.up, (len(base), 3))


def _level_frame(forward: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(N, 3, 3) rotations with the columns right, down, forward, where right is level."""
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(forward, right), forward], axis=-1)


def orbit(base: PathBase, shape: PathShape) -> CameraPath:
    """Around the focus at constant distance and height: to and fro by ``amplitude`` (arc / radius), or all round."""
    u = _cycle(base, shape)
    angle = 2 * np.pi * (shape.turns * u if shape.whole_turn else u)
    if not shape.whole_turn:
        angle = shape.amplitude * np.sin(angle)
    k = cross_matrix(_turning_axes(base))
    # Rodrigues' formula. A positive angle brings the camera to its right: up x backward = right.
    turn = np.eye(3) + np.sin(angle)[:, None, None] * k + (1 - np.cos(angle))[:, None, None] * (k @ k)
    arm = base.world_from_cam.translation - base.focus
    centres = base.focus + np.einsum("nij,nj->ni", turn, arm)
    return CameraPath(Rigid3(turn @ base.world_from_cam.rotation, centres), base.cameras, base.times)


def dolly(base: PathBase, shape: PathShape) -> CameraPath:
    """Towards the focus; with ``dolly_zoom`` the focal length shrinks as the distance does."""
    if shape.amplitude >= 1:
        raise OptionsError(f"camera path: dolly by {shape.amplitude:g} of the way reaches the focus, give less than 1")
    share = shape.amplitude * _stroke(base, shape)
    path = _moved(base, (share * base.focus_depth)[:, None] * [0.0, 0.0, 1.0], look=False)
    if not shape.dolly_zoom:
        return path
    cameras = tuple(replace(c, fx=c.fx * (1 - s), fy=c.fy * (1 - s)) for c, s in zip(base.cameras, share))
    return replace(path, cameras=cameras)


def circle(base: PathBase, shape: PathShape) -> CameraPath:
    """Around the reference camera in its picture plane, looking at the focus."""
    angle = 2 * np.pi * shape.turns * _cycle(base, shape)
    radius = (shape.amplitude * base.focus_depth)[:, None]
    return _moved(base, radius * np.stack([np.sin(angle), -np.cos(angle), 0 * angle], axis=-1), look=True)


def spiral(base: PathBase, shape: PathShape) -> CameraPath:
    """Forward while circling, wide in the middle, and back to the start; looks at the focus."""
    u = _cycle(base, shape)
    angle, swell = 2 * np.pi * shape.turns * u, np.sin(np.pi * u) ** 2
    reach = (shape.amplitude * base.focus_depth * swell)[:, None]
    return _moved(base, reach * np.stack([0.5 * np.sin(angle), -0.5 * np.cos(angle), 0 * u + 1], axis=-1), look=True)


def line(base: PathBase, shape: PathShape) -> CameraPath:
    """Sideways from left to right without turning; or from one recorded camera to another."""
    if shape.ends is None:
        aside = shape.amplitude * (2 * _stroke(base, shape) - 1) * base.focus_depth
        return _moved(base, aside[:, None] * [1.0, 0.0, 0.0], look=False)
    frames = np.array(shape.ends)
    if not ((frames >= 0) & (frames < len(base.recorded))).all() or frames[0] == frames[1]:
        raise OptionsError(
            f"camera path: a line from frame {frames[0]:g} to {frames[1]:g} needs two different frames of the clip, "
            f"0 to {len(base.recorded) - 1}"
        )
    ends = poses_between(np.arange(len(base.recorded)), base.recorded, frames)
    way = poses_between(np.array([0.0, 1.0]), ends, min(shape.amplitude, 1.0) * _stroke(base, shape))
    return CameraPath(way, base.cameras, base.times)


def follow(base: PathBase, shape: PathShape) -> CameraPath:
    """Beside the recorded camera: ``offset`` to the right, up and back."""
    right, up, back = shape.offset
    shift = shape.amplitude * np.array([right, -up, -back])
    return _moved(base, np.broadcast_to(shift, (len(base), 3)), look=False)


def autopilot(base: PathBase, shape: PathShape) -> CameraPath:
    """Forward to where the reference frame is open, away from what is near; see `recon4d.fill.autopilot`."""
    if base.depth is None:
        raise OptionsError("camera path: autopilot needs the depth of the reference frame, choose a frame that has it")
    camera = base.cameras[0].resized(base.depth.shape[1], base.depth.shape[0])
    steering, u = steer(base.depth, camera), _stroke(base, shape)
    ahead = np.array([0.0, 0.0, 1.0])
    # The direction of travel bends from straight ahead to `move`; its integral over the stroke is a parabola.
    bend = (steering.move - ahead)[None] * 0.5 * (u * u)[:, None] + ahead * u[:, None]
    path = _moved(base, (shape.amplitude * base.focus_depth)[:, None] * bend, look=False)
    share = min(1.0, shape.amplitude / USUAL_AMPLITUDE["autopilot"]) * u
    turned = _unit(ahead + share[:, None] * (steering.look - ahead))
    down = np.broadcast_to([0.0, -1.0, 0.0], turned.shape)  # up of the camera, in its own axes
    return replace(path, world_from_cam=Rigid3(path.world_from_cam.rotation @ _level_frame(turned, down), path.centres))


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


PATHS: dict[str, PathMaker] = {
    "orbit": orbit,
    "dolly": dolly,
    "spiral": spiral,
    "line": line,
    "circle": circle,
    "follow": follow,
    "autopilot": autopilot,
}
# Amplitudes that most scenes bear; framing shrinks them where the scene ends earlier.
USUAL_AMPLITUDE = {
    "orbit": 0.3,
    "dolly": 0.3,
    "spiral": 0.3,
    "line": 0.15,
    "circle": 0.1,
    "follow": 1.0,
    "autopilot": 0.3,
}


def usual_amplitude(kind: str, shape: PathShape) -> float:
    """How far the path called ``kind`` goes if nothing else is wanted: a line between two cameras all the way."""
    return 1.0 if kind == "line" and shape.ends is not None else USUAL_AMPLITUDE.get(kind, PathShape.amplitude)
