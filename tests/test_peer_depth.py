"""Depth in the layouts of other programs: what each number means, which frame it is of, what is refused."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from exr_writer import exr_bytes

from recon4d.depth.matching import RowCounting
from recon4d.depth.precomputed import Precomputed, PrecomputedRequest, open_precomputed
from recon4d.errors import DepthError, InputError
from recon4d.formats.colormap import inferno_u8
from recon4d.formats.peers import read_peer_depth
from recon4d.scene.depth import DepthKind
from recon4d.scene.recording import Frame, Recording

Z = np.array([[1.0, 2.0, 4.0, 8.0]] * 3, dtype=np.float32)  # (3, 4)


def recording(indices: tuple[int, ...] = (0, 2), source_name: str = "clip.mp4") -> Recording:
    frames = tuple(Frame(f"{i:06d}", i, source_name, i / 30, 0) for i in indices)
    return Recording(frames, tuple(Path(f"{f.name}.png") for f in frames), (None,) * len(frames))


def opened(path: Path, size: tuple[int, int] = (16, 12), source_frames: int = 4, **request: object) -> Precomputed:
    return open_precomputed(PrecomputedRequest(path, **request), recording(), size, source_frames)


def stack(rows: int = 4) -> np.ndarray:
    """Row k is Z plus k."""
    return np.stack([Z + k for k in range(rows)]).astype(np.float32)


def identity(rows: int) -> np.ndarray:
    return np.broadcast_to(np.eye(4, dtype=np.float32), (rows, 4, 4))


# -- MegaSaM -----------------------------------------------------------------------------------------------------------


def megasam(path: Path, depths: np.ndarray) -> Path:
    rows = len(depths)
    np.savez(
        path, images=np.zeros((rows, 3, 4, 3), np.uint8), depths=depths, intrinsic=np.eye(3), cam_c2w=identity(rows)
    )
    return path


def test_megasam_clips_far_and_near_and_its_size_is_a_guess(tmp_path):
    depths = np.clip(stack().astype(np.float16), 1e-3, 1e2)
    depths[2, 0, :2] = np.clip(np.array([1e-5, 7e3], dtype=np.float16), 1e-3, 1e2)
    source = opened(megasam(tmp_path / "clip_sgd_cvd_hr.npz", depths))
    assert (source.kind, source.told) == (DepthKind.SCALE_FREE_Z, False)
    depth = source.depth("000002")
    np.testing.assert_array_equal(depth.valid[0], [False, False, True, True])
    np.testing.assert_array_equal(depth.values[1], [3, 4, 6, 10])
    assert any("MegaSaM" in remark for remark in source.remarks)


def test_megasam_lost_its_right_and_lower_border(tmp_path):
    """854x480 is resized to 591x332 and cut to 584x328: int(854 * sqrt(196608 / 409920)) = 591."""
    path = megasam(
        tmp_path / "m.npz", np.full((4, 328, 584), 2.0, dtype=np.float16) + np.eye(328, 584, dtype=np.float16)
    )
    depth = opened(path, size=(854, 480)).depth("000000")
    assert depth.values.shape == (332, 591)
    np.testing.assert_array_equal(depth.valid, np.pad(np.ones((328, 584), bool), ((0, 4), (0, 7))))
    path = megasam(tmp_path / "n.npz", np.eye(384, 512, dtype=np.float16)[None].repeat(4, 0) + np.float16(1))
    assert opened(path, size=(1024, 768)).depth("000000").valid.shape == (384, 512)  # nothing had to be cut


# -- Depth Anything 3 --------------------------------------------------------------------------------------------------


def test_depth_anything_3_brings_its_confidence(tmp_path):
    conf = np.full((4, 3, 4), 1.05, dtype=np.float32)
    conf[2, 0] = [1.0, 1.05, 1.45, 5.0]
    arrays = {
        "depth": stack(),
        "conf": conf,
        "extrinsics": identity(4)[:, :3],
        "intrinsics": np.eye(3)[None].repeat(4, 0),
    }
    np.savez(tmp_path / "results.npz", **arrays)
    source = opened(tmp_path / "results.npz")
    assert source.kind is DepthKind.SCALE_FREE_Z
    depth = source.depth("000002")
    np.testing.assert_array_equal(depth.values[0], [3, 4, 6, 10])
    # excess over 1, against the 0.05 at which its viewer drops points: 0, 1/2, 0.45/0.5, 4/4.05
    np.testing.assert_allclose(depth.confidence[0], [0, 0.5, 0.9, 4 / 4.05], atol=1e-5)
    folder = tmp_path / "out" / "exports" / "npy"
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    for place in (folder, tmp_path / "out"):
        again = opened(place).depth("000002")
        np.testing.assert_array_equal(again.values, depth.values)
        np.testing.assert_array_equal(again.confidence, depth.confidence)


def test_sky_is_no_depth_and_confidence_up_to_one_is_taken_as_it_is(tmp_path):
    sky = np.zeros((4, 3, 4), dtype=bool)
    sky[0, 0, 3] = True
    conf = np.full((4, 3, 4), 0.25, dtype=np.float32)
    np.savez(tmp_path / "results.npz", depth=stack(), conf=conf, sky=sky)
    depth = opened(tmp_path / "results.npz").depth("000000")
    np.testing.assert_array_equal(depth.valid[0], [True, True, True, False])
    np.testing.assert_array_equal(depth.confidence[0], np.float32([0.25, 0.25, 0.25, 0]))


def test_the_least_trusted_frame_stays_untrusted(tmp_path):
    """A frame without any excess over 1 is the least trusted of a clip, not the most."""
    conf = np.ones((4, 3, 4), dtype=np.float32)
    np.savez(tmp_path / "results.npz", depth=stack(), conf=conf)
    assert (read_peer_depth(tmp_path / "results.npz").confidence(0) == 1).all()  # says nothing at all
    conf[2, 0, 0] = 1.05
    np.savez(tmp_path / "results.npz", depth=stack(), conf=conf)
    source = opened(tmp_path / "results.npz")
    assert (source.depth("000000").confidence == 0).all()
    np.testing.assert_allclose(source.depth("000002").confidence[0], [0.5, 0, 0, 0], atol=1e-5)
    conf[2, 0, 0] = 0.5
    np.savez(tmp_path / "results.npz", depth=stack(), conf=conf)
    assert (opened(tmp_path / "results.npz").depth("000000").confidence == 1).all()


def test_confidence_of_another_shape_is_refused(tmp_path):
    np.savez(tmp_path / "results.npz", depth=stack(), conf=stack(3))
    with pytest.raises(InputError, match=r"'conf' .* is \(3, 3, 4\), the depth is \(4, 3, 4\)"):
        read_peer_depth(tmp_path / "results.npz")


def test_matrices_beside_other_names_are_no_depth_anything_3(tmp_path):
    np.savez(tmp_path / "tracks.npz", video=np.zeros((4, 3)), depths=stack(), extrinsics=identity(4))
    assert read_peer_depth(tmp_path / "tracks.npz").program == ""


# -- Video-Depth-Anything and DepthCrafter -----------------------------------------------------------------------------


def test_video_depth_anything_is_disparity_unless_structure_says_otherwise(tmp_path):
    np.savez_compressed(tmp_path / "clip_depths.npz", depths=stack())
    source = opened(tmp_path / "clip_depths.npz")
    assert (source.kind, source.otherwise) == (DepthKind.AFFINE_DISPARITY, DepthKind.METRIC_Z)
    np.testing.assert_array_equal(source.depth("000002").values, stack()[2])
    assert source.of_kind(DepthKind.METRIC_Z).depth("000002").kind is DepthKind.METRIC_Z
    np.savez_compressed(tmp_path / "mine.npz", depths=stack())  # a plain stack: metres
    assert opened(tmp_path / "mine.npz").kind is DepthKind.METRIC_Z


@pytest.mark.parametrize(
    ("digits", "gain", "program", "otherwise"),
    [(4, 1 / 16, "DepthCrafter", None), (5, 1.0, "Video-Depth-Anything", DepthKind.METRIC_Z)],
)
def test_exr_frames_are_counted_whatever_our_frames_are_called(tmp_path, digits, gain, program, otherwise):
    for k, row in enumerate(stack() * np.float32(gain)):
        (tmp_path / f"frame_{k:0{digits}d}.exr").write_bytes(exr_bytes({"Z": row}))
    assert read_peer_depth(tmp_path).program == program
    source = opened(tmp_path)
    assert (source.kind, source.otherwise) == (DepthKind.AFFINE_DISPARITY, otherwise)
    assert source.match.row_of == {"000000": 0, "000002": 2}
    np.testing.assert_array_equal(source.depth("000002").values, stack()[2] * gain)


def test_exr_frames_called_like_the_pictures_are_found_by_name(tmp_path):
    for k in range(4):
        (tmp_path / f"frame_{k:04d}.exr").write_bytes(exr_bytes({"Z": stack()[k] / 16}))
    frames = tuple(Frame(f"frame_{i:04d}", i, f"frame_{i:04d}.jpg", None, 0) for i in (1, 3))
    pictures = Recording(frames, (Path("a"), Path("b")), (None, None))
    found = open_precomputed(PrecomputedRequest(tmp_path), pictures, (16, 12), 9)
    assert (found.match.row_of, found.match.rule) == ({"frame_0001": 1, "frame_0003": 3}, "by name")
    # Pictures counted from 1, depth counted from 0, as many of both: the count holds, not the name.
    frames = tuple(Frame(f"frame_{i + 1:04d}", i, f"frame_{i + 1:04d}.jpg", None, 0) for i in (0, 2))
    pictures = Recording(frames, (Path("a"), Path("b")), (None, None))
    found = open_precomputed(PrecomputedRequest(tmp_path), pictures, (16, 12), 4)
    assert found.match.row_of == {"frame_0001": 0, "frame_0003": 2}


def video(path: Path, pictures: list[np.ndarray]) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "10"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("colored", [False, True])
def test_videos_are_read_back_from_grey_and_from_colours(tmp_path, colored):
    ramp = np.linspace(0.1, 0.9, 64, dtype=np.float32)
    truth = np.stack([np.broadcast_to(np.roll(ramp, 4 * k), (48, 64)) for k in range(4)])
    grey = (255 * truth).astype(np.uint8)[..., None].repeat(3, axis=-1)
    path = video(tmp_path / "clip_vis.mp4", list(inferno_u8(truth) if colored else grey))
    source = opened(path, size=(64, 48))
    assert source.kind is DepthKind.AFFINE_DISPARITY
    for name, k in (("000002", 2), ("000000", 0)):  # backwards: the video begins anew
        depth = source.depth(name)
        assert np.median(np.abs(depth.values - truth[k])[depth.valid]) < 0.02
        assert depth.valid.mean() > 0.9


@pytest.mark.parametrize("colored", [False, True])
def test_a_video_that_begins_with_black_is_still_told(tmp_path, colored):
    """The first colour of the map is (0, 0, 3): as good as grey. And mkv does not say how many frames it has."""
    truth = np.stack([np.broadcast_to(np.linspace(0, 0.3 * k, 64, dtype=np.float32), (48, 64)) for k in range(4)])
    grey = (255 * truth).astype(np.uint8)[..., None].repeat(3, axis=-1)
    path = video(tmp_path / "clip.mkv", list(inferno_u8(truth) if colored else grey))
    found = read_peer_depth(path)
    assert len(found.files) == 4
    assert ("inferno" in found.why) is colored
    assert np.nanmedian(np.abs(found.files.row(3) - truth[3])) < 0.02
    with pytest.raises(InputError, match="black or nearly so"):
        read_peer_depth(video(tmp_path / "black.mkv", [np.zeros((48, 64, 3), np.uint8)] * 2))


def test_a_video_of_other_colours_is_refused(tmp_path):
    green = np.zeros((48, 64, 3), np.uint8)
    green[..., 1] = np.arange(100, 164)
    with pytest.raises(InputError, match="neither grey nor in the colours"):
        read_peer_depth(video(tmp_path / "v.mp4", [green] * 3))
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "v.mp4").read_bytes()[:200])
    with pytest.raises(InputError):
        read_peer_depth(tmp_path / "broken.mp4")


# -- ViPE --------------------------------------------------------------------------------------------------------------


def vipe(root: Path, entries: dict[str, bytes], name: str = "clip") -> Path:
    for folder in ("depth", "pose"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "depth" / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return root


def exr_of(row: np.ndarray) -> bytes:
    return exr_bytes({"Z": row.astype(np.float16)})


def test_vipe_rows_have_the_numbers_of_frames(tmp_path):
    holes = stack()[2]
    holes[0] = [0, np.inf, np.nan, 5]
    root = vipe(
        tmp_path, {"00002.exr": exr_of(holes), "00000.exr": exr_of(stack()[0]), "00003.exr": exr_of(stack()[3])}
    )
    for path in (root, root / "depth" / "clip.zip"):
        source = opened(path)
        assert source.kind is DepthKind.METRIC_Z
        assert source.match.row_of == {"000000": 0, "000002": 1}
        depth = source.depth("000002")
        np.testing.assert_array_equal(depth.valid[0], [False, False, False, True])
        np.testing.assert_array_equal(depth.values[1], [3, 4, 6, 10])
    vipe(tmp_path, {"00000.exr": exr_of(Z)}, "other")
    with pytest.raises(InputError, match=r"holds 2 clips \(clip, other, ...\): copy what is of one clip"):
        read_peer_depth(tmp_path)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"../00000.exr": b"x"}, r"holds '\.\./00000\.exr'"),
        ({"/etc/00000.exr": b"x"}, "only pictures called by their frame numbers"),
        ({"depth/00000.exr": b"x"}, "only pictures called by their frame numbers"),
        ({"00000.exr": b"x", "0.exr": b"x"}, "holds '0.exr'"),
        ({}, "holds no EXR pictures"),
        (
            {"00000.exr": b"not one", "00001.exr": b"", "00002.exr": b"", "00003.exr": b""},
            "00000.exr is not a readable EXR",
        ),
    ],
)
def test_zips_of_anything_else_are_refused(tmp_path, entries, said):
    root = vipe(tmp_path / "v", entries)
    with pytest.raises(InputError, match=said):
        opened(root)
    assert [p.name for p in tmp_path.iterdir()] == ["v"]  # nothing was unpacked


def test_a_cut_off_zip_is_one_sentence(tmp_path):
    root = vipe(tmp_path, {"00000.exr": exr_of(Z)})
    whole = (root / "depth" / "clip.zip").read_bytes()
    (root / "depth" / "clip.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"clip\.zip is not a readable zip"):
        read_peer_depth(root)


def test_a_picture_damaged_in_its_zip_is_one_sentence(tmp_path):
    root = vipe(tmp_path, {"00000.exr": exr_of(np.random.default_rng(0).random((40, 40)))})
    path = root / "depth" / "clip.zip"
    data = bytearray(path.read_bytes())
    data[45:400] = bytes(255 - byte for byte in data[45:400])
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"00000\.exr is damaged"):
        read_peer_depth(root).files.row(0)


def test_a_zip_that_lies_about_its_sizes_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("recon4d.formats.peer_vipe.LARGEST_FRAME", 100)
    with pytest.raises(InputError, match=r"holds '00000\.exr' \(101 bytes\)"):
        read_peer_depth(vipe(tmp_path, {"00000.exr": bytes(101)}))


# -- MonST3R -----------------------------------------------------------------------------------------------------------


def monst3r(root: Path, rows: np.ndarray) -> Path:
    root.mkdir(exist_ok=True)
    (root / "pred_traj.txt").write_text("".join(f"{k}.0 0 0 {k} 1 0 0 0\n" for k in range(len(rows))))
    for k, row in enumerate(rows):
        np.save(root / f"frame_{k:04d}.npy", row)
        np.save(root / f"conf_{k}.npy", np.full(row.shape, np.log(1.1 + 0.8 * (k == 2)), dtype=np.float32))
        np.save(root / f"init_conf_{k}.npy", row)
        (root / f"frame_{k:04d}.png").write_bytes(b"a picture, never read")
    return root


def test_monst3r_confidence_is_stored_as_a_logarithm(tmp_path):
    root = monst3r(tmp_path / "m", stack(12))
    source = open_precomputed(PrecomputedRequest(root), recording((0, 2, 11)), (16, 12), 12)
    assert source.kind is DepthKind.SCALE_FREE_Z
    np.testing.assert_array_equal(source.depth("000011").values, stack(12)[11])  # conf_11 is the last, not the third
    # log 1.1: its viewer's threshold; log 1.9: 0.9 / (0.9 + 0.1)
    np.testing.assert_allclose(source.depth("000000").confidence, 0.5, atol=1e-6)
    np.testing.assert_allclose(source.depth("000002").confidence, 0.9, atol=1e-6)
    (root / "frame_0004.npy").unlink()
    with pytest.raises(InputError, match=r"11 files frame_\*\.npy, but none of number 4"):
        read_peer_depth(root)


def test_monst3r_cuts_square_pictures_to_four_by_three(tmp_path):
    """600x600 -> 512x512 -> the 384 lines in the middle."""
    root = monst3r(tmp_path / "m", 1 + np.random.default_rng(0).random((4, 384, 512), dtype=np.float32))
    depth = opened(root, size=(600, 600)).depth("000000")
    assert depth.valid.shape == (512, 512)
    assert depth.valid[64:448].all()
    assert not depth.valid[:64].any()
    assert not depth.valid[448:].any()


def test_monst3r_cut_the_recording_and_not_its_smaller_frames(tmp_path):
    """1280x558 is resized to 512x223 and loses 7 lines above, 8 below; the frames, 520x227, would lose none."""
    root = monst3r(tmp_path / "m", 1 + np.random.default_rng(0).random((4, 208, 512), dtype=np.float32))
    source = open_precomputed(PrecomputedRequest(root), recording(), (520, 227), 4, (1280, 558))
    valid = source.depth("000000").valid
    assert valid.shape == (223, 512)
    np.testing.assert_array_equal(np.flatnonzero(valid.all(axis=1)), np.arange(7, 215))


def test_a_frame_of_another_size_is_told(tmp_path):
    root = monst3r(tmp_path / "m", stack())
    np.save(root / "conf_2.npy", np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(DepthError, match="confidence of frame 000002 is 4x2, the depth of the first frame is 4x3"):
        opened(root).depth("000002")
    np.save(root / "frame_0001.npy", stack()[0, :2])
    source = open_precomputed(PrecomputedRequest(root), recording((0, 1, 2, 3)), (16, 12), 4)
    with pytest.raises(DepthError, match="depth of frame 000001 is 4x2, the depth of the first frame is 4x3"):
        source.depth("000001")


# -- MoGe --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normals", [False, True])
def test_moge_maps_are_called_like_the_pictures(tmp_path, normals):
    for k in (0, 2, 3):
        folder = tmp_path / f"{k:06d}"
        folder.mkdir()
        row = stack()[k]
        row[0, 0] = np.inf
        (folder / "depth.exr").write_bytes(exr_bytes({"Y": row}))
        (folder / "fov.json").write_text(json.dumps({"fov_x": 90.0, "fov_y": 73.74}))
        if normals:
            (folder / "normal.png").write_bytes(b"never read")
    source = opened(tmp_path)
    assert source.kind is (DepthKind.METRIC_Z if normals else DepthKind.SCALE_FREE_Z)
    depth = source.depth("000002")
    np.testing.assert_array_equal(depth.values[0], [0, 4, 6, 10])
    assert not depth.valid[0, 0]
    with pytest.raises(DepthError, match="1 of 2 frames have no depth of their name"):
        open_precomputed(PrecomputedRequest(tmp_path), recording((0, 1)), (16, 12), 4)


# -- all ---------------------------------------------------------------------------------------------------------------


def test_the_kind_as_told_and_the_count_as_told_win(tmp_path):
    path = megasam(tmp_path / "m.npz", stack(2).astype(np.float16))
    source = opened(path, kind=DepthKind.METRIC_Z, counting=RowCounting(offset=0, stride=2))
    assert (source.kind, source.told) == (DepthKind.METRIC_Z, True)
    assert source.match.row_of == {"000000": 0, "000002": 1}
