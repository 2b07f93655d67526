"""Scale from printed markers: rendered into pictures of known cameras."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from recon4d.metric.marker import fit_square, marker_cues, often_seen
from recon4d.metric.marker_pictures import DICTIONARIES, marker_finder
from recon4d.metric.scale import NoCue, combine
from recon4d.scene.camera import Camera
from recon4d.scene.trajectory import PoseOrigin, View
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(480, 360, 420.0, 425.0, 243.0, 177.0)
SIDE = 0.5  # scene units
FINER = 2  # pictures are drawn so much larger, then averaged


def looking(centre: np.ndarray, at: np.ndarray, roll: float = 0.0) -> Rigid3:
    forward = (at - centre) / np.linalg.norm(at - centre)
    right = np.cross([np.sin(roll), np.cos(roll), 0.0], forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return Rigid3(rotation, -rotation @ centre)


def views(count: int, reach: float = 1.0) -> list[View]:
    """A camera that swings past the origin, 3 units away, along z."""
    found = []
    for i, t in enumerate(np.linspace(-1, 1, count)):
        centre = np.array([reach * t, 0.3 * reach * np.sin(3 * t) - 0.2, -3 + 0.4 * reach * t])
        pose = looking(centre, np.array([0.2 * t, 0.1, 0.0]), 0.2 * t)
        found.append(View(f"{i:06d}", 0.1 * i, pose, CAMERA, PoseOrigin.MEASURED))
    return found


def marker_pose(place: np.ndarray) -> Rigid3:
    """world_from_marker: x right, y down as printed, z into the paper; turned away by 25 degrees."""
    c, s = np.cos(0.44), np.sin(0.44)
    return Rigid3(np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.asarray(place, dtype=float))


def draw(view: View, markers: list[tuple[int, Rigid3, float]], dictionary: str, rng=None, blur: float = 0.0):
    """(H, W) uint8: markers with a white margin on a wall of stripes and blobs."""
    y, x = np.mgrid[: FINER * CAMERA.height, : FINER * CAMERA.width] / FINER
    big = 110 + 40 * np.sin(x / 23) * np.sin(y / 17) + 20 * np.sin((x + y) / 5)
    for number, world_from_marker, side in markers:
        table = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{dictionary.upper()}"))
        cells = table.markerSize + 2
        size = 20 * cells
        image = np.pad(cv2.aruco.generateImageMarker(table, number, size), 40, constant_values=235).astype(float)
        image[image == 0] = 25
        cam_from_marker = view.cam_from_world @ world_from_marker
        px_from_plane = CAMERA.matrix @ np.column_stack([cam_from_marker.rotation[:, :2], cam_from_marker.translation])
        step = side / size
        start = -side / 2 - 40 * step
        plane_from_image = np.array([[step, 0, start + step / 2], [0, step, start + step / 2], [0, 0, 1]])
        big_from_px = np.array([[FINER, 0, -0.5], [0, FINER, -0.5], [0, 0, 1]])
        whole = big_from_px @ px_from_plane @ plane_from_image
        shape = (big.shape[1], big.shape[0])
        drawn = cv2.warpPerspective(image, whole, shape, flags=cv2.INTER_LINEAR)
        cover = cv2.warpPerspective(np.ones_like(image), whole, shape, flags=cv2.INTER_LINEAR)
        big = big * (1 - cover) + drawn
    picture = cv2.resize(big, (CAMERA.width, CAMERA.height), interpolation=cv2.INTER_AREA)
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if rng is not None:
        picture = picture + rng.normal(scale=4.0, size=picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def sightings(pictures, dictionary: str) -> dict:
    find, seen = marker_finder(dictionary), {}
    for row, picture in enumerate(pictures):
        for number, corners in find(picture):
            seen.setdefault(number, []).append((row, corners))
    return seen


def true_corners(view: View, world_from_marker: Rigid3, side: float) -> np.ndarray:
    square = side * np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    return view.camera.project(view.cam_from_world @ (world_from_marker @ square))


@pytest.mark.parametrize("dictionary", ["4x4_50", "apriltag_36h11"])
def test_rendered_markers_give_the_scale(dictionary):
    rng = np.random.default_rng(1)
    cameras = views(12)
    markers = [(3, marker_pose([-0.5, 0.1, 0]), SIDE), (11, marker_pose([0.55, 0, 0.2]), SIDE)]
    pictures = [draw(view, markers, dictionary, rng, blur=0.8) for view in cameras]
    seen = often_seen(sightings(pictures, dictionary))
    assert set(seen) == {3, 11}
    for row, corners in seen[3]:
        np.testing.assert_allclose(corners, true_corners(cameras[row], markers[0][1], SIDE), atol=0.25)
    squares = [fit_square(number, found, cameras) for number, found in seen.items()]
    (cue,) = marker_cues(squares, 0.10, dictionary)
    assert cue.metres_per_unit == pytest.approx(0.10 / SIDE, rel=0.003)
    assert abs(np.log(cue.metres_per_unit / 0.2)) < 1.96 * cue.sigma < 0.02
    assert "3, 11" in cue.detail


def exact(cameras: list[View], world_from_marker: Rigid3, noise_px: float, rng, side: float = SIDE):
    return [
        (row, true_corners(view, world_from_marker, side) + rng.normal(scale=noise_px, size=(4, 2)))
        for row, view in enumerate(cameras)
    ]


def test_exact_corners_give_the_exact_square():
    cameras, pose = views(6), marker_pose([0.3, -0.2, 0.1])
    square = fit_square(7, exact(cameras, pose, 0.0, np.random.default_rng(0)), cameras)
    assert np.exp(square.log_side) == pytest.approx(SIDE, rel=1e-9)
    np.testing.assert_allclose(square.corners[0], pose @ np.array([-SIDE / 2, -SIDE / 2, 0]), atol=1e-9)


def test_the_interval_of_a_side_holds_19_of_20():
    rng, cameras, inside, rounds = np.random.default_rng(2), views(6, reach=0.3), 0, 100
    for _ in range(rounds):
        square = fit_square(7, exact(cameras, marker_pose([0.3, -0.2, 0.1]), 0.5, rng), cameras)
        inside += abs(square.log_side - np.log(SIDE)) < 1.96 * square.sigma
    assert 0.9 <= inside / rounds <= 1.0


def test_a_misread_frame_does_not_move_the_square():
    rng, cameras = np.random.default_rng(3), views(12)
    seen = exact(cameras, marker_pose([0.3, -0.2, 0.1]), 0.2, rng)
    seen[4] = (4, seen[4][1] + [60.0, -35.0])
    square = fit_square(7, seen, cameras)
    assert np.exp(square.log_side) == pytest.approx(SIDE, rel=0.01)
    assert square.frames == 11


def test_what_gives_no_scale_is_refused():
    rng, still = np.random.default_rng(4), views(12, reach=1e-4)
    pose = marker_pose([0.3, -0.2, 0.1])
    with pytest.raises(NoCue, match="marker 7 in 12 frames"):  # no parallax
        fit_square(7, exact(still, pose, 0.3, rng), still)
    cameras = views(12)
    with pytest.raises(NoCue, match="2 frames, 3 are needed"):
        fit_square(7, exact(cameras, pose, 0.3, rng)[:2], cameras)
    walking = [
        (row, true_corners(view, marker_pose([0.15 * row - 0.8, 0.3 * np.sin(row), 0]), SIDE))
        for row, view in enumerate(cameras)
    ]
    with pytest.raises(NoCue, match="marker 7"):
        fit_square(7, walking, cameras)
    card = SIDE * np.array([[-0.5, -0.3, 0], [0.5, -0.3, 0], [0.5, 0.3, 0], [-0.5, 0.3, 0]])
    oblong = [(row, CAMERA.project(view.cam_from_world @ (pose @ card))) for row, view in enumerate(cameras)]
    with pytest.raises(NoCue, match="no flat square"):
        fit_square(7, oblong, cameras)


def test_a_marker_of_another_size_is_left_out_and_named():
    rng, cameras = np.random.default_rng(5), views(12)
    places = {1: ([-0.5, 0, 0], SIDE), 2: ([0.5, 0, 0], SIDE), 9: ([0, 0.4, 0], 0.6 * SIDE)}
    squares = [fit_square(n, exact(cameras, marker_pose(p), 0.1, rng, s), cameras) for n, (p, s) in places.items()]
    (cue,) = marker_cues(squares, 0.10, "4x4_50")
    assert cue.metres_per_unit == pytest.approx(0.2, rel=0.01)
    assert cue.detail.endswith("not used: 9")


def test_two_markers_of_different_size_contradict_each_other():
    rng, cameras = np.random.default_rng(6), views(12)
    places = {7: ([-0.5, 0, 0], SIDE), 8: ([0.5, 0, 0], 0.75 * SIDE)}
    squares = [fit_square(n, exact(cameras, marker_pose(p), 0.1, rng, s), cameras) for n, (p, s) in places.items()]
    one, other = marker_cues(squares, 0.10, "4x4_50")
    assert one.metres_per_unit / other.metres_per_unit == pytest.approx(0.75, rel=0.01)
    (said,) = combine([one, other]).contradictions
    assert "marker number 7 of 0.1 m" in said
    assert "marker number 8 of 0.1 m" in said


def test_every_dictionary_is_known_to_opencv():
    for dictionary in DICTIONARIES:
        marker_finder(dictionary)
