"""The verb render: paths, times, sizes, what is written beside the video, and what is refused."""

import json

import av
import numpy as np
import pytest
from fabricated import fabricate

from recon4d.cli import main
from recon4d.errors import InputError, OptionsError, WorkspaceError
from recon4d.fill.open_pixels import closed
from recon4d.fill.path_base import path_base
from recon4d.progress import Silent
from recon4d.render.splatting import NOTHING, Rendered
from recon4d.scene.depth import Provenance
from recon4d.stages.render import RenderOptions, check_options, read_size, run_verb
from recon4d.stages.render_paths import chosen_path, moments
from recon4d.workspace import Workspace


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return fabricate(tmp_path_factory.mktemp("scene") / "scene", frames=5, ball_moves=True)


def pictures(path):
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_the_command_writes_a_video_of_the_wanted_size(scene, tmp_path, capsys):
    out = tmp_path / "novel.mp4"
    words = ["render", str(scene.root), "--path", "circle", "--frames", "4", "--time", "freeze", "--size", "96x64"]
    assert main([*words, "--save", "depth,alpha,pictures", "--fps", "8", "--out", str(out)]) == 0
    shown = pictures(out)
    assert len(shown) == 4
    assert shown[0].shape == (64, 96, 3)
    assert str(out) in capsys.readouterr().out
    for name in ("novel_depth.mp4", "novel_alpha.mp4"):
        assert len(pictures(tmp_path / name)) == 4
    numbers = np.load(tmp_path / "novel" / "000003.npz")
    assert numbers["depth"].shape == (64, 96)
    assert (numbers["alpha"] == 1).all()  # holes are closed, and said to be
    assert set(np.unique(numbers["provenance"])) <= {int(item) for item in Provenance}


def test_without_a_name_the_video_lies_in_the_scene(scene):
    written = run_verb(scene, RenderOptions(frames=2, path="dolly", time="freeze"), Silent())
    assert written == [str(scene.root / "render" / "dolly.mp4")]
    with pytest.raises(OptionsError, match="is there already"):
        run_verb(scene, RenderOptions(frames=2, path="dolly", overwrite=False), Silent())


def test_an_amplitude_of_0_shows_the_recorded_picture(scene, tmp_path):
    name = scene.trajectory().names[2]
    options = RenderOptions(
        path="line", amplitude=0.0, time="freeze", at=name, frames=2, save=("pictures",), out=tmp_path / "a.mp4"
    )
    run_verb(scene, options, Silent())
    from recon4d.formats.pictures import read_rgb

    shown = read_rgb(tmp_path / "a" / "000001.png").astype(float)
    error = shown - scene.picture(name)
    assert 10 * np.log10(255**2 / (error**2).mean()) > 30


def test_frames_alone_leave_holes_open(scene, tmp_path):
    options = RenderOptions(
        path="line", amplitude=0.6, time="freeze", frames=3, fill="frames", donors=1, out=tmp_path / "b.mp4"
    )
    run_verb(scene, RenderOptions(**{**vars(options), "save": ("pictures",)}), Silent())
    alpha = np.load(tmp_path / "b" / "000002.npz")["alpha"]
    assert (alpha < 0.5).mean() > 0.02


@pytest.mark.parametrize(("stereo", "width"), [("side-by-side", 128), ("half-side-by-side", 64), ("anaglyph", 64)])
def test_pictures_for_two_eyes(scene, tmp_path, stereo, width):
    out = tmp_path / "eyes.mp4"
    run_verb(scene, RenderOptions(frames=1, time="freeze", stereo=stereo, fill="frames", out=out), Silent())
    assert pictures(out)[0].shape == (48, width, 3)


def test_the_recorded_trajectory_as_a_file_gives_the_recorded_cameras(scene, tmp_path):
    from recon4d.formats.trajectories import write_tum

    trajectory = scene.trajectory()
    file = tmp_path / "way.tum"
    write_tum(file, trajectory.timestamps_s, trajectory.cam_from_world.inverse())
    path = chosen_path(scene, RenderOptions(path=str(file), coordinates="scene")).path
    np.testing.assert_allclose(path.centres, trajectory.centres, atol=0.03)  # five even pictures; uneven times
    np.testing.assert_allclose(path.centres[[0, -1]], trajectory.centres[[0, -1]], atol=1e-6)
    moved = scene.scene().delivered_from_scene().apply_to_pose(trajectory.cam_from_world)
    write_tum(file, trajectory.timestamps_s, moved.inverse())
    same = chosen_path(scene, RenderOptions(path=str(file))).path
    np.testing.assert_allclose(same.centres, path.centres, atol=1e-6)


def test_moments_by_hand(scene):
    trajectory = scene.trajectory()
    np.testing.assert_allclose(moments(trajectory, RenderOptions(frames=3), 2), [0, 2, 4])
    np.testing.assert_allclose(moments(trajectory, RenderOptions(frames=2, time="freeze"), 1), [1, 1])
    slow = moments(trajectory, RenderOptions(time="slowmo", slow=2.0), 2)
    np.testing.assert_allclose(slow, np.arange(9) / 2)
    np.testing.assert_allclose(
        moments(trajectory, RenderOptions(time="slowmo", slow=4.0, frames=5), 2), 2 + np.arange(5) / 4
    )


def test_a_line_goes_from_one_recorded_camera_to_another(scene):
    names, centres = scene.trajectory().names, scene.trajectory().centres
    options = RenderOptions(path="line", between=(names[1], names[4]), frames=7)
    chosen = chosen_path(scene, options)
    np.testing.assert_allclose(chosen.path.centres[[0, -1]], centres[[1, 4]], atol=1e-9)
    with pytest.raises(OptionsError, match="--between nobody is no frame"):
        chosen_path(scene, RenderOptions(path="line", between=(names[1], "nobody")))
    with pytest.raises(OptionsError, match="--between belongs to --path line"):
        chosen_path(scene, RenderOptions(between=(names[1], names[2])))


def test_a_far_amplitude_is_shrunk_and_said(scene):
    told = chosen_path(scene, RenderOptions(path="line", time="freeze", frames=8)).told
    assert len(told) == 1
    assert "distance to what it looks at" in told[0]
    assert chosen_path(scene, RenderOptions(path="line", time="freeze", frames=8, amplitude=0.5)).told == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "big"}, "--size is big, WIDTHxHEIGHT"),
        ({"size": "1x1"}, "--size is 1x1"),
        ({"fps": 0.0}, "--fps is 0"),
        ({"frames": 0}, "--frames is 0"),
        ({"amplitude": -1.0}, "--amplitude is -1"),
        ({"at": "nobody"}, "--at nobody is no frame"),
        ({"path": "sideways"}, "--path is sideways: one of orbit"),
        ({"offset": (1.0, 0.0, 0.0)}, "--offset belongs to --path follow"),
        ({"time": "slowmo", "frames": 1000}, "slow motion by 4"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(scene, options, message):
    with pytest.raises(OptionsError, match=message):
        run_verb(scene, RenderOptions(**options), Silent())


def test_a_name_that_is_no_video_is_refused(tmp_path):
    with pytest.raises(OptionsError, match=r"ends in \.mp4"):
        check_options(RenderOptions(out=tmp_path / "novel.avi"))
    assert read_size("1280x720") == (1280, 720)


def test_a_folder_that_is_not_there_is_named(scene, tmp_path):
    with pytest.raises(OptionsError, match="is not there: make it"):
        run_verb(scene, RenderOptions(frames=1, out=tmp_path / "no" / "a.mp4"), Silent())


def test_a_damaged_path_file_is_named(scene, tmp_path):
    file = tmp_path / "way.json"
    file.write_text(json.dumps({"poses": [{}]}))
    with pytest.raises(InputError, match=r"way\.json"):
        chosen_path(scene, RenderOptions(path=str(file)))


def test_a_scene_that_is_not_fused_says_what_to_run(tmp_path):
    with pytest.raises(WorkspaceError, match="fuse"):
        run_verb(Workspace.create(tmp_path / "empty"), RenderOptions(), Silent())


# -- open pixels ---------------------------------------------------------------------------------------------------


def test_open_pixels_hang_between_the_others():
    alpha = np.ones((1, 5), np.float32)
    alpha[0, 1:4] = 0
    color = np.zeros((1, 5, 3), np.float32)
    color[0, 4] = 100
    depth = np.array([[1, 0, 0, 0, 0.5]], np.float32)
    origin = np.array([[0, NOTHING, NOTHING, NOTHING, 0]], np.uint8)
    result = closed(Rendered(color, alpha, depth, origin))
    np.testing.assert_allclose(result.color[0, :, 0], [0, 25, 50, 75, 100], atol=3)
    np.testing.assert_allclose(1 / result.depth[0], [1, 1.25, 1.5, 1.75, 2], atol=0.03)
    assert (result.alpha == 1).all()
    assert result.provenance.tolist() == [[0, 3, 3, 3, 0]]


def test_a_picture_of_nothing_stays_one():
    nothing = Rendered(np.zeros((2, 2, 3)), np.zeros((2, 2)), np.zeros((2, 2)), np.full((2, 2), NOTHING))
    assert closed(nothing) is nothing


def test_the_base_of_a_path_is_the_recorded_camera(scene):
    trajectory = scene.trajectory()
    base = path_base(trajectory, np.zeros(2), 1.0, reference=3)
    np.testing.assert_allclose(base.world_from_cam.translation[1], trajectory.centres[3])
