"""Flow sources: known motion comes back, files are found by name, models are fed as promised, errors are sentences."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from onnx_models import write_flow_model, write_onnx

from recon4d.errors import InputError, MissingDependency
from recon4d.formats.flow_files import write_flo, write_kitti_flow
from recon4d.formats.onnx_file import has_external_data
from recon4d.formats.onnx_model import OnnxModel, OnnxUse
from recon4d.geometry.dense_flow import dis_flow
from recon4d.geometry.flow_check import checked_flow, flow_map, resized_flow
from recon4d.motion.flow import SOURCES, Frame, open_flow, source_class

SHIFT = np.array([5.0, -3.0])
FRAMES = [("000000", "clip.mp4"), ("000003", "clip.mp4"), ("000006", "clip.mp4")]


def textured(height: int = 96, width: int = 128) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.clip((smooth - smooth.mean()) * 6 + 128, 0, 255).astype(np.uint8)


def moved(rgb: np.ndarray, shift: np.ndarray = SHIFT) -> np.ndarray:
    """The picture after everything in it has moved by ``shift`` (right, down)."""
    return np.roll(rgb, tuple(shift.astype(int)[::-1]), (0, 1))


# -- does it come back ---------------------------------------------------------------------------------------------


def test_a_flow_as_a_map_by_hand():
    flow = np.zeros((2, 3, 2), dtype=np.float16)
    flow[0, 1], flow[1, 2] = (0.5, -2), (np.nan, 3)
    x, y = flow_map(flow)
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_array_equal(x, [[0, 1.5, 2], [0, 1, -1e6]])
    np.testing.assert_array_equal(y, [[0, -2, 0], [1, 1, 4]])


def test_flow_that_comes_back_stays_and_other_flow_goes():
    forward = np.full((20, 30, 2), (4.0, 2.0), dtype=np.float32)
    backward = -forward
    backward[10, 12] = (-4.0, 0.0)  # two pixels off
    checked = checked_flow(forward, backward)
    lost = np.isnan(checked).any(axis=-1)
    expected = np.zeros((20, 30), dtype=bool)
    expected[-2:] = expected[:, -4:] = True  # leads out of the other picture
    expected[8, 8] = True  # leads to the wrong one
    np.testing.assert_array_equal(lost, expected)
    np.testing.assert_array_equal(checked[~lost], forward[~lost])


@pytest.mark.parametrize(("error", "stays"), [(0.9, True), (1.1, False)])
def test_what_may_be_missing_grows_with_the_way(error, stays):
    forward = np.zeros((8, 40, 2), dtype=np.float32)
    forward[..., 0] = 10  # 0.5 px + 5 % of 10 px
    backward = -forward
    backward[..., 1] = error
    assert np.isfinite(checked_flow(forward, backward)[:, :30]).all() == stays
    assert not np.isfinite(checked_flow(forward, backward, return_px=0.1)[:, :30]).any()


def test_unknown_flow_is_lost_alone():
    forward, backward = (np.zeros((6, 8, 2), dtype=np.float32) for _ in range(2))
    forward[1, 2], backward[3, 4, 0] = np.nan, np.nan
    expected = np.zeros((6, 8), dtype=bool)
    expected[1, 2] = expected[3, 4] = True
    np.testing.assert_array_equal(np.isnan(checked_flow(forward, backward)).all(axis=-1), expected)


def test_flow_grows_with_the_picture():
    flow = np.full((10, 20, 2), (3.0, 5.0), dtype=np.float32)
    flow[:, 0] = np.nan
    larger = resized_flow(flow, 60, 20)
    assert larger.shape == (20, 60, 2)
    np.testing.assert_allclose(larger[:, 6:], np.broadcast_to([9.0, 10.0], (20, 54, 2)))
    assert np.isnan(larger[:, :3]).all()
    assert resized_flow(flow, 20, 10) is flow
    # the pixel that lies where a pixel of the larger picture leads is the one the smaller flow leads to
    ramp = np.dstack([np.broadcast_to(0.1 * np.arange(20.0), (10, 20))] * 2).astype(np.float32)
    np.testing.assert_allclose(resized_flow(ramp, 40, 20)[5, 21], [2.05, 2.05], rtol=1e-5)  # 2 * 0.1 * 10.25


# -- DIS -----------------------------------------------------------------------------------------------------------


def test_dis_finds_a_shift_and_its_reverse():
    first, source = textured(), open_flow(None, FRAMES)
    a, b = Frame("a", first), Frame("b", moved(first))
    assert source.knows("a", "b")
    there, back = source.flow(a, b), source.flow(b, a)
    inner = (slice(20, -20), slice(20, -20))
    np.testing.assert_allclose(np.median(there[inner], axis=(0, 1)), SHIFT, atol=0.05)
    np.testing.assert_allclose(np.median(back[inner], axis=(0, 1)), -SHIFT, atol=0.05)
    assert there.shape == (96, 128, 2)
    assert there.dtype == np.float32
    assert np.isfinite(checked_flow(there, back)[inner]).mean() > 0.95


def test_dis_gives_the_same_in_threads():
    rng, source = np.random.default_rng(1), open_flow(None, FRAMES)
    first = textured()
    pairs = [(Frame("a", first), Frame("b", moved(first, rng.integers(-6, 6, 2)))) for _ in range(8)]
    expected = [source.flow(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        for found, one in zip(pool.map(lambda pair: source.flow(*pair), pairs), expected):
            np.testing.assert_array_equal(found, one)


def test_dis_forgets_the_pictures_before():
    chance = np.random.default_rng(0)
    pairs = [chance.integers(0, 255, (2, *shape), dtype=np.uint8) for shape in ((48, 64), (97, 131), (16, 40))]
    first = [dis_flow(*pair) for pair in pairs]
    for pair, flow in reversed(list(zip(pairs, first))):
        np.testing.assert_array_equal(dis_flow(*pair), flow)


def test_flow_to_a_picture_of_another_size_is_in_its_pixels():
    first, source = textured(), open_flow(None, FRAMES)
    target = cv2.resize(moved(first), (256, 144), interpolation=cv2.INTER_LINEAR)  # twice as wide, 1.5 times as high
    flow = source.flow(Frame("a", first), Frame("b", target))
    row, column = 40, 60
    expected = (np.array([column, row]) + 0.5 + SHIFT) * [2, 1.5] - np.array([column, row]) - 0.5
    np.testing.assert_allclose(
        np.median(flow[row - 3 : row + 4, column - 3 : column + 4], axis=(0, 1)), expected, atol=0.4
    )


def test_too_small_pictures_are_refused():
    small = Frame("tiny", np.zeros((10, 40, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="tiny has 40x10 pixels"):
        open_flow(None, FRAMES).flow(small, small)


# -- files ---------------------------------------------------------------------------------------------------------


def frame(name: str, height: int = 20, width: int = 40) -> Frame:
    return Frame(name, np.zeros((height, width, 3), dtype=np.uint8))


def constant(right: float, down: float, height: int = 20, width: int = 40) -> np.ndarray:
    return np.full((height, width, 2), (right, down), dtype=np.float32)


def test_files_of_two_folders_are_known_by_pair_and_rescaled(tmp_path):
    for folder in ("next", "prev"):
        (tmp_path / folder).mkdir()
    write_flo(tmp_path / "next/000000.flo", constant(1, 2))
    write_kitti_flow(tmp_path / "prev/000003.png", constant(-1, -2, 10, 20))  # half the size
    write_flo(tmp_path / "next/000006.flo", constant(9, 9))  # the last frame has none after it
    source = open_flow(tmp_path, FRAMES)
    known = [(a, b) for a, _ in FRAMES for b, _ in FRAMES if source.knows(a, b)]
    assert known == [("000000", "000003"), ("000003", "000000")]
    np.testing.assert_array_equal(source.flow(frame("000000"), frame("000003")), constant(1, 2))
    np.testing.assert_array_equal(source.flow(frame("000003"), frame("000000")), constant(-2, -4))
    with pytest.raises(InputError, match="from frame 000003 to 000006"):
        source.flow(frame("000003"), frame("000006"))


def test_flat_files_after_the_pictures_they_came_from(tmp_path):
    frames = [("a", "IMG_1.JPG"), ("b", "IMG_2.JPG")]
    np.save(tmp_path / "IMG_1_next.npy", constant(1, 0))
    np.savez(tmp_path / "b_prev.npz", flow=constant(-1, 0))
    source = open_flow(tmp_path, frames)
    assert source.flow(frame("a"), frame("b"))[3, 4].tolist() == [1, 0]
    assert source.flow(frame("b"), frame("a"))[3, 4].tolist() == [-1, 0]


def test_files_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "x_next.npy", constant(0, 0))
    with pytest.raises(InputError, match=r"none of the 1 flow files .* next/000000\.flo"):
        open_flow(tmp_path, FRAMES)
    np.save(tmp_path / "000000_next.npy", constant(0, 0, 40, 20))
    with pytest.raises(InputError, match="20x40 pixels, its frame 40x20"):
        open_flow(tmp_path, FRAMES).flow(frame("000000"), frame("000003"))
    write_flo(tmp_path / "000000_next.flo", constant(0, 0))
    with pytest.raises(InputError, match="flow of the same frame"):
        open_flow(tmp_path, FRAMES)


# -- models --------------------------------------------------------------------------------------------------------


def coloured(height: int, width: int) -> tuple[Frame, Frame]:
    """Two pictures whose red, or blue, rises to the right, or down."""
    first, second = np.zeros((2, height, width, 3), dtype=np.uint8)
    first[..., 0] = 2 * np.arange(width)
    second[..., 2] = 3 * np.arange(height)[:, None]
    return Frame("a", first), Frame("b", second)


@pytest.mark.parametrize("channels_last", [False, True])
def test_onnx_models_of_any_size_get_padded_pictures_and_the_last_output_counts(tmp_path, channels_last):
    a, b = coloured(21, 43)
    source = open_flow(write_flow_model(tmp_path / "m.onnx", channels_last=channels_last), FRAMES)
    flow = source.flow(a, b)
    assert flow.shape == (21, 43, 2)
    np.testing.assert_array_equal(flow[..., 0], a.rgb[..., 0])  # 0..255
    np.testing.assert_array_equal(flow[..., 1], b.rgb[..., 2])


@pytest.mark.parametrize("channels_last", [False, True])
def test_onnx_models_of_one_size_give_flow_in_pixels_of_the_picture(tmp_path, channels_last):
    a, b = (Frame(name, np.full((30, 80, 3), value, dtype=np.uint8)) for name, value in (("a", 6), ("b", 8)))
    path = write_flow_model(tmp_path / "m.onnx", (15, 20), channels_last)
    flow = open_flow(path, FRAMES).flow(a, b)
    np.testing.assert_allclose(flow, np.broadcast_to([6 * 80 / 20, 8 * 30 / 15], (30, 80, 2)))


def test_torchscript_models_are_fed_the_same_way(tmp_path):
    torch = pytest.importorskip("torch")

    class Told(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> list[torch.Tensor]:
            assert a.shape[2] % 8 == 0
            assert a.shape[3] % 8 == 0
            flow = torch.cat([a[:, :1], b[:, 2:]], dim=1)
            return [-flow, flow]

    torch.jit.save(torch.jit.script(Told()), str(tmp_path / "m.pt"))
    a, b = coloured(21, 43)
    flow = open_flow(tmp_path / "m.pt", FRAMES).flow(a, b)
    np.testing.assert_array_equal(flow[..., 0], a.rgb[..., 0])
    np.testing.assert_array_equal(flow[..., 1], b.rgb[..., 2])


def test_models_that_cannot_be_used_are_refused_in_a_sentence(tmp_path):
    a, b = coloured(16, 24)
    for name in ("no.onnx", "no.pt"):
        (tmp_path / name).write_bytes(b"not a model")
    one = {"picture": [1, 3, "h", "w"]}
    identity = [("Identity", ["picture"], ["out"], {})]
    write_onnx(tmp_path / "one.onnx", one, identity, {}, {"out": [1, 3, "h", "w"]})
    grey = {"a": [1, 1, 8, 8], "b": [1, 1, 8, 8]}
    write_onnx(tmp_path / "grey.onnx", grey, [("Add", ["a", "b"], ["out"], {})], {}, {"out": [1, 1, 8, 8]})
    both = {"a": [1, 3, "h", "w"], "b": [1, 3, "h", "w"]}
    added = [("Add", ["a", "b"], ["out"], {})]
    write_onnx(tmp_path / "added.onnx", both, added, {}, {"out": [1, 3, "h", "w"]})
    grown = [("Add", ["a", "large"], ["sum"], {}), ("Add", ["b", "sum"], ["out"], {})]
    large = {"large": np.zeros((1, 3, 99, 99), dtype=np.float32)}
    write_onnx(tmp_path / "fails.onnx", both, grown, large, {"out": [1, 3, "y", "x"]})
    for name, words in {
        "no.onnx": "not a usable ONNX model",
        "no.pt": "not a usable TorchScript model",
        "absent.onnx": "there is no",
        "one.onnx": r"has 1 inputs \(picture\), 2 are expected",
        "grey.onnx": r"input a of the model .* \[1, 1, 8, 8\]",
        "added.onnx": r"gives \(1, 3, 64, 64\) .* \(1, 2, 64, 64\) is expected",
        "fails.onnx": "fails on 64x64 pixels",
    }.items():
        with pytest.raises(InputError, match=words):
            open_flow(tmp_path / name, FRAMES).flow(a, b)
    (tmp_path / "flow.bin").write_bytes(b"")
    with pytest.raises(InputError, match="no source of optical flow"):
        open_flow(tmp_path / "flow.bin", FRAMES)


def scaled(path, factor: float, where: str, data_file: str | None):
    """A model of one picture that multiplies it with a weight, which is in the place called ``where``."""
    from onnx import TensorProto, helper

    shape, weight = [1, 3, "h", "w"], np.full((1, 3, 1, 1), factor, dtype=np.float32)
    tensor = helper.make_tensor("w", TensorProto.FLOAT, weight.shape, weight.tobytes(), raw=True)
    constant = ("Constant", [], ["w"], {"value": tensor})
    product = ("Mul", ["picture", "w"], ["out"], {})
    nodes = [constant, product] if where == "node" else [product]
    if where == "branch":
        given = [helper.make_tensor_value_info("w", TensorProto.FLOAT, weight.shape)]
        made = helper.make_node("Constant", [], ["w"], value=tensor)
        branch = helper.make_graph([made], "branch", [], given)
        nodes = [("If", ["yes"], ["w"], {"then_branch": branch, "else_branch": branch}), product]
    constants = {"graph": {"w": weight}, "node": {}, "branch": {"yes": np.array(True)}}[where]
    return write_onnx(path, {"picture": shape}, nodes, constants, {"out": shape}, data_file)


@pytest.mark.parametrize("where", ["graph", "node", "branch"])
def test_models_with_weights_in_other_files_are_refused(tmp_path, where):
    whole = scaled(tmp_path / "whole.onnx", 0.5, where, None)
    assert not has_external_data(whole)
    parted = scaled(tmp_path / "parted.onnx", 0.5, where, "weights.bin")
    assert (tmp_path / "weights.bin").exists()
    assert has_external_data(parted)
    OnnxModel(whole, OnnxUse("motion", pictures=1))
    for change in (lambda: None, (tmp_path / "weights.bin").unlink):
        change()
        with pytest.raises(InputError, match=r"parted.onnx keeps weights in other files .* as one file") as caught:
            OnnxModel(parted, OnnxUse("motion", pictures=1))
        assert "\n" not in str(caught.value)


def test_what_is_no_onnx_file_has_no_weights_elsewhere(tmp_path):
    parted = scaled(tmp_path / "parted.onnx", 0.5, "graph", "weights.bin").read_bytes()
    cut = tmp_path / "cut"
    for content in (b"", b"not a model", b"\xff" * 30, b"\x3a\x7f", b"\x3a", b"\x3b", bytes(50), parted[:20]):
        cut.write_bytes(content)
        assert not has_external_data(cut)
    cut.write_bytes(parted)
    assert has_external_data(cut)


def test_torchscript_models_that_give_no_flow_are_refused(tmp_path):
    torch = pytest.importorskip("torch")

    class Single(torch.nn.Module):
        def forward(self, a: torch.Tensor) -> torch.Tensor:
            return a

    class Coarse(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a[:, :2, ::8, ::8] + b[:, :2, ::8, ::8]

    class Strict(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            assert a.shape[2] % 128 == 0, "sides must be multiples of 128"
            return a[:, :2] + b[:, :2]

    strict = (Strict(), "fails on two pictures")
    for model, words in (strict, (Single(), "fails on two pictures"), (Coarse(), r"gives \(1, 2, 8, 8\)")):
        torch.jit.save(torch.jit.script(model), str(tmp_path / "m.pt"))
        with pytest.raises(InputError, match=words):
            open_flow(tmp_path / "m.pt", FRAMES).flow(*coloured(16, 24))


def test_a_missing_runtime_is_said_with_the_line_that_installs_it(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(MissingDependency, match=r"pip install 'recon4d\[onnx\]'"):
        open_flow(tmp_path / "m.onnx", FRAMES)


def test_every_source_of_the_table_is_there():
    assert {source_class(name).__name__ for name in SOURCES} == {
        "DisFlow",
        "FlowOfFiles",
        "OnnxFlow",
        "TorchScriptFlow",
    }


# -- files of a lens with distortion -------------------------------------------------------------------------------


def turned(pixels: np.ndarray, camera) -> np.ndarray:
    """Where a camera that turns by 3 degrees sees the pixels (N, 2) of the picture before."""
    c, s = np.cos(np.radians(3)), np.sin(np.radians(3))
    rays = np.column_stack([(pixels - [camera.cx, camera.cy]) / [camera.fx, camera.fy], np.ones(len(pixels))])
    return camera.project(rays @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T)


def centres(width: int, height: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize("shrink", [1, 2])
def test_flow_of_recorded_frames_becomes_flow_of_undistorted_pictures(tmp_path, shrink):
    from recon4d.poses.lens import Lens, undistort_pixels
    from recon4d.scene.trajectory import PoseOrigin, Trajectory
    from recon4d.scene.transforms import Rigid3
    from recon4d.stages.recorded_flow import UndistortedFlow

    lens = Lens("SIMPLE_RADIAL", 160, 120, (120.0, 80.0, 60.0, -0.15))
    camera = lens.undistorted()
    recorded = centres(160, 120)
    landed = turned(undistort_pixels(lens, camera, recorded), camera)
    rays = np.column_stack([(landed - [camera.cx, camera.cy]) / [camera.fx, camera.fy], np.ones(len(landed))])
    np.save(tmp_path / "a_next.npy", (lens.project(rays) - recorded).reshape(120, 160, 2).astype(np.float32))

    poses = Rigid3(np.stack([np.eye(3)] * 2), np.zeros((2, 3)))
    trajectory = Trajectory(("a", "b"), np.array([0.0, 0.1]), poses, (camera,) * 2, (PoseOrigin.MEASURED,) * 2)
    files = open_flow(tmp_path, [("a", "clip.mp4"), ("b", "clip.mp4")])
    source = UndistortedFlow(files, trajectory, dict.fromkeys("ab", lens))
    assert source.knows("a", "b")
    assert not source.knows("b", "a")

    width, height = 160 // shrink, 120 // shrink
    pixels = centres(width, height)
    expected = (turned(pixels, camera.resized(width, height)) - pixels).reshape(height, width, 2)
    found = source.flow(frame("a", height, width), frame("b", height, width))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=0.02)
    plain = files.flow(frame("a", height, width), frame("b", height, width))
    assert np.abs(plain - expected).max() > 0.4 / shrink  # the lens matters


def test_files_belong_to_the_frames_of_a_scene_as_recorded(tmp_path):
    from poses_scenes import workspace_with

    from recon4d.stages.poses import PosesOptions, run
    from recon4d.stages.recorded_flow import open_scene_flow_source

    workspace = workspace_with(tmp_path / "scene", [textured(), textured()], source_names=["b.JPG", "a.JPG"])
    run(workspace, PosesOptions(source="static", camera="100,100,64,48"))
    (tmp_path / "flow").mkdir()
    np.save(tmp_path / "flow" / "b_next.npy", constant(2, 3, 96, 128))
    source = open_scene_flow_source(workspace, tmp_path / "flow")
    first, second = workspace.trajectory().names
    assert source.knows(first, second)
    assert not source.on_any_pictures
    half = frame(first, 48, 64), frame(second, 48, 64)
    np.testing.assert_array_equal(source.flow(*half), constant(1, 1.5, 48, 64))  # no distortion: as it is
    assert open_scene_flow_source(workspace, None).knows("anything", "else")
