"""Models that are inside out: they are found, mapped again the right way round, and good models are left alone."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pycolmap
import pytest
from poses_scenes import looking_at

from recon4d.geometry.similarity import fit_similarity
from recon4d.poses import mapping
from recon4d.poses.intrinsics import lens_knowledge
from recon4d.poses.mapping import Mapped, MappingOptions, Places, reconstruct
from recon4d.poses.readings import (
    Views,
    errors_px,
    mirrored,
    plane_twin,
    start_error_px,
    triangulated,
    windows,
)
from recon4d.poses.reversal import Reading, judge, seed
from recon4d.progress import Silent
from recon4d.scene.transforms import Rigid3
from recon4d.stages.poses_sfm import SfmSteps

WIDTH, HEIGHT, FOCAL = 640, 480, 600.0
FRAMES = 10


def turned_about_x(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])


def walk_over_ground(count: int = FRAMES) -> Rigid3:
    """(count,) ``cam_from_world`` of a walk backwards, looking down at the ground at y = 1 (world: y down)."""
    centres = np.stack([np.zeros(count), 0.01 * np.sin(np.arange(count)), -0.09 * np.arange(count)], axis=1)
    rotation = np.repeat(turned_about_x(40.0)[None], count, axis=0)
    return Rigid3(rotation, -np.einsum("nij,nj->ni", rotation, centres))


def ground(relief: float, count: int = 500) -> np.ndarray:
    """(count, 3) points of the ground before the walk, off the plane by a standard deviation of ``relief``."""
    rng = np.random.default_rng(3)
    return np.stack(
        [rng.uniform(-1.2, 1.2, count), 1 + relief * rng.normal(size=count), rng.uniform(-0.6, 2.2, count)], axis=1
    )


def seen(points: np.ndarray, poses: Rigid3, noise_px: float = 0.3, focal: float = FOCAL) -> np.ndarray:
    """(N, P, 2) pixels; NaN outside the picture."""
    rng = np.random.default_rng(4)
    x_in_cam = np.einsum("nij,pj->npi", poses.rotation, points) + poses.translation[:, None]
    pixels = focal * x_in_cam[..., :2] / x_in_cam[..., 2:] + [WIDTH / 2, HEIGHT / 2]
    pixels += noise_px * rng.normal(size=pixels.shape)
    inside = np.all((pixels > 0) & (pixels < [WIDTH, HEIGHT]), axis=-1) & (x_in_cam[..., 2] > 0)
    return np.where(inside[..., None], pixels, np.nan)


def model_of(points: np.ndarray, poses: Rigid3, pixels: np.ndarray, focal: float = FOCAL) -> pycolmap.Reconstruction:
    """A model of these points and poses; feature i of a picture is the i-th point that it sees."""
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", focal, WIDTH, HEIGHT))
    rows = [np.flatnonzero(np.isfinite(of[:, 0])) for of in pixels]
    for k in range(len(pixels)):
        image = pycolmap.Image(f"{k:06d}.png", pixels[k, rows[k]], 1, k + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(poses[k].matrix[:3]))
    for p in range(len(points)):
        track = pycolmap.Track()
        for k in range(len(pixels)):
            if np.isfinite(pixels[k, p, 0]):
                track.add_element(k + 1, int(np.searchsorted(rows[k], p)))
        if track.length() >= 2:
            model.add_point3D(points[p], track)
    return model


def bytes_of(model: pycolmap.Reconstruction, folder: Path) -> list[bytes]:
    folder.mkdir(exist_ok=True)
    model.write_binary(str(folder))
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def standing_up(count: int = FRAMES) -> tuple[Rigid3, np.ndarray]:
    """The false reading of the walk over level ground, chained from twins of neighbouring frames: poses and points.

    What the mapper makes of such a clip: each frame joined to the one before by the wrong motion of its homography.
    """
    import cv2

    poses, normal = walk_over_ground(count), np.array([0.0, 1.0, 0.0])
    rotation, translation, plane = [np.eye(3)], [np.zeros(3)], None
    for k in range(1, count):
        last, this = poses[k - 1], poses[k]
        step = this @ last.inverse()
        normal_in_cam = last.rotation @ normal
        height = 1 - last.inverse().translation[1]
        homography = step.rotation + np.outer(step.translation, normal_in_cam) / height
        _, rotations, translations, normals = cv2.decomposeHomographyMat(homography, np.eye(3))
        ahead = [i for i in range(len(normals)) if normals[i][2, 0] > 0]
        false = max(ahead, key=lambda i: np.linalg.norm(rotations[i] - step.rotation))
        if plane is None:
            plane = normals[false].ravel()
        # The plane stays where it is: its distance is that of the last camera.
        distance = 1 - plane @ -(rotation[-1].T @ translation[-1])
        rotation.append(rotations[false] @ rotation[-1])
        translation.append(rotations[false] @ translation[-1] + distance * translations[false].ravel())
    false_poses = Rigid3(np.array(rotation), np.array(translation))
    x_in_first = ground(0.0) @ poses[0].rotation.T + poses[0].translation
    return false_poses, x_in_first / (x_in_first @ plane)[:, None]


@pytest.fixture(scope="module")
def lawn() -> tuple[pycolmap.Reconstruction, pycolmap.Reconstruction]:
    """A nearly flat lawn that somebody walks over backwards: the true model, and the one that stands up."""
    points, poses = ground(0.01), walk_over_ground()
    pixels = seen(points, poses)
    return model_of(points, poses, pixels), model_of(standing_up()[1], standing_up()[0], pixels)


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_twin_of_a_sideways_step_by_hand():
    # x' = x + t at depth 1 is the shear [[1, t], [0, 1]] in (x, z). It keeps the length of (1, 0), which lies in the
    # true plane, and of (-t/2, 1), which it takes to (t/2, 1): the twin turns by 2 atan(t/2) about y.
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(0, 0.5, 200), rng.uniform(-0.3, 0.3, 200), np.ones(200)], axis=1)
    steps = np.array([0.0, 0.1, 0.2])
    poses = Rigid3(np.repeat(np.eye(3)[None], 3, axis=0), steps[:, None] * np.array([-1.0, 0, 0]))
    poses = Rigid3(poses.rotation, -poses.translation)
    model = model_of(points, poses, seen(points, poses, noise_px=0.0))
    (window, views) = plane_twin(windows(model, 1)[0])
    frames = [image_id - 1 for image_id in window.image_ids]
    for k in (1, 2):
        step = steps[frames[k]] - steps[frames[0]]
        angle = 2 * np.arctan(step / 2)
        assert np.degrees(np.arctan2(views.rotation[k][0, 2], views.rotation[k][2, 2])) == pytest.approx(
            np.degrees(angle), abs=0.02
        )
        assert abs(views.rotation[k][1, 1]) == pytest.approx(1, abs=1e-4)
    assert start_error_px(window, window.views) < 1e-3


def test_mirror_by_hand(lawn):
    window = windows(lawn[0], 1)[0]
    (_, views) = mirrored(window)
    # S R S turns about x and y the other way, about z the same way.
    rotation = window.views.rotation[3]
    np.testing.assert_allclose(views.rotation[3][:2, :2], rotation[:2, :2])
    np.testing.assert_allclose(views.rotation[3][2, :2], -rotation[2, :2])
    # Every camera sees the mirrored points x' = (x, y, 2 m - z) where it saw them, at 2 m_k - z.
    points = triangulated(window, window.views)
    image = points * [1, 1, -1] + [0, 0, 2 * points[:, 2].mean()]
    for k in (0, 3):
        before = points @ window.views.rotation[k].T + window.views.translation[k]
        after = image @ views.rotation[k].T + views.translation[k]
        np.testing.assert_allclose(after[:, :2], before[:, :2], atol=1e-9)
        np.testing.assert_allclose(after[:, 2], 2 * before[:, 2].mean() - before[:, 2], atol=1e-9)


def test_points_and_errors_against_the_readable_way(lawn):
    window = windows(lawn[0], 1)[0]
    points = triangulated(window, window.views)
    error = errors_px(window, window.views, points, window.cameras)
    for m in (0, 17, len(error) - 1):
        k, p = window.frame[m], window.point[m]
        x, y, z = window.views.rotation[k] @ points[p] + window.views.translation[k]
        seen_at = np.array([FOCAL * x / z + WIDTH / 2, FOCAL * y / z + HEIGHT / 2])
        assert error[m] == pytest.approx(np.linalg.norm(seen_at - window.pixels[m]), abs=1e-9)
    rows = np.flatnonzero(window.point == 5)
    lines = []
    for m in rows:
        camera = np.c_[window.views.rotation[window.frame[m]], window.views.translation[window.frame[m]]]
        x, y = window.rays[m]
        lines += [x * camera[2] - camera[0], y * camera[2] - camera[1]]
    last = np.linalg.svd(np.array(lines))[2][-1]
    np.testing.assert_allclose(points[5], last[:3] / last[3], rtol=1e-6)


def test_points_behind_a_camera_count_as_gross(lawn):
    window = windows(lawn[0], 1)[0]
    behind = Views(window.views.rotation, window.views.translation - [0.0, 0, 100])
    points = np.tile([0.0, 0, 1], (window.point.max() + 1, 1))
    assert set(errors_px(window, behind, points, window.cameras)) == {10.0}


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_ground_that_stands_up_is_found_and_the_seed_is_level(lawn):
    true, false = lawn
    verdict = judge(false, fixed_lens=False)
    assert verdict.reading is Reading.REVERSED
    assert verdict.ratio < 0.8
    start = seed(false, verdict)
    ids = sorted(start.reg_image_ids())
    assert 3 <= len(ids) <= 7
    found, truth = (np.array([m.images[i].projection_center() for i in ids]) for m in (start, true))
    off = np.linalg.norm(fit_similarity(found, truth) @ found - truth, axis=1)
    assert off.max() < 0.02  # of a walk of 0.8; the false reading climbs
    # ... and the lawn comes nearer towards the bottom of the picture, as it does in truth.
    assert slope(true, ids[0]) < -0.5
    assert slope(false, ids[0]) > 0.5
    assert slope(start, ids[0]) < -0.5
    assert false.num_reg_images() == FRAMES  # the model itself is left as it was


def slope(model: pycolmap.Reconstruction, image_id: int) -> float:
    """Correlation of depth with the row of the picture."""
    image = model.images[image_id]
    observed = image.get_observation_points2D()
    depth = [(image.cam_from_world() * model.points3D[point.point3D_id].xyz)[2] for point in observed]
    return float(np.corrcoef([point.xy[1] for point in observed], depth)[0, 1])


def relief_and_its_mirror(distance: float) -> tuple[pycolmap.Reconstruction, pycolmap.Reconstruction]:
    """Shallow relief (0.6 deep, 3.6 wide) that fills the picture of a long lens, seen from an arc of 16 degrees.

    The mirrored model by hand: x' = S x, and the camera coordinates mirrored about the distance of the middle.
    """
    rng, focal, mirror = np.random.default_rng(5), 150 * distance, np.diag([1.0, 1.0, -1.0])
    points = rng.uniform(-1, 1, (300, 3)) * [1.8, 1.3, 0.3]
    along = np.radians(np.linspace(-8, 8, 8))
    height = 0.07 * np.sin(3 * along / along.max())
    poses = looking_at(distance * np.stack([np.sin(along), height, -np.cos(along)], axis=1), np.zeros(3))
    pixels = seen(points, poses, focal=focal)
    translation = poses.translation @ mirror + [0, 0, 2 * distance]
    false = Rigid3(mirror @ poses.rotation @ mirror, translation)
    return model_of(points, poses, pixels, focal), model_of(points @ mirror, false, pixels, focal)


def test_mirrored_relief_of_a_long_lens_is_found_and_the_seed_is_the_true_one():
    true, false = relief_and_its_mirror(distance=10.0)
    assert judge(true, fixed_lens=True).reading is Reading.SETTLED
    verdict = judge(false, fixed_lens=True)
    assert verdict.reading is Reading.REVERSED
    start = seed(false, verdict)
    ids = sorted(start.reg_image_ids())
    found, truth = (np.array([m.images[i].projection_center() for i in ids]) for m in (start, true))
    assert np.linalg.norm(fit_similarity(found, truth) @ found - truth, axis=1).max() < 0.1  # of an arc of 2.8


def test_without_perspective_both_readings_fit():
    for model in relief_and_its_mirror(distance=1000.0):  # 0.2 degrees wide
        assert judge(model, fixed_lens=True).reading is Reading.UNDECIDED


def test_true_lawn_and_a_deep_scene_are_settled_and_untouched(lawn, tmp_path):
    rng = np.random.default_rng(1)
    deep = np.stack([rng.uniform(-2, 2, 500), rng.uniform(-1, 1.5, 500), rng.uniform(1.5, 5, 500)], axis=1)
    poses = walk_over_ground()
    level = Rigid3(
        turned_about_x(-40.0) @ poses.rotation, np.einsum("ij,nj->ni", turned_about_x(-40.0), poses.translation)
    )
    for number, model in enumerate((lawn[0], model_of(deep, level, seen(deep, level)))):
        before = bytes_of(model, tmp_path / f"{number}")
        assert judge(model, fixed_lens=False).reading is Reading.SETTLED
        assert bytes_of(model, tmp_path / f"{number}") == before


def test_verdict_is_the_same_twice_and_in_any_scale(lawn):
    first, second = judge(lawn[1], fixed_lens=True), judge(lawn[1], fixed_lens=True)
    assert first.ratio == second.ratio
    grown = pycolmap.Reconstruction(lawn[1])
    grown.transform(pycolmap.Sim3d(7.0, pycolmap.Rotation3d([0.0, 0.6, 0.0, 0.8]), [1.0, 2, 3]))
    assert judge(grown, fixed_lens=True).ratio == pytest.approx(first.ratio, rel=0.02)


def test_a_model_of_too_few_points_is_settled():
    points, poses = ground(0.0, count=30), walk_over_ground()
    model = model_of(points, poses, seen(points, poses))
    assert windows(model) == []
    assert judge(model, fixed_lens=False).reading is Reading.SETTLED


# -- mapping -----------------------------------------------------------------------------------------------------------


def places_with_matches(folder: Path, model: pycolmap.Reconstruction) -> Places:
    """A database with the features of a model and the matches that its points say, and a folder to map into."""
    places = Places(folder / "database.db", folder, folder / "model")
    with pycolmap.Database.open(places.database) as database:
        database.write_camera(model.cameras[1], use_camera_id=True)
        for i in sorted(model.images):
            image = pycolmap.Image(name=model.images[i].name, camera_id=1, image_id=i)
            database.write_image(image, use_image_id=True)
            database.write_keypoints(i, np.array([point.xy for point in model.images[i].points2D], dtype=np.float32))
        point_of = {i: [point.point3D_id for point in model.images[i].points2D] for i in model.images}
        for a in sorted(model.images):
            for b in sorted(model.images):
                if a < b:
                    _, first, second = np.intersect1d(point_of[a], point_of[b], return_indices=True)
                    matches = np.stack([first, second], axis=1).astype(np.uint32)
                    database.write_matches(a, b, matches)
                    geometry = pycolmap.TwoViewGeometry()
                    geometry.config = pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
                    geometry.inlier_matches = matches
                    database.write_two_view_geometry(a, b, geometry)
    return places


OPTIONS = MappingOptions("incremental", fixed_lens=True, threads=1, enough=5)


def test_a_reversed_model_is_mapped_again_the_right_way_round(lawn, tmp_path, monkeypatch):
    true, false = lawn
    places = places_with_matches(tmp_path, false)
    monkeypatch.setattr(mapping, "_best", lambda *_: Mapped(pycolmap.Reconstruction(false), 1, "incremental"))
    report = reconstruct(places, OPTIONS, Silent())
    assert (report.turned, report.reading) == (True, Reading.SETTLED)
    found = pycolmap.Reconstruction(str(places.model))
    assert found.num_reg_images() == FRAMES
    centres, truth = (
        np.array([model.images[i].projection_center() for i in sorted(true.images)]) for model in (found, true)
    )
    assert np.linalg.norm(fit_similarity(centres, truth) @ centres - truth, axis=1).max() < 0.02
    assert not places.model.with_name("seed").exists()


def test_when_mapping_again_does_not_help_the_first_model_stays(lawn, tmp_path, monkeypatch):
    places = places_with_matches(tmp_path, lawn[1])
    monkeypatch.setattr(mapping, "_best", lambda *_: Mapped(pycolmap.Reconstruction(lawn[1]), 1, "incremental"))
    monkeypatch.setattr(mapping, "_incremental", lambda *_: {})
    report = reconstruct(places, OPTIONS, Silent())
    assert (report.turned, report.reading) == (False, Reading.REVERSED)
    assert bytes_of(lawn[1], tmp_path / "before") == bytes_of(
        pycolmap.Reconstruction(str(places.model)), tmp_path / "after"
    )


@pytest.mark.parametrize(("reading", "said"), [("settled", 0), ("undecided", 1), ("reversed", 1)])
def test_what_stays_in_doubt_is_said_in_one_sentence(reading, said):
    warnings = []
    steps = SfmSteps.__new__(SfmSteps)
    steps.part = SimpleNamespace(warn=warnings.append)
    steps.facts = {"depth_reading": reading, "other_reading_cost": 1.04}
    steps._say_reading(lens_knowledge(None, "auto", WIDTH, HEIGHT, None))
    assert len(warnings) == said
    for sentence in warnings:
        assert "near and far may be swapped" in sentence
        assert "with 1.04 times the cost" in sentence
        assert "--poses.camera" in sentence
