"""Scale from the known distance of two picked points."""

from __future__ import annotations

import numpy as np
import pytest

from recon4d.errors import AlignmentError, OptionsError
from recon4d.metric.distance import (
    CORRELATION_LENGTH,
    Pick,
    PickedEnd,
    distance_cue,
    lifted,
    met,
    on_surface,
    parse_distance,
)
from recon4d.metric.scale import NoCue
from recon4d.metric.triangulation import triangulate
from recon4d.scene.camera import Camera
from recon4d.scene.depth import SceneDepth
from recon4d.scene.trajectory import PoseOrigin, View
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(200, 160, 100.0, 100.0, 100.0, 80.0)


def view(name: str, centre=(0.0, 0.0, 0.0)) -> View:
    return View(name, 0.0, Rigid3(np.eye(3), -np.asarray(centre, dtype=float)), CAMERA, PoseOrigin.MEASURED)


def wall(z: float, sigma: float) -> SceneDepth:
    flat = np.full(CAMERA.shape, z)
    return SceneDepth(flat, np.ones(CAMERA.shape, bool), np.full(CAMERA.shape, sigma), np.zeros(CAMERA.shape))


# -- the text --------------------------------------------------------------------------------------------------------


def test_two_pixels_of_one_frame():
    known = parse_distance("000012 310,200 420.5,205 0.85")
    assert known.ends == ((Pick("000012", 310, 200),), (Pick("000012", 420.5, 205),))
    assert (known.metres, known.tolerance_m) == (0.85, pytest.approx(0.0085))


def test_each_end_in_a_frame_of_its_own_and_names_with_spaces():
    known = parse_distance("IMG 1 10,20 IMG 2 30,40 1.2 +- 0.02")
    assert known.ends == ((Pick("IMG 1", 10, 20),), (Pick("IMG 2", 30, 40),))
    assert known.tolerance_m == 0.02


def test_ends_in_several_frames():
    known = parse_distance("a 1,2+b 3,4+c 5,6 a 7,8 + b 9,10 2m")
    assert known.ends[0] == (Pick("a", 1, 2), Pick("b", 3, 4), Pick("c", 5, 6))
    assert known.ends[1] == (Pick("a", 7, 8), Pick("b", 9, 10))


def test_points_in_scene_units():
    known = parse_distance("1,-2.5,3e-1 .4,0,6 0.85+-0")
    np.testing.assert_array_equal(known.ends[0], [1, -2.5, 0.3])
    np.testing.assert_array_equal(known.ends[1], [0.4, 0, 6])
    assert known.tolerance_m == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("000012 310,200 420,205", "does not end in a length"),
        ("000012 310,200 420,205 0,85", "3 ends, two are expected|does not end in a length"),
        ("310,200 420,205 0.85", "does not name the frame"),
        ("a 1,2 0.85", "1 ends"),
        ("a 1,2 3,4 5,6 0.85", "3 ends"),
        ("a 1,2 b 3,4 c 0.85", "2 ends, two are expected|ends"),
        ("a 1,2 3,4 -1", "more than 0"),
        ("a 1,2 3,4 0", "more than 0"),
        ("a 1,2 3,4 0.5 +- 0.6", "more than 0 and its tolerance"),
        ("a 1,2+3,4 b 5,6 1", "does not name the frame|ends"),
        ("1,2,3 1 0.85", "ends"),
        ("", "does not end in a length"),
    ],
)
def test_bad_texts_are_refused_in_one_sentence(text, words):
    with pytest.raises(OptionsError, match=words) as refused:
        parse_distance(text)
    assert str(refused.value).startswith("align: --metric.distance")
    assert "\n" not in str(refused.value)


# -- the geometry ----------------------------------------------------------------------------------------------------


def test_a_pixel_is_lifted_by_hand():
    end = lifted(Pick("a", 150, 80), view("a", (1, 0, 0)), wall(4.0, 0.2))
    np.testing.assert_allclose(end.point, [1 + 4 * 0.5, 0, 4])
    np.testing.assert_allclose(end.depth_error, [0.1, 0, 0.2], rtol=1e-6)
    np.testing.assert_allclose(end.covariance, np.diag([0.08**2, 0.08**2, 0]), atol=1e-12)  # 2 px at 4 / 100 each


def test_a_pick_on_an_edge_knows_that_it_is_uncertain():
    depth = wall(4.0, 0.01)
    depth.depth[:, 150:] = 6.0
    inside, edge = (lifted(Pick("a", x, 80), view("a"), depth) for x in (120.0, 150.2))
    assert inside.covariance[2, 2] < 1e-12
    assert edge.covariance[2, 2] > 0.5


def test_depth_errors_of_one_frame_are_a_common_scale():
    """Near pixels err together: the distance is off by the relative error of depth, not by more."""
    ends = [lifted(Pick("a", x, 80), view("a"), wall(4.0, 0.2)) for x in (99.0, 101.0)]
    exact = [PickedEnd(end.point, np.zeros((3, 3)), end.depth_error, end.pick, 10**9) for end in ends]
    cue = distance_cue(exact, 0.04, 0.0)
    assert cue.metres_per_unit == pytest.approx(0.5)  # 2 px at depth 4 and focal length 100: 0.08 units
    assert cue.sigma == pytest.approx(0.05, rel=1e-3)


def test_the_interval_of_lifted_ends_holds_19_of_20():
    rng, inside, rounds = np.random.default_rng(1), 0, 1500
    picks, relative = [(60.0, 50.0), (150.0, 110.0)], (0.04, 0.02)
    apart = np.hypot(90, 60) / (CORRELATION_LENGTH * CAMERA.width)
    shared = np.linalg.cholesky([[1, np.exp(-apart)], [np.exp(-apart), 1]])
    rays = [np.array([(x - 100) / 100, (y - 80) / 100, 1.0]) for x, y in picks]
    truth = np.linalg.norm(3 * rays[0] - 5 * rays[1])
    for _ in range(rounds):
        errors = shared @ rng.normal(size=2) * relative
        ends = [
            lifted(Pick("a", *(np.array(pick) + rng.normal(scale=2, size=2))), view("a"), wall(z * (1 + e), z * r))
            for pick, z, e, r in zip(picks, (3.0, 5.0), errors, relative)
        ]
        cue = distance_cue(ends, 2 * truth, 0.0)
        inside += abs(np.log(cue.metres_per_unit / 2)) < 1.96 * cue.sigma
    assert 0.93 <= inside / rounds <= 0.98


def test_picks_in_several_frames_meet_by_hand():
    point = np.array([0.5, -0.2, 4.0])
    views = [view("a"), view("b", (1, 0, 0)), view("c", (0.5, 0.5, 0))]
    picks = [Pick(v.name, *CAMERA.project(v.cam_from_world @ point)) for v in views]
    np.testing.assert_allclose(met(picks, views).point, point, atol=1e-9)
    wrong = [*picks[:2], Pick("c", picks[2].x + 40, picks[2].y)]
    with pytest.raises(AlignmentError, match="do not meet"):
        met(wrong, views)
    with pytest.raises(NoCue, match="open by"):
        met([picks[0], Pick("b", picks[0].x, picks[0].y)], [views[0], view("b", (1e-3, 0, 0))])


def test_the_covariance_of_a_triangulated_point_is_that_of_its_noise():
    rng, point = np.random.default_rng(2), np.array([0.5, -0.2, 4.0])
    views = [view(str(k), (0.4 * k, 0.1 * k * k, 0)) for k in range(5)]
    exact = np.stack([CAMERA.project(v.cam_from_world @ point) for v in views])
    found = [triangulate(exact + rng.normal(scale=1.0, size=exact.shape), views, 1.0) for _ in range(300)]
    seen = np.cov(np.stack([f.point for f in found]).T)
    stated = np.mean([f.covariance for f in found], axis=0)
    assert np.sqrt(stated[2, 2] / seen[2, 2]) == pytest.approx(1.2, abs=0.25)  # never less: weights cost some
    assert np.mean([f.point for f in found], axis=0) == pytest.approx(point, abs=0.03)


def test_residuals_beyond_the_stated_error_by_hand():
    """Pixels off by 3, -3, 3, -3, 6, -6 downward only: the point stays, and its height has the spread they show.

    The robust scale is 1.2 * 3 / sqrt(2) = 2.546 px, not the stated 0.3; Cauchy's weights are 1 / (1 + (r / (2.385 *
    2.546))^2) = 0.8038 and 0.5059. Weighted squares 65.36 over 12 - 3 = 9 equations too many, over weights of 4.227 in
    all, make 1.718 px^2, and a pixel is 4 / 100 units.
    """
    views = [view(str(k), (x, 0, 0)) for k, x in enumerate((-1, -1, 0, 0, 1, 1))]
    off = np.array([3.0, -3, 3, -3, 6, -6])
    exact = np.stack([CAMERA.project(v.cam_from_world @ np.array([0.0, 0, 4])) for v in views])
    found = triangulate(exact + off[:, None] * [0, 1], views, 0.3)
    np.testing.assert_allclose(found.point, [0, 0, 4], atol=1e-9)
    assert found.covariance[1, 1] == pytest.approx(1.718 * 0.04**2, rel=1e-3)


def test_a_point_of_the_cloud_takes_the_errors_of_the_frame_that_holds_it():
    surface = wall(4.0, 0.2)
    end = on_surface(np.array([2.0, 0, 4.05]), view("a"), surface)
    np.testing.assert_allclose(end.point, [2, 0, 4.05])
    np.testing.assert_allclose(np.linalg.norm(end.depth_error), 0.2 * np.sqrt(1.25), rtol=0.02)
    assert on_surface(np.array([2.0, 0, 7.0]), view("a"), surface) is None
    assert on_surface(np.array([2.0, 0, -4.0]), view("a"), surface) is None
    assert on_surface(np.array([9.0, 0, 4.0]), view("a"), surface) is None


def test_the_stated_tolerance_counts():
    ends = [PickedEnd(np.array([x, 0, 3.0]), np.zeros((3, 3)), np.zeros(3)) for x in (0.0, 2.0)]
    cue = distance_cue(ends, 1.0, 0.03)
    assert (cue.metres_per_unit, cue.sigma) == (0.5, pytest.approx(0.03))


def test_what_cannot_be_lifted_is_said():
    with pytest.raises(AlignmentError, match="outside frame a"):
        lifted(Pick("a", 300, 80), view("a"), wall(4, 0.1))
    empty = SceneDepth(
        np.zeros(CAMERA.shape), np.zeros(CAMERA.shape, bool), np.ones(CAMERA.shape), wall(4, 1).provenance
    )
    with pytest.raises(AlignmentError, match="no depth at 30,80"):
        lifted(Pick("a", 30, 80), view("a"), empty)
    same = PickedEnd(np.zeros(3), np.eye(3), np.zeros(3))
    with pytest.raises(NoCue, match="same point"):
        distance_cue([same, same], 1.0, 0.01)
    near = PickedEnd(np.array([0.5, 0, 0]), np.eye(3), np.zeros(3))
    with pytest.raises(NoCue, match="too uncertain"):
        distance_cue([same, near], 1.0, 0.01)
