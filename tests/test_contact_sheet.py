"""Pictures for people: depth colours by hand, what an outside view must contain, and the sheet's cells."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fabricated import fabricate, fabricated_trajectory

from recon4d.errors import WorkspaceError
from recon4d.formats.pictures import read_rgb
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.transforms import Rigid3
from recon4d.view.cloud_view import _framed, spacing, view_cloud
from recon4d.view.contact_sheet import (
    COLUMN_HEAD,
    GAP,
    HEAD,
    MARGIN,
    cell_size,
    contact_sheet,
    static_picture,
    write_overview,
)
from recon4d.view.depth_colors import NO_DEPTH, colorize_depth, depth_range

TURBO = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]


def test_depth_colours_by_hand():
    # near 1, far 4: nearness (1/d - 1/4) / (3/4); d = 2 gives 1/3, which is colour 85.
    depth = np.array([[1.0, 2.0, 4.0], [0.5, 9.0, 2.0]], dtype=np.float32)
    valid = np.array([[True, True, True], [True, True, False]])
    colors = colorize_depth(depth, valid, 1.0, 4.0)
    np.testing.assert_array_equal(colors[0], TURBO[[255, 85, 0]])
    np.testing.assert_array_equal(colors[1], [TURBO[255], TURBO[0], NO_DEPTH])
    assert TURBO[255, 0] > TURBO[255, 2]  # near is red


def test_depth_range_ignores_stray_values_and_is_never_empty():
    samples = [np.linspace(1, 2, 1000), np.array([1e6])]
    near, far = depth_range(samples)
    assert near == pytest.approx(1.01, abs=2e-3)
    assert far == pytest.approx(1.99, abs=2e-3)
    assert depth_range([np.full(5, 3.0)]) == (3.0, pytest.approx(3.03))
    with pytest.raises(ValueError, match="no range"):
        colorize_depth(np.ones((1, 1)), np.ones((1, 1), dtype=bool), 2.0, 2.0)


def test_spacing_of_a_grid_is_its_step():
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(5), [0]), axis=-1).reshape(-1, 3) * 0.3
    inner = (np.abs(grid[:, :2] - 0.6) < 0.5).all(axis=1)
    np.testing.assert_allclose(spacing(grid)[inner], 0.3)
    np.testing.assert_array_equal(spacing(grid[:3]), 0)


def test_framed_view_holds_the_cameras_and_nearly_all_points():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(4000, 3)) * [4, 1, 2] + [7, 0, 0]
    centres = rng.normal(loc=(0, 0, -6), size=(5, 3))
    camera = Camera(400, 300, 360.0, 360.0, 200.0, 150.0)
    eye_from_world = _framed(Rigid3.identity(), camera, points, centres)
    np.testing.assert_array_equal(eye_from_world.rotation, np.eye(3))

    def inside(x: np.ndarray) -> np.ndarray:
        pixels = camera.project(eye_from_world @ x)
        return ((pixels >= 0) & (pixels <= [400, 300])).all(axis=1)

    assert inside(centres).all()
    assert 0.94 < inside(points).mean() < 0.9999  # tight: some stray points fall outside


def test_surfaces_seen_from_their_back_are_left_out():
    trajectory = fabricated_trajectory(3, 64, 48)
    rng = np.random.default_rng(0)
    wall = np.column_stack([rng.uniform(-2, 2, (20000, 2)), np.full(20000, 5.0)])
    curtain = wall - [0, 0, 3]  # between the cameras and the wall
    points = np.vstack([wall, curtain])
    colors = np.repeat([[0, 255, 0], [255, 0, 0]], 20000, axis=0)
    towards, away = [0, 0, -1.0], [0, 0, 1.0]

    def reddish(normal_of_curtain) -> float:
        normals = np.repeat([towards, normal_of_curtain], 20000, axis=0)
        picture = view_cloud(PointCloud(points, colors, normals), trajectory, (160, 120)).astype(int)
        return ((picture[..., 0] > 100) & (picture[..., 1] < 60)).mean()

    assert reddish(away) < 0.002
    assert reddish(towards) > 0.1
    assert reddish([0, 0, 0]) > 0.1  # no normal: drawn


def test_views_of_nothing_and_of_one_point_are_pictures():
    trajectory = fabricated_trajectory(1, 64, 48)
    for cloud in (PointCloud.concatenate([]), PointCloud([[0.0, 0, 4]], [[0, 255, 0]])):
        assert view_cloud(cloud, trajectory, (80, 60)).shape == (60, 80, 3)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return fabricate(tmp_path_factory.mktemp("sheet") / "clip", frames=5, width=128, height=96)


CELL = cell_size(Camera(128, 96, 100.0, 100.0, 64.0, 48.0))


def test_cells_keep_the_shape_and_area_of_pictures():
    assert CELL == (253, 190)
    assert cell_size(Camera(480, 640, 500.0, 500.0, 240.0, 320.0)) == (190, 253)


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    width, height = CELL
    top, left = HEAD + COLUMN_HEAD + row * (height + GAP), MARGIN + column * (width + GAP)
    return sheet[top : top + height, left : left + width]


def test_sheet_shows_the_frames_and_truth_with_one_scale(workspace, tmp_path):
    trajectory = workspace.trajectory()

    def truth(name: str) -> np.ndarray:  # another unit, and some of it not known
        depth = workspace.scene_depth(name).depth * 0.37
        depth[:10] = np.nan
        return depth

    contact_sheet(workspace, tmp_path / "sheet.png", count=3, truth=truth)
    sheet = read_rgb(tmp_path / "sheet.png")
    for row, name in enumerate((trajectory.names[0], trajectory.names[2], trajectory.names[4])):
        shown = cell(sheet, row, 0)[:150]  # above the tag
        expected = cv2.resize(workspace.picture(name), CELL)[:150]
        np.testing.assert_array_equal(shown, expected)
        depth, true = cell(sheet, row, 1).astype(int), cell(sheet, row, 2).astype(int)
        # Rows 40..160 hold wall and floor; cuts are drawn only into the first, hence the median.
        assert np.median(np.abs(depth[40:] - true[40:])) <= 3
        assert (true[:15] == NO_DEPTH).all()


def test_overview_leaves_two_pictures(workspace, tmp_path):
    pictures = write_overview(workspace, tmp_path / "out")
    assert [path.name for path in pictures] == ["contact_sheet.png", "static_cloud.png"]
    assert sorted((tmp_path / "out").iterdir()) == list(pictures)
    picture = read_rgb(tmp_path / "out/static_cloud.png")
    assert picture.shape == (800, 1280, 3)
    ball = (np.abs(picture.astype(int) - [206, 84, 62]) < 40).all(axis=2)
    assert 0.001 < ball.mean() < 0.2
    assert 200 < np.median(np.nonzero(ball)[0]) < 700
    np.testing.assert_array_equal(picture, static_picture(workspace.scene(), (1280, 800)))


def test_sheet_needs_the_fused_scene(tmp_path):
    workspace = fabricate(tmp_path / "clip", frames=1)
    (workspace.unit_dir("fuse") / "stage.json").unlink()
    with pytest.raises(WorkspaceError, match="fuse is not done"):
        contact_sheet(workspace, tmp_path / "sheet.png")
