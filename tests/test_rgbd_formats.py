"""RGB-D recordings of every layout, whole and damaged."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib

import numpy as np
import pytest
import rgbd_recordings as made
from PIL import Image

from recon4d.errors import InputError
from recon4d.formats.rgbd import is_rgbd, open_rgbd
from recon4d.formats.rgbd_calibration import read_calibration
from recon4d.formats.rgbd_files import pairs_by_time, read_metres
from recon4d.formats.rgbd_tum import TUM_CAMERA
from recon4d.poses.import_rgbd import read_rgbd_poses


def refused(path) -> str:
    with pytest.raises(InputError) as caught:
        open_rgbd(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- TUM --------------------------------------------------------------------------------------------------------------


def test_tum_pairs_pictures_with_depth_by_time_and_scales_by_5000(tmp_path):
    recording = open_rgbd(made.write_tum(tmp_path / "desk"))
    assert [frame.depth is not None for frame in recording.frames] == [True, True, False, True]
    assert recording.frames[1].name == "100.100000"
    assert recording.frames[1].depth == "depth/100.105000.png"
    seen = recording.depth(recording.frames[1]).metres
    np.testing.assert_allclose(seen, made.metres(1), atol=1e-4)
    assert (seen[made.HOLE] == 0).all()
    assert recording.calibration.is_registered
    assert recording.calibration.color is None


def test_closest_pairs_win_and_each_picture_is_used_once():
    first, second = np.array([0.0, 0.012, 1.0]), np.array([0.010, 1.03, 0.999])
    assert pairs_by_time(first, second) == {1: 0, 2: 2}


def test_tum_poses_are_those_of_the_time_of_the_picture(tmp_path):
    poses = read_rgbd_poses(made.write_tum(tmp_path / "desk"))
    assert poses.names == ("100.000000", "100.100000", "100.200000", "100.300000")
    np.testing.assert_allclose(poses.world_from_cam.translation[:, 0], [0.0, 0.1, 0.2, 0.3], atol=1e-9)
    assert poses.lenses is None


def test_tum_lens_is_known_by_the_name_of_its_folder_or_by_a_calibration_file(tmp_path):
    known = made.write_tum(tmp_path / "rgbd_dataset_freiburg1_desk")
    assert open_rgbd(known).calibration.color == TUM_CAMERA
    assert read_rgbd_poses(known).lenses[0].params == (525.0, 525.0, 320.0, 240.0)
    (known / "calibration.json").write_text(json.dumps(made.calibration()))
    assert open_rgbd(known).calibration.color.fx == 40


def test_tum_without_depth_list_is_said(tmp_path):
    (made.write_tum(tmp_path / "desk") / "depth.txt").unlink()
    assert "has rgb.txt and no depth.txt" in refused(tmp_path / "desk")


@pytest.mark.parametrize(
    "line", ["100.1 ../../secret.png", "100.1 /etc/secret.png", "soon rgb/a.png", "100.1", "nan a"]
)
def test_tum_lines_that_lead_nowhere_are_refused(tmp_path, line):
    folder = made.write_tum(tmp_path / "desk")
    (folder / "rgb.txt").write_text(line)
    assert "rgb.txt, line 1" in refused(folder)


def test_tum_file_that_is_not_there_is_named(tmp_path):
    folder = made.write_tum(tmp_path / "desk")
    (folder / "depth" / "100.105000.png").unlink()
    assert "depth/100.105000.png is not there" in refused(folder)


# -- ScanNet ----------------------------------------------------------------------------------------------------------


def test_scannet_depth_is_millimetres_and_poses_become_those_of_the_colour_camera(tmp_path):
    folder = made.write_scannet(tmp_path / "scene")
    recording = open_rgbd(folder)
    assert recording.calibration.color.cx == 16.0  # 15.5 where pixel centres count 0, 1, 2
    np.testing.assert_allclose(recording.calibration.color_from_depth.translation, [-0.1, 0, 0])
    np.testing.assert_allclose(recording.depth(recording.frames[2]).metres, made.metres(2), atol=1e-6)
    assert [frame.timestamp_s for frame in recording.frames] == [0, 1 / 30, 2 / 30]
    poses = read_rgbd_poses(folder)
    assert poses.names == ("0", "2")  # tracking of 1 was lost
    np.testing.assert_allclose(poses.world_from_cam.translation, [[0.1, 0, 0], [0.1, 0, 2]])
    assert poses.lenses[0].params == (40.0, 40.0, 16.0, 12.0)


@pytest.mark.parametrize(("suffix", "stored"), [(".npy", "metres"), (".tif", "metres"), (".npy", "millimetres")])
def test_scannet_depth_of_other_kinds_than_png_keeps_its_unit_and_its_lens(tmp_path, suffix, stored):
    folder = made.write_scannet(tmp_path / "scene")
    for n in range(3):
        (folder / "depth" / f"{n}.png").unlink()
        depth = made.metres(n) if stored == "metres" else np.rint(1000 * made.metres(n)).astype(np.uint16)
        if suffix == ".npy":
            np.save(folder / "depth" / f"{n}.npy", depth)
        else:
            Image.fromarray(depth).save(folder / "depth" / f"{n}.tif")
    recording = open_rgbd(folder)
    np.testing.assert_allclose(recording.depth(recording.frames[2]).metres, made.metres(2), atol=1e-6)
    assert recording.calibration.depth.shape == (24, 32)


def test_scannet_with_a_motion_of_the_colour_camera_is_refused(tmp_path):
    folder = made.write_scannet(tmp_path / "scene")
    np.savetxt(folder / "intrinsic/extrinsic_color.txt", np.diag([1, -1, -1, 1.0]))
    assert "not the identity" in refused(folder)


@pytest.mark.parametrize("text", ["1 2 3", "a b c d\n" * 4, "1 0 0 0\n" * 4])
def test_scannet_with_a_damaged_matrix_is_refused(tmp_path, text):
    folder = made.write_scannet(tmp_path / "scene")
    (folder / "intrinsic/extrinsic_depth.txt").write_text(text)
    assert "extrinsic_depth.txt" in refused(folder)


def test_scannet_without_a_depth_of_the_pictures_names_is_refused(tmp_path):
    folder = made.write_scannet(tmp_path / "scene")
    for file in (folder / "depth").iterdir():
        file.rename(file.with_name(f"d{file.name}"))
    assert "no picture of" in refused(folder)


# -- folders with a calibration file ----------------------------------------------------------------------------------


def test_folder_is_read_as_its_calibration_says(tmp_path):
    folder = made.write_folder(tmp_path / "own")
    recording = open_rgbd(folder)
    assert [frame.timestamp_s for frame in recording.frames] == [0.0, 0.3, 0.6]  # frame numbers at 10 a second
    depth = np.full((24, 32), 2000, dtype=np.uint16)
    depth[0, :3] = 0, 65535, 1234
    Image.fromarray(depth).save(folder / "depth" / "000003.png")
    np.testing.assert_array_equal(recording.depth(recording.frames[1]).metres[0, :4], np.float32([0, 0, 0, 2]))
    poses = read_rgbd_poses(folder)
    np.testing.assert_allclose(poses.world_from_cam.translation[:, 0], [0, 3, 6])
    assert not poses.doubt


def test_poses_of_the_depth_camera_are_moved_to_the_colour_camera(tmp_path):
    folder = made.write_folder(tmp_path / "own")
    (folder / "poses.txt").rename(folder / "poses_depth.txt")
    np.testing.assert_allclose(read_rgbd_poses(folder).world_from_cam.translation[:, 0], [0.1, 3.1, 6.1])


def test_poses_of_another_clock_count_by_line_or_are_refused(tmp_path):
    folder = made.write_folder(tmp_path / "own")
    lines = [f"{50 + n} {n} 0 0 0 0 0 1\n" for n in range(3)]
    (folder / "poses.txt").write_text("".join(lines))
    poses = read_rgbd_poses(folder)
    assert "as many lines as there are pictures" in poses.doubt
    assert poses.names == ("000000", "000003", "000006")
    np.testing.assert_allclose(poses.world_from_cam.translation[:, 0], [0, 1, 2])
    (folder / "poses.txt").write_text("".join(lines[:2]))
    with pytest.raises(InputError, match="both need the same clock"):
        read_rgbd_poses(folder)


def test_two_depth_files_of_one_picture_are_refused(tmp_path):
    folder = made.write_folder(tmp_path / "own")
    np.save(folder / "depth" / "000003.npy", made.metres(3))
    assert "has both depth/000003.npy and depth/000003.png" in refused(folder)


def test_folder_without_calibration_and_recording_without_poses_are_said(tmp_path):
    folder = made.write_folder(tmp_path / "own")
    (folder / "poses.txt").unlink()
    with pytest.raises(InputError, match="has no poses"):
        read_rgbd_poses(folder)
    (folder / "calibration.json").unlink()
    assert "no calibration.json" in refused(folder)


def test_depth_of_another_size_than_its_camera_is_refused(tmp_path):
    folder = made.write_folder(tmp_path / "own")
    Image.fromarray(np.full((12, 16), 2000, dtype=np.uint16)).save(folder / "depth" / "000003.png")
    recording = open_rgbd(folder)
    with pytest.raises(InputError, match="is 16x12, the calibration's depth camera is 32x24"):
        recording.depth(recording.frames[1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"color_camera": None}, "'color_camera' is missing"),
        ({"color_camera": [40, 40, 16, 12]}, "no table"),
        ({"color_camera": {"fx": 40}}, "'fy' is missing"),
        ({"color_camera": {"fx": 0, "fy": 1, "cx": 1, "cy": 1}}, "focal length"),
        ({"color_camera": {"fx": 4, "fy": 1, "cx": 1, "cy": 1, "k1": 0.1}}, "lens distortion"),
        ({"width": "wide"}, "cannot be used"),
        ({"width": float("inf")}, "cannot be used"),
        ({"fps": 10**400}, "cannot be used"),
        ({"color_from_depth": [[1, 2], [3, 4]]}, "4x4 motion"),
        ({"color_from_depth": (2 * np.eye(4)).tolist()}, "no rotation"),
        ({"color_from_depth_translation_m": [1, 2]}, "three finite numbers"),
        ({"metres_per_value": -1}, "above 0"),
        ({"first_pixel_centre": 0.3}, "0 or 0.5"),
        ({"invalid_values": 7}, "cannot be used"),
    ],
)
def test_calibration_with_a_mistake_names_it(tmp_path, change, reason):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(made.calibration() | change))
    with pytest.raises(InputError, match=reason):
        read_calibration(path)


@pytest.mark.parametrize("text", ["[1]", "{", "\udcff", "[" * 100_000])
def test_calibration_that_is_no_json_table_is_refused(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"calibration\.json"):
        read_calibration(path)


def test_calibration_of_open3d_is_column_by_column(tmp_path):
    path = tmp_path / "camera_intrinsic.json"
    path.write_text('{"width": 640, "height": 480, "intrinsic_matrix": [525, 0, 0, 0, 520, 0, 319.5, 239.5, 1]}')
    camera = read_calibration(path).calibration.color
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (525, 520, 320, 240)


def test_depth_of_bytes_is_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="8-bit"):
        read_metres(tmp_path / "a.png", None)


def test_floats_are_metres(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.5, np.nan], [-1.0, np.inf]], dtype=np.float32))
    np.testing.assert_array_equal(read_metres(tmp_path / "a.npy", None).metres, np.float32([[1.5, 0], [0, 0]]))


def test_folders_of_pictures_and_models_are_no_recordings(tmp_path):
    made.save_colour(tmp_path / "a.png", 0)
    (tmp_path / "rgb.txt").write_text("notes")
    (tmp_path / "depth").mkdir()
    (tmp_path / "color").mkdir()
    assert not is_rgbd(tmp_path)
    folder = made.write_folder(tmp_path / "own")
    (folder / "sparse").mkdir()
    (folder / "sparse" / "images.bin").write_bytes(b"")
    assert read_rgbd_poses(folder) is None


# -- Record3D ---------------------------------------------------------------------------------------------------------


def test_record3d_is_read_without_unpacking_it(tmp_path):
    recording = open_rgbd(made.write_r3d(tmp_path / "a.r3d"))
    assert [frame.name for frame in recording.frames] == ["000000", "000001", "000002"]
    assert [frame.timestamp_s for frame in recording.frames] == [5.0, 5.5, 6.0]
    seen = recording.depth(recording.frames[1])
    assert seen.metres.shape == (12, 16)
    assert seen.metres[0, 0] == np.float32(2.01)
    assert seen.metres[3, 4] == 0  # NaN
    np.testing.assert_array_equal(seen.confidence[0, :3], np.float32([0.25, 0.75, 1.0]))
    picture = recording.picture(recording.frames[2], tmp_path / "scratch.jpg")
    assert Image.open(picture).size == (32, 24)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.r3d", "scratch.jpg"]
    assert recording.calibration.color.fx == 41  # the median of 40, 41, 42


def test_record3d_unpacked_is_the_same(tmp_path):
    packed = open_rgbd(made.write_r3d(tmp_path / "a.r3d"))
    with zipfile.ZipFile(tmp_path / "a.r3d") as archive:
        archive.extractall(tmp_path / "folder", [name for name in archive.namelist() if ".." not in name])
    folder = open_rgbd(tmp_path / "folder")
    np.testing.assert_array_equal(folder.depth(folder.frames[2]).metres, packed.depth(packed.frames[2]).metres)


def test_record3d_poses_turn_from_opengl_to_opencv_axes(tmp_path):
    """A quarter turn about y: OpenGL's camera looks along -z, so to -x; ours looks along +z, to -x as well."""
    poses = read_rgbd_poses(made.write_r3d(tmp_path / "a.r3d"))
    np.testing.assert_allclose(poses.world_from_cam.translation, [[0, 0, 0], [1, 0, 0], [2, 0, 0]])
    np.testing.assert_allclose(poses.world_from_cam.rotation[0] @ [0, 0, 1], [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(poses.world_from_cam.rotation[0] @ [0, 1, 0], [0, -1, 0], atol=1e-12)
    assert [lens.params for lens in poses.lenses] == [(40 + n, 41 + n, 16, 12) for n in range(3)]


@pytest.mark.parametrize("pack", [lambda data: data, zlib.compress], ids=["as it is", "zlib"])
def test_record3d_depth_may_be_packed_otherwise(tmp_path, pack):
    recording = open_rgbd(made.write_r3d(tmp_path / "a.r3d", pack=pack))
    assert recording.depth(recording.frames[0]).metres[0, 0] == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"K": [1, 2]}, "cannot be used"),
        ({"K": [0.0] * 9, "perFrameIntrinsicCoeffs": None}, "focal length"),
        ({"w": None}, "cannot be used"),
        ({"w": float("inf")}, "cannot be used"),
        ({"h": 10**400}, "w and h are"),
        ({"poses": [[10**400] * 7]}, "cannot be used"),
        ({"perFrameIntrinsicCoeffs": [[40, 41, 16, 12], [0, 41, 16, 12], [40, 41, 16, 12]]}, "focal length 0"),
        ({"poses": [[0, 0, 0, 1]]}, r"\(1, 4\)"),
        ({"dw": 12, "dh": 16}, "another shape"),
        ({"dw": 1 << 20, "dh": 1 << 20}, "dw and dh"),
        ({"frameTimestamps": [1.0, 1.0, 2.0]}, "do not rise"),
        ({"frameTimestamps": [1.0]}, "has no time"),
        ({"fps": 0}, "fps is 0"),
    ],
)
def test_record3d_with_wrong_metadata_is_refused(tmp_path, changes, reason):
    with pytest.raises(InputError, match=reason):
        open_rgbd(made.write_r3d(tmp_path / "a.r3d", **changes))


def test_record3d_that_is_no_archive_or_an_empty_one_is_refused(tmp_path):
    (tmp_path / "a.r3d").write_bytes(b"PK\x03\x04 and nothing more")
    assert "no readable .r3d archive" in refused(tmp_path / "a.r3d")
    with zipfile.ZipFile(tmp_path / "b.r3d", "w") as archive:
        archive.writestr("metadata", "{")
    assert "not readable JSON" in refused(tmp_path / "b.r3d")


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (lambda data: data[:-4], "bytes"),
        (lambda data: b"bvx-" + struct.pack("<I", len(data)) + data, "no complete LZFSE stream"),
        (lambda data: b"bvx-" + struct.pack("<I", 1 << 30) + b"bvx$", "beyond the end"),
        (lambda data: made.raw_lzfse(data * 2), "bytes"),
        (lambda data: zlib.compress(bytes(1 << 24)), "bytes"),
    ],
)
def test_record3d_with_damaged_depth_is_refused(tmp_path, pack, reason):
    recording = open_rgbd(made.write_r3d(tmp_path / "a.r3d", pack=pack))
    with pytest.raises(InputError, match=reason):
        recording.depth(recording.frames[0])
