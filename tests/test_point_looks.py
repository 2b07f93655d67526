"""Sparse points on what moves, or hidden, do not look the same where they should be seen."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from recon4d.geometry.point_looks import ALIKE, PointLooks
from recon4d.geometry.seen_points import SparseViews
from recon4d.scene.camera import Camera
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3
from recon4d.stages.align_evidence import read_pictures
from recon4d.workspace import StagePart, Workspace

COUNT, WIDTH, HEIGHT, STEP = 11, 200, 120, 0.04
CAMERA = Camera(WIDTH, HEIGHT, 100.0, 100.0, WIDTH / 2, HEIGHT / 2)


def wall_clip(hole_in: int | None = None) -> tuple[list[np.ndarray], Trajectory]:
    """A textured wall at z = 2 seen by a camera that moves to the right by two pixels a frame."""
    noise = np.random.default_rng(0).uniform(size=(HEIGHT, WIDTH + 40))
    wall = gaussian_filter(noise, 1.5)
    wall = 255 * (wall - wall.min()) / np.ptp(wall)
    greys = [wall[:, 2 * k : 2 * k + WIDTH].astype(np.uint8) for k in range(COUNT)]
    if hole_in is not None:
        greys[hole_in][40:80, 80:120] = 128
    centres = np.stack([STEP * np.arange(COUNT), np.zeros(COUNT), np.zeros(COUNT)], axis=1)
    poses = Rigid3(np.repeat(np.eye(3)[None], COUNT, axis=0), -centres)
    names = tuple(f"{k:06d}" for k in range(COUNT))
    return greys, Trajectory(names, np.arange(COUNT), poses, (CAMERA,) * COUNT, (PoseOrigin.MEASURED,) * COUNT)


def model_of(trajectory: Trajectory, points: np.ndarray, tracks: list[range]) -> SparseModel:
    """Points seen, without error, in the frames of their tracks."""
    pixels, rows = {}, {}
    for k, view in enumerate(trajectory):
        chosen = np.array([p for p, track in enumerate(tracks) if k in track], dtype=int)
        rows[view.name] = chosen
        pixels[view.name] = view.camera.project(view.cam_from_world @ points[chosen]).reshape(-1, 2)
    ones = np.ones(len(points))
    return SparseModel(points, 0.1 * ones, 3 * ones, 5 * ones, np.zeros((len(points), 3)), pixels, rows)


def looks_of(points: np.ndarray, tracks: list[range], **clip) -> tuple[PointLooks, SparseViews]:
    greys, trajectory = wall_clip(**clip)
    views = SparseViews(model_of(trajectory, points, tracks), trajectory, np.ones(len(points), dtype=bool))
    return PointLooks(greys, views), views


def test_a_point_looks_like_itself_and_unlike_its_neighbour():
    points = np.array([[0.2, 0.0, 2.0], [0.6, 0.3, 2.0]])
    looks, views = looks_of(points, [range(3), range(3)])
    there = views.own(0)
    np.testing.assert_allclose(looks.likeness(2, 0, views.own(2)), 1.0, atol=1e-3)  # whole pixels apart: the same bytes
    moved = type(there)(there.rows, there.x + 9, there.y, there.z, there.weight)
    assert (np.abs(looks.likeness(2, 0, moved)) < ALIKE).all()


def test_points_at_a_wrong_depth_are_not_static():
    """Off the wall, where structure from motion puts points of things that move: beside their track they look else."""
    right = np.array([[0.1, 0.1, 2.0], [0.5, -0.2, 2.0], [0.3, 0.3, 2.0]])
    wrong = np.array([[0.1, 0.0, 1.3], [0.3, -0.1, 1.2]])
    greys, trajectory = wall_clip()
    tracks = [range(4, 7)] * 5
    model = model_of(trajectory, np.concatenate([right, wrong]), tracks)
    views = SparseViews(model, trajectory, np.ones(5, dtype=bool))
    # Their pixels are those of the wall they were taken from, right in the middle of the track and off beside it.
    assert PointLooks(greys, views).static_points().tolist() == [True, True, True, False, False]


def test_too_few_looks_keep_a_point():
    looks, _ = looks_of(np.array([[0.1, 0.0, 1.3]]), [range(COUNT)])  # tracked everywhere: nowhere else to look
    assert looks.static_points().tolist() == [True]


def test_a_lent_point_behind_something_new_is_hidden():
    points = np.array([[0.2, 0.0, 2.0], [-0.4, 0.4, 2.0]])  # the first projects into the hole of frame 5
    tracks = [range(5), range(5)]
    clear, views = looks_of(points, tracks)
    lent = views.with_lent(5)
    assert clear.hidden(5, lent).tolist() == [False, False]
    covered, _ = looks_of(points, tracks, hole_in=5)
    assert covered.hidden(5, lent).tolist() == [True, False]


def test_nothing_is_concluded_from_another_place():
    points = np.array([[0.2, 0.0, 2.0]])
    greys, trajectory = wall_clip()
    turned = Rigid3(trajectory.cam_from_world.rotation.copy(), trajectory.cam_from_world.translation)
    angle = np.radians(30)
    turned.rotation[5] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    trajectory = Trajectory(trajectory.names, trajectory.timestamps_s, turned, trajectory.cameras, trajectory.origin)
    views = SparseViews(model_of(trajectory, points, [range(5)]), trajectory, np.ones(1, dtype=bool))
    lent = views.with_lent(5)
    assert np.isnan(PointLooks(greys, views).likeness(5, 4, lent)).all()
    assert not PointLooks(greys, views).hidden(5, lent).any()


def test_points_on_movers_are_found_in_a_real_model(reconstructed, tmp_path):
    from recon4d.progress import Silent

    workspace = Workspace(reconstructed.scene)
    trajectory, model = workspace.trajectory(), workspace.sparse_model()
    greys = [p.grey for p in read_pictures(workspace, trajectory, StagePart(tmp_path, Silent()))]
    good = (model.error_px <= 2.0) & (model.track_length >= 3) & (model.angle_deg >= 1.0)
    views = SparseViews(model, trajectory, good)
    static = PointLooks(greys, views).static_points()
    on_mover, seen = np.zeros(len(model)), np.zeros(len(model))
    for i, name in enumerate(trajectory.names):
        own, mask = views.own(i), cv2.imread(str(reconstructed.clip.mask / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        on_mover[own.rows] += mask[np.minimum(own.y.astype(int), 239), np.minimum(own.x.astype(int), 319)] > 0
        seen[own.rows] += 1
    moving = good & (on_mover > 0.5 * seen)
    assert moving.sum() > 10
    assert (~static[moving]).mean() > 0.4
    assert (~static[good & ~moving]).mean() < 0.12


@pytest.mark.parametrize("count", [0, 1])
def test_clips_without_points_or_neighbours(count):
    greys, trajectory = wall_clip()
    points = np.full((count, 3), 2.0)
    model = model_of(trajectory, points, [range(1)] * count)
    looks = PointLooks(greys[:1], SparseViews(model, trajectory, np.ones(count, dtype=bool)))
    assert looks.static_points().shape == (count,)
