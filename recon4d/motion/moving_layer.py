"""What moves in one frame: its steadied surface, and where it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.motion.followed import MovingFrame
from recon4d.motion.object_path import Carrier, ObjectPath
from recon4d.motion.rim import on_surface, surface_beyond
from recon4d.motion.steady import OWN_AT_RIM, Heard, Steadied, hear, steady
from recon4d.scene.scene_flow import SceneFlow
from recon4d.scene.trajectory import View

REACH = 3  # frames before and after that are heard
FADE = 2.0  # usual steps in time over which what they say fades
LEAST_WITNESSES = 2  # frames that may give a pixel the depth it lacks


@dataclass(frozen=True)
class MovingLayer:
    """All grids (H, W); 0 or False where nothing moves."""

    depth: np.ndarray  # float32 z of what moves, scene units, 0 where there is no point worth keeping
    told: np.ndarray  # bool: the depth is that of other frames alone
    confidence: np.ndarray  # float32 0..1: share of the frames seeing the object there that agree
    flow: SceneFlow
    dropped: int  # pixels with depth that were floaters

    @property
    def kept(self) -> np.ndarray:
        """(H, W) bool: pixels that become points."""
        return self.depth > 0


def moving_layer(
    row: int, frames: Callable[[int], MovingFrame], count: int, paths: Sequence[ObjectPath], carrier: Carrier
) -> MovingLayer:
    """The moving layer of frame ``row`` of ``count``; objects without a path keep their depth and have no flow."""
    frame = frames(row)
    shape = frame.depth.shape
    depth, confidence = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    told, dropped = np.zeros(shape, dtype=bool), 0
    flows = np.zeros((2, *shape, 3), dtype=np.float32)
    for label in frame.objects():
        own = frame.motion.object_id == label
        flows[:, own] = np.nan
        core = frame.core(label)
        if not core.any():
            continue
        path = next((path for path in paths if path.label == label and row in path), None)
        log_depth = np.log(np.where(frame.usable, frame.depth, 1)) + (path.gain(row) if path else 0.0)
        trusted = frame.usable & on_surface(log_depth, core, own)
        surface, _ = surface_beyond(log_depth, core, own)
        surface = np.where(trusted, log_depth, surface)[own]
        weight = np.where(core[own], 1.0, np.where(trusted[own], OWN_AT_RIM, 0.0))
        rays = frame.view.camera.rays()[own]
        found = _heard(row, frames, count, path, carrier, rays * np.exp(surface)[:, None], weight)
        surface = surface + found.log_change
        good = np.where(weight > 0, 2 * found.agreeing >= found.heard, found.agreeing >= LEAST_WITNESSES)
        dropped += int((own & frame.usable).sum() - (good & (weight > 0)).sum())
        depth[own] = np.where(good, np.exp(surface), 0)
        told[own] = good & ~(found.own_counts & (weight > 0))
        confidence[own] = (found.agreeing + 0.5) / (found.heard + 1.0)
        if path is not None:
            world = frame.view.cam_from_world.inverse() @ (rays * np.exp(surface)[:, None])
            for flow, other in ((flows[0], row + 1), (flows[1], row - 1)):
                if 0 <= other < count and path.reaches(row, other):
                    flow[own] = carrier.carry(world, path, row, other) - world
    return MovingLayer(depth, told, confidence, SceneFlow(flows[0], flows[1]), dropped)


def reprojection_error(layer: MovingLayer, view: View, other: View, flow_px: np.ndarray) -> np.ndarray:
    """(N,) px: where the moved points of a layer are seen in the next frame, against where the optical flow finds them.

    Args:
        other: the next frame.
        flow_px: (H, W, 2) optical flow to it; points without flow or displacement are left out.
    """
    chosen = layer.kept & np.isfinite(flow_px).all(axis=-1) & np.isfinite(layer.flow.next).all(axis=-1)
    y, x = np.nonzero(chosen)
    pixels = np.stack([x + 0.5, y + 0.5], axis=-1)
    in_cam = view.camera.rays_at(*pixels.T) * layer.depth[chosen][:, None].astype(np.float64)
    moved = view.cam_from_world.inverse() @ in_cam + layer.flow.next[chosen]
    seen = other.camera.project(other.cam_from_world @ moved)
    return np.linalg.norm(seen - pixels - flow_px[chosen], axis=1)


def _heard(
    row: int,
    frames: Callable[[int], MovingFrame],
    count: int,
    path: ObjectPath | None,
    carrier: Carrier,
    x_in_cam: np.ndarray,
    own_weight: np.ndarray,
) -> Steadied:
    """Points (N, 3) of the frame's camera under the word of the frames about it."""
    words = []
    if path is not None:
        here = frames(row)
        for ahead in (range(1, REACH + 1), range(-1, -REACH - 1, -1)):
            world = here.view.cam_from_world.inverse() @ x_in_cam
            for k in ahead:
                other = row + k
                if not (0 <= other < count and other in path):
                    break
                world = carrier.carry(world, path, other - (1 if k > 0 else -1), other)
                weight = float(np.exp(-0.5 * (path.time_between(row, other) / FADE) ** 2))
                words.append(_word(frames(other), path, other, world, weight))
    return steady([word for word in words if word is not None], own_weight)


def _word(there: MovingFrame, path: ObjectPath, other: int, world: np.ndarray, weight: float) -> Heard | None:
    """What a frame says of world points (N, 3) that are where the object is in it; None without depth to rely on."""
    core = there.core(path.label)
    if not core.any():
        return None
    log_depth = np.log(np.where(core, there.depth, 1)) + path.gain(other)
    return hear(there.view.cam_from_world @ world, there.view.camera, log_depth, core, weight)
