"""Camera paths of other programs: axes by hand, round trips, and damaged files."""

import json

import numpy as np
import pytest

from recon4d.errors import InputError
from recon4d.formats.camera_path_files import read_camera_path, write_camera_path
from recon4d.formats.trajectories import write_kitti, write_tum
from recon4d.formats.transforms_json import write_transforms
from recon4d.scene.camera import Camera
from recon4d.scene.path_keys import PathKeys, PathSpace
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3, Sim3

# A camera of Blender 5 m behind the origin (y is ahead, z up) that looks along +y: turned 90 degrees about x.
BLENDER = [[1, 0, 0, 0], [0, 0, -1, -5], [0, 1, 0, 1.5], [0, 0, 0, 1]]


def poses(count=4):
    rng = np.random.default_rng(2)
    return Rigid3.from_quat_xyzw(rng.normal(size=(count, 4)), rng.normal(size=(count, 3)))


def written(tmp_path, content):
    path = tmp_path / "path.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_blender_looks_along_minus_z_of_its_own(tmp_path):
    content = {"resolution": [1920, 1080], "matrix_world": [BLENDER, BLENDER], "lens": [18.0, 36.0], "sensor_width": 36}
    keys = read_camera_path(written(tmp_path, content))
    np.testing.assert_allclose(keys.world_from_cam.translation[0], [0, -5, 1.5])
    rotation = keys.world_from_cam.rotation[0]
    np.testing.assert_allclose(rotation @ [0, 0, 1], [0, 1, 0], atol=1e-12)  # forward is ahead
    np.testing.assert_allclose(rotation @ [0, 1, 0], [0, 0, -1], atol=1e-12)  # down is down
    # 18 mm before 36 mm: a half width of 1 per unit of depth, and 1080 / 1920 of that is the half height.
    np.testing.assert_allclose(keys.tan_half_height, [1080 / 1920, 0.5 * 1080 / 1920])
    upright = read_camera_path(written(tmp_path, content | {"resolution": [1080, 1920]}))
    np.testing.assert_allclose(upright.tan_half_height, [1.0, 0.5])


def test_blender_entries_with_angles_and_a_scaled_object(tmp_path):
    matrix = (np.array(BLENDER) * [2, 2, 2, 1]).tolist()
    keys = read_camera_path(written(tmp_path, [{"matrix_world": matrix}]))
    np.testing.assert_allclose(keys.world_from_cam.rotation[0] @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    assert keys.tan_half_height is None
    content = {"resolution": [200, 100], "matrix_world": [BLENDER] * 3, "angle": np.pi / 2}
    np.testing.assert_allclose(read_camera_path(written(tmp_path, content)).tan_half_height, [0.5] * 3)


def test_tum_and_kitti(tmp_path):
    expected, path = poses(), tmp_path / "path.txt"
    write_tum(path, np.array([0.5, 1, 2, 5.0]), expected)
    keys = read_camera_path(path)
    np.testing.assert_allclose(keys.world_from_cam.matrix, expected.matrix, atol=1e-9)
    np.testing.assert_allclose(keys.key_times, [0.5, 1, 2, 5])
    write_kitti(path, expected)
    keys = read_camera_path(path)
    np.testing.assert_allclose(keys.world_from_cam.matrix, expected.matrix, atol=1e-9)
    assert keys.key_times is None


def test_our_own_comes_back(tmp_path):
    path = tmp_path / "own.json"
    keys = PathKeys(poses(), np.array([0, 1, 3, 4.0]), np.array([0.5, 0.6, 0.7, 0.8]), np.array([9, 8, 7, 6.5]))
    write_camera_path(path, keys)
    found = read_camera_path(path)
    np.testing.assert_allclose(found.world_from_cam.matrix, keys.world_from_cam.matrix, atol=1e-12)
    for field in ("key_times", "tan_half_height", "clip_frames"):
        np.testing.assert_allclose(getattr(found, field), getattr(keys, field), atol=1e-12)


def test_our_own_by_hand(tmp_path):
    row = {"world_from_cam": np.eye(4).tolist()}
    keys = read_camera_path(written(tmp_path, {"height": 480, "poses": [row | {"focal_px": 240}]}))
    np.testing.assert_allclose(keys.tan_half_height, [1.0])
    keys = read_camera_path(written(tmp_path, [row | {"fov_deg": 90}]))
    np.testing.assert_allclose(keys.tan_half_height, [1.0])
    np.testing.assert_array_equal(keys.world_from_cam.matrix[0], np.eye(4))  # our axes, as they are


def test_transforms_json_comes_back(tmp_path):
    camera, expected, path = Camera(64, 48, 60, 48, 32, 24), poses(2), tmp_path / "transforms.json"
    origin = (PoseOrigin.MEASURED,) * 2
    trajectory = Trajectory(("a", "b"), np.arange(2) / 30, expected.inverse(), (camera,) * 2, origin)
    write_transforms(path, trajectory, {"a": "a.png", "b": "b.png"})
    keys = read_camera_path(path)
    np.testing.assert_allclose(keys.world_from_cam.matrix, expected.matrix, atol=1e-9)
    np.testing.assert_allclose(keys.tan_half_height, [0.5, 0.5])


def test_nerfstudio_path_and_keyframes_of_both_viewers(tmp_path):
    flat = np.array(BLENDER, dtype=float).ravel().tolist()
    turned = np.array(BLENDER, dtype=float).T.ravel().tolist()
    entry = {"camera_to_world": flat, "fov": 90.0, "aspect": 1.5}
    for content in (
        {"camera_path": [entry], "render_height": 100, "seconds": 4, "keyframes": []},
        {"keyframes": [{"matrix": json.dumps(turned), "fov": 90}]},
        {"keyframes": [{"matrix": flat, "fov": 90}]},
    ):
        keys = read_camera_path(written(tmp_path, content))
        np.testing.assert_allclose(keys.world_from_cam.rotation[0] @ [0, 0, 1], [0, 1, 0], atol=1e-12)
        np.testing.assert_allclose(keys.world_from_cam.translation[0], [0, -5, 1.5])
        np.testing.assert_allclose(keys.tan_half_height, [1.0])


def test_nerfstudio_normalisation_is_undone(tmp_path):
    matrix = np.array(BLENDER, dtype=float)
    quarter = np.array([[0.0, -1, 0, 3], [1, 0, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]])
    trained = quarter @ matrix
    trained[:3, 3] *= 0.25
    moved = {"transform": quarter[:3].tolist(), "scale": 0.25}
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps(moved))
    keys = read_camera_path(written(tmp_path, {"camera_path": [{"camera_to_world": trained.ravel().tolist()}]}))
    np.testing.assert_allclose(keys.world_from_cam.translation[0], [0, -5, 1.5], atol=1e-12)
    np.testing.assert_allclose(keys.world_from_cam.rotation[0] @ [0, 0, 1], [0, 1, 0], atol=1e-12)


def test_delivered_coordinates_become_scene_units():
    # Scene: y down, z forward, 1 unit = 2 m. Delivered: z up, y ahead, metres, origin 1.5 m above the ground.
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    delivered_from_scene = Sim3(2.0, turn, np.array([0, 0, 1.5]))
    given = PathKeys(Rigid3(turn[None], np.array([[0.0, 4.0, 1.5]])))  # 4 m ahead of the scene's origin, looking ahead
    found = given.in_scene(PathSpace.DELIVERED, delivered_from_scene)
    np.testing.assert_allclose(
        found.world_from_cam.matrix[0], Rigid3(np.eye(3), np.array([0, 0, 2.0])).matrix, atol=1e-12
    )
    assert given.in_scene(PathSpace.SCENE, delivered_from_scene) is given
    # A point that the camera sees stays where it is in the picture.
    point, scene_point = np.array([0.5, 9.0, 2.0]), delivered_from_scene.inverse() @ np.array([0.5, 9.0, 2.0])
    before, after = given.world_from_cam[0].inverse() @ point, found.world_from_cam[0].inverse() @ scene_point
    np.testing.assert_allclose(before, 2.0 * after, atol=1e-12)


IDENTITY = np.eye(4).tolist()
MIRRORED = np.diag([1.0, 1, -1, 1]).tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no pose"),
        ("1 2 3\n", "not 8 finite numbers"),
        ("1 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n", "do not increase"),
        ('{"poses": [', "damaged JSON"),
        ({"names": 3}, "it holds 'names'"),
        ({}, "it holds nothing"),
        ([3], "are expected"),
        ({"poses": []}, "no pose"),
        ({"poses": [{"time": 1}]}, "'world_from_cam' is missing"),
        ({"poses": [{"world_from_cam": MIRRORED}]}, "matrix 0 is not a rotation"),
        ({"poses": [{"world_from_cam": [[1, 2], [3, 4]]}]}, "4x4"),
        ({"poses": [{"world_from_cam": IDENTITY, "fov_deg": 180}]}, "fov_deg is not between 0 and 180"),
        ({"poses": [{"world_from_cam": IDENTITY, "focal_px": 3}]}, "'height' is missing"),
        ({"poses": [{"world_from_cam": IDENTITY, "time": 1}, {"world_from_cam": IDENTITY}]}, "entry 1"),
        ({"poses": [{"world_from_cam": IDENTITY, "time": t} for t in (1, 0)]}, "do not increase"),
        ({"poses": [{"world_from_cam": IDENTITY, "time": "soon"}]}, "soon"),
        ({"camera_path": [{"camera_to_world": [1, 2, 3]}]}, "are expected"),
        ({"matrix_world": [IDENTITY], "lens": 35}, "'resolution' is missing"),
        ({"matrix_world": [IDENTITY], "lens": [35, 40], "resolution": [4, 3]}, "are expected"),
        ({"frames": [{"file_path": "a.png"}]}, "'transform_matrix' is missing"),
        ({"frames": [{"file_path": "a.png", "transform_matrix": IDENTITY}]}, "'w' is missing"),
    ],
)
def test_damaged_files_are_told(tmp_path, content, words):
    with pytest.raises(InputError, match=words) as caught:
        read_camera_path(written(tmp_path, content))
    assert "path.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_binary_file_are_told(tmp_path):
    with pytest.raises(InputError, match="was not found"):
        read_camera_path(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not a readable text file"):
        read_camera_path(tmp_path / "b.json")
