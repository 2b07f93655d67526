"""TUM, KITTI and transforms.json: values by hand, round trips, and what malformed lines say."""

import json

import numpy as np
import pytest

from recon4d.errors import InputError
from recon4d.formats.trajectories import read_kitti, read_tum, write_kitti, write_tum
from recon4d.formats.transforms_json import read_transforms, write_transforms
from recon4d.scene.camera import Camera
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3


def random_poses(count: int) -> Rigid3:
    rng = np.random.default_rng(3)
    return Rigid3.from_quat_xyzw(rng.normal(size=(count, 4)), rng.normal(size=(count, 3)) * 5)


def test_tum_line_by_hand(tmp_path):
    half = np.sqrt(0.5)
    (tmp_path / "t.txt").write_text(f"# a comment\n\n1.5 1 2 3 0 0 {half} {half}\n")
    times, world_from_cam = read_tum(tmp_path / "t.txt")
    assert times.tolist() == [1.5]
    # A quarter turn about z takes the camera's x axis to the world's y axis; the camera stands at 1, 2, 3.
    np.testing.assert_allclose(world_from_cam[0] @ np.array([1.0, 0, 0]), [1, 3, 3], atol=1e-12)


def test_tum_and_kitti_round_trip(tmp_path):
    poses, times = random_poses(20), np.arange(20) / 30
    write_tum(tmp_path / "t.txt", times, poses)
    read_times, read_poses = read_tum(tmp_path / "t.txt")
    np.testing.assert_allclose(read_times, times, atol=1e-9)
    np.testing.assert_allclose(read_poses.matrix, poses.matrix, atol=1e-10)
    write_kitti(tmp_path / "k.txt", poses)
    np.testing.assert_allclose(read_kitti(tmp_path / "k.txt").matrix, poses.matrix, atol=1e-10)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("0 1 2 3 0 0 0 1\n0.1 1 2 3 0 0 1\n", "line 2.*8 finite"),
        ("# header\n0 1 2 nan 0 0 0 1\n", "line 2.*8 finite"),
        ("0 1 2 three 0 0 0 1\n", "line 1"),
        ("0 1 2 3 0 0 0 0\n", "line 1.*quaternion is 0"),
        ("# only a comment\n", "no pose"),
    ],
)
def test_malformed_tum_names_file_and_line(tmp_path, text, match):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(InputError, match=match):
        read_tum(tmp_path / "t.txt")


def test_malformed_kitti_names_the_line(tmp_path):
    (tmp_path / "k.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n2 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(InputError, match=r"line 2.*not a rotation"):
        read_kitti(tmp_path / "k.txt")
    with pytest.raises(InputError, match="was not found"):
        read_kitti(tmp_path / "none.txt")


def trajectory_of_two(second: Camera | None = None) -> Trajectory:
    camera = Camera(64, 48, 60.0, 61.0, 31.0, 25.0)
    return Trajectory(
        names=("a", "b"),
        timestamps_s=np.array([0.0, 0.5]),
        cam_from_world=random_poses(2),
        cameras=(camera, second or camera),
        origin=(PoseOrigin.MEASURED, PoseOrigin.IMPORTED),
    )


@pytest.mark.parametrize("second", [None, Camera(32, 24, 30.0, 30.0, 16.0, 12.0)])
def test_transforms_round_trip_with_one_camera_and_with_two(tmp_path, second):
    trajectory = trajectory_of_two(second)
    path = tmp_path / "transforms.json"
    write_transforms(path, trajectory, {"a": "images/a.jpg", "b": "images/b.jpg"}, {"b": {"depth_file_path": "b.png"}})
    found = read_transforms(path)
    np.testing.assert_allclose(found.world_from_cam.inverse().matrix, trajectory.cam_from_world.matrix, atol=1e-12)
    for frame, camera in zip(found.frames, trajectory.cameras):
        assert (frame.width, frame.height, frame.model) == (camera.width, camera.height, "PINHOLE")
        assert frame.params == (camera.fx, camera.fy, camera.cx, camera.cy)
    assert found.missing == ("images/a.jpg", "images/b.jpg")
    assert json.loads(path.read_text())["frames"][1]["depth_file_path"] == "b.png"


def test_opengl_camera_looks_along_minus_z(tmp_path):
    """An OpenGL camera with the identity looks along the world's -z, with y up."""
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}
    (tmp_path / "t.json").write_text(json.dumps({"w": 10, "h": 8, "camera_angle_x": np.pi / 2, "frames": [frame]}))
    found = read_transforms(tmp_path / "t.json")
    np.testing.assert_allclose(found.world_from_cam[0] @ np.array([0.0, 1, 2]), [0, -1, -2])
    assert found.frames[0].params == pytest.approx((5, 5, 5, 4))  # a right angle over 10 pixels: 5 / tan(45 degrees)


def test_lenses_of_transforms(tmp_path):
    base = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist(), "w": 10, "h": 8, "fl_x": 9}
    cases = [
        ({"k1": 0.1, "p2": 0.2}, "OPENCV", (0.1, 0, 0, 0.2)),
        ({"k1": 0.1, "k3": 0.3}, "FULL_OPENCV", (0.1, 0, 0, 0, 0.3, 0, 0, 0)),
        ({"camera_model": "OPENCV_FISHEYE", "k4": 0.4}, "OPENCV_FISHEYE", (0, 0, 0, 0.4)),
        ({"is_fisheye": True, "k1": 0.1}, "OPENCV_FISHEYE", (0.1, 0, 0, 0)),
    ]
    for values, model, distortion in cases:
        (tmp_path / "t.json").write_text(json.dumps({"k2": 0.0, "frames": [base | values]}))
        frame = read_transforms(tmp_path / "t.json").frames[0]
        assert (frame.model, frame.params) == (model, (9, 9, 5, 4, *distortion))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("[", "no transforms.json"),
        ('{"frames": []}', "no frames"),
        ('{"frames": [{"file_path": "a"}]}', "frame 0: 'transform_matrix' is missing"),
        ('{"w": 4, "h": 4, "frames": [{"file_path": "a", "transform_matrix": [[1]]}]}', "4x4"),
        (json.dumps({"w": 4, "h": 4, "frames": [{"file_path": "a", "transform_matrix": np.eye(4).tolist()}]}), "fl_x"),
    ],
)
def test_malformed_transforms(tmp_path, content, match):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(InputError, match=match):
        read_transforms(tmp_path / "t.json")


@pytest.mark.shared
def test_fox_lists_absent_pictures(shared_data):
    found = read_transforms(shared_data / "data/static_sfm/fox/transforms.json")
    assert (len(found.frames), len(found.missing)) == (67, 17)
    assert found.frames[0].model == "OPENCV"
    assert found.frames[0].params[:2] == (1375.52, 1374.49)
