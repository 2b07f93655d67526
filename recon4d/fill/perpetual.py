"""Long moves beyond what was seen: a world of splats that grows wherever a camera finds holes in it.

At each keyframe the world is drawn, its holes are filled in picture and depth, the new depth is aligned with the drawn
one and joined to it without a step, and what fills holes goes into the world. Nothing that is there changes, and
nothing new may stand before what an earlier keyframe saw: a camera that comes back sees what it saw before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from recon4d.errors import OptionsError
from recon4d.fill.push_pull import push_pull
from recon4d.fill.seam import aligned, without_step
from recon4d.geometry.meshing import cut_silhouettes
from recon4d.progress import Progress, Silent
from recon4d.render.splatting import REACH, SIGMA, Rendered, Splats, splat
from recon4d.render.surface_splats import grid_splats
from recon4d.scene.camera import Camera
from recon4d.scene.depth import DepthKind, DepthMap, Provenance, SceneDepth
from recon4d.scene.transforms import Rigid3

OPEN = 0.5  # of coverage; pixels with less are holes
CRACK_PX = 3  # holes narrower than this are cracks of the drawing, and no room for new surfaces
WEIGHT = 1e-3  # of new splats: at the seam the colour is that of what was there
SAME = 0.99  # of the depth that a keyframe saw: points nearer than that stand before it
SEAM_PX = 40.0  # over which the correction at the seam fades, at most
IN_FRONT = 1.1  # ratio of depths of two surfaces, one before the other
TELEA_PX = 5.0

FillColor = Callable[[np.ndarray, np.ndarray], np.ndarray]
FillDepth = Callable[[np.ndarray, np.ndarray, np.ndarray], DepthMap]


def telea(picture: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with its holes (H, W) bool filled from their rim. Source: Telea, J. Graphics Tools 2004."""
    import cv2

    return cv2.inpaint(picture, holes.astype(np.uint8), TELEA_PX, cv2.INPAINT_TELEA)


def far_side(picture: np.ndarray, depth: np.ndarray, known: np.ndarray) -> DepthMap:
    """Depth that goes on smoothly into holes (H, W) from what lies behind at their rim, never from what hides them."""
    import cv2

    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    rim = known & (cv2.dilate((~known).astype(np.uint8), cross) > 0)
    source = rim & ~(_nearer_end(depth, known) | _nearer_end(depth.T, known.T).T)
    if not source.any():
        source = known
    inverse = push_pull(1 / np.where(known, depth, 1), source)
    every = np.ones(known.shape)
    values = np.where(known, depth, 1 / inverse)
    return DepthMap(DepthKind.SCENE_Z, values, every, every, np.where(known, 0, int(Provenance.COMPLETED)))


def _nearer_end(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W) bool: known pixels at one end of a hole's run in a row, in front of what is at its other end."""
    height, width = known.shape
    row, column = np.mgrid[:height, :width]
    left = np.maximum.accumulate(np.where(known, column, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, column, width)[:, ::-1], axis=1)[:, ::-1]
    between = ~known & (left >= 0) & (right < width)
    row, left, right = row[between], left[between], right[between]
    found = np.zeros(known.shape, dtype=bool)
    z_left, z_right = depth[row, left], depth[row, right]
    found[row, left] |= z_left * IN_FRONT < z_right
    hides = z_right * IN_FRONT < z_left
    found[row[hides], right[hides]] = True
    return found


@dataclass(frozen=True)
class Growing:
    """How a world grows.

    ``color(picture, holes)`` gives a whole picture (H, W, 3) uint8; ``depth(picture, z, known)`` gives depth of the
    filled picture in any kind, for instance by a network, which needs the picture only.
    """

    color: FillColor = telea
    depth: FillDepth = far_side
    provenance: Provenance = Provenance.COMPLETED  # of what is new; GENERATED where a generative model fills
    every: int = 10  # poses of a walk from one keyframe to the next


@dataclass(frozen=True)
class Keyframe:
    """What a camera saw of the world."""

    cam_from_world: Rigid3
    camera: Camera
    depth: np.ndarray  # (H, W) float32 z, scene units, 0 where it saw nothing

    @classmethod
    def of(cls, splats: Splats, cam_from_world: Rigid3, camera: Camera) -> Keyframe:
        """What a camera sees of splats."""
        seen = splat(splats, cam_from_world, camera)
        return cls(cam_from_world, camera, np.where(seen.alpha >= OPEN, seen.depth, 0))

    def unchanged_by(self, splats: Splats) -> np.ndarray:
        """(N,) bool: splats that, as far as they reach, are outside this picture, in its holes, or not in front."""
        in_cam = self.cam_from_world @ splats.points.astype(np.float64)
        z = in_cam[:, 2]
        pixels = self.camera.project(in_cam)
        size = np.linalg.norm(splats.tangents, axis=2).max(axis=1)
        reach = np.minimum(REACH * SIGMA * size * max(self.camera.fx, self.camera.fy) / np.maximum(z, 1e-9), 24.0)
        good = np.ones(len(splats), dtype=bool)
        for right in (-1, 0, 1):
            for down in (-1, 0, 1):
                seen = self._seen_at(pixels + reach[:, None] * [right, down])
                # The same surface is no harm: it counts next to nothing where others are.
                allowed = SAME if right == down == 0 else 1 / IN_FRONT
                good &= ~((z > 0) & (z < seen * allowed))
        return good

    def _seen_at(self, pixels: np.ndarray) -> np.ndarray:
        """(N,) depth at pixels (N, 2), 0 outside the picture."""
        height, width = self.camera.shape
        column, row = np.floor(np.nan_to_num(pixels, nan=-1, posinf=-1, neginf=-1)).clip(-1, 1 << 30).astype(int).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        return np.where(inside, self.depth[np.where(inside, row, 0), np.where(inside, column, 0)], 0)


@dataclass(frozen=True)
class World:
    """Splats, and who has looked at them so far."""

    splats: Splats
    keyframes: tuple[Keyframe, ...] = field(default=())


@dataclass(frozen=True)
class Growth:
    """What one keyframe added."""

    holes: float  # share of its picture without surface before
    left: float  # and after
    added: int  # splats
    dropped: int  # splats that would have stood before what an earlier keyframe saw


def holes_of(rendered: Rendered) -> np.ndarray:
    """(H, W) bool: holes with room for new surfaces; narrow cracks between splats are none, unless they lead to one."""
    import cv2

    bare = (rendered.alpha < OPEN).astype(np.uint8)
    wide = cv2.morphologyEx(bare, cv2.MORPH_OPEN, np.ones((CRACK_PX, CRACK_PX), np.uint8)) > 0
    count, part = cv2.connectedComponents(bare, connectivity=8)
    has_room = np.bincount(part[wide], minlength=count) > 0
    return has_room[part] & (bare > 0)


def extend(
    world: World, cam_from_world: Rigid3, camera: Camera, growing: Growing | None = None
) -> tuple[World, Growth]:
    """The world with surfaces where a camera sees holes, and with that camera among its keyframes.

    Splats that are there stay, row by row; new ones follow them, and stand in holes and one pixel around them, where
    they close the seam and count next to nothing.

    Raises:
        AlignmentError: the camera sees too little of the world to align new depth with it.
    """
    growing = growing or Growing()
    rendered = splat(world.splats, cam_from_world, camera)
    holes = holes_of(rendered)
    new = Splats.concatenate([])
    dropped = 0
    if holes.any():
        picture, z = filled(rendered, holes, growing)
        new = _hole_splats(picture, z, holes, (cam_from_world, camera), growing.provenance)
        fits = np.ones(len(new), dtype=bool)
        for keyframe in world.keyframes:
            fits &= keyframe.unchanged_by(new)
        dropped = int((~fits).sum())
        new = new[fits]
    splats = Splats.concatenate([world.splats, new]) if len(new) else world.splats
    after = splat(splats, cam_from_world, camera) if len(new) else rendered
    seen = Keyframe(cam_from_world, camera, np.where(after.alpha >= OPEN, after.depth, 0))
    growth = Growth(float(holes.mean()), float((holes_of(after)).mean()), len(new), dropped)
    return World(splats, (*world.keyframes, seen)), growth


def filled(rendered: Rendered, holes: np.ndarray, growing: Growing) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W, 3) uint8 and z (H, W) of a drawing whose holes are filled, z 0 where no depth could be told."""
    known = rendered.alpha >= OPEN
    depth = np.where(known, rendered.depth, 0)
    cracks = ~known & ~holes
    picture = np.clip(np.round(rendered.color), 0, 255).astype(np.uint8)  # not darkened where half covered
    if cracks.any():
        picture = telea(picture, cracks)
        depth = np.where(cracks, 1 / push_pull(1 / np.where(known, depth, 1), known), depth)
    picture = growing.color(picture, holes)
    z = aligned(growing.depth(picture, depth, ~holes), depth, known)
    # Where splats end, drawn depth is that of one side only; it counts from two pixels further in.
    return picture, without_step(z, depth, ~_wider(_wider(holes)), min(SEAM_PX, max(holes.shape) / 8))


def _wider(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: a mask and the pixels beside it."""
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def _hole_splats(
    picture: np.ndarray, z: np.ndarray, holes: np.ndarray, pose: tuple[Rigid3, Camera], provenance: Provenance
) -> Splats:
    valid = z > 0
    surface = SceneDepth(z, valid, np.zeros_like(z), np.full(z.shape, int(provenance)))
    mesh = cut_silhouettes(surface, pose[1], max_ratio=1.1, min_angle_deg=3.0)
    return grid_splats(mesh, picture, *pose, keep=_wider(holes), weight=WEIGHT)


def walk(
    world: World,
    path: Sequence[Rigid3] | Rigid3,
    camera: Camera,
    growing: Growing | None = None,
    progress: Progress | None = None,
) -> tuple[World, list[Growth]]:
    """The world grown along a path of cam_from_world: keyframes are taken evenly, the first and last pose are some.

    Afterwards any pose can be drawn with ``splat(world.splats, pose, camera)``, in any order.
    """
    growing = growing or Growing()
    if growing.every < 1:
        raise OptionsError(f"extend: keyframes are {growing.every} poses apart, 1 or more is expected")
    rows = sorted({*range(0, len(path), growing.every), len(path) - 1}) if len(path) else []
    growths = []
    with (progress or Silent()).bar("extend", len(rows)) as bar:
        for row in rows:
            world, growth = extend(world, path[row], camera, growing)
            growths.append(growth)
            bar.advance()
    return world, growths
