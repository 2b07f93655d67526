"""The live viewer: what is drawn, by hand, and a running server."""

import html
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from fabricated import BALL, LEVELLED_FROM_SCENE, METRES_PER_UNIT, RADIUS, STILL, fabricate, render, write_unit

from recon4d.cli import main
from recon4d.errors import MissingDependency, OptionsError
from recon4d.formats.arrays import write_depth_map, write_depth_mesh, write_scene_flow
from recon4d.formats.cameras_json import write_trajectory
from recon4d.scene.depth import DepthKind, DepthMap, Provenance, SceneDepth
from recon4d.scene.scene_flow import SceneFlow
from recon4d.scene.transforms import Rigid3
from recon4d.stages.view import ViewOptions, address_of, free_port, run_view, start_view
from recon4d.view import live_builds as builds
from recon4d.view.live_cache import ByteCache, size_of
from recon4d.view.live_clock import FrameClock
from recon4d.view.live_colors import (
    FARTHER,
    MODES,
    NEARER,
    SAME,
    mode_of,
    modes_of,
    nice_limit,
    provenance_colors,
    signed_colors,
)
from recon4d.view.live_drawings import Points
from recon4d.view.live_layers import alternatives, layers_of, shown_at_first
from recon4d.view.live_nodes import Nodes, picture_distance
from recon4d.view.live_panel import about_markdown, plain
from recon4d.view.live_placed import median_fit, placed
from recon4d.view.live_scene import LiveScene, nearest_grid
from recon4d.view.live_wish import Wish
from recon4d.view.motion_page import object_color
from recon4d.view.origins import ORIGINS
from recon4d.workspace import StageRecord, Workspace

SIZE = 32, 24  # width, height: small enough that every test is quick
FRAMES = "000000", "000003", "000006", "000009"
REFINED = 1.02  # times the aligned depth


def complete(root, known=True, ball_moves=True, frames=4) -> Workspace:
    """A fabricated scene with all stages: raw disparity of unknown scale and shift, and refined depth 2 % farther."""
    workspace = fabricate(root, frames, *SIZE, known=known, ball_moves=ball_moves)
    trajectory = workspace.unrefined_trajectory()
    (workspace.unit_dir("align") / "scale.json").write_text(
        json.dumps({"metres_per_unit": METRES_PER_UNIT if known else None})
    )
    up = {
        "levelled_from_scene": LEVELLED_FROM_SCENE.matrix.tolist() if known else None,
        "ground": {} if known else None,
    }
    (workspace.unit_dir("align") / "world_up.json").write_text(json.dumps(up | {"ground": [1] if known else None}))
    add_raw(workspace, DepthKind.AFFINE_DISPARITY)

    def refine(folder):
        write_trajectory(folder / "cameras.json", trajectory)
        for name in trajectory.names:
            found = workspace.scene_depth(name)
            mesh = workspace.depth_mesh(name, "mesh")
            surface = SceneDepth(REFINED * found.depth, found.valid, 0.5 * found.sigma, np.zeros(found.depth.shape))
            write_depth_mesh(folder / f"{name}.npz", replace(mesh, surface=surface))

    write_unit(workspace, "refine", refine)
    (workspace.unit_dir("fuse") / "scene_flow").mkdir()
    for name in trajectory.names:
        flow = np.zeros((*SIZE[::-1], 3))
        flow[workspace.motion(name).mask] = [0.5, 0.0, 0.0]
        write_scene_flow(workspace.unit_dir("fuse") / f"scene_flow/{name}.npz", SceneFlow(flow, flow))
    tell_more(workspace)
    return workspace


SUMMARIES = {
    "poses": {"registered": 4, "frames": 4, "source": "import"},
    "align": {"frames": 4, "residual_median": None, "metres_per_unit": None},
    "motion": {"frames": 4, "objects": 0},
    "mesh": {"frames": 4},
    "refine": {"refined": 0, "frames": 4, "why_not": "this is a test"},
}


def tell_more(workspace) -> None:
    """Give the records of a fabricated scene the numbers that real ones have; refine is of the others."""
    for unit, summary in SUMMARIES.items():
        path = workspace.unit_dir(unit) / "stage.json"
        if path.exists():
            inputs = {"poses": "key of poses", "mesh": "key of mesh"} if unit == "refine" else {}
            path.write_text(json.dumps(json.loads(path.read_text()) | {"summary": summary, "inputs": inputs}))


def add_raw(workspace, kind, source="model", scale=(3.0, 0.25), confidence=0.25):
    """A depth source whose numbers are ``scale`` of the true depth in its own kind, at half the picture's size."""
    part = workspace.start(f"depth/{source}", source)
    for view in workspace.unrefined_trajectory():
        z = render(view)[1][::2, ::2]
        values = ((1 / z if kind.is_disparity else z) - scale[1] * kind.has_shift) / scale[0]
        shape = z.shape
        depth = DepthMap(kind, values, np.ones(shape), np.full(shape, confidence), np.full(shape, Provenance.COMPLETED))
        write_depth_map(part.path / f"{view.name}.npz", depth)
    workspace.publish(part, StageRecord(f"depth/{source}", 1, source, {}, {}, {"kind": kind.value, "frames": 4}))


def only_poses(root) -> Workspace:
    """A scene in which the line has come no farther than poses."""
    whole = fabricate(root / "whole", 4, *SIZE)
    workspace = Workspace.create(root / "half")
    whole.unit_dir("poses").rename(workspace.unit_dir("poses"))
    tell_more(workspace)
    return workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return complete(tmp_path_factory.mktemp("live") / "scene")


@pytest.fixture
def scene(workspace) -> LiveScene:
    return LiveScene(workspace, 10_000)


def wish(frame=FRAMES[0], **fields) -> Wish:
    return Wish(frame, **fields)


def true_points(scene, name, depth_times=1.0) -> np.ndarray:
    """(H * W, 3) what a frame sees, levelled metres, by the formulas of the fabricated scene alone."""
    view = scene.workspace.unrefined_trajectory()[name]
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    camera, pose = view.camera, view.cam_from_world
    z = depth_times * render(view)[1]
    in_cam = np.stack([(x - camera.cx) / camera.fx * z, (y - camera.cy) / camera.fy * z, z], axis=-1).reshape(-1, 3)
    in_world = (in_cam - pose.translation) @ pose.rotation
    return METRES_PER_UNIT * np.stack([in_world[:, 0], in_world[:, 2], 1 - in_world[:, 1]], axis=-1)


# -- clouds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FRAMES)
def test_the_aligned_cloud_is_in_levelled_metres_with_the_colours_of_the_picture(scene, name):
    cloud = builds.frame_cloud(scene, "align", name, "picture", 10_000)
    np.testing.assert_allclose(cloud.points, true_points(scene, name), atol=1e-4)
    np.testing.assert_array_equal(cloud.colors, scene.workspace.picture(name).reshape(-1, 3))
    assert cloud.points[:, 2].min() == pytest.approx(0.0, abs=1e-4)  # the floor


def test_before_and_after_are_the_same_pixels(scene):
    before, after = (builds.frame_cloud(scene, stage, FRAMES[1], "picture", 100) for stage in ("align", "refine"))
    assert len(before.points) == len(after.points) == 100
    np.testing.assert_array_equal(before.colors, after.colors)
    centre = scene.shown(scene.trajectory[FRAMES[1]].cam_from_world.inverse().translation)
    np.testing.assert_allclose(after.points - centre, REFINED * (before.points - centre), rtol=1e-4, atol=1e-5)


def test_raw_disparity_is_placed_by_median_and_spread(scene):
    found = scene.depth("raw/model", FRAMES[0])
    truth = scene.depth("align", FRAMES[0]).depth
    # The source halves the picture: between its pixels, at silhouettes, it is another surface.
    error = np.abs(found.depth / truth - 1)[found.valid]
    assert np.median(error) < 0.01
    assert found.valid.all()


def test_thinning_keeps_a_fixed_choice_of_true_points(scene):
    cloud, again = (builds.frame_cloud(scene, "align", FRAMES[0], "picture", 50) for _ in range(2))
    np.testing.assert_array_equal(cloud.points, again.points)
    whole = {tuple(np.round(point, 3)) for point in true_points(scene, FRAMES[0])}
    assert len({tuple(np.round(point, 3)) for point in cloud.points.astype(float)} & whole) == 50


def test_frames_at_once_share_the_points_and_keep_the_others(scene):
    one = builds.depth_cloud("align")(scene, wish(FRAMES[1]))
    three = builds.depth_cloud("align")(scene, wish(FRAMES[1], together=3))
    assert len(one.points) == SIZE[0] * SIZE[1]
    assert len(three.points) == 3 * len(one.points)
    np.testing.assert_allclose(three.points[: len(one.points)], true_points(scene, FRAMES[1]), atol=1e-4)
    np.testing.assert_allclose(three.points[-len(one.points) :], true_points(scene, FRAMES[3]), atol=1e-4)
    small = LiveScene(scene.workspace, 1000)
    assert len(builds.depth_cloud("align")(small, wish(FRAMES[1], together=3)).points) == 3 * 333


def test_frames_together_are_spread_over_the_clip():
    names = tuple("abcdefghi")
    assert builds.frames_together(names, "c", 1) == ["c"]
    assert builds.frames_together(names, "c", 4) == ["c", "a", "e", "i"]
    assert builds.frames_together(names, "a", 4) == ["a", "e", "i"]
    assert builds.frames_together(("a",), "a", 4) == ["a"]


# -- colours -----------------------------------------------------------------------------------------------------------


def test_provenance_has_the_colours_of_its_legend(scene):
    cloud = builds.frame_cloud(scene, "align", FRAMES[0], "provenance", 10_000)
    np.testing.assert_array_equal(np.unique(cloud.colors, axis=0), [ORIGINS[Provenance.FITTED][1]])
    refined = builds.frame_cloud(scene, "refine", FRAMES[0], "provenance", 10_000)
    np.testing.assert_array_equal(np.unique(refined.colors, axis=0), [ORIGINS[Provenance.MEASURED][1]])
    raw = builds.frame_cloud(scene, "raw/model", FRAMES[0], "provenance", 10_000)
    np.testing.assert_array_equal(np.unique(raw.colors, axis=0), [ORIGINS[Provenance.COMPLETED][1]])
    legend = mode_of("provenance").legend(scene)
    for _, color in ORIGINS.values():
        assert f"rgb{color}" in legend
    assert len({color for _, color in ORIGINS.values()}) == len(Provenance)
    np.testing.assert_array_equal(provenance_colors(np.array([4, 0])), [ORIGINS[4][1], ORIGINS[0][1]])


def test_what_refine_did_is_red_where_farther(scene):
    colors = builds.frame_cloud(scene, "align", FRAMES[0], "difference", 10_000).colors
    np.testing.assert_array_equal(np.unique(colors, axis=0), [FARTHER])  # 2 % farther is the end of the scale
    assert "2 % farther" in mode_of("difference").legend(scene)
    np.testing.assert_array_equal(signed_colors(np.array([-1, 0, 1])), [NEARER, SAME, FARTHER])


def test_objects_have_their_colour_in_the_cloud_and_in_what_moves(scene):
    name = FRAMES[0]
    mask = scene.workspace.motion(name).mask
    assert mask.any()
    cloud = builds.frame_cloud(scene, "align", name, "objects", 10_000)
    inside = cloud.colors[mask.ravel()].astype(float)
    wanted = np.array(object_color(1))
    picture = scene.workspace.picture(name)[mask]
    tinted = np.abs(inside - (0.55 * picture + 0.45 * wanted)).max(axis=1) <= 1
    outline = (inside == wanted).all(axis=1)
    assert (tinted | outline).all()
    moving = builds.moving_cloud(scene, wish(name, colors="objects"))
    np.testing.assert_array_equal(np.unique(moving.colors, axis=0), [wanted])
    from_ball = np.linalg.norm(moving.points - scene.shown(BALL), axis=1)
    np.testing.assert_allclose(from_ball, METRES_PER_UNIT * RADIUS, atol=0.01)


def test_moving_probability_and_confidence_are_dark_and_bright(scene):
    mask = scene.workspace.motion(FRAMES[0]).mask
    moving = mode_of("moving").grid(scene, "align", FRAMES[0]).astype(int).sum(axis=-1)
    assert moving[mask].min() > moving[~mask].max()
    confidence = mode_of("confidence").grid(scene, "raw/model", FRAMES[0])
    assert confidence.shape == (*SIZE[::-1], 3)
    assert len(np.unique(confidence.reshape(-1, 3), axis=0)) == 1  # it is 0.25 everywhere


def test_every_mode_colours_every_stage_and_the_picture(scene):
    for mode in MODES:
        for stage in ("raw/model", "align", "refine"):
            colors = mode.grid(scene, stage, FRAMES[0])
            assert colors.shape == (*SIZE[::-1], 3), mode.key
            assert colors.dtype == np.uint8, mode.key
        assert "http" not in mode.legend(scene)


@pytest.mark.parametrize(
    ("number", "limit"), [(0.012, 0.02), (0.02, 0.02), (0.021, 0.05), (0.6, 1.0), (7.0, 10.0), (0.0, 1.0)]
)
def test_ranges_end_at_round_numbers(number, limit):
    assert nice_limit(number) == pytest.approx(limit)


# -- other layers ------------------------------------------------------------------------------------------------------


def test_sparse_points_and_cameras_are_in_levelled_metres(scene):
    sparse = builds.sparse_points(scene, wish())
    order = np.argsort(sparse.points[:, 0])
    # x from -1 to 1, y from -0.5 to 0.4, z = 6 in scene units; levelled metres are 2 * (x, z, 1 - y).
    np.testing.assert_allclose(sparse.points[order[0]], [-2.0, 12.0, 3.0], atol=1e-4)
    np.testing.assert_allclose(sparse.points[order[-1]], [2.0, 12.0, 1.2], atol=1e-4)
    np.testing.assert_array_equal(np.sort(sparse.colors[:, 0]), 10 * np.arange(7))
    camera = builds.camera_now(scene, wish(FRAMES[2])).frusta[0]
    np.testing.assert_allclose(camera.position, [2 * 0.0, 2 * 0.2, 2 * 1.2], atol=1e-6)  # centre (0, -0.2, 0.2)
    w, x, y, z = camera.quat_wxyz
    ahead = [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)]
    forward = scene.trajectory[FRAMES[2]].cam_from_world.rotation[2]
    np.testing.assert_allclose(ahead, [forward[0], forward[2], -forward[1]], atol=1e-6)
    assert np.tan(camera.fov_rad / 2) == pytest.approx(12 / (0.8 * 32))
    assert camera.picture.shape == (72, 96, 3)


def test_the_path_joins_the_cameras_in_order(scene):
    path = builds.camera_path(scene, wish()).ends
    assert path.shape == (3, 2, 3)
    np.testing.assert_array_equal(path[1:, 0], path[:-1, 1])
    np.testing.assert_allclose(path[0, 0], [2 * -0.5, 0.0, 2 * 1.2], atol=1e-6)


def test_flow_arrows_stand_on_what_moves_and_point_to_the_next_frame(scene):
    arrows = builds.scene_flow(scene, wish(FRAMES[0])).ends
    assert len(arrows) == scene.workspace.motion(FRAMES[0]).mask.sum()
    np.testing.assert_allclose(arrows[:, 1] - arrows[:, 0], [[2 * 0.5, 0, 0]] * len(arrows), atol=1e-4)
    assert len(builds.scene_flow(scene, wish(STILL)).ends) == 0


def test_a_frame_in_which_nothing_moves_has_no_moving_points(scene):
    assert len(builds.moving_cloud(scene, wish(STILL)).points) == 0


def test_the_mesh_has_the_colour_of_each_corners_pixel(scene):
    mesh = builds.frame_mesh(scene, wish(FRAMES[0]))
    points, picture = true_points(scene, FRAMES[0], REFINED), scene.workspace.picture(FRAMES[0]).reshape(-1, 3)
    nearest = np.linalg.norm(mesh.vertices[:, None] - points[None], axis=-1)
    assert nearest.min(axis=1).max() < 1e-3
    np.testing.assert_array_equal(mesh.colors, picture[nearest.argmin(axis=1)])
    assert builds.frame_mesh(scene, wish(FRAMES[0], wire=True)).wire


def test_the_grid_lies_on_the_floor_in_round_squares(scene, tmp_path):
    grid = builds.floor_grid(scene, wish())
    assert grid.centre[2] == 0.0
    assert grid.square in (1.0, 2.0)  # the room is about 12 m deep
    unknown = LiveScene(complete(tmp_path / "scene", known=False), 1000)
    assert unknown.unit == "units"
    assert not unknown.floor[1]
    lowest = unknown.shown(unknown.sparse().points)[:, 2].min()
    assert unknown.floor[0] == pytest.approx(lowest, abs=0.1)


# -- what is there and what is not -------------------------------------------------------------------------------------


def why_missing(scene) -> dict[str, str]:
    return {layer.key: why for layer in layers_of(scene) if (why := layer.missing(scene)) is not None}


def test_a_complete_scene_misses_nothing_but_changed_cameras(scene):
    assert why_missing(scene) == {"before": "refine changed no camera"}
    assert set(modes_of(scene)) == {mode.key for mode in MODES}


def test_a_scene_with_only_poses_shows_cameras_and_points(tmp_path):
    scene = LiveScene(only_poses(tmp_path), 1000)
    missing = why_missing(scene)
    there = {layer.key for layer in layers_of(scene)} - set(missing)
    assert there == {"sparse", "path", "cameras", "camera", "grid"}
    assert missing["align"] == "the stage align is not done"
    assert missing["refine"] == "the stage align is not done"
    assert shown_at_first(there) == {"path", "camera", "grid", "sparse"}
    assert set(modes_of(scene)) == {"picture"}
    for layer in layers_of(scene):
        if layer.key in there:
            layer.build(scene, wish())
    # Up of the cameras: none of them is below the floor they stand on.
    assert builds.camera_path(scene, wish()).ends[..., 2].min() > scene.floor[0]


def test_raw_depth_of_no_distances_waits_for_align_and_others_do_not(tmp_path):
    workspace = only_poses(tmp_path)
    add_raw(workspace, DepthKind.SCALE_FREE_Z, "vague")
    add_raw(workspace, DepthKind.SCENE_Z, "exact", (1.0, 0.0))
    scene = LiveScene(workspace, 1000)
    assert set(scene.sources) == {"vague", "exact"}
    missing = why_missing(scene)
    assert "scale_free_z has no place" in missing["raw/vague"]
    assert "raw/exact" not in missing
    z = scene.depth("raw/exact", FRAMES[0]).depth
    assert np.median(np.abs(z / render(scene.trajectory[FRAMES[0]])[1] - 1)) < 0.01
    assert [layer.label for layer in layers_of(scene)][:2] == ["Raw: exact", "Raw: vague"]
    assert LiveScene(workspace, 1000, "vague").sources == ["vague"]


def test_cameras_that_refine_moved_are_shown_beside_the_old_ones(tmp_path):
    workspace = complete(tmp_path / "scene")
    old = workspace.unrefined_trajectory()
    moved = replace(
        old, cam_from_world=Rigid3(old.cam_from_world.rotation, old.cam_from_world.translation + np.array([0.1, 0, 0]))
    )
    write_trajectory(workspace.unit_dir("refine") / "cameras.json", moved)
    scene = LiveScene(workspace, 1000)
    assert "before" not in why_missing(scene)
    now, before = (build(scene, wish()).frusta[0].position for build in (builds.cameras, builds.cameras_before))
    assert np.linalg.norm(now - before) == pytest.approx(METRES_PER_UNIT * 0.1)


def test_refined_depth_of_older_poses_is_not_shown(tmp_path):
    workspace = complete(tmp_path / "scene")
    record = workspace.unit_dir("refine") / "stage.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"inputs": {"mesh": "another key"}}))
    missing = why_missing(LiveScene(workspace, 1000))
    assert "older results" in missing["refine"]
    assert "align" not in missing


def test_one_frame_is_enough(tmp_path):
    scene = LiveScene(complete(tmp_path / "scene", frames=1), 1000)
    assert why_missing(scene)["path"] == "there is one frame"
    for layer in layers_of(scene):
        if layer.missing(scene) is None:
            layer.build(scene, wish())


def test_what_is_shown_first_is_the_best_there_is():
    base = {"path", "camera", "grid"}
    everything = ["sparse", "path", "camera", "grid", "raw/a", "align", "refine", "static", "moving"]
    assert shown_at_first(everything) == base | {"static", "moving"}
    assert shown_at_first(everything[:-2]) == base | {"refine"}
    assert shown_at_first(everything[:5]) == base | {"raw/a"}


# -- parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (DepthKind.SCENE_Z, lambda z: z),
        (DepthKind.METRIC_Z, lambda z: 2 * z),
        (DepthKind.SCALE_FREE_Z, lambda z: 7 * z),
        (DepthKind.AFFINE_Z, lambda z: (z - 5) / 3),
        (DepthKind.SCALE_FREE_DISPARITY, lambda z: 9 / z),
        (DepthKind.AFFINE_DISPARITY, lambda z: (1 / z + 0.3) * 4),
    ],
)
def test_raw_depth_of_every_kind_comes_to_its_place(kind, values):
    z = np.linspace(1, 5, 48).reshape(6, 8)
    aligned = SceneDepth(z, np.ones(z.shape), z, np.zeros(z.shape))
    valid = np.ones(z.shape, dtype=bool)
    valid[0, 0] = False
    found, there = placed(kind, values(z), valid, aligned, metres_per_unit=2.0)
    np.testing.assert_allclose(found[valid], z[valid], rtol=1e-5)
    np.testing.assert_array_equal(there, valid)
    nowhere, there = placed(kind, values(z), np.zeros_like(valid), aligned, 2.0)
    assert not there.any()
    assert not nowhere.any()


def test_what_an_inverse_scale_puts_beyond_reason_is_left_out():
    z = np.linspace(1, 5, 48).reshape(6, 8)
    values = 1 / z
    values[0, :2] = [0.01, -0.5]  # 100 times as far as the nearest, and behind the camera
    aligned = SceneDepth(z, np.ones(z.shape), z, np.zeros(z.shape))
    _, there = placed(DepthKind.SCALE_FREE_DISPARITY, values, np.ones(z.shape, dtype=bool), aligned, None)
    assert not there[0, :2].any()
    assert there.sum() == z.size - 2


def test_median_fit_by_hand():
    d = np.array([0.0, 1.0, 2.0, 3.0, 10.0])
    assert median_fit(d, 2 * d + 5, True) == pytest.approx((2.0, 5.0))
    assert median_fit(np.array([1.0, 2, 4]), np.array([3.0, 6, 100]), False) == (3.0, 0.0)


def test_grids_of_kinds_are_resized_by_the_nearest_pixel():
    small = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    np.testing.assert_array_equal(nearest_grid(small, (4, 4)), [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])


def test_the_clock_follows_the_true_times():
    clock = FrameClock(np.array([5.0, 5.1, 5.4, 5.5]))  # ends at 5.6: the median frame lasts 0.1 s
    assert clock.frame(100.0) == 0
    clock.play(100.0)
    assert [clock.frame(100.0 + t) for t in (0.05, 0.1, 0.39, 0.4, 0.55)] == [0, 1, 1, 2, 3]
    assert clock.frame(100.62) == 0  # begins anew
    assert clock.wait_s(100.15) == pytest.approx(0.25)
    clock.set_speed(0.5, 100.2)
    assert clock.frame(100.55) == 1
    assert clock.frame(100.65) == 2
    clock.pause(100.65)
    assert clock.frame(900.0) == 2
    clock.seek(3, 901.0)
    assert clock.frame(902.0) == 3
    assert FrameClock(np.array([2.0])).frame(7.0) == 0


def test_the_cache_forgets_what_was_not_asked_for_the_longest():
    cache = ByteCache(1000)
    made = []

    def make(name, size=400):
        made.append(name)
        return np.zeros(size, dtype=np.uint8)

    for name in "abaca":
        cache.get(name, lambda: make(name))  # noqa: B023
    assert made == ["a", "b", "c"]  # b went, a had been asked for again
    assert "a" in cache
    assert "b" not in cache
    assert cache.size_bytes == 800
    cache.get("large", lambda: make("large", 5000))
    assert cache.size_bytes == 5000
    assert size_of(Points(np.zeros((10, 3), np.float32), np.zeros((10, 3), np.uint8), 1.0)) > 150


# -- the server --------------------------------------------------------------------------------------------------------


@pytest.fixture
def view(workspace):
    pytest.importorskip("viser")
    live = start_view(workspace, ViewOptions(port=0))
    yield live
    live.stop()


def first_message(port: int) -> bytes:
    """What the server sends to a browser that comes to it."""
    import viser
    from websockets.sync.client import connect

    protocol = f"viser-v{viser.__version__}"
    with connect(f"ws://127.0.0.1:{port}", subprotocols=[protocol], max_size=None) as browser:
        return browser.recv(timeout=20)


def test_the_server_serves_its_page_and_the_scene_to_two_browsers(view):
    wanted = view.wait_until_shown()
    port = view.server.get_port()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=20) as answer:
        page = answer.read()
    assert b"<!doctype html>" in page[:100].lower()
    assert wanted.layers == {"path", "camera", "grid", "static", "moving"}
    found = [None, None]
    browsers = [threading.Thread(target=lambda k=k: found.__setitem__(k, first_message(port))) for k in (0, 1)]
    for browser in browsers:
        browser.start()
    for browser in browsers:
        browser.join(timeout=30)
    assert all(message and len(message) > 100 for message in found)


def test_moving_the_slider_sends_only_what_has_changed(view):
    view.wait_until_shown()
    static, camera = view.nodes.handles("static")[0], view.nodes.handles("camera")[0]
    before = view.server.scene.get_handle_by_name("/moving").points.copy()
    view.show_frame(2)
    assert view.wait_until_shown().frame == FRAMES[2]
    assert view.nodes.handles("static")[0] is static
    assert view.nodes.handles("camera")[0] is not camera
    after = view.server.scene.get_handle_by_name("/moving").points
    assert before.shape != after.shape or np.abs(before - after).max() > 1e-3
    np.testing.assert_array_equal(after, view.scene.shown(view.scene.workspace.moving_cloud(FRAMES[2]).points))
    assert FRAMES[2] in view.panel.status.content


def test_show_only_leaves_no_other_surface_that_would_look_the_same(view):
    view.wait_until_shown()
    choices = alternatives(view.panel.layers.values())
    assert list(choices) == ["Raw", "Aligned", "Refined", "Fused"]
    for key in ("static mesh", "mesh", "flow"):
        view.panel.boxes[key].value = True
    extras = {"path", "camera", "grid", "flow"}
    for label, keys in {"Aligned": {"align"}, "Refined": {"refine"}, "Fused": {"static", "moving"}}.items():
        view.panel.show_only(choices[label])
        assert view.wait_until_shown().layers == keys | extras, label
    for key in ("align", "refine", "mesh", "static mesh"):
        assert not any(handle.visible for handle in view.nodes.handles(key)), key
    assert all(handle.visible for handle in view.nodes.handles("static"))


def test_a_camera_that_is_followed_hides_nothing_with_its_picture(view):
    view.wait_until_shown()
    view.panel.boxes["cameras"].value = True
    assert view.nodes.handles("camera")[0].visible
    view.panel.follow.value = True
    view.show_frame(2)
    view.wait_until_shown()
    assert not view.nodes.handles("camera")[0].visible
    assert not view.nodes.handles("cameras")[2].visible
    view.panel.follow.value = False
    view.wait_until_shown()
    view.show_frame(3)
    view.wait_until_shown()
    assert view.nodes.handles("camera")[0].visible
    assert all(handle.visible for handle in view.nodes.handles("cameras"))


def test_cameras_make_way_for_an_eye_in_them(view):
    drawing = builds.camera_now(view.scene, wish())
    one, nodes = drawing.frusta[0], Nodes(view.server)
    reach = picture_distance(one, drawing.size)
    height = np.tan(one.fov_rad / 2) * reach
    # Viser scales the pyramid so that a quarter of its volume is the size cubed.
    assert (2 * height) * (2 * height * one.aspect) * reach / 3 == pytest.approx(4 * drawing.size**3)
    nodes.make_way([one.position])
    nodes.show("probe", drawing, 1.0)
    handle, far = nodes.handles("probe")[0], one.position + np.array([0, 0, 50.0])
    assert not handle.visible  # not even for a moment
    for away, visible in ((1.1, True), (0.9, False), (0.0, False), (2.0, True)):
        nodes.make_way([far, one.position + np.array([away * reach, 0, 0])])
        assert handle.visible is visible
    nodes.hide("probe")
    nodes.make_way([])
    assert not handle.visible  # it is not asked for


def test_an_empty_frame_takes_the_points_away_and_the_next_brings_them_back(view):
    view.wait_until_shown()
    view.show_frame(1)  # nothing moves
    view.wait_until_shown()
    assert view.server.scene.get_handle_by_name("/moving") is None
    view.show_frame(0)
    view.wait_until_shown()
    assert view.server.scene.get_handle_by_name("/moving").visible


def test_playing_goes_on_by_itself(view):
    view.wait_until_shown()
    view.panel.speed.value = "4"
    view.toggle_play()
    seen = set()
    for _ in range(400):
        seen.add(view.panel.frame)
        if len(seen) == 4:
            break
        threading.Event().wait(0.02)
    view.toggle_play()
    assert seen == {0, 1, 2, 3}
    assert view.failure is None


def test_a_damaged_frame_is_told_and_the_rest_goes_on(tmp_path):
    pytest.importorskip("viser")
    workspace = complete(tmp_path / "scene")
    (workspace.unit_dir("fuse") / f"moving/{FRAMES[3]}.ply").write_bytes(b"nothing")
    live = start_view(workspace, ViewOptions(port=0))
    try:
        live.show_frame(3)
        live.wait_until_shown()
        assert "damaged" in live.panel.status.content
        live.show_frame(0)
        live.wait_until_shown()
        assert "damaged" not in live.panel.status.content
    finally:
        live.stop()


def test_no_browser_can_have_the_page_lent_to_the_internet(view):
    assert view.server.request_share_url() is None


def test_names_and_errors_are_shown_as_they_are_and_not_run(view):
    nasty = "<img src=x onerror=alert(1)> *a* _b_ [c](d) `e` &amp; 1. #f"
    marked = plain(nasty)
    assert not set(marked) & set("<>*_[]()`.=")
    assert html.unescape(marked) == nasty
    view.wait_until_shown()
    view.panel.tell(view.panel.wish, nasty)
    assert marked in view.panel.status.content
    about = about_markdown(view.scene, [nasty], [nasty])
    assert about.count(f"- {marked}") == 2
    assert "<" not in about


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_scene_with_nothing_to_show_says_what_to_run(tmp_path, capsys):
    Workspace.create(tmp_path / "empty")
    assert main(["view", str(tmp_path / "empty")]) == 1
    said = capsys.readouterr().err
    assert "nothing to show yet" in said
    assert "recon4d run --out" in said


def test_an_unknown_source_names_the_known_ones(workspace, capsys):
    assert main(["view", str(workspace.root), "--source", "other"]) == 1
    assert "there is model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--max-points", "0"], ["--port", "70000"], ["--port", "-1"], ["--host", "no.such.host.invalid"]]
)
def test_options_out_of_range_are_one_sentence_with_the_flag_as_typed(workspace, words, capsys):
    assert main(["view", str(workspace.root), *words]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"recon4d: view: {words[0]} ")
    assert said.count("\n") == 1


def test_without_viser_the_extra_is_named(workspace, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(MissingDependency, match=r"recon4d\[viewer\]"):
        start_view(workspace, ViewOptions(port=0))


def test_a_port_in_use_is_refused_by_name_and_passed_over_by_default(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OptionsError, match=f"port {port} cannot be had"):
            free_port("127.0.0.1", port)
        monkeypatch.setattr("recon4d.stages.view.DEFAULT_PORT", port)
        assert port < free_port("127.0.0.1", None) < port + 100


def test_addresses_can_be_typed_into_a_browser():
    assert address_of("127.0.0.1", 8080) == "http://127.0.0.1:8080"
    assert address_of("0.0.0.0", 8081) == "http://127.0.0.1:8081"
    assert address_of("::1", 8080) == "http://[::1]:8080"


def said_until_served(workspace, options) -> list[str]:
    """What the command prints until it has told its address; then comes Ctrl-C."""
    said = []

    def say(text):
        said.append(text)
        if text.startswith("recon4d view:"):
            raise KeyboardInterrupt

    run_view(workspace, options, {}, say)
    return said


def test_an_open_address_is_said_to_be_open(workspace):
    pytest.importorskip("viser")
    said = said_until_served(workspace, ViewOptions(host="0.0.0.0", port=0))
    assert len(said) == 2
    assert "everyone who can reach" in said[0]
    assert said_until_served(workspace, ViewOptions(port=0))[0].startswith("recon4d view: http://127.0.0.1:")


def test_another_port_than_usual_is_told(workspace, monkeypatch):
    pytest.importorskip("viser")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("recon4d.stages.view.DEFAULT_PORT", taken.getsockname()[1])
        said = said_until_served(workspace, ViewOptions())
    assert "is taken" in said[0]
    assert len(said) == 2


def test_ctrl_c_ends_it_with_exit_code_0(workspace):
    pytest.importorskip("viser")
    command = [sys.executable, "-m", "recon4d", "view", str(workspace.root), "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stdout.readline().startswith("recon4d view: http://127.0.0.1:")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 0
    assert "Traceback" not in err
    assert out == ""
