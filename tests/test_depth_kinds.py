"""Every kind of depth goes through align in its own domain and comes out as the same z."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from recon4d import cli
from recon4d.errors import AlignmentError, DepthError, OptionsError
from recon4d.formats.trajectories import read_tum
from recon4d.geometry.similarity import fit_similarity
from recon4d.scene.depth import DepthKind, Provenance
from recon4d.stages import align, depth, depth_check
from recon4d.workspace import Workspace

HIDDEN_GAIN, HIDDEN_SHIFT = 0.6, 0.05  # what align has to find


@pytest.fixture(scope="module")
def workspace(reconstructed, tmp_path_factory) -> Workspace:
    """A scene with frames and poses; the tests below bring depth of their own."""
    root = tmp_path_factory.mktemp("kinds") / "scene"
    shutil.copytree(reconstructed.scene, root, ignore=shutil.ignore_patterns("export", "fuse", "mesh"))
    return Workspace(root)


def true_depth(reconstructed, name: str) -> np.ndarray:
    """(H, W) metres."""
    return cv2.imread(str(reconstructed.clip.depth / f"{name}.png"), cv2.IMREAD_UNCHANGED) / 1000.0


def metres_per_unit(reconstructed, workspace: Workspace) -> float:
    """From the camera's path, independent of any depth; the self-calibrated focal length costs it 2 to 3 per cent."""
    times, world_from_cam = read_tum(reconstructed.clip.trajectory)
    trajectory = workspace.trajectory()
    rows = [int(np.argmin(np.abs(times - t))) for t in trajectory.timestamps_s]
    return fit_similarity(trajectory.centres, world_from_cam.translation[rows]).scale


def as_kind(z: np.ndarray, kind: DepthKind, unit: float) -> np.ndarray:
    shift = HIDDEN_SHIFT if kind.has_shift else 0.0
    if kind is DepthKind.SCENE_Z:
        return z / unit
    if kind is DepthKind.METRIC_Z:
        return z
    return ((1 / z if kind.is_disparity else z) - shift) / HIDDEN_GAIN


def write_stack(reconstructed, workspace: Workspace, kind: DepthKind, path: Path) -> Path:
    unit = metres_per_unit(reconstructed, workspace)
    names = workspace.trajectory().names
    stack = [as_kind(true_depth(reconstructed, name), kind, unit).astype(np.float32) for name in names]
    np.savez(path, depth=np.stack(stack), names=np.array(names))
    return path


@pytest.mark.parametrize("kind", list(DepthKind))
def test_every_kind_comes_out_as_the_same_depth(reconstructed, workspace, tmp_path, kind):
    path = write_stack(reconstructed, workspace, kind, tmp_path / "d.npz")
    record = depth.run(workspace, depth.DepthOptions(path=path, kind=kind.value))[0]
    assert record.summary["kind"] == kind.value
    align.run(workspace, align.AlignOptions())
    ratios = []
    for name in workspace.trajectory().names:
        surface = workspace.scene_depth(name)
        ratios.append((surface.depth / true_depth(reconstructed, name))[surface.valid])
        assert surface.valid.mean() > 0.99
        assert (surface.provenance[surface.valid] == Provenance.FITTED).all()
    ratio = np.concatenate(ratios)
    unit = metres_per_unit(reconstructed, workspace)
    assert 1 / np.median(ratio) == pytest.approx(unit, rel=0.04)
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.01
    scale = json.loads((workspace.unit_dir("align") / "scale.json").read_text())
    if kind is DepthKind.METRIC_Z:
        assert scale["metres_per_unit"] == pytest.approx(unit, rel=0.04)
        low, high = scale["interval_95"]
        assert low <= scale["metres_per_unit"] <= high
    else:
        assert scale["metres_per_unit"] is None


def test_depth_of_the_wrong_kind_is_refused_with_the_way_out(reconstructed, workspace, tmp_path, monkeypatch):
    path = write_stack(reconstructed, workspace, DepthKind.METRIC_Z, tmp_path / "d.npz")
    options = depth.DepthOptions(path=path, kind="affine_disparity")
    with pytest.raises(DepthError, match=r"larger numbers are farther here .*cannot be affine_disparity.*metric_z"):
        depth.run(workspace, options)
    monkeypatch.setattr(depth_check, "sample_names", lambda workspace: ())  # as where points are few
    depth.run(workspace, options)
    with pytest.raises(AlignmentError, match=r"it is not affine_disparity.*--depth\.kind"):
        align.run(workspace, align.AlignOptions())


def test_disparity_stored_as_depth_is_found_out_by_the_points(reconstructed, workspace, tmp_path, capsys):
    """Floats above 1 under the key 'depth' look like metres; nothing but the structure can tell."""
    path = write_stack(reconstructed, workspace, DepthKind.SCALE_FREE_DISPARITY, tmp_path / "d.npz")
    stored = 7 * np.load(path)["depth"]
    assert stored.max() > 1
    np.savez(path, depth=stored)
    assert cli.main(["depth", str(workspace.root), "--path", str(path)]) == 0
    told = capsys.readouterr()
    assert "larger numbers are nearer" in told.out + told.err
    record = workspace.record("depth/precomputed")
    assert record.summary["kind"] == "affine_disparity"
    assert "it looked like metric_z" in record.warnings[0]
    align.run(workspace, align.AlignOptions())
    name = workspace.trajectory().names[3]
    surface = workspace.scene_depth(name)
    ratio = (surface.depth / true_depth(reconstructed, name))[surface.valid]
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.01


def test_whole_numbers_that_are_disparity_are_no_millimetres(reconstructed, workspace, tmp_path):
    for name in workspace.trajectory().names:
        inverse = 1 / true_depth(reconstructed, name)
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.rint(60000 * inverse / 2).clip(0, 65535).astype(np.uint16))
    record = depth.run(workspace, depth.DepthOptions(path=tmp_path))[0]
    assert record.summary["kind"] == "affine_disparity"
    assert not any("one stored unit" in remark for remark in record.summary["remarks"])
    name = workspace.trajectory().names[0]
    stored = workspace.depth_map(name, "precomputed").values * true_depth(reconstructed, name)
    assert np.median(stored) == pytest.approx(30000, rel=1e-3)  # as stored, no thousandth of it


def test_sensor_depth_counts_as_measured_and_keeps_its_holes(reconstructed, workspace, tmp_path):
    for name in workspace.trajectory().names:
        picture = np.rint(1000 * true_depth(reconstructed, name)).astype(np.uint16)
        picture[:20] = 0
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    record = depth.run(workspace, depth.DepthOptions(path=tmp_path, sensor=True))[0]
    assert record.summary["kind"] == "metric_z"
    align.run(workspace, align.AlignOptions())
    surface = workspace.scene_depth(workspace.trajectory().names[0])
    assert not surface.valid[:19].any()
    assert (surface.provenance == Provenance.MEASURED).all()


def test_fits_table_tells_every_frame(reconstructed):
    lines = (reconstructed.scene / "align" / "fits.csv").read_text().splitlines()
    columns = "name,gain,shift,points,inliers,residual_median,held_out,held_out_median,held_out_95,carried,sky"
    assert lines[0] == columns
    assert len(lines) == 25
    gains = np.array([float(line.split(",")[1]) for line in lines[1:]])
    assert (gains > 0).all()


def test_source_without_a_path_says_what_is_missing(workspace):
    with pytest.raises(OptionsError, match=r"needs --depth\.path"):
        depth.run(workspace, depth.DepthOptions(source="precomputed"))


def test_depth_of_another_length_is_refused(reconstructed, workspace, tmp_path):
    np.savez(tmp_path / "d.npz", depth=np.random.default_rng(0).uniform(size=(7, 24, 32)))
    with pytest.raises(DepthError, match="7 frames of depth, 24 chosen frames and 24 in the source"):
        depth.run(workspace, depth.DepthOptions(path=tmp_path / "d.npz"))


def test_disparity_of_any_scale_is_not_taken_for_metres(reconstructed, workspace, tmp_path, monkeypatch):
    path = write_stack(reconstructed, workspace, DepthKind.AFFINE_DISPARITY, tmp_path / "d.npz")
    with np.load(path) as arrays:
        np.savez(path, depth=1000 * arrays["depth"] + 50, names=arrays["names"])
    monkeypatch.setattr(depth_check, "sample_names", lambda workspace: ())  # where the points are too few to tell
    assert depth.run(workspace, depth.DepthOptions(path=path))[0].summary["kind"] == "metric_z"  # detected, wrongly
    with pytest.raises(AlignmentError, match=r"it is not metric_z; name the right kind \(a kind of disparity"):
        align.run(workspace, align.AlignOptions())


def test_scene_z_in_other_units_is_refused(reconstructed, workspace, tmp_path):
    path = write_stack(reconstructed, workspace, DepthKind.METRIC_Z, tmp_path / "d.npz")
    depth.run(workspace, depth.DepthOptions(path=path, kind="scene_z"))
    with pytest.raises(AlignmentError, match="as scene_z the depth is"):
        align.run(workspace, align.AlignOptions())


def test_one_inverted_frame_is_named(reconstructed, workspace, tmp_path):
    path = write_stack(reconstructed, workspace, DepthKind.AFFINE_DISPARITY, tmp_path / "d.npz")
    name = workspace.trajectory().names[7]
    with np.load(path) as arrays:
        stack = arrays["depth"].copy()
        stack[7] = stack[7].max() - stack[7]
        np.savez(path, depth=stack, names=arrays["names"])
    depth.run(workspace, depth.DepthOptions(path=path, kind="affine_disparity"))
    warnings = align.run(workspace, align.AlignOptions()).warnings
    (told,) = [warning for warning in warnings if name in warning]
    found = re.fullmatch(
        rf"align: frame {name}: depth and structure disagree by (\d+) %: look at align/fit\.png, and .*", told
    )
    assert int(found[1]) > 15
