"""Which other frames a frame is matched against in multi-view stereo, and between which depths.

Two frames can be matched where they share well-triangulated points under an angle that tells depths apart. Where a
frame has too few points to say so, its depths are taken from points of other frames, or from the poses alone, and the
overlap of the two pictures stands in for the shared points.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from recon4d.geometry.greedy_choice import take_apart
from recon4d.geometry.seen_points import HIDING_RADIUS, not_hidden, projected
from recon4d.scene.camera import Camera
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3

# A point that says which frames see the same: its reprojection error, frames that see it, and largest angle.
MAX_ERROR_PX, MIN_TRACK, MIN_POINT_ANGLE_DEG = 2.0, 3, 1.0
MIN_WIDE_SHARE = 0.1  # of the points: where a camera only turns, the few wide angles are mistakes, so all count

# The best angle for matching: smaller ones cannot tell depths apart, larger ones see other surfaces, but less abruptly.
BEST_ANGLE_DEG, NARROW_DEG, WIDE_DEG = 3.5, 1.5, 6.0
MIN_ANGLE_DEG = 1.0  # below it a view says nothing about depth
FAINT = 1e-3  # least of the angle's bell: wide views are taken when there are no others
FEW_SHARED, ENOUGH_SHARED = 10, 150  # points: fewer do not make a pair, more do not make it better
MIN_OVERLAP = 0.3  # share of the picture that a matched view must see
MAX_ANGLE_DEG = 40.0  # views farther apart see surfaces from another side
DAMPING = 0.6  # what a candidate loses when a view at the same place is taken ...
SAME_PLACE = 0.03  # ... where the same place is about this share of the frame's median depth wide

MIN_OVERLAP_SPREAD = 0.15  # of frames that exchange depth
NEXT_IN_TIME = 2  # frames before and after that always exchange depth
SAME_PLACE_SPREAD, SAME_TIME_SPREAD = 0.05, 2.0  # share of the median depth; frames

FEW_OWN = 100  # points: a frame with fewer is lent those of others, and a picture with fewer has wider depth margins
OUTERMOST = (1.0, 99.0)  # percentiles of the depths, beyond which wrong points lie
# Of near and far: surfaces without points reach beyond those with. These hold 99.9 % of the true depths of three clips.
MARGINS = (0.75, 1.35)
WIDE_MARGINS = (0.35, 2.5)  # when there are few points
BLIND_MARGINS = (0.2, 8.0)  # about a typical depth guessed from the poses alone
CELLS = (10, 8)  # across and down: where a picture is asked what it sees
MIN_AXES_ANGLE_DEG = 5.0  # between optical axes, to say where they pass each other
BEHIND = 1.4  # times the depth a picture has there: farther places are hidden from it


class StereoViews:
    """Choice of views and depth ranges for the frames of a clip.

    Args:
        model: points of structure from motion; where it is empty, depths are guessed from the poses.
        trajectory: N frames. Those whose pose is not evidence are never chosen, but can ask.
    """

    def __init__(self, model: SparseModel, trajectory: Trajectory) -> None:
        self._views = list(trajectory)
        self._centres = trajectory.centres
        self._rotations = trajectory.cam_from_world.rotation
        self._may_help = np.array([origin.is_evidence for origin in trajectory.origin], dtype=bool)
        self._in_time = np.argsort(np.argsort(trajectory.timestamps_s, kind="stable"), kind="stable")
        self._points = model.points
        self._sees = _sees(model, trajectory)
        self._own_points = self._sees.sum(axis=1)
        seen = [self._seen_depths(i) for i in range(len(trajectory))]
        self._ranges, typical = self._depth_ranges([z for _, z in seen])
        self._cells = np.stack([self._cell_depths(i, *seen[i], typical) for i in range(len(trajectory))])
        self._cameras = _groups(trajectory)
        pairs = [(*self._shared_points(i), *self._overlap_with(i)) for i in range(len(trajectory))]
        shared, angle_deg, self._overlap, rough_deg = (np.array(rows) for rows in zip(*pairs))
        self._shared = np.maximum(shared, shared.T)
        self._angle_deg = np.where(self._shared >= FEW_SHARED, np.maximum(angle_deg, angle_deg.T), rough_deg)

    @property
    def has_parallax(self) -> bool:
        """Whether any two posed frames can be matched: not on a tripod, and not where the camera only turns."""
        return any(self._photo_scores(i).any() for i in np.flatnonzero(self._may_help))

    def near_far(self, i: int) -> tuple[float, float]:
        """Depths between which the surfaces of frame ``i`` lie, scene units."""
        return self._ranges[i]

    def others(self, i: int, count: int) -> list[int]:
        """Up to ``count`` rows of frames to match frame ``i`` against, best first; none where no view has parallax.

        The score is a bell over the median triangulation angle times the overlap of the pictures times the root of the
        number of shared points; a taken view damps those at the same place, so that both directions and later visits
        are taken too.
        """
        place = SAME_PLACE * self._median_depth(i)
        return take_apart(self._photo_scores(i), count, lambda best: DAMPING * self._same_place(best, place))

    def spread(self, i: int, count: int) -> list[int]:
        """Up to ``count`` rows of frames that see the surfaces of frame ``i``, spread over places and times.

        The next frames in time come first.
        """
        overlap, away = self._overlap[i], np.abs(self._in_time - self._in_time[i])
        usable = self._may_help & (overlap >= MIN_OVERLAP_SPREAD) & (self._angle_deg[i] <= MAX_ANGLE_DEG)
        usable[i] = False
        order = np.lexsort((-overlap, away))
        first = [int(j) for j in order if usable[j] and away[j] <= NEXT_IN_TIME]
        place = SAME_PLACE_SPREAD * self._median_depth(i)

        def sameness(best: int) -> np.ndarray:
            soon = _bell((self._in_time - self._in_time[best]) / SAME_TIME_SPREAD)
            return 1 - (1 - DAMPING * self._same_place(best, place)) * (1 - DAMPING * soon)

        return take_apart(np.where(usable, overlap, 0.0), count, sameness, first)

    def _same_place(self, i: int, size: float) -> np.ndarray:
        """(N,) 1 for cameras at the place of frame ``i``, falling to 0 beyond ``size`` scene units."""
        return _bell(np.linalg.norm(self._centres - self._centres[i], axis=1) / size)

    def _photo_scores(self, i: int) -> np.ndarray:
        """(N,) how well each frame is suited to be matched with frame ``i``, 0 where it is not."""
        angle, shared = self._angle_deg[i], self._shared[i]
        side = np.where(angle < BEST_ANGLE_DEG, NARROW_DEG, WIDE_DEG)
        bell = np.maximum(_bell((angle - BEST_ANGLE_DEG) / side), FAINT)
        # Without points to say so, a pair counts like one of the fewest: such views come after those that are sure.
        unsure = (self._own_points[i] < FEW_OWN) | (self._own_points < FEW_OWN)
        count = np.where(shared >= FEW_SHARED, shared, np.where(unsure, FEW_SHARED, 0))
        score = bell * self._overlap[i] * np.sqrt(np.minimum(count, ENOUGH_SHARED))
        usable = (
            self._may_help & (angle >= MIN_ANGLE_DEG) & (angle <= MAX_ANGLE_DEG) & (self._overlap[i] >= MIN_OVERLAP)
        )
        usable[i] = False
        return np.where(usable, score, 0.0)

    def _median_depth(self, i: int) -> float:
        return float(np.median(self._cells[i]))

    def _seen_depths(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (K, 2) and z-depths (K,) of points frame ``i`` sees: its own, and those of others when it has few."""
        view = self._views[i]
        enough = self._own_points[i] >= FEW_OWN
        rows = np.flatnonzero(self._sees[i] if enough else self._sees.any(axis=0))
        x, y, z, inside = projected(self._points[rows], view.cam_from_world, view.camera)
        if not enough and inside.any():
            radius = HIDING_RADIUS * max(view.camera.width, view.camera.height)
            inside[inside] = not_hidden(x[inside], y[inside], z[inside], radius) | self._sees[i, rows[inside]]
        return np.stack([x, y], axis=1)[inside], z[inside]

    def _depth_ranges(self, depths: list[np.ndarray]) -> tuple[list[tuple[float, float]], float]:
        """Near and far of each frame, and the typical depth of the clip."""
        everything = np.concatenate([np.zeros(0), *depths])
        if not len(everything):
            typical = _depth_of_path(self._centres, self._rotations)
            return [(BLIND_MARGINS[0] * typical, BLIND_MARGINS[1] * typical)] * len(depths), typical
        whole = np.percentile(everything, OUTERMOST) * WIDE_MARGINS
        ranges = []
        for z in depths:
            near, far = np.percentile(z, OUTERMOST) * MARGINS if len(z) >= FEW_OWN else whole
            ranges.append((float(near), float(far)))
        return ranges, float(np.median(everything))

    def _cell_depths(self, i: int, pixels: np.ndarray, z: np.ndarray, typical: float) -> np.ndarray:
        """(CELLS) depths over the picture of frame ``i``: that of the nearest point."""
        across, down = CELLS
        if not len(z):
            return np.full(across * down, typical)
        return z[cKDTree(pixels).query(np.stack(_cell_pixels(self._views[i].camera), axis=1))[1]]

    def _shared_points(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """(N,) how many points frame ``i`` shares with each later row, and the median angle of the rays there, degrees.

        0 for the rows before, which have been asked already.
        """
        rows = np.flatnonzero(self._sees[i])
        frame, which = np.nonzero(self._sees[i:, rows])
        frame += i
        points = self._points[rows][which]
        angle_deg = _opening_deg(points - self._centres[i], points - self._centres[frame])
        return _medians(angle_deg, frame, len(self._views))

    def _overlap_with(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """(N,) share of the picture of frame ``i`` each frame sees, and the median angle in degrees of the rays there.

        A place seen larger or smaller counts less; one that lies behind what a frame sees there does not count.
        """
        view = self._views[i]
        x, y = _cell_pixels(view.camera)
        in_cam = view.camera.rays_at(x, y) * self._cells[i][:, None]
        world = view.cam_from_world.inverse() @ in_cam
        angle_deg = _opening_deg(world - self._centres[i], world - self._centres[:, None])
        alike = np.zeros(angle_deg.shape)  # 0 where not seen, 1 where as large as in frame i
        for camera, rows, cam_from_world in self._cameras:
            in_others = cam_from_world @ world
            pixels, z = camera.project(in_others), in_others[..., 2]
            cell = np.floor(pixels * (CELLS[0] / camera.width, CELLS[1] / camera.height))
            inside = ((cell >= 0) & (cell < CELLS)).all(axis=-1)  # not behind the camera: NaN
            cell = np.where(inside[..., None], cell, 0).astype(int)
            seen = inside & (z <= BEHIND * self._cells[rows[:, None], cell[..., 1] * CELLS[0] + cell[..., 0]])
            larger = camera.fx * in_cam[:, 2] / (view.camera.fx * np.where(seen, z, 1.0))
            alike[rows] = np.where(seen, np.minimum(larger, 1 / larger), 0.0)
        frame, which = np.nonzero(alike)
        _, median_deg = _medians(angle_deg[frame, which], frame, len(self._views))
        return alike.mean(axis=1), median_deg


def _sees(model: SparseModel, trajectory: Trajectory) -> np.ndarray:
    """(N, P) bool: which well-triangulated points each frame observed."""
    sees = np.zeros((len(trajectory), len(model)), dtype=bool)
    for i, name in enumerate(trajectory.names):
        sees[i, model.rows.get(name, np.zeros(0, dtype=int))] = True
    # Two cameras cannot see a point three times.
    sound = model.track_length >= min(MIN_TRACK, max(int(sees.any(axis=1).sum()), 2))
    sound &= model.error_px <= MAX_ERROR_PX
    wide = model.angle_deg >= MIN_POINT_ANGLE_DEG
    if (sound & wide).sum() >= MIN_WIDE_SHARE * sound.sum():
        sound &= wide
    return sees & sound


def _groups(trajectory: Trajectory) -> list[tuple[Camera, np.ndarray, Rigid3]]:
    """The frames of each camera: it, their rows and their poses."""
    groups = []
    for camera in dict.fromkeys(trajectory.cameras):
        rows = np.array([row for row, other in enumerate(trajectory.cameras) if other == camera])
        groups.append((camera, rows, trajectory.cam_from_world[rows]))
    return groups


def _cell_pixels(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Pixels x, y (cells,) of the middles of the cells, row by row."""
    across, down = CELLS
    x, y = np.meshgrid(
        (np.arange(across) + 0.5) / across * camera.width, (np.arange(down) + 0.5) / down * camera.height
    )
    return x.ravel(), y.ravel()


def _bell(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * x**2)


def _opening_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...) angles in degrees between vectors (..., 3)."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip((a * b).sum(axis=-1) / np.maximum(lengths, 1e-300), -1, 1)))


def _medians(values: np.ndarray, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(groups,) how many values there are, and their median; 0 where there are none."""
    counts = np.bincount(group, minlength=groups)
    ordered = values[np.lexsort((values, group))]
    first = np.cumsum(counts) - counts
    some = counts > 0
    medians = np.zeros(groups)
    low, high = (first + (counts - 1) // 2)[some], (first + counts // 2)[some]
    medians[some] = 0.5 * (ordered[low] + ordered[high])
    return counts, medians


def _depth_of_path(centres: np.ndarray, rotations: np.ndarray) -> float:
    """A guess at the typical depth: where the optical axes pass each other, but no less than the extent of the path.

    The axes say it when cameras look at one thing; those of a hand that turns pass each other right before the lens.
    The median over pairs of frames; 1 where there is neither.
    """
    axes = rotations[:, 2]
    apart = centres - centres[:, None]  # from the row's to the column's
    cosine = axes @ axes.T
    along_row, along_column = (apart * axes[:, None]).sum(axis=-1), (apart * axes).sum(axis=-1)
    sine2 = 1 - cosine**2
    turned = sine2 > np.sin(np.radians(MIN_AXES_ANGLE_DEG)) ** 2
    depth = (along_row - cosine * along_column) / np.where(turned, sine2, 1.0)
    before = turned & (depth > 0) & (depth.T > 0)
    crossing = float(np.median(depth[before])) if before.any() else 0.0
    return max(crossing, float(np.linalg.norm(np.ptp(centres, axis=0)))) or 1.0
