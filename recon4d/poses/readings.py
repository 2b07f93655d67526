"""Two readings of the same matches: is a model the right way round?

Pictures of a plane can be read in two ways: with the true normal and motion, or with a normal near the direction of
motion and a motion near the normal. A lawn that somebody walks over then stands up like a wall. Pictures of shallow
relief through a long lens have a second reading too: everything mirrored in depth, the camera turning the other way.
Two frames cannot tell; a mapper picks one and builds on it. More frames can: only the true reading goes on fitting. So
the other readings are tried on a few windows of frames, and adjusted as the model's own reading is.

Source: Longuet-Higgins, Proc. R. Soc. B 227, 1986 (planes); Malis and Vargas, INRIA RR-6303, 2007 (both motions of a
homography); Szeliski and Kang, PAMI 1997 (reversal under weak perspective).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recon4d.poses.native import SEED, load_pycolmap

if TYPE_CHECKING:
    import pycolmap

WINDOWS = 5
FRAMES_PER_WINDOW = 7
LEAST_FRAMES = 3  # two fit both readings
POINTS_PER_WINDOW = 800
LEAST_POINTS = 60  # that a frame shares with the one in the middle, and a window has
TOLERANCE_PX = 4.0  # COLMAP's for a good observation: a reading further off at its start is none
GOOD_PX = 2.0
SAME_DEPTH = 0.3  # of the relief: readings that differ by less are one; a reversed one differs by twice the relief
ITERATIONS = 50
GROSS_PX = 10.0  # larger residuals, and points behind a camera, count as this
MIRROR = np.diag([1.0, 1.0, -1.0])


@dataclass(frozen=True)
class Views:
    """Cameras of a window: ``x_in_cam = rotation @ x + translation``, x in the frame of the first."""

    rotation: np.ndarray  # (K, 3, 3)
    translation: np.ndarray  # (K, 3), in units of their own


@dataclass(frozen=True)
class Window:
    """Points of one frame that other frames see too. M observations of P points in K frames."""

    image_ids: tuple[int, ...]  # K; the frame in the middle is the first
    views: Views  # as the model has them
    cameras: tuple[pycolmap.Camera, ...]  # K
    pixels: np.ndarray  # (M, 2)
    frame: np.ndarray  # (M,) int, 0..K-1
    point: np.ndarray  # (M,) int, 0..P-1
    feature: np.ndarray  # (M,) int, of the image

    @cached_property
    def rays(self) -> np.ndarray:
        """(M, 2) directions x/z, y/z."""
        out = np.empty_like(self.pixels)
        for k, camera in enumerate(self.cameras):
            out[self.frame == k] = camera.cam_from_img(np.ascontiguousarray(self.pixels[self.frame == k]))
        return np.nan_to_num(out)  # a pixel the lens model has no direction for counts as a miss wherever it points

    @cached_property
    def points(self) -> int:
        """P"""
        return int(self.point.max(initial=-1)) + 1

    @cached_property
    def focal_px(self) -> float:
        return float(self.cameras[0].mean_focal_length())

    def of_frames(self, frames: np.ndarray) -> Window:
        """Only these frames (ascending rows, the first among them) and the points that three of them see."""
        place = np.full(len(self.image_ids), -1)
        place[frames] = np.arange(len(frames))
        kept = place[self.frame] >= 0
        kept &= (np.bincount(self.point[kept], minlength=self.points) >= LEAST_FRAMES)[self.point]
        return Window(
            tuple(self.image_ids[k] for k in frames),
            Views(self.views.rotation[frames], self.views.translation[frames]),
            tuple(self.cameras[k] for k in frames),
            self.pixels[kept],
            place[self.frame[kept]],
            np.unique(self.point[kept], return_inverse=True)[1].reshape(-1),
            self.feature[kept],
        )


@dataclass(frozen=True)
class Adjusted:
    """A reading of a window after bundle adjustment."""

    cost: float  # sum over the observations of log(1 + (error / 1 px)^2)
    good: int  # observations within `GOOD_PX`
    depth: np.ndarray  # (P,) in the middle frame, in units of its own; NaN for points it has no place for
    model: pycolmap.Reconstruction  # image k + 1 is frame k, point p + 1 is point p


@dataclass(frozen=True)
class Comparison:
    """The model's reading of a window and another one."""

    window: Window
    kept: Adjusted
    other: Adjusted


# -- windows -----------------------------------------------------------------------------------------------------------


def windows(model: pycolmap.Reconstruction, most: int = WINDOWS) -> list[Window]:
    """Windows around frames spread over the model, in the order of their names; fewer than ``most`` when it is thin."""
    if not model.num_points3D():
        return []
    ids = sorted(model.reg_image_ids(), key=lambda i: model.images[i].name)
    point_ids = [
        np.array([point.point3D_id for point in model.images[i].get_observation_points2D()], dtype=np.int64)
        for i in ids
    ]
    rows = np.unique(np.concatenate(point_ids), return_inverse=True)[1]
    image = np.repeat(np.arange(len(ids)), [len(some) for some in point_ids])
    middles = np.unique(np.linspace(0, len(ids) - 1, most + 2).round().astype(int)[1:-1])
    rng = np.random.default_rng(SEED)
    found = (_window(model, ids, image, rows.reshape(-1), middle, rng) for middle in middles)
    return [window for window in found if window is not None]


def _window(
    model: pycolmap.Reconstruction, ids: list[int], image: np.ndarray, point: np.ndarray, middle: int, rng: object
) -> Window | None:
    """Around frame ``middle``; ``image`` and ``point`` (M,) are the rows of all observations, in the order of ids."""
    seen = np.zeros(point.max() + 1, dtype=bool)
    seen[point[image == middle]] = True
    shared = np.bincount(image[seen[point]], minlength=len(ids))
    others = np.argsort(-shared, kind="stable")
    others = others[(shared[others] >= LEAST_POINTS) & (others != middle)]
    # Those that share least are furthest away and tell most.
    spread = (
        np.unique(np.linspace(0, len(others) - 1, FRAMES_PER_WINDOW - 1).round().astype(int)) if len(others) else []
    )
    frames = [middle, *others[spread]]
    count = np.bincount(point[np.isin(image, frames)], minlength=len(seen))
    chosen = np.flatnonzero(seen & (count >= LEAST_FRAMES))
    if len(frames) < LEAST_FRAMES or len(chosen) < LEAST_POINTS:
        return None
    if len(chosen) > POINTS_PER_WINDOW:
        chosen = np.sort(rng.choice(chosen, POINTS_PER_WINDOW, replace=False))
    place = np.full(len(seen), -1)
    place[chosen] = np.arange(len(chosen))
    first = np.searchsorted(image, np.arange(len(ids)))
    pixels, rows, features = [], [], []
    for k in frames:
        observed = model.images[ids[k]].get_observation_point2D_idxs()
        of_frame = place[point[first[k] : first[k] + len(observed)]]
        wanted = np.flatnonzero(of_frame >= 0)
        rows.append(of_frame[wanted])
        features.append(np.array(observed)[wanted])
        pixels.append(np.array([model.images[ids[k]].points2D[i].xy for i in features[-1]]).reshape(-1, 2))
    matrices = np.array([model.images[ids[k]].cam_from_world().matrix() for k in frames])
    rotation = matrices[:, :, :3] @ matrices[0, :, :3].T
    return Window(
        tuple(ids[k] for k in frames),
        Views(rotation, matrices[:, :, 3] - rotation @ matrices[0, :, 3]),
        tuple(model.images[ids[k]].camera for k in frames),
        np.concatenate(pixels),
        np.repeat(np.arange(len(frames)), [len(of) for of in rows]),
        np.concatenate(rows),
        np.concatenate(features),
    )


# -- readings ----------------------------------------------------------------------------------------------------------


def other_readings(window: Window) -> list[tuple[Window, Views]]:
    """The readings that explain the window about as well at first sight, with the frames they have a place for."""
    found = [reading for reading in (plane_twin(window), mirrored(window)) if reading is not None]
    return [
        (part, views) for part, views in found if start_error_px(part, views) < TOLERANCE_PX and _differs(part, views)
    ]


def _differs(window: Window, views: Views) -> bool:
    """Is it another reading than the model's? A camera that does not turn, mirrored, is itself again."""
    first, second = (triangulated(window, of)[:, 2] for of in (window.views, views))
    return not same_depth(first, second)


def same_depth(first: np.ndarray, second: np.ndarray) -> bool:
    """Do depths (P,) agree up to scale, against their relief? NaN where one has none."""
    with np.errstate(invalid="ignore"):
        both = (first > 0) & (second > 0)
    if not both.any():
        return False
    first, second = np.log(first[both]), np.log(second[both])
    return _spread(first - second) < SAME_DEPTH * max(_spread(first), _spread(second))


def _spread(values: np.ndarray) -> float:
    """Median distance from the median."""
    return float(np.median(np.abs(values - np.median(values))))


def plane_twin(window: Window) -> tuple[Window, Views] | None:
    """The second motion of each frame's homography; None when fewer than three frames have one.

    A frame that hardly moved, or whose homography no plane in front of the camera explains twice, is left out.
    """
    import cv2

    twins = {0: (np.eye(3), np.zeros(3))}
    middle = np.full((window.points, 2), np.nan)
    middle[window.point[window.frame == 0]] = window.rays[window.frame == 0]
    for k in range(1, len(window.image_ids)):
        rows = window.frame == k
        first, second = middle[window.point[rows]], window.rays[rows]
        if len(first) < LEAST_POINTS:
            continue
        homography, inliers = cv2.findHomography(first, second, cv2.RANSAC, TOLERANCE_PX / window.focal_px)
        if homography is None:
            continue
        # cv2 scales each translation by the distance of the plane, so all frames have the same unit.
        _, rotations, translations, normals = cv2.decomposeHomographyMat(homography, np.eye(3))
        rays = np.concatenate([first, np.ones((len(first), 1))], axis=1)[inliers.ravel() > 0]
        ahead = [i for i, normal in enumerate(normals) if np.all(rays @ normal.ravel() > 0)]
        if len(ahead) == 2:
            away = [np.linalg.norm(rotations[i] - window.views.rotation[k]) for i in ahead]
            other = ahead[int(np.argmax(away))]
            twins[k] = rotations[other], translations[other].ravel()
    if len(twins) < LEAST_FRAMES:
        return None
    views = Views(np.array([r for r, _ in twins.values()]), np.array([t for _, t in twins.values()]))
    part = window.of_frames(np.array(list(twins)))
    return (part, views) if part.points >= LEAST_POINTS else None


def mirrored(window: Window) -> tuple[Window, Views] | None:
    """Depth mirrored about its mean in the middle frame; None when no point lies before all cameras.

    A point x becomes x' = S x + 2 m e_z with S = diag(1, 1, -1) and m the mean depth. Far away, where pictures hardly
    tell depth, frame k sees the same when its camera coordinates are mirrored likewise, about its own mean m_k.
    """
    points = triangulated(window, window.views)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    views = window.views
    mean_depth = np.array([(points @ r.T + t)[:, 2].mean() for r, t in zip(views.rotation, views.translation)])
    back = 2 * mean_depth[0] * np.array([0.0, 0.0, 1.0])  # x = S x' + back
    translation = views.rotation @ back + views.translation
    translation = translation @ MIRROR + 2 * mean_depth[:, None] * np.array([0.0, 0.0, 1.0])
    return window, Views(MIRROR @ views.rotation @ MIRROR, translation)


def triangulated(window: Window, views: Views) -> np.ndarray:
    """(P, 3) points in the frame of the first camera, linear; NaN when behind a camera that sees them.

    Source: Hartley and Zisserman, Multiple View Geometry, 2nd edition, 12.2.
    """
    cameras = np.concatenate([views.rotation, views.translation[:, :, None]], axis=2)[window.frame]
    rows = window.rays[:, :, None] * cameras[:, 2:3] - cameras[:, :2]  # (M, 2, 4)
    normal = np.zeros((window.points, 4, 4))
    np.add.at(normal, window.point, np.einsum("mai,maj->mij", rows, rows))
    smallest = np.linalg.eigh(normal)[1][:, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        points = smallest[:, :3] / smallest[:, 3:]
    points[np.unique(window.point[~(in_cameras(window, views, points)[:, 2] > 0)])] = np.nan
    return points


def in_cameras(window: Window, views: Views, points: np.ndarray) -> np.ndarray:
    """(M, 3) the observed points (P, 3) in the frames of the cameras that see them."""
    return np.einsum("mij,mj->mi", views.rotation[window.frame], points[window.point]) + views.translation[window.frame]


def errors_px(window: Window, views: Views, points: np.ndarray, cameras: tuple[pycolmap.Camera, ...]) -> np.ndarray:
    """(M,) distance between seen and projected pixels, at most `GROSS_PX`; that for points that are NaN or behind."""
    x_in_cam = in_cameras(window, views, points)
    out = np.full(len(x_in_cam), GROSS_PX)
    for k, camera in enumerate(cameras):
        rows = np.flatnonzero((window.frame == k) & (x_in_cam[:, 2] > 0))
        seen = camera.img_from_cam(np.ascontiguousarray(x_in_cam[rows]))
        out[rows] = np.linalg.norm(seen - window.pixels[rows], axis=1)
    return np.fmin(out, GROSS_PX)


def start_error_px(window: Window, views: Views) -> float:
    """Median error before any adjustment."""
    return float(np.median(errors_px(window, views, triangulated(window, views), window.cameras)))


# -- adjustment --------------------------------------------------------------------------------------------------------


def compare(window: Window, fixed_lens: bool) -> Comparison | None:
    """Adjust the model's reading and each other one on the same observations; the other that fits best against it.

    Returns:
        None when no other reading comes near, or all of them turn into the model's own when adjusted.
    """
    found = []
    for part, views in other_readings(window):
        kept, other = adjusted(part, part.views, fixed_lens), adjusted(part, views, fixed_lens)
        if not same_depth(kept.depth, other.depth):
            found.append(Comparison(part, kept, other))
    return min(found, key=lambda c: c.other.cost / max(c.kept.cost, 1e-12), default=None)


def adjusted(window: Window, views: Views, fixed_lens: bool) -> Adjusted:
    """Cameras, points and, unless it is fixed, the lens, by robust bundle adjustment on one thread."""
    pycolmap = load_pycolmap()
    points = triangulated(window, views)
    model = _small_model(window, views, points)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = not fixed_lens
    options.ceres.use_gpu = False
    options.ceres.solver_options.num_threads = 1
    options.ceres.solver_options.max_num_iterations = ITERATIONS
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    _adjust(model, options)
    images = [model.images[k + 1] for k in range(len(window.image_ids))]
    matrices = np.array([image.cam_from_world().matrix() for image in images])
    for row, point in model.points3D.items():
        points[row - 1] = point.xyz
    error = errors_px(
        window, Views(matrices[:, :, :3], matrices[:, :, 3]), points, tuple(image.camera for image in images)
    )
    depth = points @ matrices[0, 2, :3] + matrices[0, 2, 3]
    return Adjusted(float(np.log1p(error**2).sum()), int((error < GOOD_PX).sum()), depth, model)


def _small_model(window: Window, views: Views, points: np.ndarray) -> pycolmap.Reconstruction:
    """A model of nothing but the window; points that are NaN are left out."""
    pycolmap = load_pycolmap()
    model = pycolmap.Reconstruction()
    for camera in {camera.camera_id: camera for camera in window.cameras}.values():
        model.add_camera_with_trivial_rig(pycolmap.Camera(camera.todict()))
    place = np.zeros(len(window.frame), dtype=int)
    for k, camera in enumerate(window.cameras):
        rows = np.flatnonzero(window.frame == k)
        place[rows] = np.arange(len(rows))
        image = pycolmap.Image(str(k), window.pixels[rows], camera.camera_id, k + 1)
        pose = np.concatenate([views.rotation[k], views.translation[k][:, None]], axis=1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    order = np.argsort(window.point, kind="stable")
    for point, rows in enumerate(np.split(order, np.cumsum(np.bincount(window.point))[:-1])):
        if np.isfinite(points[point]).all():
            track = pycolmap.Track()
            for row in rows:
                track.add_element(int(window.frame[row]) + 1, int(place[row]))
            model.add_point3D_with_id(point + 1, pycolmap.Point3D(xyz=points[point], track=track))
    return model


def _adjust(model: pycolmap.Reconstruction, options: pycolmap.BundleAdjustmentOptions) -> None:
    """Without the lines that pycolmap.bundle_adjustment prints at any level of logging."""
    pycolmap = load_pycolmap()
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
