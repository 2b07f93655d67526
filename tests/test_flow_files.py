"""Flow in files: bytes by hand, round trips, and what is refused."""

import struct

import numpy as np
import pytest

from recon4d.errors import InputError
from recon4d.formats.flow_files import read_flow, write_flo, write_kitti_flow
from recon4d.formats.pictures import write_picture


@pytest.fixture
def flow():
    flow = np.random.default_rng(0).uniform(-300, 300, (5, 7, 2)).astype(np.float32)
    flow[1, 2:4] = np.nan
    return flow


def test_flo_bytes_by_hand(tmp_path):
    path = tmp_path / "a.flo"
    path.write_bytes(struct.pack("<fii8f", 202021.25, 2, 2, 1.5, -2, 3, 4, 1e10, 1e10, 0, 7))
    flow = read_flow(path)
    assert flow.shape == (2, 2, 2)
    np.testing.assert_array_equal(flow[0], [[1.5, -2], [3, 4]])
    assert np.isnan(flow[1, 0]).all()
    np.testing.assert_array_equal(flow[1, 1], [0, 7])
    again = tmp_path / "b.flo"
    write_flo(again, flow)
    assert again.read_bytes() == path.read_bytes()


def test_kitti_pixels_by_hand(tmp_path):
    import cv2

    red, green, blue = 32768 + 64, 32768 - 96, 1  # one pixel right, one and a half up, known
    pixels = np.array([[[blue, green, red], [0, 0, 0]]], dtype=np.uint16)  # OpenCV's order
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    flow = read_flow(tmp_path / "a.png")
    np.testing.assert_array_equal(flow[0, 0], [1, -1.5])
    assert np.isnan(flow[0, 1]).all()


def test_round_trips(tmp_path, flow):
    write_flo(tmp_path / "a.flo", flow)
    np.save(tmp_path / "a.npy", flow)
    np.savez(tmp_path / "a.npz", names=np.array(["x"]), flow=flow)
    np.savez(tmp_path / "b.npz", whatever=np.moveaxis(flow, 2, 0))  # channels first, as networks give it
    for name in ("a.flo", "a.npy", "a.npz", "b.npz"):
        np.testing.assert_array_equal(read_flow(tmp_path / name), flow, err_msg=name)
    write_kitti_flow(tmp_path / "a.png", flow)
    read = read_flow(tmp_path / "a.png")
    np.testing.assert_allclose(read, flow, atol=1 / 128)
    np.testing.assert_array_equal(np.isnan(read), np.isnan(flow))


def test_half_known_pixels_are_not_known(tmp_path):
    flow = np.zeros((2, 2, 2), dtype=np.float16)
    flow[0, 1, 1] = np.inf
    np.save(tmp_path / "a.npy", flow)
    read = read_flow(tmp_path / "a.npy")
    assert read.dtype == np.float32
    assert np.isnan(read[0, 1]).all()
    assert (read[[0, 1, 1], [0, 0, 1]] == 0).all()


def test_kitti_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="512"):
        write_kitti_flow(tmp_path / "a.png", np.full((2, 2, 2), 600.0))


def test_malformed_files_are_refused_in_a_sentence(tmp_path, flow):
    write_flo(tmp_path / "cut.flo", flow)
    (tmp_path / "cut.flo").write_bytes((tmp_path / "cut.flo").read_bytes()[:-1])
    (tmp_path / "empty.flo").write_bytes(b"")
    (tmp_path / "negative.flo").write_bytes(struct.pack("<4sii", b"PIEH", -1, -1))
    write_picture(tmp_path / "eight.png", np.zeros((4, 4, 3), dtype=np.uint8))
    np.save(tmp_path / "three.npy", np.zeros((4, 4, 3)))
    np.save(tmp_path / "text.npy", np.full((4, 4, 2), "a"))
    np.savez(tmp_path / "two.npz", u=np.zeros((4, 4)), v=np.zeros((4, 4)))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "a.txt").write_text("0 0")
    for name, words in {
        "cut.flo": "467 bytes|bytes",
        "empty.flo": "PIEH",
        "negative.flo": "PIEH",
        "eight.png": "16-bit",
        "three.npy": "height, width, 2",
        "text.npy": "height, width, 2",
        "two.npz": "u, v",
        "broken.npy": "not a readable npy",
        "a.txt": "none of",
        "absent.flo": "was not found",
    }.items():
        with pytest.raises(InputError, match=words):
            read_flow(tmp_path / name)
