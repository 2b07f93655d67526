"""What the user says about depth files, and what the points say: refused, remembered, looked at frame by frame."""

import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from recon4d.depth.precomputed import PrecomputedRequest, open_precomputed
from recon4d.errors import OptionsError
from recon4d.geometry.proportions import same_proportions
from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.scene.recording import Frame, Recording
from recon4d.scene.transforms import Rigid3
from recon4d.stages import depth_check
from recon4d.stages.depth_files import FileDepth, MoreDepth
from recon4d.stages.depth_more import parse_more
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.depth_pictures import OnnxDepth


@pytest.mark.parametrize("metres", [-1.0, 0.0, float("inf"), float("nan"), 1e300, 1e-300])
def test_a_stored_one_that_stands_for_nothing_is_refused(tmp_path, metres):
    model = tmp_path / "net.onnx"
    model.write_bytes(b"")
    options = DepthOptions(path=tmp_path, metres_per_value=metres, model=(str(model),))
    for own in (FileDepth.of(options), OnnxDepth.of(options)):
        with pytest.raises(OptionsError, match=r"--depth\.metres-per-value is "):
            own.check()
        replace(own, metres_per_value=0.001).check()
        replace(own, metres_per_value=None).check()
    with pytest.raises(OptionsError, match="the metres that 1 stands for"):
        parse_more([f"other:{metres}=x"], [])


@pytest.mark.parametrize("stride", [0, -2])
def test_a_stride_below_one_is_refused(tmp_path, stride):
    with pytest.raises(OptionsError, match=rf"--depth\.stride is {stride}, at least 1"):
        FileDepth.of(DepthOptions(path=tmp_path, stride=stride)).check()


def test_numbers_beyond_single_precision_are_holes(tmp_path):
    stack = np.random.default_rng(0).uniform(1, 2, (1, 6, 8))
    stack[0, 0, 0] = 1e300
    np.savez(tmp_path / "d.npz", depth=stack)
    frames = Recording((Frame("000000", 0, "clip.mp4", 0.0, 0),), (Path("a.png"),), (None,))
    depth = open_precomputed(PrecomputedRequest(tmp_path / "d.npz"), frames, (16, 12), 1).depth("000000")
    assert (~depth.valid).sum() == 1
    assert depth.values[0, 0] == 0


@pytest.mark.parametrize("kind", [FileDepth, MoreDepth])
def test_a_name_by_which_a_program_is_told_enters_the_key_and_no_other_does(tmp_path, kind):
    """clip_depths.npz is disparity of Video-Depth-Anything, the same bytes as clip.npz are metres."""

    def key_of(name):
        np.savez(tmp_path / name, depths=np.ones((2, 3, 4)))
        own = MoreDepth(tmp_path / name) if kind is MoreDepth else FileDepth.of(DepthOptions(path=tmp_path / name))
        return own.extra_key()

    assert key_of("clip_depths.npz") != key_of("clip.npz")
    assert key_of("clip_depths.npz") == key_of("other_depths.npz")
    assert key_of("clip.npz") == key_of("other.npz")
    (tmp_path / "clip.npz").write_bytes(b"broken")
    assert FileDepth.of(DepthOptions(path=tmp_path / "clip.npz")).extra_key() is None  # said when it is read


def test_depth_is_compared_with_the_points_one_frame_at_a_time():
    names = ("a", "b", "c")
    pixels = np.array([[0.5, 0.5], [3.5, 1.5]])
    model = SimpleNamespace(
        angle_deg=np.full(2, 5.0),
        track_length=np.full(2, 9),
        rows={name: np.array([0, 1]) for name in names},
        pixels=dict.fromkeys(names, pixels),
        points=np.array([[0.0, 0.0, 2.0], [0.0, 0.0, 3.0]]),
    )

    class Views(dict):
        names = ("a", "b", "c")

    view = SimpleNamespace(cam_from_world=Rigid3(np.eye(3), np.zeros(3)), camera=SimpleNamespace(width=4, height=2))
    workspace = SimpleNamespace(
        sparse_model=lambda: model, unrefined_trajectory=lambda: Views(dict.fromkeys(names, view))
    )
    alive = []

    def sample():
        for k, name in enumerate(names):
            assert not any(ref() is not None for ref in alive[:-1])  # at most the last one is still held
            grid = np.arange(8, dtype=np.float32).reshape(2, 4) + 10 * k
            depth = DepthMap(DepthKind.METRIC_Z, grid, grid >= 0, np.ones_like(grid), np.zeros_like(grid))
            alive.append(weakref.ref(depth))
            yield name, depth

    values, z = depth_check._at_points(workspace, sample())
    np.testing.assert_array_equal(values, [[0, 7], [10, 17], [20, 27]])
    np.testing.assert_array_equal(z, [[2, 3]] * 3)


def test_a_contradicted_network_is_not_sent_to_an_option_it_does_not_have(monkeypatch):
    said = []
    part = SimpleNamespace(warn=said.append)
    monkeypatch.setattr(depth_check, "sample_names", lambda workspace: ())
    verdict = depth_check.KindVerdict(DepthKind.AFFINE_Z, changed=True, remark="")
    monkeypatch.setattr(depth_check, "check_kind", lambda *args, **named: verdict)
    kind = depth_check.confirmed_kind(None, part, DepthKind.AFFINE_DISPARITY, told=True)
    assert kind is DepthKind.AFFINE_DISPARITY
    assert "farther" in said[0]
    assert "--depth.kind" not in said[0]


def test_sides_rounded_to_64_pixels_are_of_one_picture_and_turned_ones_are_not():
    assert same_proportions((576, 1024, 2), (540, 960))
    assert same_proportions((384, 640), (360, 640))
    assert same_proportions((115, 100), (100, 100))
    assert not same_proportions((117, 100), (100, 100))
    assert not same_proportions((640, 360), (360, 640))
