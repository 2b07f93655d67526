"""The verb interpolate on a fabricated scene."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from recon4d.errors import OptionsError, WorkspaceError
from recon4d.formats.arrays import write_scene_flow
from recon4d.formats.pictures import read_rgb
from recon4d.formats.scene_json import SCENE_FLOW, read_scene
from recon4d.formats.trajectories import read_tum
from recon4d.progress import Silent
from recon4d.scene.scene_flow import SceneFlow
from recon4d.scene.trajectory import PoseOrigin, View
from recon4d.stages.interpolate import InterpolateOptions, Moment, denser, moments, run_verb, view_between
from tests.fabricated import fabricate, fabricated_trajectory, render


def scene_with_flow(root, frames=3, ball_moves=False, push=0.0):
    """A scene whose moving pixels have a flow of ``push`` along x; at the ends it is not known."""
    workspace = fabricate(root, frames=frames, ball_moves=ball_moves)
    folder = workspace.unit_dir("fuse") / "scene_flow"
    folder.mkdir()
    names = workspace.trajectory().names
    for row, name in enumerate(names):
        mask = workspace.motion(name).mask[..., None]
        ahead = np.where(mask, np.float32([push, 0, 0]), 0)
        last, first = row + 1 == len(names), row == 0
        write_scene_flow(
            workspace.unit_dir("fuse") / SCENE_FLOW.format(name=name),
            SceneFlow(np.where(mask & last, np.nan, ahead), np.where(mask & first, np.nan, -ahead)),
        )
    return workspace


def test_static_scene_from_a_moving_camera(tmp_path):
    workspace = scene_with_flow(tmp_path / "scene")
    run_verb(workspace, InterpolateOptions(factor=2, pictures="png"), Silent())
    folder, trajectory = workspace.unit_dir("interpolate"), workspace.trajectory()
    first, second = trajectory.names[:2]
    middle = view_between(trajectory, Moment("m", first, second, 0.5))
    truth = render(middle)[0].astype(float)
    made = read_rgb(folder / "pictures" / f"{first}_01.png").astype(float)
    average = (workspace.picture(first).astype(float) + workspace.picture(second)) / 2
    error, of_average = (np.median(np.abs(p - truth)[4:-4, 8:-8]) for p in (made, average))
    assert error < 3
    assert error < 0.5 * of_average
    assert np.abs(made - truth).mean() < 0.6 * np.abs(average - truth).mean()


def test_recorded_moments_are_the_recorded_pictures(tmp_path):
    workspace = scene_with_flow(tmp_path / "scene")
    lines = run_verb(workspace, InterpolateOptions(factor=3), Silent())
    folder = workspace.unit_dir("interpolate")
    for name in workspace.trajectory().names:
        source = workspace.picture_path(name)
        assert (folder / "pictures" / source.name).read_bytes() == source.read_bytes()
    assert "7 moments from 3 frames" in lines[0]
    rows = json.loads((folder / "moments.json").read_text())["moments"]
    assert [row["share"] for row in rows] == pytest.approx([0, 1 / 3, 2 / 3, 0, 1 / 3, 2 / 3, 0])
    assert len(list((folder / "pictures").iterdir())) == 7


def test_result_opens_as_a_scene(tmp_path):
    workspace = scene_with_flow(tmp_path / "scene", ball_moves=True, push=0.4)
    run_verb(workspace, InterpolateOptions(factor=4), Silent())
    folder = workspace.unit_dir("interpolate")
    scene, recorded = read_scene(folder / "scene.json"), workspace.trajectory()
    assert len(scene.names) == 9
    assert len(scene.static) == len(workspace.static_cloud())
    assert scene.fps == pytest.approx(4 * workspace.scene().fps, rel=0.05)
    name = recorded.names[0]
    assert scene.trajectory[f"{name}_01"].origin is PoseOrigin.INTERPOLATED
    assert scene.trajectory[name].origin is PoseOrigin.MEASURED
    # In frame 1 nothing moves: the points of frame 0 go on, all of them, by a quarter of their flow.
    made, before = scene.moving(f"{name}_01"), workspace.moving_cloud(name)
    assert np.allclose(made.points - before.points, [0.1, 0, 0], atol=1e-4)  # stored as float16
    assert len(scene.moving(recorded.names[1])) == 0
    times, world_from_cam = read_tum(folder / "trajectory.tum")
    assert np.allclose(times, scene.timestamps_s)
    assert np.allclose(world_from_cam.translation, scene.trajectory.centres)


def test_second_run_is_up_to_date_and_video_plays(tmp_path):
    import av

    workspace = scene_with_flow(tmp_path / "scene", frames=2)
    options = InterpolateOptions(factor=2, slowmo=2.0, pictures="none", clouds=False)
    run_verb(workspace, options, Silent())
    folder = workspace.unit_dir("interpolate")
    stamp = (folder / "interpolated.mp4").stat().st_mtime_ns
    with av.open(str(folder / "interpolated.mp4")) as container:
        stream = container.streams.video[0]
        assert len(list(container.decode(stream))) == 3
        assert float(stream.average_rate) == pytest.approx(workspace.scene().fps, rel=0.05)  # twice as many, half speed
    run_verb(workspace, options, Silent())
    assert (folder / "interpolated.mp4").stat().st_mtime_ns == stamp
    assert not (folder / "pictures").exists()
    assert not (folder / "scene.json").exists()


def test_camera_between_by_hand():
    trajectory = fabricated_trajectory(2, 64, 48)
    made = view_between(trajectory, Moment("m", *trajectory.names, 0.25))
    centre = made.cam_from_world.inverse().translation
    assert np.allclose(centre, 0.75 * trajectory.centres[0] + 0.25 * trajectory.centres[1])
    turn = made.cam_from_world.rotation @ trajectory.cam_from_world.rotation[0].T
    assert np.arccos((np.trace(turn) - 1) / 2) == pytest.approx(0.25 * 0.08, abs=1e-6)
    assert isinstance(made, View)
    assert made.timestamp_s == pytest.approx(2.0 + 0.25 * 0.11)


def test_no_moments_in_a_long_gap():
    trajectory = fabricated_trajectory(5, 64, 48)
    times = trajectory.timestamps_s.copy()
    times[3:] += 5
    wanted = moments(replace(trajectory, timestamps_s=times), 2)
    assert [m.name for m in wanted if m.second] == [f"{trajectory.names[i]}_01" for i in (0, 1, 3)]
    assert len(denser(trajectory, moments(trajectory, 2))) == 9


@pytest.mark.parametrize("wrong", [{"factor": 1}, {"factor": 65}, {"slowmo": 0.0}, {"pictures": "gif"}])
def test_wrong_options(tmp_path, wrong):
    with pytest.raises(OptionsError, match=next(iter(wrong))):
        InterpolateOptions(**wrong).check()


def test_nothing_left_to_write():
    with pytest.raises(OptionsError, match="nothing is left"):
        InterpolateOptions(video=False, clouds=False, pictures="none").check()


def test_one_frame_is_refused(tmp_path):
    workspace = scene_with_flow(tmp_path / "scene", frames=1)
    with pytest.raises(WorkspaceError, match="2 are needed"):
        run_verb(workspace, InterpolateOptions(), Silent())
