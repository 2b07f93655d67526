"""The parts of the poses room by themselves: lenses, pairs, parallax, interpolation, imports."""

import cv2
import numpy as np
import pytest

from recon4d.errors import InputError, OptionsError, PosesError
from recon4d.formats.trajectories import write_kitti, write_tum
from recon4d.poses.given import FrameSize, imported_solution
from recon4d.poses.imports import match_to_frames, read_import
from recon4d.poses.intrinsics import Knowledge, lens_knowledge
from recon4d.poses.lens import Lens, read_lenses, undistort_pixels, undistortion_map, write_lenses
from recon4d.poses.pairs import all_pairs, candidates, cluster, loop_pairs, sequential_pairs
from recon4d.poses.parallax import left_over, parallax_of_any_lens, parallax_of_known_lens
from recon4d.poses.solution import Solution, complete
from recon4d.scene.camera import Camera
from recon4d.scene.recording import Frame, Recording
from recon4d.scene.trajectory import PoseOrigin
from recon4d.scene.transforms import Rigid3

PINHOLE = Lens("PINHOLE", 320, 240, (300.0, 310.0, 161.0, 119.0))
LENSES = [
    Lens("SIMPLE_RADIAL", 320, 240, (300.0, 160.0, 120.0, -0.1)),
    Lens("SIMPLE_RADIAL", 320, 240, (300.0, 160.0, 120.0, 0.1)),
    Lens("OPENCV", 320, 240, (300.0, 305.0, 150.0, 125.0, 0.06, -0.08, -0.001, 0.0005)),
    Lens("OPENCV_FISHEYE", 320, 240, (150.0, 150.0, 160.0, 120.0, 0.01, 0.0, 0.0, 0.0)),
]


# -- lenses ------------------------------------------------------------------------------------------------------------


def test_map_of_a_radial_lens_by_hand():
    lens, camera = Lens("SIMPLE_RADIAL", 320, 240, (100.0, 160.0, 120.0, 0.2)), Camera(320, 240, 100, 100, 160, 120)
    map_x, map_y = undistortion_map(lens, camera)
    # Pixel column 209, row 119 has its centre at (209.5, 119.5): x = 0.495, y = -0.005; factor 1 + 0.2 r^2.
    factor = 1 + 0.2 * (0.495**2 + 0.005**2)
    assert map_x[119, 209] == pytest.approx(160 + 49.5 * factor, abs=1e-4)
    assert map_y[119, 209] == pytest.approx(120 - 0.5 * factor, abs=1e-4)
    assert map_x.dtype == map_y.dtype == np.float32
    assert map_x.shape == (240, 320)


def test_map_agrees_with_opencv_half_a_pixel_off():
    lens = LENSES[2]
    camera, fx, fy, cx, cy = lens.undistorted(), *lens.params[:4]
    k = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
    new = np.array([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]])
    x, y = cv2.initUndistortRectifyMap(k, np.array(lens.params[4:]), None, new, (320, 240), cv2.CV_32FC1)
    map_x, map_y = undistortion_map(lens, camera)
    np.testing.assert_allclose(map_x - 0.5, x, atol=2e-3)
    np.testing.assert_allclose(map_y - 0.5, y, atol=2e-3)


@pytest.mark.parametrize("lens", LENSES)
def test_undistorted_picture_has_the_size_of_the_frame_and_no_border(lens):
    camera = lens.undistorted()
    assert (camera.width, camera.height) == (lens.width, lens.height)
    map_x, map_y = undistortion_map(lens, camera)
    assert map_x.min() >= 0
    assert map_y.min() >= 0
    assert map_x.max() <= 320
    assert map_y.max() <= 240
    # ... and it is as wide as that allows: somewhere its border touches the frame's (or it is 120 degrees wide).
    slack = min(map_x.min(), map_y.min(), 320 - map_x.max(), 240 - map_y.max())
    assert slack < 1.5
    there = np.stack([map_x, map_y], axis=-1)[::40, ::40].reshape(-1, 2).astype(float)
    back = undistort_pixels(lens, camera, there).reshape(6, 8, 2)
    v, u = np.mgrid[0:240:40, 0:320:40] + 0.5
    np.testing.assert_allclose(back, np.stack([u, v], axis=-1), atol=1e-3)


def test_pinhole_like():
    plain = PINHOLE.undistorted()
    assert plain == Camera(320, 240, 300, 310, 161, 119)
    assert PINHOLE.is_pinhole_like(plain)
    assert not PINHOLE.is_pinhole_like(Camera(320, 240, 301, 310, 161, 119))
    faint = Lens("SIMPLE_RADIAL", 320, 240, (300.0, 160.0, 120.0, 5e-4))  # 0.05 px in the corners
    assert faint.undistorted() == faint.pinhole_part
    assert not LENSES[0].is_pinhole_like(LENSES[0].undistorted())


def test_a_nonsensical_lens_is_refused():
    with pytest.raises(PosesError, match="cannot be undistorted"):
        Lens("OPENCV", 320, 240, (300.0, 300.0, 160.0, 120.0, 90.0, 80.0, -5.0, 3.0)).undistorted()
    with pytest.raises(PosesError, match="takes 8 values"):
        Lens("OPENCV", 320, 240, (300.0,)).native()


def test_lenses_round_trip_and_resize(tmp_path):
    lenses = {"a": LENSES[0], "b": LENSES[2], "c": LENSES[0]}
    write_lenses(tmp_path / "l.json", lenses)
    assert read_lenses(tmp_path / "l.json") == lenses
    half = LENSES[2].resized(160, 120)
    assert half.params == pytest.approx((150, 152.5, 75, 62.5, 0.06, -0.08, -0.001, 0.0005))
    (tmp_path / "l.json").write_text('{"lenses": []}')
    with pytest.raises(InputError, match="damaged"):
        read_lenses(tmp_path / "l.json")


def test_what_is_known_of_the_lens():
    assert lens_knowledge("300,310,161,119", "auto", 320, 240, 999.0).lens == PINHOLE
    given = lens_knowledge("300,300,160,120,-0.1", "simple_radial", 320, 240, None)
    assert (given.lens, given.knowledge) == (LENSES[0], Knowledge.GIVEN)
    prior = lens_knowledge(None, "auto", 320, 240, 280.0)
    assert (prior.lens.params, prior.knowledge) == ((280, 160, 120, 0), Knowledge.PRIOR)
    assert lens_knowledge(None, "opencv", 240, 320, None).lens.params[:2] == (384, 384)  # 1.2 x 320


@pytest.mark.parametrize(
    ("camera", "model", "match"),
    [
        ("300,300,160", "auto", "is not fx,fy,cx,cy"),
        ("300,x,160,120", "auto", "is not fx,fy,cx,cy"),
        ("-300,300,160,120", "auto", "above 0"),
        ("300,300,160,120,0.1", "auto", "name their model"),
        ("300,310,160,120,0.1", "simple_radial", "one focal length"),
        ("300,300,160,120,0.1", "opencv", "takes 4 distortion values .*k1,k2,p1,p2.* 1 were given"),
        ("300,300,160,120,0.1", "pinhole", "takes 0 distortion values .*none"),
    ],
)
def test_malformed_camera_option(camera, model, match):
    with pytest.raises(OptionsError, match=match):
        lens_knowledge(camera, model, 320, 240, None)


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_pairs_by_hand():
    assert all_pairs(3) == [(0, 1), (0, 2), (1, 2)]
    assert sequential_pairs(6, 2) == [(i, i + s) for i in range(6) for s in (1, 2) if i + s < 6]
    assert [b for a, b in sequential_pairs(100, 4) if a == 0] == [1, 2, 3, 4, 8]


def test_clusters_are_found():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10]], dtype=np.float32)
    data = np.concatenate([c + rng.normal(0, 0.1, (50, 2)) for c in centres]).astype(np.float32)
    found = cluster(data, 3, seed=1)
    assert found.shape == (3, 2)
    assert cluster(data[:5], 3, seed=1) is None  # too little to learn from
    means = {tuple(np.round(row).astype(int)) for row in found}
    assert len(means) == 3 or means <= {(0, 0), (10, 0), (0, 10), (5, 0), (0, 5), (5, 5)}  # a local optimum is allowed


def test_a_place_seen_again_is_proposed_and_little_else():
    """Forty frames walk past forty places; the last ten come back to the first ten."""
    rng = np.random.default_rng(0)
    place = rng.integers(0, 255, (60, 200, 128), dtype=np.uint8)  # 200 features that only this place has

    def frame(i: int) -> np.ndarray:
        at = i if i < 40 else i - 40
        seen = np.concatenate([place[at], place[at + 1], place[at + 2]]).astype(int)
        return np.clip(seen + rng.normal(0, 4, seen.shape), 0, 255).astype(np.uint8)

    pairs = loop_pairs([frame(i) for i in range(50)], overlap=2, seed=0)
    again = [(a, b) for a, b in pairs if abs((b - 40) - a) <= 2]
    assert {b for _, b in again} >= set(range(40, 50))
    assert len(pairs) <= 1.1 * len(again)  # of 1081 pairs far apart
    assert loop_pairs([place[0]] * 4, overlap=2, seed=0) == []  # too short to have a loop


def test_candidates_keep_their_distance():
    i, j = np.mgrid[:30, :30]
    similarity = np.maximum(1 - 0.1 * np.abs(i - j), 0.2)  # overlap 4: usual 0.6, far apart 0.2, least 0.34
    similarity[0, [20, 21, 22, 28]] = [0.5, 0.6, 0.5, 0.3]  # 28 is not like enough, 20 and 22 are neighbours of 21
    assert candidates(similarity, overlap=4) == [(0, 21)]


# -- parallax ----------------------------------------------------------------------------------------------------------


def seen(points: np.ndarray, angle_deg: float, centre: np.ndarray, focal: float) -> np.ndarray:
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    in_cam = (points - centre) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return in_cam[:, :2] / in_cam[:, 2:] * focal + [320, 240]


def test_parallax_of_a_turn_is_nothing_and_of_a_step_what_it_is():
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(-1, 1, 300), rng.uniform(-1, 1, 300), rng.choice([4.0, 8.0], 300)], axis=1)
    lens = Lens("PINHOLE", 640, 480, (500.0, 500.0, 320.0, 240.0))
    first = seen(points, 0, np.zeros(3), 500)[None]
    turned = seen(points, 12, np.zeros(3), 500)[None]
    stepped = seen(points, 12, np.array([0.1, 0, 0]), 500)[None]
    assert parallax_of_known_lens(first, turned, lens)[0] < 1e-6
    assert parallax_of_any_lens(first, turned, (640, 480))[0] < 0.2
    # Half the points shift by 500 * 0.1 / 4 = 12.5 px, the others by 6.25: a turn can at best split the difference.
    assert 2 < parallax_of_known_lens(first, stepped, lens)[0] < 6.3
    assert 1.5 < parallax_of_any_lens(first, stepped, (640, 480))[0] < 6.3


def test_turn_is_found_beside_movers():
    rng = np.random.default_rng(1)
    xy = rng.uniform(-0.5, 0.5, (1, 200, 2))
    rays = np.concatenate([xy, np.ones((1, 200, 1))], axis=-1)
    turn = Rigid3.from_quat_xyzw(np.array([0.02, 0.05, 0.01, 1.0]), np.zeros(3)).rotation
    turned = rays @ turn.T
    second = turned[..., :2] / turned[..., 2:]
    second[:, :60] += 0.05  # 30 % belong to a thing that moves
    distance = left_over(xy, second)
    assert np.median(distance[:, 60:]) < 1e-3  # least squares without weights leaves 0.015
    assert np.median(distance[:, :60]) > 0.05


# -- gaps --------------------------------------------------------------------------------------------------------------


def recording_of(count: int, step: int = 1, source_name: str | None = "v.mp4") -> Recording:
    from pathlib import Path

    frames = tuple(Frame(f"{i * step:06d}", i * step, source_name or f"IMG_{i}.jpg", 0.1 * i, 0) for i in range(count))
    return Recording(frames, tuple(Path(f"{frame.name}.jpg") for frame in frames), (None,) * count)


def test_interpolated_pose_by_hand():
    """A quarter turn about y and a step of 4 in 4 intervals: after one of them 22.5 degrees and 1."""
    recording = recording_of(7)
    half = np.sqrt(0.5)
    first = Rigid3.identity()
    last = Rigid3.from_quat_xyzw(np.array([0, -half, 0, -half]), np.array([4.0, 0, 0]))  # -q is the same turn
    known = {"000001": first, "000005": last.inverse()}
    solution = Solution(known, dict.fromkeys(known, PINHOLE), PoseOrigin.MEASURED, None)
    trajectory, lenses = complete(solution, recording, interpolate=True)
    assert trajectory.names == ("000001", "000002", "000003", "000004", "000005")  # nothing beyond the ends
    assert [o.value for o in trajectory.origin] == ["measured", *["interpolated"] * 3, "measured"]
    angle = np.radians(22.5)
    expected = np.array([[np.cos(angle), 0, np.sin(angle), 1], [0, 1, 0, 0], [-np.sin(angle), 0, np.cos(angle), 0]])
    np.testing.assert_allclose(trajectory["000002"].cam_from_world.inverse().matrix[:3], expected, atol=1e-12)
    assert set(lenses) == set(trajectory.names)
    dropped, _ = complete(solution, recording, interpolate=False)
    assert dropped.names == ("000001", "000005")


# -- imports -----------------------------------------------------------------------------------------------------------


def poses(count: int) -> Rigid3:
    return Rigid3(np.broadcast_to(np.eye(3), (count, 3, 3)).copy(), np.arange(3.0 * count).reshape(count, 3))


def test_tum_is_matched_by_time_and_else_by_row(tmp_path):
    path = tmp_path / "t.txt"
    write_tum(path, np.arange(40) / 30, poses(40))
    found = match_to_frames(read_import(path), recording_of(5), 15, source_fps=30.0)
    assert found.row_of == {"000000": 0, "000001": 3, "000002": 6, "000003": 9, "000004": 12}
    assert "by time" in found.rule
    write_tum(path, 1.6e9 + np.arange(5) / 30, poses(5))
    found = match_to_frames(read_import(path), recording_of(5), 15, source_fps=30.0)
    assert found.row_of["000004"] == 4
    assert "by row" in found.rule
    write_tum(path, 1.6e9 + np.arange(7) / 30, poses(7))
    with pytest.raises(PosesError, match=r"has 7 poses; its times are not .* 5 \(chosen frames\) or 15"):
        match_to_frames(read_import(path), recording_of(5), 15, source_fps=30.0)


def test_a_frame_without_a_pose_at_its_time_has_none(tmp_path):
    times = np.delete(np.arange(40) / 30, [5, 6, 7])
    write_tum(tmp_path / "t.txt", times, poses(37))
    found = match_to_frames(read_import(tmp_path / "t.txt"), recording_of(5), 15, source_fps=30.0)
    assert "000002" not in found.row_of
    assert len(found.row_of) == 4


def test_kitti_rows_are_chosen_frames_or_frames_of_the_source(tmp_path):
    path = tmp_path / "k.txt"
    write_kitti(path, poses(5))
    assert match_to_frames(read_import(path), recording_of(5, step=3), 15, None).row_of["000012"] == 4
    write_kitti(path, poses(15))
    assert match_to_frames(read_import(path), recording_of(5, step=3), 15, None).row_of["000012"] == 12


def test_names_match_pictures_by_file_and_video_frames_by_name(tmp_path):
    np.savez(tmp_path / "p.npz", poses=poses(3).matrix, names=np.array(["x/IMG_2.jpg", "IMG_0", "other.png"]))
    found = match_to_frames(read_import(tmp_path / "p.npz"), recording_of(3, source_name=None), 3, None)
    assert found.row_of == {"000000": 1, "000002": 0}
    np.savez(tmp_path / "p.npz", poses=poses(2).matrix, names=np.array(["000001.jpg", "v.mp4"]))
    found = match_to_frames(read_import(tmp_path / "p.npz"), recording_of(3), 3, 30.0)
    assert found.row_of == {"000001": 0}
    np.savez(tmp_path / "p.npz", poses=poses(2).matrix, names=np.array(["a", "b"]))
    with pytest.raises(PosesError, match="none of the 2 names"):
        match_to_frames(read_import(tmp_path / "p.npz"), recording_of(3), 3, 30.0)


def test_npz_intrinsics_gain_half_a_pixel_and_follow_the_size(tmp_path):
    k = np.array([[250.0, 0, 159.5], [0, 260, 119.5], [0, 0, 1]])
    recording = recording_of(3)
    for extra, size in (
        ({}, FrameSize(160, 120, 320, 240)),
        ({"depths": np.zeros((3, 240, 320))}, FrameSize(160, 120, 9, 9)),
    ):
        np.savez(tmp_path / "p.npz", poses=poses(3).matrix, intrinsics=k, **extra)
        imported = read_import(tmp_path / "p.npz")
        matching = match_to_frames(imported, recording, 3, None)
        solution = imported_solution(imported, matching, recording, None, size)
        assert solution.lenses["000000"] == Lens("PINHOLE", 160, 120, (125.0, 130.0, 80.0, 60.0))
    with pytest.raises(PosesError, match="another shape"):
        imported_solution(imported, matching, recording, None, FrameSize(240, 320, 240, 320))


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"depth": np.zeros(3)}, "has the keys depth: 'poses'"),
        ({"poses": np.zeros((2, 5))}, r"is \(2, 5\)"),
        ({"poses": np.full((2, 4, 4), np.nan)}, "not finite"),
        ({"poses": 2 * np.broadcast_to(np.eye(4), (2, 4, 4))}, "no rotations"),
        ({"poses": np.broadcast_to(np.diag([1.0, 1, -1, 1]), (2, 4, 4))}, "no rotations"),  # a mirror
        ({"poses": poses(2).matrix, "names": np.array(["a"])}, "1 names and 2 poses"),
        ({"poses": poses(2).matrix, "intrinsics": np.eye(3)[:2]}, r"'intrinsics' .* is \(2, 3\)"),
    ],
)
def test_malformed_npz(tmp_path, arrays, match):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(InputError, match=match):
        read_import(tmp_path / "p.npz")


def test_unknown_imports(tmp_path):
    with pytest.raises(InputError, match="was not found"):
        read_import(tmp_path / "none.txt")
    (tmp_path / "t.txt").write_text("1 2 3\n")
    with pytest.raises(InputError, match="none of the known imports"):
        read_import(tmp_path / "t.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no readable COLMAP model"):
        read_import(tmp_path / "empty")
