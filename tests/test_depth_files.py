"""Depth made elsewhere: reading, detecting, matching, refusing."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from recon4d.depth.matching import RowCounting, RowLabels, match_rows
from recon4d.depth.precomputed import PrecomputedRequest, detect_kind, open_precomputed
from recon4d.errors import DepthError, InputError
from recon4d.formats.depth_files import npz_shapes, open_depth_files, read_depth_file, read_npz_array
from recon4d.scene.depth import DepthKind
from recon4d.scene.recording import Frame, Recording


def recording(indices: tuple[int, ...] = (0, 3, 6)) -> Recording:
    frames = tuple(Frame(f"{i:06d}", i, "clip.mp4", i / 30, 0) for i in indices)
    return Recording(frames, tuple(Path(f"{f.name}.png") for f in frames), (None,) * len(frames))


def stack(rows: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (rows, 6, 8)).astype(np.float16)


def opened(path: Path, source_frames: int = 9, **request: object) -> object:
    return open_precomputed(PrecomputedRequest(path, **request), recording(), (16, 12), source_frames)


def test_npz_rows_come_back_in_any_order(tmp_path):
    depth = stack()
    np.savez_compressed(tmp_path / "d.npz", depth=depth)
    files = open_depth_files(tmp_path / "d.npz")
    for row in (2, 0, 1, 1):
        np.testing.assert_array_equal(files.row(row), depth[row])


def test_npy_stack_and_folders_agree_with_the_npz(tmp_path):
    depth = stack()
    np.save(tmp_path / "d.npy", depth)
    np.testing.assert_array_equal(open_depth_files(tmp_path / "d.npy").row(1), depth[1])
    (tmp_path / "folder").mkdir()
    for name, row in zip(("000000", "000003", "000006"), depth):
        np.save(tmp_path / "folder" / f"{name}.npy", row)
    source = opened(tmp_path / "folder")
    np.testing.assert_array_equal(source.depth("000003").values, depth[1].astype(np.float32))
    assert "by name" in source.match.rule


def test_millimetre_png_becomes_metres_and_marks_holes(tmp_path):
    raw = np.full((6, 8), 1500, dtype=np.uint16)
    raw[0, :2] = (0, 65535)
    for name in recording().names:
        cv2.imwrite(str(tmp_path / f"{name}.png"), raw + np.uint16(name == "000003"))
        raw[1, 1] = 1600
    source = opened(tmp_path)
    depth = source.depth("000006")
    assert source.kind is DepthKind.METRIC_Z
    assert depth.values[2, 2] == pytest.approx(1.5)
    assert (~depth.valid).sum() == 2
    assert any("millimetres" in remark for remark in source.remarks)


def test_kind_is_detected_and_said():
    assert detect_kind("depth", [np.array([[0.0, 1.0]])])[0] is DepthKind.AFFINE_DISPARITY
    assert detect_kind("disparity", [np.array([[3.0, 40.0]])])[0] is DepthKind.AFFINE_DISPARITY
    assert detect_kind("depth", [np.array([[0.4, 7.0]])])[0] is DepthKind.METRIC_Z
    assert detect_kind(".png", [np.array([[400, 7000]], dtype=np.uint16)])[0] is DepthKind.METRIC_Z


def test_kind_as_told_wins(tmp_path):
    np.savez(tmp_path / "d.npz", depth=stack())
    assert opened(tmp_path / "d.npz", kind=DepthKind.SCALE_FREE_Z).kind is DepthKind.SCALE_FREE_Z


def test_rows_match_by_name_in_the_file(tmp_path):
    depth = stack(4)
    np.savez(tmp_path / "d.npz", depth=depth, names=np.array(["000006", "000000", "x", "000003"]))
    source = opened(tmp_path / "d.npz")
    np.testing.assert_array_equal(source.depth("000006").values, depth[0].astype(np.float32))


def test_rows_match_by_count_then_by_source_frame():
    assert match_rows(recording(), RowLabels(3), RowCounting(), 9).row_of == {"000000": 0, "000003": 1, "000006": 2}
    assert match_rows(recording(), RowLabels(9), RowCounting(), 9).row_of == {"000000": 0, "000003": 3, "000006": 6}
    offset = match_rows(recording((3, 6)), RowLabels(2, ("a", "b")), RowCounting(offset=3, stride=3), 9)
    assert offset.row_of == {"000003": 0, "000006": 1}


def test_names_file_decides(tmp_path):
    (tmp_path / "names.txt").write_text("000003\n000000\n000006\n")
    match = match_rows(recording(), RowLabels(3), RowCounting(names_file=tmp_path / "names.txt"), 9)
    assert match.row_of["000003"] == 0


def test_another_frame_count_is_refused():
    with pytest.raises(DepthError, match=r"7 frames of depth, 3 chosen frames and 9 in the source"):
        match_rows(recording(), RowLabels(7), RowCounting(), 9)


def test_frame_off_the_stride_is_refused():
    with pytest.raises(DepthError, match="000003"):
        match_rows(recording(), RowLabels(5), RowCounting(stride=2), 9)


def test_missing_names_are_counted():
    with pytest.raises(DepthError, match="2 of 3 frames"):
        match_rows(recording(), RowLabels(2, ("000000", "000001")), RowCounting(), 9)


def test_another_shape_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", depth=np.random.default_rng(0).uniform(size=(3, 8, 6)))
    with pytest.raises(DepthError, match="6x8 pixels, the frames have 16x12"):
        opened(tmp_path / "d.npz")


def test_npz_without_the_key_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", something=stack())
    with pytest.raises(InputError, match="no array 'depth', found something"):
        open_depth_files(tmp_path / "d.npz")
    assert open_depth_files(tmp_path / "d.npz", "something").key == "something"


def test_nan_inf_and_negative_become_holes(tmp_path):
    depth = np.full((3, 6, 8), 2.0, dtype=np.float32)
    depth[:, 0, :4] = (np.nan, np.inf, -1.0, 0.0)
    depth[:, 1] = 3.0
    np.savez(tmp_path / "d.npz", depth=depth)
    got = opened(tmp_path / "d.npz").depth("000000")
    assert got.valid[0].tolist() == [False] * 4 + [True] * 4
    assert np.isfinite(got.values).all()


def test_constant_depth_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", depth=np.full((3, 6, 8), 0.5))
    with pytest.raises(DepthError, match=r"0\.5 everywhere"):
        opened(tmp_path / "d.npz").depth("000000")


def test_depth_without_a_finite_number_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", depth=np.full((3, 6, 8), np.nan))
    with pytest.raises(DepthError, match="finite"):
        opened(tmp_path / "d.npz")


@pytest.mark.parametrize("shape", [(6, 8), (3, 6, 8, 3), (0, 6, 8)])
def test_wrong_axes_are_refused(tmp_path, shape):
    np.savez(tmp_path / "d.npz", depth=np.zeros(shape))
    with pytest.raises(InputError, match="frames, height, width"):
        open_depth_files(tmp_path / "d.npz")


def test_truncated_npz_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", depth=stack())
    data = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not a readable npz"):
        open_depth_files(tmp_path / "d.npz")


def test_folder_without_depth_and_missing_path_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no depth files"):
        open_depth_files(tmp_path)
    with pytest.raises(InputError, match="was not found"):
        open_depth_files(tmp_path / "nothing.npz")


def test_unpadded_names_keep_their_order(tmp_path):
    for k in range(12):
        np.save(tmp_path / f"depth_{k}.npy", np.full((6, 8), 1.0 + k))
    files = open_depth_files(tmp_path)
    assert [files.row(k)[0, 0] for k in range(12)] == [1.0 + k for k in range(12)]


def test_eight_bit_numbers_do_not_become_millimetres():
    with pytest.raises(DepthError, match=r"8-bit .* --depth\.kind"):
        detect_kind("depth", [np.arange(9, dtype=np.uint8)])


def test_names_with_spaces_are_one_name_a_line(tmp_path):
    (tmp_path / "names.txt").write_text("000003\n\nBild 1 ü\n000006\n")
    with pytest.raises(DepthError, match="1 of 3 frames"):
        match_rows(recording(), RowLabels(3), RowCounting(names_file=tmp_path / "names.txt"), 9)


# -- malformed files ---------------------------------------------------------------------------------------------------


def npy(header: str | None = None, array: np.ndarray | None = None) -> bytes:
    """An npy file, with a header of our own where one is given."""
    file = io.BytesIO()
    np.lib.format.write_array(file, stack() if array is None else array)
    data = file.getvalue()
    if header is None:
        return data
    text = header.ljust(117).encode() + b"\n"
    return data[:8] + struct.pack("<H", len(text)) + text + data[10 + struct.unpack("<H", data[8:10])[0] :]


def npz_of(path: Path, member: bytes, name: str = "depth.npy", packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr(name, member)
    return path


def described(shape: str, kind: str = "'<f2'") -> str:
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"


MALFORMED = {
    "no npy": b"not an array at all",
    "cut header": npy()[:30],
    "open header": npy("{'descr': '<f2', 'fortran_order': False, 'shape': (3, 6,"),
    "negative": npy(described("(-3, 6, 8)")),
    "huge rows": npy(described("(3, 60000, 60000)")),
    "huge count": npy(described("(9000000000000, 6, 8)")),
    "beyond counting": npy(described("(3, 99999999999999999999, 8)")),
    "texts": npy(array=np.full((3, 6, 8), "1.0")),
    "complex": npy(array=stack().astype(np.complex64)),
    "objects": npy(described("(3, 6, 8)", "'|O'")),
    "records": npy(described("(3, 6, 8)", "[('a', '<f2')]")),
}


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("packed", [False, True])
def test_malformed_arrays_are_one_sentence(tmp_path, what, packed):
    data = MALFORMED[what]
    if packed:
        path = npz_of(tmp_path / "d.npz", data)
    else:
        path = tmp_path / "d.npy"
        path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{path.name}.*(make|save) it again|height, width\) is expected"):
        open_depth_files(path).row(0)
    with pytest.raises(InputError, match=path.name):
        read_depth_file(path)
    if packed:
        npz_shapes(path)  # odd members have no shape; that is no error


def test_an_npz_called_npy_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", depth=stack())
    (tmp_path / "d.npz").rename(tmp_path / "d.npy")
    for read in (open_depth_files, read_depth_file):
        with pytest.raises(InputError, match="not a readable npy"):
            read(tmp_path / "d.npy")


def test_a_row_with_broken_deflate_is_one_sentence(tmp_path):
    path = npz_of(tmp_path / "d.npz", npy(array=np.random.default_rng(1).random((3, 40, 80))))
    data = bytearray(path.read_bytes())
    data[20_000:20_400] = bytes(400)
    path.write_bytes(data)
    files = open_depth_files(path)
    with pytest.raises(InputError, match=r"damaged at row \d"):
        [files.row(k) for k in range(3)]
    with pytest.raises(InputError, match=r"d\.npz"):
        read_depth_file(path)


@pytest.mark.parametrize(("byte", "value"), [(8, 1), (10, 99), (10, 12)])  # encrypted; unknown packing; bzip2
def test_npz_packed_as_numpy_never_does_is_refused(tmp_path, byte, value):
    path = npz_of(tmp_path / "d.npz", npy())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + byte] = value  # in the directory at the end of the zip
    path.write_bytes(data)
    for read in (open_depth_files, read_depth_file, lambda p: read_npz_array(p, "depth")):
        with pytest.raises(InputError, match=r"d\.npz"):
            read(path)


def test_a_small_npz_does_not_become_gigabytes(tmp_path):
    """1000 to 1 is what deflate can do; other arrays of a file are not read at all."""
    array = np.zeros((1, 3000, 3000), dtype=np.float32)
    np.savez_compressed(tmp_path / "d.npz", other=array, depth=stack()[:1])
    tracemalloc.start()
    assert read_depth_file(tmp_path / "d.npz").shape == (6, 8)
    assert tracemalloc.get_traced_memory()[1] < array.nbytes / 4
    tracemalloc.stop()
    path = npz_of(tmp_path / "e.npz", npy(described("(1, 20000, 20000)")))
    for read in (open_depth_files, read_depth_file):
        with pytest.raises(InputError, match="more than any picture"):
            read(path)


def test_names_may_be_bytes_or_numbers_and_stacks_have_an_axis_more(tmp_path):
    np.savez(tmp_path / "d.npz", depth=stack()[:, None], names=np.array([b"000006", b"000000", b"000003"]))
    assert open_depth_files(tmp_path / "d.npz").names == ("000006", "000000", "000003")
    np.save(tmp_path / "d.npy", stack()[..., None])
    np.testing.assert_array_equal(open_depth_files(tmp_path / "d.npy").row(2), stack()[2])
    np.savez(tmp_path / "d.npz", depth=stack(), names=np.array("one"))
    with pytest.raises(InputError, match="3 frames of depth but 1 names"):
        open_depth_files(tmp_path / "d.npz")
