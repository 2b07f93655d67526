"""What the stage fuse writes of what moves, on a clip whose truth is known."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fabricated import fabricate
from true_scene import TRUTH_FROM_SCENE, Made, posed_scene, publish

from recon4d.formats.arrays import read_scene_flow, write_depth_mesh, write_motion
from recon4d.formats.ply import read_cloud
from recon4d.geometry.meshing import cut_silhouettes
from recon4d.motion.moving_layer import MovingLayer, reprojection_error
from recon4d.progress import Silent
from recon4d.scene.camera import Camera
from recon4d.scene.depth import Provenance, SceneDepth
from recon4d.scene.motion import FrameMotion
from recon4d.scene.scene_flow import SceneFlow
from recon4d.scene.trajectory import PoseOrigin, View
from recon4d.scene.transforms import Rigid3
from recon4d.stages.fuse import FuseOptions
from recon4d.stages.fuse_moving import COUNTS, FrameCount, _read_counts, _summary, _write_counts, write_moving
from recon4d.workspace import DONE_LIST, StagePart

SIZE, COUNT, UNIT = (160, 120), 10, TRUTH_FROM_SCENE.scale
CRATE = 1
FLICKER = 0.03  # of the depth of what moves, frame by frame
RIM = 2  # pixels by which masks are too wide


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("truth"), SIZE, COUNT)


def pixel_flow(made, k, other):
    """(H, W, 2) where each pixel's surface is seen in another frame, and whether it is seen there at all."""
    frame, camera = made.frames[k], made.scene.camera
    points = frame.cam_from_world.inverse() @ camera.unproject(frame.depth.astype(np.float64)).reshape(-1, 3)
    moved = points + (frame.flow_next if other > k else frame.flow_prev).reshape(-1, 3)
    in_cam = made.frames[other].cam_from_world @ moved
    found = camera.project(in_cam)
    x, y = np.nan_to_num(found, nan=-1).T
    inside = (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
    depth = made.frames[other].depth[np.where(inside, y, 0).astype(int), np.where(inside, x, 0).astype(int)]
    seen = inside & (np.abs(depth / in_cam[:, 2] - 1) < 0.03)
    grid = np.stack(np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5), axis=-1)
    flow = np.where(seen[:, None], found, np.nan).reshape(grid.shape) - grid
    return flow.astype(np.float32)


def widened(object_id):
    """Masks as they are found: too wide at the rim."""
    import cv2

    return cv2.dilate(object_id, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8))


@pytest.fixture(scope="module")
def gains():
    return np.random.default_rng(5).normal(0, FLICKER, COUNT)


@pytest.fixture(scope="module")
def scene(made, gains, tmp_path_factory):
    """True cameras and masks too wide; depth true but for a gain of everything that moves in each frame."""
    workspace = posed_scene(made, tmp_path_factory.mktemp("scene") / "scene")
    nothing = np.full((SIZE[1], SIZE[0], 2), np.nan)

    def mesh(folder):
        for frame, gain in zip(made.frames, gains):
            depth = frame.depth / UNIT * np.where(frame.object_id > 0, np.exp(gain), 1)
            surface = SceneDepth(depth, depth > 0, 0.03 * depth, np.zeros(depth.shape))
            write_depth_mesh(folder / f"{frame.name}.npz", cut_silhouettes(surface, made.scene.camera, 1.05, 5.0))

    def motion(folder):
        for k, frame in enumerate(made.frames):
            flow_next = pixel_flow(made, k, k + 1) if k + 1 < COUNT else nothing
            flow_prev = pixel_flow(made, k, k - 1) if k else nothing
            labels = widened(frame.object_id)
            write_motion(folder / f"{frame.name}.npz", FrameMotion(labels > 0, flow_next, flow_prev, labels))

    publish(workspace, "mesh", mesh)
    publish(workspace, "motion", motion)
    return workspace


@pytest.fixture(scope="module")
def fused(scene, tmp_path_factory):
    part = StagePart(tmp_path_factory.mktemp("fuse"), Silent())
    return part.path, write_moving(scene, scene.trajectory(), FuseOptions(), part)


def world_displacement(flow):
    """(..., 3) metres, axes of the truth's world."""
    return UNIT * flow @ TRUTH_FROM_SCENE.rotation.T


def test_what_stands_still_has_no_flow_and_the_ends_of_the_clip_no_neighbour(made, fused):
    for k, frame in enumerate(made.frames):
        flow = read_scene_flow(fused[0] / "scene_flow" / f"{frame.name}.npz")
        moving = widened(frame.object_id) > 0
        for displacement, at_end in ((flow.next, k == COUNT - 1), (flow.prev, k == 0)):
            assert (displacement[~moving] == 0).all()
            assert np.isfinite(displacement[moving]).all() != at_end


def test_scene_flow_is_that_of_the_objects_although_their_depth_flickers(made, fused, gains):
    errors, naive = [], []
    for frame, gain, after in zip(made.frames[:-1], gains, gains[1:]):
        own = frame.object_id > 0
        flow = read_scene_flow(fused[0] / "scene_flow" / f"{frame.name}.npz").next
        errors.append(np.linalg.norm(world_displacement(flow) - frame.flow_next, axis=-1)[own])
        naive.append(np.abs(np.exp(after) - np.exp(gain)) * frame.depth[own])
    assert np.concatenate(errors).mean() < 0.02
    assert np.concatenate(errors).mean() < 0.35 * np.concatenate(naive).mean()


def test_flow_back_is_the_flow_of_the_frame_before(made, fused):
    """Of the crate, which is rigid: the same motion, the other way round."""
    for before, frame in pairwise(made.frames):
        there = read_scene_flow(fused[0] / "scene_flow" / f"{before.name}.npz").next[before.object_id == CRATE]
        back = read_scene_flow(fused[0] / "scene_flow" / f"{frame.name}.npz").prev[frame.object_id == CRATE]
        if len(there) and len(back):
            np.testing.assert_allclose(there.mean(axis=0), -back.mean(axis=0), atol=0.01)


def test_moving_points_are_steadied_and_not_held_back(made, fused, gains):
    """Gains of each frame's points over the truth: much steadier than those of the depth that went in."""
    found = []
    for frame, view in zip(made.frames, made.trajectory):
        cloud = read_cloud(fused[0] / "moving" / f"{frame.name}.ply")
        in_cam = view.cam_from_world @ cloud.points.astype(np.float64)
        x, y = np.floor(view.camera.project(in_cam)).astype(int).T
        ratio = np.log(UNIT * in_cam[:, 2] / frame.depth[y, x])
        found.append(np.median(ratio[(cloud.object_id == CRATE) & (frame.object_id[y, x] == CRATE)]))
    assert np.abs(np.diff(found, 2)).mean() < 0.3 * np.abs(np.diff(gains, 2)).mean()


def test_floaters_at_wide_masks_are_left_out(made, fused):
    """The rim of the masks holds background: where it lies well behind the object it gives no points."""
    from scipy.ndimage import distance_transform_edt

    outside = offered = 0
    for frame, view in zip(made.frames, made.trajectory):
        own = frame.object_id > 0
        nearest = distance_transform_edt(~own, return_distances=False, return_indices=True)
        behind = ~own & (frame.depth > 1.1 * frame.depth[tuple(nearest)])
        cloud = read_cloud(fused[0] / "moving" / f"{frame.name}.ply")
        x, y = np.floor(view.camera.project(view.cam_from_world @ cloud.points.astype(np.float64))).astype(int).T
        outside += behind[y, x].sum()
        offered += (behind & (widened(frame.object_id) > 0)).sum()
    assert offered > 500
    assert outside < 0.1 * offered


def test_objects_tell_where_they_are(made, scene, fused):
    entries = {e["id"]: e for e in json.loads((fused[0] / "objects.json").read_text())["objects"]}
    crate = entries[CRATE]
    assert crate["rigid"]
    assert crate["residual_px"] < 0.3
    pixels = {n: int((scene.motion(n).object_id == CRATE).sum()) for n in crate["names"]}
    assert crate["pixels"] == list(pixels.values())
    poses = dict(zip(crate["names"], crate["world_from_object"]))
    best = max(pixels, key=pixels.get)
    np.testing.assert_allclose(np.array(poses[best])[:3, :3], np.eye(3), atol=1e-9)
    # The points of a frame, carried by the pose track, are moved as its scene flow says.
    for name, after in pairwise(crate["names"]):
        cloud = read_cloud(fused[0] / "moving" / f"{name}.ply")
        points = cloud.points[cloud.object_id == CRATE].astype(np.float64)
        motion = np.array(poses[after]) @ np.linalg.inv(poses[name])
        moved = points @ motion[:3, :3].T + motion[:3, 3] - points
        flow = read_scene_flow(fused[0] / "scene_flow" / f"{name}.npz").next[scene.motion(name).object_id == CRATE]
        np.testing.assert_allclose(moved.mean(axis=0), flow.mean(axis=0), atol=2e-3)
    length = sum(
        np.linalg.norm(np.array(poses[b])[:3, 3] - np.array(poses[a])[:3, 3]) for a, b in pairwise(crate["names"])
    )
    assert crate["path_length"] == pytest.approx(length)
    assert crate["path_length_m"] is None


def test_moved_points_are_seen_where_the_flow_finds_them(fused):
    assert fused[1]["flow_error_px"] < 0.3


def test_error_of_reprojection_by_hand():
    """One pixel, 2 in front, moved 0.1 to the right: 10 px at a focal length of 200, where the flow says 7."""
    camera = Camera(4, 3, 200.0, 200.0, 2.0, 1.5)
    view = View("0", 0.0, Rigid3.identity(), camera, PoseOrigin.MEASURED)
    depth, flow = np.zeros((3, 4)), np.zeros((3, 4, 3))
    depth[1, 1], flow[1, 1] = 2.0, [0.1, 0.0, 0.0]
    layer = MovingLayer(depth, depth > 5, depth, SceneFlow(flow, flow), 0)
    found = reprojection_error(layer, view, view, np.full((3, 4, 2), [7.0, 0.0]))
    np.testing.assert_allclose(found, [3.0], atol=1e-6)


def test_points_carry_what_they_are(fused, made):
    clouds = [read_cloud(fused[0] / "moving" / f"{frame.name}.ply") for frame in made.frames]
    assert sum(map(len, clouds)) == fused[1]["moving_points"] > 1000
    for cloud in clouds:
        assert (cloud.object_id > 0).all()
        assert ((cloud.confidence > 0) & (cloud.confidence <= 1)).all()
        assert set(np.unique(cloud.provenance)) <= {Provenance.MEASURED, Provenance.OTHER_FRAME}


def test_at_most_so_many_points_and_the_same_twice(scene, fused, tmp_path):
    part = StagePart(tmp_path, Silent())
    write_moving(scene, scene.trajectory(), FuseOptions(max_frame_points=200), part)
    name = scene.trajectory().names[4]
    assert 0 < len(read_cloud(tmp_path / "moving" / f"{name}.ply")) <= 200
    again = (tmp_path / "scene_flow" / f"{name}.npz").read_bytes()
    assert again == (fused[0] / "scene_flow" / f"{name}.npz").read_bytes()


def test_counts_of_frames_with_any_name_come_back(tmp_path):
    part = StagePart(tmp_path, Silent())
    (tmp_path / "moving").mkdir()
    assert _read_counts(part) == {}
    counts = [FrameCount('a,1 "b"', 10, 3, 0.25), FrameCount("ö;2", 4, 0, 0.75), FrameCount("name", 6, 2, np.nan)]
    _write_counts(part, counts)
    back = _read_counts(part)
    assert list(back) == ['a,1 "b"', "ö;2", "name"]
    assert back['a,1 "b"'] == counts[0]
    assert np.isnan(back["name"].flow_error_px)
    assert _summary(list(back.values())) == {"moving_points": 20, "moving_dropped": 5, "flow_error_px": 0.5}


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t[:-3],
        lambda t: t[: t.rindex(",")],
        lambda t: t + "000009,1",
        lambda t: t + '"\0\xff,\n',
        lambda t: "",
    ],
)
def test_a_damaged_table_of_counts_costs_only_the_frames_it_lost(scene, fused, tmp_path, damage):
    """As after a kill or on a full disk: everything is marked done, the table is not whole."""
    for folder in ("moving", "scene_flow"):
        shutil.copytree(fused[0] / folder, tmp_path / folder)
    shutil.copy(fused[0] / DONE_LIST, tmp_path)
    before = (tmp_path / COUNTS).read_text(encoding="utf-8")
    (tmp_path / COUNTS).write_text(damage(before), encoding="utf-8")
    assert write_moving(scene, scene.trajectory(), FuseOptions(), StagePart(tmp_path, Silent())) == fused[1]
    if not damage(before).startswith(before):  # else no frame was lost, and nothing is to be written
        assert (tmp_path / COUNTS).read_text(encoding="utf-8") == before


def test_a_frame_with_a_comma_in_its_name(tmp_path):
    workspace = fabricate(tmp_path / "scene")
    (workspace.unit_dir("align") / "scale.json").write_text(json.dumps({"metres_per_unit": None}))
    names = workspace.trajectory().names
    renamed = replace(workspace.trajectory(), names=("a,1", *names[1:]))
    for unit, ending in (("motion", "npz"), ("mesh", "npz"), ("poses/images", "jpg")):
        folder = workspace.unit_dir(unit)
        (folder / f"{names[0]}.{ending}").rename(folder / f"a,1.{ending}")
    for _ in range(2):  # the second resumes
        part = StagePart(tmp_path / "part", Silent())
        assert write_moving(workspace, renamed, FuseOptions(), part)["moving_points"] == 0
    assert (part.path / COUNTS).read_text(encoding="utf-8").splitlines()[1] == '"a,1",0,0,nan'


def test_where_nothing_moves_there_are_no_points_and_no_flow(tmp_path):
    workspace = fabricate(tmp_path / "scene")
    (workspace.unit_dir("align") / "scale.json").write_text(json.dumps({"metres_per_unit": None}))
    (tmp_path / "part").mkdir()
    part = StagePart(tmp_path / "part", Silent())
    assert write_moving(workspace, workspace.trajectory(), FuseOptions(), part)["objects"] == 0
    for name in workspace.trajectory().names:
        assert len(read_cloud(part.path / "moving" / f"{name}.ply")) == 0
        flow = read_scene_flow(part.path / "scene_flow" / f"{name}.npz")
        assert (flow.next == 0).all()
        assert (flow.prev == 0).all()
    assert json.loads((part.path / "objects.json").read_text()) == {"objects": []}
