"""Points of an object followed by the optical flow from one frame to another: what its motion is fitted to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from recon4d.geometry.meshing import well_joined
from recon4d.geometry.resample import sample_grid
from recon4d.motion.rim import core_of
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.motion import FrameMotion
from recon4d.scene.trajectory import View

MOST_POINTS = 2500  # of an object and frame; more say nothing new, neighbouring flows are not independent


@dataclass(frozen=True)
class MovingFrame:
    """One frame as far as its moving objects are concerned; all grids (H, W)."""

    view: View
    depth: np.ndarray  # float32 z, scene units
    usable: np.ndarray  # bool: valid and not floating between surfaces
    sigma: np.ndarray  # float32, scene units
    motion: FrameMotion
    _cores: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, view: View, mesh: DepthMesh, motion: FrameMotion) -> MovingFrame:
        """From the surface of a frame and what moves in it, on the same pixels."""
        surface = mesh.surface
        return cls(view, surface.depth, surface.valid & well_joined(mesh), surface.sigma, motion)

    def objects(self) -> list[int]:
        """Ids of the objects seen, ascending."""
        return [int(label) for label in np.unique(self.motion.object_id) if label]

    def core(self, label: int) -> np.ndarray:
        """(H, W) bool: pixels of an object that can be relied on, see `core_of`."""
        if label not in self._cores:
            log_depth = np.log(np.where(self.usable, self.depth, 1))
            self._cores[label] = core_of(self.motion.object_id == label, log_depth, self.usable)
        return self._cores[label]


@dataclass(frozen=True)
class Followed:
    """N points of one object, seen in a frame and found again in another; camera frames of the two."""

    x_in_cam: np.ndarray  # (N, 3) in the camera of the frame, scene units
    pixels: np.ndarray  # (N, 2) where they are in the frame, px
    found: np.ndarray  # (N, 2) where the flow finds them in the other, px
    depth: np.ndarray  # (N,) the other frame's own depth there, scene units, NaN where it has none
    pixels_each: float = 1.0  # pixels of the object for each point

    def __len__(self) -> int:
        return len(self.pixels)

    def with_gains(self, here: float, there: float) -> Followed:
        """The same with the depth of both frames multiplied (logs)."""
        return replace(self, x_in_cam=self.x_in_cam * np.exp(here), depth=self.depth * np.exp(there))


def follow(frame: MovingFrame, other: MovingFrame, label: int, forward: bool) -> Followed:
    """Follow an object by the flow of its pixels, and by the flow back of its pixels in the other frame.

    Args:
        forward: whether ``other`` is the next frame, else it is the one before.
    """
    core, core_there = frame.core(label), other.core(label)
    there = frame.motion.flow_next if forward else frame.motion.flow_prev
    back = other.motion.flow_prev if forward else other.motion.flow_next
    here_a, found_a = _by_flow(core, there)
    found_b, here_b = _by_flow(core_there, back)
    pixels, found = np.concatenate([here_a, here_b]), np.concatenate([found_a, found_b])
    depth, known = sample_grid(frame.depth, core, *pixels.T)
    pixels, found, depth = pixels[known], found[known], depth[known].astype(np.float64)
    depth_there, known_there = sample_grid(other.depth, core_there, *found.T)
    return Followed(
        frame.view.camera.rays_at(*pixels.T) * depth[:, None],
        pixels,
        found,
        np.where(known_there, depth_there, np.nan).astype(np.float64),
        float(core.sum()) / max(len(pixels), 1),
    )


def rounded(points: Followed, frame: MovingFrame, label: int) -> Followed:
    """The same points on the surface that the object's outline suggests: a body as thick as it is wide.

    Across its narrowest way the surface is a half circle (for a ball exact): depth of small things is often flat, and
    a flat thing that turns looks like one that hardly does.

    Source: Igarashi et al., Teddy: a sketching interface for 3D freeform design, SIGGRAPH 1999 (the idea).
    """
    import cv2

    own = np.pad(frame.motion.object_id == label, 1, mode="edge").astype(np.uint8)
    inside = cv2.distanceTransform(own, cv2.DIST_L2, 5)[1:-1, 1:-1]
    radius = float(inside.max())
    height = np.sqrt(np.maximum(2 * radius * inside - inside**2, 0))  # pixels above the outline
    x, y = np.floor(points.pixels).astype(int).T
    height = height[np.clip(y, 0, own.shape[0] - 3), np.clip(x, 0, own.shape[1] - 3)]
    rays = points.x_in_cam / points.x_in_cam[:, 2, None]
    ahead = np.median(rays, axis=0) / np.linalg.norm(np.median(rays, axis=0))  # the body faces the camera, not its axis
    distance = np.median(points.x_in_cam @ ahead)
    along = distance * (1 + (np.median(height) - height) / frame.view.camera.fx)
    return replace(points, x_in_cam=rays * (along / (rays @ ahead))[:, None])


def _by_flow(pixels: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) centres of the pixels (H, W) bool that have a flow, thinned to half of MOST_POINTS, and where it leads."""
    y, x = np.nonzero(pixels & np.isfinite(flow).all(axis=-1))
    rows = slice(None, None, max(1, -(-2 * len(x) // MOST_POINTS)))
    x, y = x[rows], y[rows]
    start = np.stack([x + 0.5, y + 0.5], axis=-1)
    return start, start + flow[y, x]
