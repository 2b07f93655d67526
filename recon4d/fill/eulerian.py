"""A photograph whose water, clouds or smoke drift for ever: a steady field of motion, walked along both ways.

Each pixel of the photograph is carried by the field M(u), pixels per frame: D_0 = 0 and
D_{k+1}(u) = D_k(u) + M(u + D_k(u)). In frame k of a loop of N the pixels lie k steps onward in one copy of the
photograph, and N - k steps back in another. Both are drawn as splats, and laid over each other with the weights
(1 - t) exp(a d) and t exp(a d), t = k / N and d the nearness: where one copy tears, the other one closes, and frame N
is the photograph again. The depth of a pixel stays.
Sources: Holynski et al., Animating pictures with Eulerian motion fields, CVPR 2021 (the walk, symmetric splatting);
Shen et al., Make-It-4D, ACM MM 2023 (the same with depth).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recon4d.geometry.resample import sample_grid
from recon4d.render.splatting import Rendered, Splats, splat
from recon4d.scene.camera import Camera
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.transforms import Rigid3

NEARNESS_WEIGHT = 4.0  # a of the blend: what is nearest counts e^4 times as much as what is infinitely far
LONGEST = 3.0  # pixels that a splat is drawn out at most, where the field pulls the pixels apart
RIM = 4  # pixels around all that drifts, which its splats reach
SHARPENINGS = 2  # rounds that take back the blur of splatting
STILL = 1e-4  # pixels per frame: less is no motion


def trace(motion: np.ndarray, starts: np.ndarray, steps: int, moved: np.ndarray | None = None) -> np.ndarray:
    """Displacements of points that a steady field carries.

    Args:
        motion: (H, W, 2) pixels per frame, right and down.
        starts: (K, 2) positions x, y; the centre of the first pixel is (0.5, 0.5).
        steps: frames.
        moved: (K, 2) by which they have moved before the first step; None for not at all.

    Returns:
        (steps + 1, K, 2) float32: after 0, 1, ... frames; NaN once a point is out of the picture.
    """
    path = np.zeros((steps + 1, len(starts), 2), dtype=np.float32)
    path[0] = 0 if moved is None else moved
    everywhere = np.ones(motion.shape[:2], dtype=bool)
    across, down = (np.ascontiguousarray(motion[..., axis], dtype=np.float32) for axis in (0, 1))
    for k in range(steps):
        x, y = (starts + path[k]).T
        inside = np.isfinite(x)
        x, y = np.where(inside, x, -9), np.where(inside, y, -9)
        (dx, there), (dy, _) = sample_grid(across, everywhere, x, y), sample_grid(down, everywhere, x, y)
        path[k + 1] = np.where((inside & there)[:, None], path[k] + np.stack([dx, dy], axis=-1), np.nan)
    x, y = np.moveaxis(starts + path, -1, 0)
    height, width = motion.shape[:2]
    path[~((x >= 0) & (x <= width) & (y >= 0) & (y <= height))] = np.nan
    return path


def integrate(motion: np.ndarray, steps: int) -> np.ndarray:
    """(H, W, 2) float32: where each pixel has gone after so many frames, NaN where it left the picture.

    Backwards in time it is ``integrate(-motion, steps)``.
    """
    height, width = motion.shape[:2]
    return trace(motion, pixel_centres(width, height).reshape(-1, 2), steps)[-1].reshape(height, width, 2)


def pixel_centres(width: int, height: int) -> np.ndarray:
    """(H, W, 2) float32 x, y."""
    grid = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack(grid, axis=-1).astype(np.float32)


def displacement(camera: Camera, depth: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """(K, 3) ways in the camera frame of points that move in the picture and keep their depth.

    Args:
        depth: (K,) z, scene units.
        moved: (K, 2) by how many pixels they move: unproject(u + D, z) - unproject(u, z) does not depend on u.
    """
    scale = np.array([camera.fx, camera.fy])
    across = np.asarray(depth, dtype=np.float64)[:, None] * moved / scale
    return np.concatenate([across, np.zeros((len(moved), 1))], axis=1)


def blend_weights(
    t: float, onward: Rendered, back: Rendered, nearest: float, sharpness: float = NEARNESS_WEIGHT
) -> tuple[np.ndarray, np.ndarray]:
    """Shares (H, W) of the two copies in the picture at time t, 0 to 1 of the loop; together 1 where either shows.

    Args:
        nearest: z of the nearest point; the nearness of all others is measured in it.
    """
    raw = []
    for share, rendered in ((1 - t, onward), (t, back)):
        near = np.where(rendered.depth > 0, nearest / np.maximum(rendered.depth, 1e-12), 0)
        raw.append(share * np.exp(sharpness * np.clip(near, 0, 1)) * rendered.alpha)
    total = np.maximum(raw[0] + raw[1], 1e-6)
    return (raw[0] / total).astype(np.float32), (raw[1] / total).astype(np.float32)


@dataclass(frozen=True)
class Still:
    """A photograph with depth and a field of motion."""

    picture: np.ndarray  # (H, W, 3) uint8 sRGB
    mesh: DepthMesh  # depth of every pixel that is shown, with its cuts
    camera: Camera
    motion: np.ndarray  # (H, W, 2) float32 pixels per frame; 0 where nothing moves

    def __post_init__(self) -> None:
        shape = self.camera.shape
        motion = np.ascontiguousarray(self.motion, dtype=np.float32)
        object.__setattr__(self, "motion", motion)
        if self.picture.shape != (*shape, 3) or self.mesh.surface.depth.shape != shape or motion.shape != (*shape, 2):
            raise ValueError(f"Still: {self.picture.shape}, {motion.shape} and the camera {shape} differ")
        if not np.isfinite(motion).all():
            raise ValueError("Still: the motion is not finite; give 0 where nothing moves")

    @cached_property
    def moving(self) -> np.ndarray:
        """(H, W) bool: pixels that drift."""
        return (np.hypot(self.motion[..., 0], self.motion[..., 1]) > STILL) & self.mesh.surface.valid


class _Walk:
    """A walk of many points that can be asked for any step; of all its steps only some are kept in memory."""

    def __init__(self, motion: np.ndarray, starts: np.ndarray, steps: int) -> None:
        self._motion, self._starts = motion, starts
        self._length = max(1, int(np.sqrt(steps)))
        self._first = [np.zeros(starts.shape, dtype=np.float32)]  # of every stretch of so many steps
        for _ in range(steps // self._length):
            self._first.append(trace(motion, starts, self._length, self._first[-1])[-1])
        self._stretch: tuple[int, np.ndarray] | None = None  # the one that was asked for last

    def after(self, step: int) -> np.ndarray:
        """(K, 2) displacements after so many steps; NaN out of the picture."""
        number, place = divmod(step, self._length)
        if self._stretch is None or self._stretch[0] != number:
            self._stretch = number, trace(self._motion, self._starts, self._length - 1, self._first[number])
        return self._stretch[1][place]


class Loop:
    """The frames of a loop: pictures, and where the drifting pixels are."""

    def __init__(self, still: Still, frames: int, sharpness: float = NEARNESS_WEIGHT) -> None:
        """
        Args:
            frames: N of the loop; frame N would be frame 0 again.
            sharpness: how much more a nearer copy counts in the blend.
        """
        self.still, self.frames, self._sharpness = still, frames, sharpness
        self.rows = np.argwhere(still.moving)  # (K, 2) row and column of the drifting pixels
        starts = self.rows[:, ::-1].astype(np.float32) + 0.5
        self._onward, self._back = (_Walk(sign * still.motion, starts, frames) for sign in (1, -1))
        # A fixed number for each point decides when it changes from the copy that leaves to the one that arrives.
        self._turn = np.random.default_rng(0).random(len(self.rows))

    def onward(self, k: int) -> np.ndarray:
        """(K, 2) pixels that the drifting pixels have gone in frame k; NaN out of the picture."""
        return self._onward.after(k)

    def back(self, k: int) -> np.ndarray:
        """(K, 2) the same for the copy that will be in place in frame N."""
        return self._back.after(self.frames - k)

    def chosen(self, k: int) -> np.ndarray:
        """(K, 2) one place for each drifting pixel, of the copy onward with the chance 1 - k / N; NaN where it is out.

        A point changes its copy once in the loop, so as many points are shown all the time.
        """
        return np.where((self._turn >= k / self.frames)[:, None], self.onward(k), self.back(k))

    def picture(self, k: int) -> np.ndarray:
        """(H, W, 3) uint8 frame k; frame 0 is the photograph itself."""
        photo = self.still.picture
        if k % self.frames == 0 or not len(self.rows):
            return photo.copy()
        onward, back = self._drawn(self.onward(k)), self._drawn(self.back(k))
        first, second = blend_weights(k / self.frames, onward, back, self._nearest, self._sharpness)
        mixed = onward.color * first[..., None] + back.color * second[..., None]
        cover = (first * onward.alpha + second * back.alpha)[..., None]  # what neither copy covers stays as it was
        box, out = self._box, photo.copy()
        mixed = mixed * cover + photo[box] * (1 - cover)
        shown = np.where(self._touched[..., None], np.clip(np.rint(mixed), 0, 255), photo[box])
        out[box] = shown.astype(np.uint8)
        return out

    # -- splats within the box around all that drifts ------------------------------------------------------------------

    @cached_property
    def _box(self) -> tuple[slice, slice]:
        margin = RIM + 4
        (top, left), (bottom, right) = self.rows.min(axis=0), self.rows.max(axis=0)
        height, width = self.still.camera.shape
        return (
            slice(max(0, top - margin), min(height, bottom + margin + 1)),
            slice(max(0, left - margin), min(width, right + margin + 1)),
        )

    @cached_property
    def _touched(self) -> np.ndarray:
        """Bool on the box: pixels that something drifting can reach."""
        import cv2

        near = cv2.dilate(self.still.moving[self._box].astype(np.uint8), np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8))
        return near > 0

    @cached_property
    def _nearest(self) -> float:
        surface = self.still.mesh.surface
        return float(surface.depth[surface.valid].min())

    @cached_property
    def _camera(self) -> Camera:
        rows, columns = self._box
        full = self.still.camera
        size = columns.stop - columns.start, rows.stop - rows.start
        return Camera(*size, full.fx, full.fy, full.cx - columns.start, full.cy - rows.start)

    @cached_property
    def _colors(self) -> np.ndarray:
        """Colours on the box whose splats, where nothing has moved yet, give the photograph.

        Splats blur; each round adds what the last one lost (Van Cittert's deconvolution).
        """
        photo = self.still.picture[self._box].astype(np.float32)
        colors = photo.copy()
        for _ in range(SHARPENINGS):
            drawn = self._drawn(np.zeros((len(self.rows), 2), dtype=np.float32), colors)
            colors += np.where(drawn.alpha[..., None] > 0, photo - drawn.color, 0)
        return colors

    def _drawn(self, moved: np.ndarray, colors: np.ndarray | None = None) -> Rendered:
        """The copy of the photograph in the box whose drifting pixels have ``moved`` (K, 2)."""
        whole = np.zeros((*self.still.camera.shape, 2), dtype=np.float32)
        whole[self.rows[:, 0], self.rows[:, 1]] = moved
        box, mesh = self._box, self.still.mesh
        height, width = self._camera.shape
        ends = pixel_centres(width, height) + whole[box]
        shown = mesh.surface.valid[box] & np.isfinite(ends[..., 0])
        tangents = np.stack([_tangents(ends, mesh.join_right[box], 1), _tangents(ends, mesh.join_down[box], 0)], axis=2)
        camera, z = self._camera, mesh.surface.depth[box].astype(np.float64)
        scale = np.array([camera.fx, camera.fy])
        flat = np.concatenate([tangents * z[..., None, None] / scale, np.zeros((height, width, 2, 1))], axis=-1)
        points = camera.rays_at(ends[..., 0], ends[..., 1]) * z[..., None]
        count = int(shown.sum())
        splats = Splats(
            points=points[shown],
            tangents=flat[shown],
            colors=(self._colors if colors is None else colors)[shown],
            provenance=mesh.surface.provenance[box][shown],
            weight=np.ones(count),
        )
        return splat(splats, Rigid3(np.eye(3), np.zeros(3)), camera)


def _tangents(ends: np.ndarray, joined: np.ndarray, axis: int) -> np.ndarray:
    """(H, W, 2) half the way between the two neighbours along an axis as they lie now, pixels; one pixel where alone.

    Neighbours that the field has pulled apart are bridged up to `LONGEST`.
    """
    step = np.roll(ends, -1, axis=axis) - ends
    usable = joined & np.isfinite(step[..., 0])
    if axis == 1:
        usable[:, -1] = False
    else:
        usable[-1] = False
    step = np.where(usable[..., None], step, 0)
    count = usable.astype(np.float32) + np.roll(usable, 1, axis=axis)
    alone = np.zeros(2, dtype=np.float32)
    alone[1 - axis] = 1
    total = (step + np.roll(step, 1, axis=axis)) / np.maximum(count, 1)[..., None]
    tangent = np.where(count[..., None] > 0, total, alone)
    length = np.hypot(tangent[..., 0], tangent[..., 1])[..., None]
    return tangent * np.minimum(1, LONGEST / np.maximum(length, 1e-6))
