"""Cameras of other programs: direction, order of the quaternion, pixel centres, pixels of the frames."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from exr_writer import exr_bytes
from test_peer_depth import monst3r, recording, stack, vipe

from recon4d.errors import InputError, PosesError
from recon4d.poses.given import FrameSize, imported_solution
from recon4d.poses.imports import match_to_frames, read_import
from recon4d.poses.lens import Lens

# Each camera k stands at (k, 2, 3) and looks to its left: its z is the world's -x, its x is the world's z.
TURN = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])  # world_from_cam
WXYZ = np.array([np.sqrt(0.5), 0, -np.sqrt(0.5), 0])
K = np.array([[8.0, 0, 3.5], [0, 6, 2.5], [0, 0, 1]])  # of an 8x6 picture: the middle of it, counted 0, 1, 2


def cam_to_world(count: int) -> np.ndarray:
    out = np.broadcast_to(np.eye(4), (count, 4, 4)).copy()
    out[:, :3, :3] = TURN
    out[:, :3, 3] = [[k, 2, 3] for k in range(count)]
    return out.astype(np.float32)


def grids(count: int) -> np.ndarray:
    return np.ones((count, 6, 8), dtype=np.float32)


def megasam(folder: Path) -> Path:
    path = folder / "clip_sgd_cvd_hr.npz"
    images = np.zeros((4, 6, 8, 3), np.uint8)
    np.savez(path, images=images, depths=grids(4).astype(np.float16), intrinsic=K, cam_c2w=cam_to_world(4))
    return path


def depth_anything_3(folder: Path) -> Path:
    path = folder / "results.npz"
    extrinsics = np.linalg.inv(cam_to_world(4))[:, :3]
    np.savez(path, depth=grids(4), conf=grids(4), extrinsics=extrinsics, intrinsics=np.float32(K)[None].repeat(4, 0))
    return path


def vipe_folder(folder: Path, inds: tuple[int, ...] = (0, 1, 2, 3)) -> Path:
    root = vipe(folder / "v", {f"{k:05d}.exr": exr_bytes({"Z": grids(1)[0].astype(np.float16)}) for k in inds})
    (root / "intrinsics").mkdir()
    data = np.float32([[8, 6, 3.5, 2.5]]).repeat(len(inds), 0)
    np.savez(root / "intrinsics" / "clip.npz", data=data, inds=np.array(inds))
    np.savez(root / "pose" / "clip.npz", data=cam_to_world(4)[list(inds)], inds=np.array(inds))
    return root


def monst3r_folder(folder: Path) -> Path:
    root = monst3r(folder / "m", grids(4) * stack()[:, :1, :1])
    rows = [[k, k, 2, 3, *WXYZ] for k in range(4)]
    (root / "pred_traj.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    np.savetxt(root / "pred_intrinsics.txt", K.reshape(1, 9).repeat(4, 0), fmt="%.6f")
    return root


@pytest.mark.parametrize("write", [megasam, depth_anything_3, vipe_folder, monst3r_folder])
def test_a_camera_by_hand(tmp_path, write):
    """A point 5 in front of camera 2 is at (2 - 5, 2, 3); the lens follows the size of the frames."""
    imported = read_import(write(tmp_path))
    matching = match_to_frames(imported, recording(), 4, 30.0)
    assert matching.row_of == {"000000": 0, "000002": 2}
    solution = imported_solution(imported, matching, recording(), None, FrameSize(16, 12, 16, 12))
    cam_from_world = solution.cam_from_world["000002"]
    np.testing.assert_allclose(cam_from_world @ np.array([2.0 - 5, 2, 3]), [0, 0, 5], atol=1e-6)
    np.testing.assert_allclose(cam_from_world @ np.array([2.0, 2, 3 + 1]), [1, 0, 0], atol=1e-6)
    # 3.5 counted from 0 at pixel centres is 4.0 for us, the middle of 8; twice as large in the frames
    assert solution.lenses["000002"] == Lens("PINHOLE", 16, 12, (16.0, 12.0, 8.0, 6.0))


def test_vipe_names_the_frames_it_has(tmp_path):
    imported = read_import(vipe_folder(tmp_path, (1, 2)))
    matching = match_to_frames(imported, recording((0, 1, 2)), 4, 30.0)
    assert matching.row_of == {"000001": 0, "000002": 1}
    assert match_to_frames(imported, recording((0, 2)), 4, 30.0).row_of == {"000002": 1}
    with pytest.raises(InputError, match="name frame 2, the source has 2 frames"):
        match_to_frames(imported, recording((0, 1)), 2, 30.0)


@pytest.mark.parametrize("part", ["depth/clip.zip", "pose/clip.npz"])
def test_poses_are_not_read_from_files_beside_the_given_one(tmp_path, part):
    root = vipe_folder(tmp_path)
    with pytest.raises(InputError, match=r"holds only a part of what ViPE knows .* give the folder with 'pose'"):
        read_import(root / part)
    (root / "pose" / "other.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds 2 clips \(clip, other, ...\): copy what is of one clip"):
        read_import(root)


def test_the_lens_of_a_cut_picture_is_that_of_the_whole_one(tmp_path):
    """MonST3R: 600x600 -> 512x512 -> lines 64..447; its middle line 191.5 is our 192, and 256 of the whole."""
    root = monst3r(tmp_path / "m", np.ones((2, 384, 512), dtype=np.float32) + np.arange(512, dtype=np.float32))
    np.savetxt(root / "pred_intrinsics.txt", np.array([[500, 0, 255.5, 0, 500, 191.5, 0, 0, 1]] * 2))
    imported = read_import(root)
    matching = match_to_frames(imported, recording(), 2, 30.0)
    solution = imported_solution(imported, matching, recording(), None, FrameSize(1024, 1024, 1024, 1024))
    assert solution.lenses["000000"] == Lens("PINHOLE", 1024, 1024, (1000.0, 1000.0, 512.0, 512.0))
    with pytest.raises(PosesError, match="pictures of 512x384, the frames are 600x300: another shape"):
        imported_solution(imported, matching, recording(), None, FrameSize(600, 300, 600, 300))


def test_the_lens_of_a_cut_recording_fits_its_smaller_frames(tmp_path):
    """MonST3R: 1280x558 -> 512x223 -> lines 7..214; the middle 104 of these is 111 of 223. Frames are 520x227."""
    root = monst3r(tmp_path / "m", np.ones((2, 208, 512), dtype=np.float32) + np.arange(512, dtype=np.float32))
    np.savetxt(root / "pred_intrinsics.txt", np.array([[512, 0, 255.5, 0, 446, 103.5, 0, 0, 1]] * 2))
    imported = read_import(root)
    matching = match_to_frames(imported, recording(), 2, 30.0)
    solution = imported_solution(imported, matching, recording(), None, FrameSize(520, 227, 1280, 558))
    lens = solution.lenses["000000"]
    assert (lens.width, lens.height) == (520, 227)
    np.testing.assert_allclose(lens.params, (520, 454, 260, 111 * 227 / 223))


def test_moge_knows_a_lens_and_no_poses(tmp_path):
    folder = tmp_path / "000000"
    folder.mkdir()
    (folder / "depth.exr").write_bytes(exr_bytes({"Y": grids(1)[0]}))
    (folder / "fov.json").write_text(json.dumps({"fov_x": 90.0, "fov_y": 2 * np.degrees(np.arctan(0.5))}))
    with pytest.raises(InputError, match=r"MoGe, which knows a lens but no poses.*--poses\.camera 4\.0,6\.0,4\.0,3\.0"):
        read_import(tmp_path)
    (tmp_path / "000001").mkdir()
    (tmp_path / "000001" / "depth.exr").write_bytes(b"not decoded, only to be refused")
    (tmp_path / "000001" / "fov.json").write_text((folder / "fov.json").read_text())
    with pytest.raises(InputError, match="MoGe, which knows a lens but no poses"):
        read_import(tmp_path)
    (folder / "fov.json").write_text('{"fov_x": 190}')
    with pytest.raises(InputError, match=r"fov\.json is not readable"):
        read_import(tmp_path)


def test_a_model_without_cameras_says_so(tmp_path):
    np.savez(tmp_path / "results.npz", depth=grids(2), conf=grids(2))
    with pytest.raises(InputError, match="no 'extrinsics': its single-picture models give no cameras"):
        read_import(tmp_path / "results.npz")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"cam_c2w": np.zeros((4, 2, 2))}, r"'cam_c2w' is \(4, 2, 2\)"),
        ({"cam_c2w": 2 * cam_to_world(4)}, "no rotations"),
        ({"cam_c2w": np.full((4, 4, 4), np.nan)}, "not finite"),
        ({"intrinsic": np.eye(3)[:2]}, r"'intrinsic' is \(2, 3\)"),
        ({"intrinsic": -np.eye(3)}, "without focal lengths above 0"),
    ],
)
def test_malformed_megasam(tmp_path, arrays, said):
    usual = {"depths": grids(4), "intrinsic": K, "cam_c2w": cam_to_world(4)}
    np.savez(tmp_path / "m.npz", **(usual | arrays))
    with pytest.raises(InputError, match=said):
        read_import(tmp_path / "m.npz")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("pred_traj.txt", "0 0 0 0 1 0 0\n", "8 finite numbers"),
        ("pred_traj.txt", "0 0 0 0 0 0 0 0\n", "quaternion of 0"),
        ("pred_traj.txt", "a b\n", "not readable"),
        ("pred_traj.txt", "", "8 finite numbers"),
        ("pred_intrinsics.txt", "1 0 0 0 1 0 0 0 1\n1 0 0 0 1 0 0 0 1\n", "has 2 lines, 4 are expected"),
    ],
)
def test_malformed_monst3r(tmp_path, file, text, said):
    root = monst3r_folder(tmp_path)
    (root / file).write_text(text)
    with pytest.raises(InputError, match=said):
        read_import(root)


def test_malformed_vipe(tmp_path):
    root = vipe_folder(tmp_path)
    np.savez(root / "intrinsics" / "clip.npz", data=np.ones((2, 4), np.float32), inds=np.array([0, 1]))
    with pytest.raises(InputError, match="has no lens for frame 2"):
        read_import(root)
    (root / "intrinsics" / "clip_camera.txt").write_text("0: PINHOLE\n1: MEI\n")
    with pytest.raises(InputError, match="lenses other than PINHOLE"):
        read_import(root)
    np.savez(root / "pose" / "clip.npz", data=cam_to_world(4))
    with pytest.raises(InputError, match="no list 'inds'"):
        read_import(root)


def test_an_array_that_claims_to_be_huge_is_refused_unread(tmp_path):
    path = megasam(tmp_path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 4, 4)})
    with zipfile.ZipFile(path) as whole:
        kept = {name: whole.read(name) for name in whole.namelist() if name != "cam_c2w.npy"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (kept | {"cam_c2w.npy": header.getvalue()}).items():
            archive.writestr(name, data)
    with pytest.raises(InputError, match=r"'cam_c2w' .* the shape \(1000000000, 4, 4\)"):
        read_import(path)
