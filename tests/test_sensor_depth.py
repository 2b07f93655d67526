"""RGB-D recordings through the stages frames and depth."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import rgbd_recordings as made
from PIL import Image

from recon4d.errors import DepthError, InputError, OptionsError
from recon4d.formats.pictures import read_rgb
from recon4d.formats.rgbd import RgbdCalibration, SensorPicture
from recon4d.formats.sensor_depth import read_cameras, read_sensor_picture, write_cameras
from recon4d.pipeline import source_key
from recon4d.poses.imports import match_to_frames, read_import
from recon4d.progress import Silent
from recon4d.scene.camera import Camera
from recon4d.scene.depth import DepthKind, Provenance
from recon4d.scene.transforms import Rigid3
from recon4d.stages import depth, frames, poses
from recon4d.stages.common import content_hash
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.depth_sensor import depth_in_picture
from recon4d.stages.frames import FramesOptions
from recon4d.stages.poses import PosesOptions
from recon4d.stages.poses_sfm import SfmSteps
from recon4d.workspace import Workspace

SENSOR = DepthOptions(source="sensor")


def framed(source, scene, **options):
    workspace = Workspace.create(scene)
    return workspace, frames.run(workspace, FramesOptions(**options), source)


def with_depth(source, scene, camera="40,40,16,12", **options):
    workspace, _ = framed(source, scene, **options)
    poses.run(workspace, PosesOptions(source="static", camera=camera))
    return workspace, depth.run(workspace, SENSOR)[0]


def test_tum_frames_have_true_times_and_those_without_depth_are_left_out(tmp_path):
    workspace, record = framed(made.write_tum(tmp_path / "desk"), tmp_path / "scene")
    recording = workspace.recording()
    assert recording.names == ("100.000000", "100.100000", "100.300000")
    np.testing.assert_allclose(recording.timestamps_s, [0.0, 0.1, 0.3], atol=1e-9)
    assert record.summary["without_depth"] == 1
    assert record.summary["source_frames"] == 4
    assert record.warnings == ["1 of 4 frames have no depth picture and are left out (such as 100.200000)"]
    seen = read_sensor_picture(workspace.unit_dir("frames") / "sensor_depth", "100.300000")
    np.testing.assert_allclose(seen.metres, made.metres(3), atol=1e-4)
    np.testing.assert_array_equal(read_rgb(recording.pictures[1]), np.asarray(made.colour(1)))


def test_registered_depth_is_handed_on_with_its_holes(tmp_path):
    workspace, record = with_depth(made.write_tum(tmp_path / "desk"), tmp_path / "scene")
    assert (record.summary["kind"], record.summary["sensor"]) == ("metric_z", True)
    assert record.summary["without_depth"] == pytest.approx(16 / (24 * 32), abs=1e-4)
    found = workspace.depth_map("100.100000", "sensor")
    np.testing.assert_array_equal(found.valid, made.metres(1) > 0)
    np.testing.assert_allclose(found.values[found.valid], 2.01, atol=1e-4)
    assert (found.provenance[found.valid] == Provenance.MEASURED).all()
    assert (found.confidence == found.valid).all()


def test_scannet_depth_is_moved_to_the_colour_camera(tmp_path):
    """0.1 m at 2 m and 40 px: two pixels to the left."""
    workspace, record = with_depth(made.write_scannet(tmp_path / "rec"), tmp_path / "scene")
    found = workspace.depth_map("0", "sensor")
    np.testing.assert_allclose(found.values[:, :30], made.metres(0)[:, 2:], atol=1e-6)
    assert not found.valid[:, 30:].any()
    assert record.summary["remarks"] == [
        "depth is brought to the colour camera (intrinsic/intrinsic_color.txt and intrinsic/intrinsic_depth.txt)"
    ]


def test_smaller_frames_bring_their_calibration_along(tmp_path):
    workspace, _ = framed(made.write_folder(tmp_path / "rec"), tmp_path / "scene", max_size=16)
    folder = workspace.unit_dir("frames")
    assert json.loads((folder / "calibration.json").read_text()) == {"focal_px": 20.0, "source": "calibration.json"}
    cameras = read_cameras(folder / "sensor_depth")
    assert (cameras.color.width, cameras.color.fx, cameras.color.cx) == (16, 20.0, 8.0)
    assert (cameras.depth.width, cameras.depth.fx) == (32, 40.0)
    assert read_rgb(folder / "000003.png").shape == (12, 16, 3)


def test_usual_options_choose_frames(tmp_path):
    folder = made.write_folder(tmp_path / "rec", tuple(range(8)))
    workspace, record = framed(folder, tmp_path / "scene", stride=3, start=0.1, sharpest=True)
    assert len(workspace.recording()) == 3
    assert record.summary["stride"] == 3
    with pytest.raises(OptionsError, match="one shot"):
        framed(folder, tmp_path / "other", shot=1)
    with pytest.raises(InputError, match=r"they end at 0\.70 s"):
        framed(folder, tmp_path / "another", start=5.0)


def test_record3d_keeps_the_sensors_grid_and_its_doubts(tmp_path):
    workspace, _ = with_depth(made.write_r3d(tmp_path / "a.r3d"), tmp_path / "scene")
    assert workspace.recording().names == ("000000", "000001", "000002")
    found = workspace.depth_map("000001", "sensor")
    assert found.values.shape == (12, 16)
    assert not found.valid[3, 4]
    np.testing.assert_allclose(found.confidence[0, :3], [0.25, 0.75, 1.0])
    assert not list(workspace.unit_dir("frames").glob(".*"))


@pytest.mark.parametrize("write", [made.write_tum, made.write_r3d, made.write_folder], ids=["tum", "r3d", "folder"])
def test_poses_of_the_recording_are_found_by_name(tmp_path, write):
    source = write(tmp_path / "recording.r3d")
    workspace, record = framed(source, tmp_path / "scene", stride=2)
    recording = workspace.recording()
    imported = read_import(source)
    rows = match_to_frames(imported, recording, record.summary["source_frames"], record.summary["source_fps"])
    assert rows.rule == "by name"
    assert [imported.names[rows.row_of[name]] for name in recording.names] == list(recording.names)


def test_poses_taken_line_by_line_are_warned_of(tmp_path):
    folder = made.write_folder(tmp_path / "rec")
    (folder / "poses.txt").write_text("".join(f"{50 + n} {n} 0 0 0 0 0 1\n" for n in range(3)))
    workspace, record = framed(folder, tmp_path / "scene")
    imported, said = read_import(folder), []
    matching = match_to_frames(imported, workspace.recording(), 3, record.summary["source_fps"])
    steps = SimpleNamespace(facts={}, part=SimpleNamespace(progress=Silent(), warn=said.append))
    SfmSteps.say_import(steps, imported, matching)
    assert len(said) == 1
    assert "the times in poses.txt are not those of the pictures" in said[0]


def test_turned_by_exif_stays_as_stored_because_depth_is(tmp_path):
    folder = made.write_folder(tmp_path / "rec")
    for file in (folder / "color").iterdir():
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(file).save(file, exif=exif)
    workspace, record = framed(folder, tmp_path / "scene")
    assert (record.summary["width"], record.summary["height"]) == (32, 24)
    np.testing.assert_array_equal(read_rgb(workspace.recording().pictures[0]), np.asarray(made.colour(0)))


def test_key_follows_depth_and_calibration_but_nothing_else_in_the_folder(tmp_path):
    folder = made.write_folder(tmp_path / "rec")
    before = source_key(folder)
    (folder / "notes.txt").write_text("a scene may lie here, too")
    assert source_key(folder) == before
    made.save_depth(folder / "depth" / "000003.png", 5)
    after = source_key(folder)
    assert after != before
    (folder / "calibration.json").write_text(json.dumps(made.calibration() | {"fps": 11}))
    assert source_key(folder) != after


def test_key_follows_the_name_of_a_folder_that_tells_the_lens(tmp_path):
    named = made.write_tum(tmp_path / "rgbd_dataset_freiburg1_desk")
    before = source_key(named)
    assert source_key(named.rename(tmp_path / "desk")) != before


def test_scene_inside_the_recording_does_not_change_what_is_imported_from_it(tmp_path):
    folder = made.write_folder(tmp_path / "rec")
    before = content_hash(folder)
    framed(folder, folder / "scene")
    assert content_hash(folder) == before
    (folder / "poses.txt").write_text("0 0 0 0 0 0 0 1\n")
    assert content_hash(folder) != before
    inside = content_hash(folder / "scene")  # a scene that is named itself does count
    (folder / "scene" / "frames" / "more").write_text("x")
    assert content_hash(folder / "scene") != inside


def test_frames_without_sensor_depth_say_what_to_give(tmp_path):
    folder = made.write_folder(tmp_path / "rec")
    workspace, _ = framed(folder / "color", tmp_path / "scene")
    poses.run(workspace, PosesOptions(source="static", camera="40,40,16,12"))
    with pytest.raises(DepthError, match="give recon4d run an RGB-D recording as INPUT"):
        depth.run(workspace, SENSOR)


def test_frame_in_which_the_sensor_saw_nothing_is_named(tmp_path):
    folder = made.write_folder(tmp_path / "rec")
    Image.fromarray(np.zeros((24, 32), dtype=np.uint16)).save(folder / "depth" / "000003.png")
    with pytest.raises(DepthError, match="saw nothing in frame 000003"):
        with_depth(folder, tmp_path / "scene")


def test_registered_depth_of_another_shape_than_its_picture_is_refused(tmp_path):
    folder = made.write_tum(tmp_path / "desk")
    for file in (folder / "depth").iterdir():
        Image.fromarray(np.full((32, 24), 5000, dtype=np.uint16)).save(file)
    with pytest.raises(InputError, match="depth of 24x32 and a picture of 32x24"):
        framed(folder, tmp_path / "scene")


def test_calibration_of_another_shape_than_the_pictures_is_refused(tmp_path):
    folder = made.write_folder(tmp_path / "rec")
    (folder / "calibration.json").write_text(json.dumps(made.calibration() | {"width": 24, "height": 32}))
    with pytest.raises(InputError, match="is for 24x32: correct it"):
        framed(folder, tmp_path / "scene")


def test_confidence_moves_with_its_depth():
    camera = Camera(32, 24, 40.0, 40.0, 16.0, 12.0)
    calibration = RgbdCalibration(camera, camera, Rigid3(np.eye(3), np.array([-0.1, 0, 0])), "made")
    chance = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    found = depth_in_picture(SensorPicture(np.full((24, 32), 2.0, dtype=np.float32), chance), calibration)
    assert found.kind is DepthKind.METRIC_Z
    np.testing.assert_array_equal(found.confidence[:, :30], chance[:, 2:])
    assert not found.confidence[:, 30:].any()


def test_cameras_of_sensor_depth_round_trip_and_damage_is_said(tmp_path):
    camera = Camera(32, 24, 40.5, 41.0, 16.0, 12.0)
    write_cameras(tmp_path, RgbdCalibration(camera, None, Rigid3(np.eye(3), np.array([0.1, 0, 0])), "made"))
    back = read_cameras(tmp_path)
    assert (back.color, back.depth, back.source) == (camera, None, "made")
    np.testing.assert_array_equal(back.color_from_depth.translation, [0.1, 0, 0])
    (tmp_path / "cameras.json").write_text('{"color_camera": 7}')
    with pytest.raises(InputError, match="damaged"):
        read_cameras(tmp_path)


@pytest.mark.shared
def test_real_recording_agrees_with_depth_registered_by_others(shared_data, tmp_path):
    """The others took the nearest sample for every pixel; steps of this sensor are up to 3 cm at 3.5 m."""
    source = shared_data / "data" / "rgbd_static"
    workspace, _ = with_depth(source, tmp_path / "scene", camera="527.2,527.2,323.3,239", stride=60)
    names = workspace.recording().names
    assert names == ("000000", "000180")
    for name in names:
        truth = np.asarray(Image.open(source / "depth_registered" / f"{name}.png")) / 1000
        found = workspace.depth_map(name, "sensor")
        both = found.valid & (truth > 0)
        error = np.abs(found.values - truth)[both]
        assert (error < 0.01).mean() > 0.9
        assert (error < 0.03).mean() > 0.99
        assert both.sum() > 0.98 * (truth > 0).sum()
        assert found.valid.sum() < 1.01 * (truth > 0).sum()
