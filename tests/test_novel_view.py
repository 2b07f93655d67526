"""A scene seen from where no camera was, at times between frames."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from fabricated import STILL, fabricate, is_ball, render

from recon4d.errors import WorkspaceError
from recon4d.scene.scene_flow import SceneFlow
from recon4d.scene.transforms import Rigid3
from recon4d.stages.novel_view import Moment, NovelViews, filled_layers


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return fabricate(tmp_path_factory.mktemp("scene") / "scene", frames=5)


@pytest.fixture(scope="module")
def moving_scene(tmp_path_factory):
    return fabricate(tmp_path_factory.mktemp("moving") / "scene", frames=5, ball_moves=True)


def test_moments_by_hand():
    assert Moment.at(1.25, 4) == Moment(1, 0.25)
    assert Moment.at(-3, 4) == Moment(0, 0.0)
    assert Moment.at(9, 4) == Moment(3, 0.0)
    assert Moment.at(3, 4) == Moment(3, 0.0)


def psnr(a, b, where):
    return -10 * np.log10((((a.astype(float) - b) / 255)[where] ** 2).mean())


def test_from_a_recorded_camera_the_scene_looks_as_recorded(scene):
    views = NovelViews(scene)
    for view in list(scene.trajectory())[1:4]:
        row = scene.trajectory().names.index(view.name)
        seen = views.render(row, view.cam_from_world, view.camera)
        assert psnr(seen.picture(), scene.picture(view.name), seen.alpha > 0.99) > 30
        assert (seen.alpha > 0.99).mean() > 0.98


def test_a_frame_that_is_left_out_comes_from_its_neighbours_and_better_than_from_one(scene):
    view = list(scene.trajectory())[2]
    left_out = frozenset([view.name])
    truth, depth = render(view)
    seen = NovelViews(scene, left_out=left_out).render(2, view.cam_from_world, view.camera)
    one = NovelViews(scene, donors=1, background=False, left_out=left_out).render(2, view.cam_from_world, view.camera)
    assert (seen.alpha < 0.5).mean() < 0.5 * (one.alpha < 0.5).mean()
    there = seen.alpha > 0.99
    assert np.median(np.abs(seen.depth[there] / depth[there] - 1)) < 2e-3
    assert psnr(seen.picture(), truth, there) > 18  # chequers of a few pixels: what resampling leaves of them


def test_what_moves_is_drawn_at_its_own_time_only(moving_scene):
    view = moving_scene.trajectory()[STILL]
    row = moving_scene.trajectory().names.index(STILL)
    views = NovelViews(moving_scene, background=False)
    still = views.render(row, view.cam_from_world, view.camera)  # in this frame the ball stands still: it is static
    ball = is_ball(view, render(view)[1])
    assert (still.alpha[ball] > 0.9).mean() > 0.9
    without = NovelViews(moving_scene, background=False, left_out=frozenset([STILL]))
    gone = without.render(row, view.cam_from_world, view.camera)
    wall = gone.depth[ball & (gone.alpha > 0.5)]
    assert len(wall) == 0 or np.median(wall) > 1.2 * np.median(render(view)[1][ball])


def test_between_two_frames_what_moves_is_on_its_way_from_both(moving_scene, monkeypatch):
    view = list(moving_scene.trajectory())[3]
    views = NovelViews(moving_scene, background=False)
    step = np.array([0.4, 0.0, 0.0], dtype=np.float32)
    shape = (*view.camera.shape, 3)
    flow = SceneFlow(np.broadcast_to(step, shape), np.broadcast_to(-step, shape))
    monkeypatch.setattr(type(moving_scene), "scene_flow", lambda self, name: flow)
    first, after = views._moving(Moment(3, 0.25))
    own, other = views._moving(Moment(3, 0.0))[0], views._moving(Moment(4, 0.0))[0]
    np.testing.assert_allclose(first.points, own.points + 0.25 * step, atol=1e-6)
    np.testing.assert_allclose(after.points, other.points - 0.75 * step, atol=1e-6)
    np.testing.assert_allclose([first.weight[0], after.weight[0]], [0.75, 0.25])
    unknown = SceneFlow(np.full(shape, np.nan), np.full(shape, np.nan))
    monkeypatch.setattr(type(moving_scene), "scene_flow", lambda self, name: unknown)
    assert [len(part) for part in views._moving(Moment(3, 0.25))] == [0, 0]


def test_a_camera_that_looks_away_sees_only_the_background(scene):
    view = next(iter(scene.trajectory()))
    about = Rigid3(np.diag([-1.0, 1.0, -1.0]), np.zeros(3)) @ view.cam_from_world
    seen = NovelViews(scene, background=False).render(0, about, view.camera)
    assert seen.alpha.max() == 0


def test_layers_on_the_disk_are_used_while_they_are_of_this_scene(tmp_path):
    from recon4d.formats.layer_files import read_layers, write_layers
    from recon4d.progress import Silent
    from recon4d.stages.layers import LayersOptions, run_verb

    workspace = fabricate(tmp_path / "scene", frames=3)
    run_verb(workspace, LayersOptions(), Silent())
    name = workspace.trajectory().names[1]
    file = workspace.unit_dir("layers") / f"{name}.npz"
    kept = read_layers(file)
    first = replace(kept.layers[0], color=np.full_like(kept.layers[0].color, 9))
    write_layers(file, replace(kept, layers=(first, *kept.layers[1:])))
    assert (filled_layers(workspace)(name).layers[0].color == 9).all()
    record = workspace.record("fuse")
    (workspace.unit_dir("fuse") / "stage.json").write_text(json.dumps({**asdict(record), "key": "made anew"}))
    assert not (filled_layers(workspace)(name).layers[0].color == 9).all()


def test_several_threads_give_the_same_bytes(scene):
    from concurrent.futures import ThreadPoolExecutor

    view = list(scene.trajectory())[1]
    alone = NovelViews(scene).render(1, view.cam_from_world, view.camera)
    views = NovelViews(scene)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: views.render(1, view.cam_from_world, view.camera), range(8)))
    for seen in together:
        np.testing.assert_array_equal(seen.color, alone.color)
        np.testing.assert_array_equal(seen.alpha, alone.alpha)


def test_nothing_to_draw_from_is_said(scene):
    with pytest.raises(WorkspaceError, match="every frame is left out"):
        NovelViews(scene, left_out=frozenset(scene.trajectory().names))
