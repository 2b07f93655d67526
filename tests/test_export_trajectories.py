"""TUM and KITTI trajectories of the export stage, parsed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from fabricated import fabricate

from recon4d.stages.export import run
from recon4d.stages.export_options import ExportOptions

# Levelled and delivered by hand: (x, y, z) -> 2 (x, z, 1 - y).
TURN = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def by_hand(workspace, name: str) -> np.ndarray:
    """(3, 4) world_from_cam in the delivered frame."""
    pose = workspace.trajectory()[name].cam_from_world
    rotation = TURN @ pose.rotation.T
    centre = -pose.rotation.T @ pose.translation
    return np.column_stack([rotation, 2 * (TURN @ centre + [0, 0, 1])])


@pytest.mark.parametrize(("frames", "names"), [(None, ("000000", "000003", "000006")), ("1:", ("000003", "000006"))])
def test_written_frames_and_nothing_else(tmp_path, frames, names):
    workspace = fabricate(tmp_path / "scene", frames=3)
    run(workspace, ExportOptions(to=("tum", "kitti"), frames=frames))
    folder = workspace.root / "export"
    times = [workspace.trajectory()[name].timestamp_s for name in names]
    kitti = np.array([line.split() for line in (folder / "kitti/poses.txt").read_text().splitlines()], dtype=float)
    assert kitti.shape == (len(names), 12)
    np.testing.assert_allclose(np.loadtxt(folder / "kitti/times.txt").reshape(-1), times, atol=1e-9)
    tum = np.loadtxt(folder / "tum/trajectory.tum").reshape(-1, 8)
    np.testing.assert_allclose(tum[:, 0], times, atol=1e-9)
    for row, name in enumerate(names):
        expected = by_hand(workspace, name)
        np.testing.assert_allclose(kitti[row].reshape(3, 4), expected, atol=1e-9)
        np.testing.assert_allclose(tum[row, 1:4], expected[:, 3], atol=1e-9)
        x, y, z, w = tum[row, 4:]
        forward = [2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)]  # third column of the rotation
        np.testing.assert_allclose(forward, expected[:, 2], atol=1e-9)


def test_a_scene_of_one_frame(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=1)
    run(workspace, ExportOptions(to=("tum", "kitti")))
    assert len((workspace.root / "export/kitti/poses.txt").read_text().split()) == 12
    assert (workspace.root / "export/kitti/times.txt").read_text() == "2.000000000\n"
