"""What other frames, and the fused background, have seen of the world behind a frame's nearer surfaces."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np

from recon4d.render.splatting import Rendered, Splats, splat
from recon4d.render.surface_splats import cloud_splats, grid_splats
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import Provenance
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.trajectory import Trajectory, View
from recon4d.scene.transforms import Rigid3

WORST = 0.02  # a donor whose surface lies further off than this where both see it (median, relative) gives nothing
ENOUGH = 200  # pixels that both see, or nothing is known about the donor
COMPARED = 20_000  # pixels of them at most
GAIN = 1.6  # exposures further apart than this are not brought together
SAME = 0.05  # relative depth within which two frames see the same surface, to compare their colours
KEYFRAMES = 32  # donors are chosen among so many evenly spread frames, so that neighbours share them
REACH_PX = 3  # of a splat beyond its centre
WIDEST_DEG = 75.0  # between the directions of two frames that can see the same


@dataclass(frozen=True)
class Donor:
    """Still surfaces that somebody else saw."""

    splats: Splats
    normals: np.ndarray  # (N, 3) float32, world frame, any length, on the side from which each point was seen

    @property
    def nbytes(self) -> int:
        s = self.splats
        arrays = (s.points, s.tangents, s.colors, s.provenance, s.weight, self.normals)
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True)
class Target:
    """The frame that is to be filled, on the canvas of its layers."""

    cam_from_world: Rigid3
    camera: Camera
    color: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 z, 0 where the frame has none, or something moves


@dataclass(frozen=True)
class Agreement:
    """How well a donor fits a target."""

    error: float  # median |dz| / z where both see a surface; infinite where too little is seen by both
    gain: np.ndarray  # (3,) float32: the donor's colours times this are as bright as the target's

    @property
    def good(self) -> bool:
        return self.error <= WORST


def frame_donor(mesh: DepthMesh, picture: np.ndarray, view: View, still: np.ndarray) -> Donor:
    """What a frame gives to others: its own first-hand pixels that stand still, without those at silhouettes.

    Args:
        still: (H, W) bool, pixels that nothing moving covers.
    """
    keep = still & Provenance.first_hand(mesh.surface.provenance) & ~silhouettes(mesh)
    splats = grid_splats(mesh, picture, view.cam_from_world, view.camera, keep)
    # Right x down points into the picture, away from who saw it.
    return Donor(splats, np.cross(splats.tangents[:, 1], splats.tangents[:, 0]))


def silhouettes(mesh: DepthMesh) -> np.ndarray:
    """(H, W) bool: pixels cut off from a neighbour in the picture, and those around them: colours are mixed there."""
    out = np.zeros(mesh.surface.depth.shape, dtype=bool)
    right, down = ~mesh.join_right[:, :-1], ~mesh.join_down[:-1]
    out[:, :-1] |= right
    out[:, 1:] |= right
    out[:-1] |= down
    out[1:] |= down
    return grown(out, 1)


def grown(mask: np.ndarray, radius_px: int) -> np.ndarray:
    """A mask (H, W) bool with the pixels around it, in a square of that radius."""
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * radius_px + 1,) * 2, np.uint8)).astype(bool)


def cloud_donor(cloud: PointCloud, spacing: float) -> Donor:
    """The fused background, whose points lie ``spacing`` (scene units) apart. Points without normal count for none."""
    known = np.linalg.norm(cloud.normals, axis=1) > 0.5
    return Donor(cloud_splats(cloud[known], spacing), cloud.normals[known])


def choose_donors(trajectory: Trajectory, name: str, count: int, depth: float) -> tuple[str, ...]:
    """Frames that may have seen what is hidden in one, the nearest pose first.

    Of the keyframes by distance the 1st, 2nd, 4th, 8th...: those right beside a frame see hardly more than it does.

    Args:
        depth: typical z in the frame, scene units: how far off a pose is depends on it.
    """
    step = -(-len(trajectory) // KEYFRAMES)
    names = [other for other in trajectory.names[::step] if other != name]
    if not names or count < 1:
        return ()
    own, others = trajectory[name], trajectory.part(names)
    moved = np.linalg.norm(others.centres - own.cam_from_world.inverse().translation, axis=1) / depth
    ahead = others.cam_from_world.rotation[:, 2] @ own.cam_from_world.rotation[2]
    angle = np.arccos(np.clip(ahead, -1, 1))
    order = np.argsort(moved + angle, kind="stable")
    order = order[angle[order] < np.deg2rad(WIDEST_DEG)]
    if len(order) <= count:
        return tuple(names[row] for row in order)
    ranks = np.unique(np.round(np.geomspace(1, len(order), count)).astype(int)) - 1
    return tuple(names[order[rank]] for rank in ranks)


def agreement(donor: Donor, target: Target) -> Agreement:
    """Compare a donor with a target where both see a surface.

    A donor's nearest point in each pixel of the target is compared, of surfaces that face the target.
    """
    found = np.full(target.camera.shape, -1, dtype=np.int32)
    _nearest_points(*_geometry(donor, target), found)
    both = np.flatnonzero((found >= 0) & (target.depth > 0))
    if len(both) < ENOUGH:
        return Agreement(np.inf, np.ones(3, dtype=np.float32))
    both = both[:: -(-len(both) // COMPARED)]
    rows, z, color = found.ravel()[both], target.depth.ravel()[both], target.color.reshape(-1, 3)[both]
    turn, shift = target.cam_from_world.rotation[2], target.cam_from_world.translation[2]
    off = np.abs(donor.splats.points[rows] @ turn + shift - z) / z
    same = off < SAME
    gain = np.ones(3)
    if same.sum() >= ENOUGH:
        ratio = (color[same] + 1.0) / (donor.splats.colors[rows[same]] + 1.0)
        gain = np.median(ratio, axis=0)
    return Agreement(float(np.median(off)), np.clip(gain, 1 / GAIN, GAIN).astype(np.float32))


def seen_by(
    donor: Donor, target: Target, wanted: np.ndarray, nearest: np.ndarray
) -> tuple[tuple[slice, slice], Rendered] | None:
    """A donor's surfaces in the pixels that are wanted: of each the first one not nearer than a bound.

    Args:
        wanted: (H, W) bool.
        nearest: (H, W) float32 z, scene units.

    Returns:
        The part of the picture, rows and columns, in which there is anything, and that part; None for nothing at all.
    """
    keep = np.zeros(len(donor.splats), dtype=np.bool_)
    near = grown(wanted, REACH_PX)  # points beside the mask reach into it
    box = np.array([*target.camera.shape, -1, -1])
    _select(*_geometry(donor, target), near, np.ascontiguousarray(nearest, dtype=np.float32), keep, box)
    if box[2] < 0:
        return None
    (top, left), (bottom, right) = np.maximum(box[:2] - REACH_PX, 0), box[2:] + REACH_PX + 1
    height, width = np.minimum([bottom, right], target.camera.shape) - [top, left]
    whole = target.camera
    part = replace(whole, width=int(width), height=int(height), cx=whole.cx - left, cy=whole.cy - top)
    place = (slice(int(top), int(top + height)), slice(int(left), int(left + width)))
    return place, splat(donor.splats[keep], target.cam_from_world, part)


def _geometry(donor: Donor, target: Target) -> tuple[np.ndarray, ...]:
    camera, pose = target.camera, target.cam_from_world
    lens = np.array([camera.fx, camera.fy, camera.cx, camera.cy], dtype=np.float32)
    matrix = np.hstack([pose.rotation, pose.translation[:, None]]).astype(np.float32)
    centre = pose.inverse().translation.astype(np.float32)
    return donor.splats.points, np.ascontiguousarray(donor.normals, dtype=np.float32), matrix, centre, lens


@numba.njit(cache=True, nogil=True, inline="always")
def _pixel(point, normal, matrix, centre, lens, height, width):
    """Row, column and z of a point in the target; row -1 where it is not in the picture, or seen from behind."""
    facing = np.float32(0.0)
    for k in range(3):
        facing += normal[k] * (centre[k] - point[k])
    if not facing > 0:
        return -1, -1, np.float32(0.0)
    x = matrix[0, 0] * point[0] + matrix[0, 1] * point[1] + matrix[0, 2] * point[2] + matrix[0, 3]
    y = matrix[1, 0] * point[0] + matrix[1, 1] * point[1] + matrix[1, 2] * point[2] + matrix[1, 3]
    z = matrix[2, 0] * point[0] + matrix[2, 1] * point[1] + matrix[2, 2] * point[2] + matrix[2, 3]
    if not z > 1e-9:
        return -1, -1, np.float32(0.0)
    u, v = lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]
    if not (0 <= u < width and 0 <= v < height):
        return -1, -1, np.float32(0.0)
    return int(v), int(u), z


@numba.njit(cache=True, nogil=True)
def _nearest_points(points, normals, matrix, centre, lens, found):
    height, width = found.shape
    best = np.full((height, width), np.float32(np.inf), dtype=np.float32)
    for i in range(len(points)):
        row, column, z = _pixel(points[i], normals[i], matrix, centre, lens, height, width)
        if row >= 0 and z < best[row, column]:
            best[row, column] = z
            found[row, column] = i


@numba.njit(cache=True, nogil=True)
def _select(points, normals, matrix, centre, lens, wanted, nearest, keep, box):
    height, width = wanted.shape
    for i in range(len(points)):
        row, column, z = _pixel(points[i], normals[i], matrix, centre, lens, height, width)
        keep[i] = row >= 0 and wanted[row, column] and z >= nearest[row, column]
        if keep[i]:
            box[0], box[1] = min(box[0], row), min(box[1], column)
            box[2], box[3] = max(box[2], row), max(box[3], column)
