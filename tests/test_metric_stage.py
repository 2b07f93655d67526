"""All cues of a scene folder together: from options to the content of `scale.json`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from test_metric_marker import SIDE, draw, marker_pose, views
from true_scene import TRUTH_FROM_SCENE, Made, publish

from recon4d.errors import AlignmentError, InputError, OptionsError
from recon4d.formats.cameras_json import write_trajectory
from recon4d.formats.frames_table import write_frames_table
from recon4d.formats.gps import GpsFix, write_gps_table
from recon4d.formats.pictures import write_picture
from recon4d.scene.recording import Frame
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3
from recon4d.stages.metres import MetricDepth, MetricOptions, ScaleEvidence, check_metric_options, measure_scale
from recon4d.workspace import Workspace

METRES_PER_UNIT = TRUTH_FROM_SCENE.scale


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Made, Workspace]:
    root = tmp_path_factory.mktemp("metres")
    made = Made(root)
    return made, made.workspace(root / "scene")


@dataclass(frozen=True)
class Ground:
    normal: np.ndarray
    offset: float
    sigma: float


def measured(workspace: Workspace, trajectory: Trajectory, options: MetricOptions, **evidence):
    part = workspace.start("align", "metres")
    found = ScaleEvidence(workspace.scene_depth, **({"ground": None} | evidence))
    return measure_scale(workspace, trajectory, options, found, part), part.warnings


def test_picked_distances_give_the_true_scale(made):
    made, workspace = made
    a, b, c = (made.trajectory[name] for name in made.trajectory.names[:3])
    frame = made.frames[0]
    rows, columns = [12, 30], [10, 50]
    truth = [
        frame.depth[r, k] * np.array([*((np.array([k, r]) + 0.5 - [a.camera.cx, a.camera.cy]) / a.camera.fx), 1.0])
        for r, k in zip(rows, columns)
    ]
    metres = np.linalg.norm(truth[0] - truth[1])
    world = [a.cam_from_world.inverse() @ (point / METRES_PER_UNIT) for point in truth]
    pixels = [",".join(f"{v:.3f}" for v in a.camera.project(point)) for point in np.array(truth)]
    texts = [f"{a.name} {pixels[0]} {pixels[1]} {metres}"]
    joined = ["+".join(f"{v.name} {x:.3f},{y:.3f}" for v in (a, b, c) for x, y in [project(v, p)]) for p in world]
    texts.append(" ".join(",".join(f"{v:.6f}" for v in point) for point in world) + f" {metres}")
    for text in texts:
        options = MetricOptions(distance=(text,))
        check_metric_options(options)
        scale, warnings = measured(workspace, made.trajectory, options)
        assert warnings == []
        low, high = scale.interval_95
        assert low < METRES_PER_UNIT < high, text
        assert scale.metres_per_unit == pytest.approx(METRES_PER_UNIT, rel=0.1), text
    # Two pixels of 64 are a large error, and the three frames lie near each other.
    scale, warnings = measured(workspace, made.trajectory, MetricOptions(distance=(f"{joined[0]} {joined[1]} 3",)))
    assert scale.metres_per_unit is None
    assert "too uncertain for a scale" in warnings[0]


def project(view, point) -> tuple[float, float]:
    return tuple(view.camera.project(view.cam_from_world @ point))


def test_path_and_depth_and_height_agree_on_the_true_scale(made):
    made, workspace = made
    options = MetricOptions(camera_height=1.6)
    centres = made.trajectory.centres
    ground = Ground(np.array([0.0, 0, 1]), 1.6 / METRES_PER_UNIT - centres[:, 2].mean(), 0.01)
    depth = MetricDepth("kinect", np.full(7, -np.log(METRES_PER_UNIT)), True)
    scale, warnings = measured(workspace, made.trajectory, options, ground=ground, metric_depths=(depth,))
    assert warnings == []
    assert scale.metres_per_unit == pytest.approx(METRES_PER_UNIT, rel=1e-6)
    content = scale.as_json()
    assert content["source"] == "metric depth kinect, camera height 1.6 m"
    assert [cue["weight"] > 0.1 for cue in content["cues"]] == [True, True]


def test_a_metric_trajectory_gives_the_true_scale(made, tmp_path):
    made, workspace = made
    count = 30
    t = np.linspace(0, 3, count)
    centres = np.stack([np.cos(t), np.sin(t), 0.2 * np.sin(3 * t)], axis=1)
    lines = [f"{100 + time} {' '.join(map(str, 2.5 * c))} 0 0 0 1" for time, c in zip(t, centres)]
    (tmp_path / "robot.tum").write_text("\n".join(lines))
    trajectory = Trajectory(
        tuple(f"{k:06d}" for k in range(count)),
        t,
        Rigid3(np.broadcast_to(np.eye(3), (count, 3, 3)), -centres),
        (made.trajectory.cameras[0],) * count,
        (PoseOrigin.MEASURED,) * count,
    )
    options = MetricOptions(trajectory=tmp_path / "robot.tum", trajectory_offset_s=100.0)
    scale, _ = measured(workspace, trajectory, options)
    assert scale.metres_per_unit == pytest.approx(2.5, rel=1e-6)
    scale, warnings = measured(workspace, trajectory, replace(options, trajectory_offset_s=0.0))
    assert scale.metres_per_unit is None
    assert "frames: 0.000 to 3.000 s, trajectory: 100.000 to 103.000 s" in warnings[0]
    tripod = replace(trajectory, origin=(PoseOrigin.STATIC,) * count)
    depth = MetricDepth("kinect", np.zeros(0), True)
    scale, _ = measured(workspace, tripod, MetricOptions(), metric_depths=(depth,))
    assert (scale.metres_per_unit, scale.sigma) == (1.0, pytest.approx(0.01))  # no structure, so none that is bent


def scene_of(root: Path, trajectory: Trajectory, pictures, fixes: dict | None = None) -> Workspace:
    workspace = Workspace.create(root)

    def frames(folder: Path) -> None:
        rows = [Frame(n, k, f"{n}.jpg", float(k), 0) for k, n in enumerate(trajectory.names)]
        write_frames_table(folder / "frames.csv", rows)
        for name, picture in zip(trajectory.names, pictures):
            write_picture(folder / f"{name}.png", picture)
        if fixes:
            write_gps_table(folder / "gps.csv", fixes)

    def poses(folder: Path) -> None:
        (folder / "images").mkdir()
        write_trajectory(folder / "cameras.json", trajectory)
        for name, picture in zip(trajectory.names, pictures):
            write_picture(folder / "images" / f"{name}.png", picture)

    publish(workspace, "frames", frames)
    publish(workspace, "poses", poses)
    return workspace


def trajectory_of(cameras) -> Trajectory:
    poses = Rigid3(
        np.stack([v.cam_from_world.rotation for v in cameras]),
        np.stack([v.cam_from_world.translation for v in cameras]),
    )
    return Trajectory(
        tuple(v.name for v in cameras),
        np.array([v.timestamp_s for v in cameras]),
        poses,
        tuple(v.camera for v in cameras),
        tuple(v.origin for v in cameras),
    )


def test_a_marker_is_found_without_its_kind_and_contradictions_are_said(tmp_path):
    cameras = views(5)
    trajectory, rng = trajectory_of(cameras), np.random.default_rng(1)
    pictures = [draw(v, [(3, marker_pose([-0.3, 0, 0]), SIDE)], "5x5_50", rng) for v in cameras]
    colour = [np.repeat(picture[..., None], 3, axis=2) for picture in pictures]
    workspace = scene_of(tmp_path / "scene", trajectory, colour)
    options = MetricOptions(marker=0.10, baseline=("000000 000004 1.2",))
    scale, warnings = measured(workspace, trajectory, options)
    cues = {c.cue.name: c.cue for c in scale.contributions}
    assert cues["marker 0.1 m"].metres_per_unit == pytest.approx(0.1 / SIDE, rel=0.01)
    assert cues["marker 0.1 m"].detail.startswith("5x5_1000 number 3 in 5 frames")
    assert "the marker 0.1 m says 0.2 m per unit, the baseline 1.2 m" in warnings[0]

    none, warnings = measured(workspace, trajectory, replace(options, baseline=(), marker_dictionary="6x6_50"))
    assert none.metres_per_unit is None
    assert "no marker was found in 3 or more of 5 frames" in warnings[0]
    with pytest.raises(OptionsError, match="names the frame 'left'"):
        measured(workspace, trajectory, MetricOptions(distance=("left 1,2 3,4 1",)))
    with pytest.raises(OptionsError, match="fits no two frames"):
        measured(workspace, trajectory, MetricOptions(baseline=("left_* right_* 0.12",)))


def test_gps_of_photos_is_used_when_they_lie_far_apart(tmp_path):
    count = 8
    t = np.linspace(0, 5, count)
    centres = np.stack([10 * np.cos(t), np.zeros(count), 10 * np.sin(t)], axis=1)  # y down
    trajectory = Trajectory(
        tuple(f"p{k}" for k in range(count)),
        t,
        Rigid3(np.broadcast_to(np.eye(3), (count, 3, 3)), -centres),
        (views(1)[0].camera,) * count,
        (PoseOrigin.MEASURED,) * count,
    )
    fixes = {"left out": GpsFix(10.0, 10.0, None, None)}
    for name, (x, _, z) in zip(trajectory.names, 5 * centres):  # 5 m per unit, z to the north
        north, east = z / 111_133, x / (111_320 * np.cos(np.radians(45)))  # degrees at 45 degrees
        fixes[name] = GpsFix(45 + north, 7 + east, None, None)
    workspace = scene_of(tmp_path / "scene", trajectory, [np.zeros((6, 8, 3), np.uint8)] * count, fixes)
    scale, warnings = measured(workspace, trajectory, MetricOptions())
    assert warnings == []
    assert scale.as_json()["source"] == "GPS of the photos"
    assert scale.metres_per_unit == pytest.approx(5.0, rel=5e-3)
    assert measured(workspace, trajectory, MetricOptions(gps=False))[0].metres_per_unit is None
    near = replace(trajectory, cam_from_world=Rigid3(trajectory.cam_from_world.rotation, -0.01 * centres))
    assert measured(workspace, near, MetricOptions())[0].metres_per_unit == pytest.approx(500, rel=5e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (MetricOptions(marker=0.0), "--metric.marker is 0, more than 0"),
        (MetricOptions(marker=float("nan")), "--metric.marker is nan"),
        (MetricOptions(marker=0.1, marker_dictionary="qr"), "--metric.marker-dictionary is 'qr'"),
        (MetricOptions(camera_height=-1.0), "--metric.camera-height is -1"),
        (MetricOptions(camera_height_sigma=0.1), "needs --metric.camera-height"),
        (MetricOptions(distance=("a 1,2 0.5",)), "--metric.distance 'a 1,2 0.5'"),
        (MetricOptions(baseline=("a b",)), "--metric.baseline 'a b'"),
        (MetricOptions(trajectory_offset_s=float("inf")), "--metric.trajectory-offset-s"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_work(options, words):
    with pytest.raises(OptionsError, match=words) as refused:
        check_metric_options(options)
    assert str(refused.value).startswith("align: ")


def test_a_missing_or_broken_trajectory_is_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match=r"align: --metric.trajectory: .* was not found"):
        check_metric_options(MetricOptions(trajectory=tmp_path / "none.tum"))


def test_a_point_off_all_surfaces_and_a_missing_ground_are_said(made):
    made, workspace = made
    with pytest.raises(AlignmentError, match="lies on no surface"):
        measured(workspace, made.trajectory, MetricOptions(distance=("900,0,0 901,0,0 1",)))
    scale, warnings = measured(workspace, made.trajectory, MetricOptions(camera_height=1.5))
    assert scale.metres_per_unit is None
    assert warnings[0].startswith("align: no ground was found, so --metric.camera-height is not used")
