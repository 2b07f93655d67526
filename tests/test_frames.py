"""The frames stage on small clips and folders."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from test_gps import dms
from test_gravity_files import note
from video_clips import LOSSLESS, damaged_clip, hold_turned, pan, texture, write_clip

from recon4d import pipeline
from recon4d.errors import InputError, OptionsError
from recon4d.formats.gps import GpsFix, read_gps_table
from recon4d.formats.gravity import read_photo_ups
from recon4d.formats.pictures import read_rgb
from recon4d.progress import Silent
from recon4d.stages.frames import FramesOptions, run
from recon4d.workspace import Workspace

WARM, COLD = (1.0, 0.6, 0.3), (0.3, 0.7, 1.0)


class Listener(Silent):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def frames_of(tmp_path, source, **options):
    """Run the stage in a new scene: its record, recording and what was said."""
    scene = tmp_path / f"scene{len(list(tmp_path.glob('scene*')))}"
    listener = Listener()
    workspace = Workspace.create(scene)
    record = run(workspace, FramesOptions(**options), source, listener)
    return record, workspace.recording(), "\n".join(listener.said)


def refused(tmp_path, source, error=InputError, **options):
    with pytest.raises(error) as caught:
        frames_of(tmp_path, source, **options)
    text = str(caught.value)
    assert text.startswith("frames: ")
    assert "\n" not in text
    return text


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """30 frames of 96x64, 30 fps."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", pan(1, 30))


def save_photos(folder, pictures, names=None, suffix="png", **options):
    folder.mkdir(parents=True)
    for at, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{names[at] if names else f'p{at}'}.{suffix}", **options)
    return folder


# -- video -----------------------------------------------------------------------------------------------------------


def test_every_frame_of_a_short_clip(tmp_path, clip):
    record, recording, _ = frames_of(tmp_path, clip, picture_format="png")
    assert recording.names == tuple(f"{index:06d}" for index in range(30))
    np.testing.assert_allclose(recording.timestamps_s, np.arange(30) / 30, atol=1e-6)
    for picture, path in zip(pan(1, 30), recording.pictures):
        assert np.abs(read_rgb(path).astype(int) - picture).mean() < 1
    expected = {
        "recording": str(clip),
        "kind": "video",
        "frames": 30,
        "source_frames": 30,
        "width": 96,
        "height": 64,
        "fps": 30.0,
        "source_fps": 30.0,
        "duration_s": pytest.approx(29 / 30, abs=1e-5),
        "stride": 1,
        "shots": 1,
        "shot": 0,
        "rotation_deg": 0,
        "resized_from": None,
        "focal_px": None,
        "timestamps": "container",
    }
    assert record.summary == expected
    assert record.warnings == []
    calibration = json.loads((recording.pictures[0].parent / "calibration.json").read_text())
    assert calibration == {"focal_px": None, "source": None}


def test_jpeg_is_the_default_and_near_the_source(tmp_path, clip):
    _, recording, _ = frames_of(tmp_path, clip, stride=10)
    assert [path.name for path in recording.pictures] == ["000000.jpg", "000010.jpg", "000020.jpg"]
    assert np.abs(read_rgb(recording.pictures[1]).astype(int) - pan(1, 30)[10]).mean() < 2


def test_stride_and_max_frames(tmp_path, clip):
    def names(**options):
        return [int(name) for name in frames_of(tmp_path, clip, **options)[1].names]

    assert names(stride=7) == [0, 7, 14, 21, 28]
    assert names(max_frames=10) == list(range(0, 30, 3))  # spread over the clip
    assert names(max_frames=11) == list(range(0, 30, 3))
    assert names(stride=7, max_frames=2) == [0, 7]  # cut off
    assert names(fps=10.0) == list(range(0, 30, 3))
    assert names(start=0.5, end=0.6001) == [15, 16, 17, 18]


def test_what_max_frames_cuts_off_is_said(tmp_path, clip):
    record, _, _ = frames_of(tmp_path, clip, stride=7, max_frames=2)
    assert record.warnings == [
        "only the first 2 of 5 frames are used, up to 0.23 s: --frames.max-frames sets the number"
    ]


def test_fps_follows_true_times(tmp_path):
    ticks = [0, 3000, 6000, 9000, 45000, 48000, 51000, 54000]  # a pause from 0.1 to 0.5 s
    path = write_clip(tmp_path / "clip.mp4", pan(1, 8), ticks=ticks)
    record, recording, _ = frames_of(tmp_path, path, fps=10.0)
    assert [int(name) for name in recording.names] == [0, 3, 4, 7]
    np.testing.assert_allclose(recording.timestamps_s, [0, 0.1, 0.5, 0.6], atol=1e-6)
    assert record.summary["stride"] is None


def test_sharpest_of_each_group(tmp_path):
    pictures = [cv2.GaussianBlur(p, (0, 0), 4) if at % 3 != 2 else p for at, p in enumerate(pan(1, 9))]
    path = write_clip(tmp_path / "clip.mp4", pictures)
    assert frames_of(tmp_path, path, stride=3, sharpest=True)[1].names == ("000002", "000005", "000008")
    assert frames_of(tmp_path, path, stride=3)[1].names == ("000000", "000003", "000006")


@pytest.mark.parametrize("clockwise_deg", [90, 180, 270])
def test_phone_video_is_upright(tmp_path, clockwise_deg):
    path = hold_turned(write_clip(tmp_path / "clip.mp4", pan(1, 4)), clockwise_deg)
    record, recording, _ = frames_of(tmp_path, path, picture_format="png")
    for picture, found in zip(pan(1, 4), recording.pictures):
        assert np.abs(read_rgb(found).astype(int) - np.rot90(picture, -clockwise_deg // 90)).mean() < 1
    assert record.summary["rotation_deg"] == 360 - clockwise_deg
    assert record.summary["width"] == (96 if clockwise_deg == 180 else 64)


def test_large_frames_are_made_smaller_never_larger(tmp_path, clip):
    record, recording, _ = frames_of(tmp_path, clip, max_size=48, stride=10, picture_format="png")
    assert read_rgb(recording.pictures[0]).shape == (32, 48, 3)
    halved = cv2.resize(pan(1, 30)[0], (48, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(read_rgb(recording.pictures[0]).astype(int) - halved).mean() < 1
    assert record.summary["resized_from"] == [96, 64]


@pytest.mark.parametrize(
    ("aspect", "clockwise_deg", "size"), [((4, 3), 0, (128, 64)), ((1, 2), 0, (96, 128)), ((4, 3), 90, (64, 128))]
)
def test_non_square_pixels_are_stretched(tmp_path, aspect, clockwise_deg, size):
    path = write_clip(tmp_path / "clip.mp4", pan(1, 3), aspect=Fraction(*aspect))
    if clockwise_deg:
        hold_turned(path, clockwise_deg)
    record, recording, _ = frames_of(tmp_path, path, picture_format="png")
    assert (record.summary["width"], record.summary["height"]) == size
    upright = np.rot90(pan(1, 3)[0], -clockwise_deg // 90)
    stretched = cv2.resize(np.ascontiguousarray(upright), size, interpolation=cv2.INTER_LINEAR)
    assert np.abs(read_rgb(recording.pictures[0]).astype(int) - stretched).mean() < 1


def test_focal_length_of_the_container_is_scaled_with_the_picture(tmp_path):
    tag = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
    flags = {"movflags": "use_metadata_tags"}
    path = write_clip(tmp_path / "clip.mov", pan(1, 3), metadata={tag: "26"}, container_options=flags)
    _, recording, _ = frames_of(tmp_path, path, max_size=48)
    calibration = json.loads((recording.pictures[0].parent / "calibration.json").read_text())
    assert calibration["source"] == "container metadata"
    assert calibration["focal_px"] == pytest.approx(26 / np.hypot(36, 24) * np.hypot(48, 32))


def test_longest_shot_is_taken_and_the_others_are_named(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", pan(1, 12, tint=WARM) + pan(2, 20, tint=COLD) + pan(3, 8, tint=WARM))
    record, recording, said = frames_of(tmp_path, path)
    assert (record.summary["shots"], record.summary["shot"]) == (3, 1)
    assert [frame.source_index for frame in recording.frames] == list(range(12, 32))
    assert {frame.shot for frame in recording.frames} == {1}
    assert "0: 0.00-0.37 s (12 frames), 1: 0.40-1.03 s (20 frames), 2: 1.07-1.30 s (8 frames); 1 is used" in said
    assert frames_of(tmp_path, path, shot=2)[1].names == tuple(f"{index:06d}" for index in range(32, 40))
    assert "--shot 3 does not exist; clip.mp4 has 3: 0: 0.00" in refused(tmp_path, path, OptionsError, shot=3)


def test_one_frame_is_legal(tmp_path):
    record, recording, _ = frames_of(tmp_path, write_clip(tmp_path / "clip.mp4", pan(1, 1)))
    assert (len(recording), record.summary["fps"], record.summary["duration_s"]) == (1, None, 0)


def test_masks_are_brought_to_the_frames(tmp_path, clip):
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((64, 96), np.uint8)
    mask[:32] = 255
    for name in ("000000", "000010", "000011"):
        cv2.imwrite(str(masks / f"{name}.png"), mask)
    record, recording, _ = frames_of(tmp_path, clip, stride=10, max_size=48, masks=masks)
    assert [path is not None for path in recording.masks] == [True, True, False]
    found = cv2.imread(str(recording.masks[1]), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found, np.repeat([255, 0], 16)[:, None] * np.ones((1, 48)))
    assert "1 of 3 frames have no mask" in record.warnings[0]


def test_same_again_is_a_no_op_and_other_options_are_not(tmp_path, clip):
    workspace = Workspace.create(tmp_path / "scene")
    listener = Listener()
    first = run(workspace, FramesOptions(stride=5), clip, listener)
    again = run(workspace, FramesOptions(stride=5), clip, listener)
    assert again == first
    assert listener.said[-1] == "frames: up to date"
    assert run(workspace, FramesOptions(stride=6), clip).key != first.key
    assert workspace.recording().names == ("000000", "000006", "000012", "000018", "000024")


def test_another_file_of_the_same_name_is_read_anew(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", pan(1, 3))
    workspace = Workspace.create(tmp_path / "scene")
    first = run(workspace, FramesOptions(), path)
    write_clip(path, pan(2, 3))
    assert run(workspace, FramesOptions(), path).key != first.key


class Interrupted(Exception):
    pass


class StopsAfter(Silent):
    """Is interrupted while frame ``count`` of the written ones is finished."""

    def __init__(self, count):
        self.count = count

    def bar(self, label, total, done=0):
        stopper = self

        class Bar:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                return False

            def advance(self, steps=1):
                if label == "writing frames":
                    stopper.count -= 1
                    if stopper.count == 0:
                        raise Interrupted

        return Bar()


def test_interrupted_work_is_continued_with_the_same_result(tmp_path, clip):
    workspace = Workspace.create(tmp_path / "scene")
    with pytest.raises(Interrupted):
        run(workspace, FramesOptions(stride=5), clip, StopsAfter(3))
    assert workspace.record("frames") is None
    written = {path: path.stat().st_mtime_ns for path in workspace.root.glob(".part/*/*.jpg")}
    assert len(written) == 3
    run(workspace, FramesOptions(stride=5), clip)
    whole = frames_of(tmp_path, clip, stride=5)[1]
    for path, other in zip(workspace.recording().pictures, whole.pictures):
        assert path.read_bytes() == other.read_bytes()
    kept = [path for path in workspace.recording().pictures if path.stat().st_mtime_ns in written.values()]
    assert len(kept) == 3


# -- pictures --------------------------------------------------------------------------------------------------------


def test_plain_pictures_are_kept_byte_for_byte(tmp_path):
    for suffix, options in (("png", {}), ("jpg", {"quality": 90})):
        folder = save_photos(tmp_path / suffix, pan(1, 3), ["a2", "a10", "a1"], suffix, **options)
        record, recording, _ = frames_of(tmp_path, folder)
        assert recording.names == ("a1", "a2", "a10")
        assert [frame.source_name for frame in recording.frames] == [f"{name}.{suffix}" for name in recording.names]
        for frame, path in zip(recording.frames, recording.pictures):
            assert path.read_bytes() == (folder / frame.source_name).read_bytes()
            assert path.stat().st_ino != (folder / frame.source_name).stat().st_ino
        np.testing.assert_allclose(recording.timestamps_s, np.arange(3) / 30, atol=1e-6)
        assert record.summary["timestamps"] == "index / 30 s"


def test_cuts_are_not_looked_for_in_pictures(tmp_path):
    folder = save_photos(tmp_path / "photos", pan(1, 6, tint=WARM) + pan(2, 6, tint=COLD))
    assert len(frames_of(tmp_path, folder)[1]) == 12
    assert "pictures are one shot" in refused(tmp_path, folder, OptionsError, shot=1)


def test_exif_turn_focal_length_and_times_are_used(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    stored = texture(1, 60, 80)
    for at in range(3):
        exif = Image.Exif()
        exif[0x0112] = 6
        exif.get_ifd(0x8769).update({0xA405: 26, 0x9003: "2024:05:01 10:20:30", 0x9291: f"{at * 25:02d}"})
        Image.fromarray(stored).save(folder / f"IMG_{at}.jpg", exif=exif, quality=95)
    record, recording, _ = frames_of(tmp_path, folder, max_size=40)
    assert (record.summary["width"], record.summary["height"]) == (30, 40)
    expected = cv2.resize(np.ascontiguousarray(np.rot90(stored, -1)), (30, 40), interpolation=cv2.INTER_AREA)
    assert np.abs(read_rgb(recording.pictures[0]).astype(int) - expected).mean() < 4
    np.testing.assert_allclose(recording.timestamps_s, [0, 0.25, 0.5], atol=1e-6)
    calibration = json.loads((recording.pictures[0].parent / "calibration.json").read_text())
    assert calibration["source"] == "exif"
    assert calibration["focal_px"] == pytest.approx(26 / np.hypot(36, 24) * 50, rel=1e-6)  # diagonal of 30 x 40
    assert record.summary["timestamps"] == "exif"


def test_what_photos_tell_is_kept_beside_frames_that_lost_it(tmp_path):
    """Made smaller, frames carry no EXIF; places and up go by the names of the frames."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for at in range(4):
        exif = Image.Exif()
        exif[0x0112] = 6
        if at != 1:
            exif.get_ifd(0x8825).update({1: "N", 2: dms(48, 0, 100 * at), 3: "E", 4: dms(11, 6, 0), 31: 4.5})
        if at != 2:
            exif.get_ifd(0x8769)[0x927C] = note(0, -0.8, -0.6)  # upright, looking down
        Image.fromarray(texture(1, 60, 80)).save(folder / f"IMG_{at}.jpg", exif=exif)
    _, recording, _ = frames_of(tmp_path, folder, max_size=40, end=0.07)
    written = recording.pictures[0].parent
    assert not Image.open(recording.pictures[0]).getexif().get_ifd(0x8825)
    fixes, ups = read_gps_table(written / "gps.csv"), read_photo_ups(written / "gravity.csv")
    assert list(fixes) == ["IMG_0", "IMG_2"]
    assert fixes["IMG_2"] == GpsFix(pytest.approx(48 + 2 / 3600), pytest.approx(11.1), None, 4.5)
    assert list(ups) == ["IMG_0", "IMG_1"]
    np.testing.assert_allclose(ups["IMG_1"], [0, -0.8, -0.6], atol=1e-6)


def test_photos_and_videos_that_tell_nothing_leave_no_tables(tmp_path, clip):
    for source in (clip, save_photos(tmp_path / "photos", pan(1, 2))):
        written = frames_of(tmp_path, source)[1].pictures[0].parent
        assert not (written / "gps.csv").exists()
        assert not (written / "gravity.csv").exists()


def test_different_focal_lengths_are_said_and_not_used(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for at, focal in enumerate((26, 52)):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA405] = focal
        Image.fromarray(texture(1, 60, 80)).save(folder / f"{at}.jpg", exif=exif)
    record, _, _ = frames_of(tmp_path, folder)
    assert record.summary["focal_px"] is None
    assert "zoom" in record.warnings[0]


def test_16_bit_clip_is_scaled_as_one(tmp_path):
    folder = tmp_path / "deep"
    folder.mkdir()
    for name, value in (("a", 4095), ("b", 1024)):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((20, 30, 3), value, np.uint16))
    _, recording, said = frames_of(tmp_path, folder)
    assert [int(read_rgb(path)[0, 0, 0]) for path in recording.pictures] == [255, 64]
    assert "0..4095 becomes 0..255" in said


def test_sharpest_of_pictures(tmp_path):
    pictures = [cv2.GaussianBlur(p, (0, 0), 4) if at % 2 == 0 else p for at, p in enumerate(pan(1, 6))]
    folder = save_photos(tmp_path / "photos", pictures)
    assert frames_of(tmp_path, folder, stride=2, sharpest=True)[1].names == ("p1", "p3", "p5")


def test_one_picture_file_is_a_recording(tmp_path):
    folder = save_photos(tmp_path / "photos", pan(1, 2))
    _, recording, _ = frames_of(tmp_path, folder / "p1.png")
    assert recording.names == ("p1",)


def test_a_scene_below_the_pictures_does_not_change_their_key(tmp_path):
    folder = save_photos(tmp_path / "photos", pan(1, 2))
    workspace = Workspace.create(folder / "scene")
    listener = Listener()
    run(workspace, FramesOptions(), folder, listener)
    run(workspace, FramesOptions(), folder, listener)
    assert listener.said[-1] == "frames: up to date"


# -- bad input -------------------------------------------------------------------------------------------------------


def test_nothing_there(tmp_path):
    assert "there is no" in refused(tmp_path, tmp_path / "nowhere.mp4")


def test_a_file_that_may_not_be_read(tmp_path, clip, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "check its permissions" in refused(tmp_path, clip)


def test_not_a_video(tmp_path):
    (tmp_path / "notes.txt").write_text("shopping list\n" * 100)
    (tmp_path / "empty.mp4").touch()
    assert "give a video file" in refused(tmp_path, tmp_path / "notes.txt")
    assert "is empty" in refused(tmp_path, tmp_path / "empty.mp4")


def test_video_without_frames(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", pan(1, 5), container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])  # the index is there, the pictures are not
    assert "not one frame" in refused(tmp_path, path)
    with av.open(str(tmp_path / "nothing.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=LOSSLESS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
    assert "not a video that can be read" in refused(tmp_path, tmp_path / "nothing.mkv")


def test_folder_without_pictures(tmp_path):
    (tmp_path / "folder").mkdir()
    assert "has no pictures in it" in refused(tmp_path, tmp_path / "folder")


def test_pictures_of_different_sizes(tmp_path):
    folder = save_photos(tmp_path / "photos", [texture(1, 40, 60), texture(1, 60, 40)])
    assert "p0.png is 60x40 and p1.png is 40x60" in refused(tmp_path, folder)


def test_pictures_of_one_name(tmp_path):
    folder = save_photos(tmp_path / "photos", pan(1, 1))
    Image.fromarray(pan(1, 1)[0]).save(folder / "p0.jpg")
    assert "p0.jpg and p0.png" in refused(tmp_path, folder)


def test_truncated_video_is_used_as_far_as_it_goes(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", pan(1, 60), container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    record, recording, _ = frames_of(tmp_path, path)
    lost = 60 - len(recording)
    assert 10 < lost < 40
    assert record.warnings[0].startswith(f"{lost} of 60 frames of clip.mp4 could not be decoded")


def test_damaged_middle_is_left_out(tmp_path):
    record, recording, _ = frames_of(tmp_path, damaged_clip(tmp_path / "clip.mp4"))
    assert any("are left out" in text for text in record.warnings)
    times = recording.timestamps_s
    assert set(range(15)) | set(range(30, 60)) <= {round(time * 30) for time in times}
    assert not any(20 <= round(time * 30) < 30 for time in times)


def test_time_range_outside_of_the_clip(tmp_path, clip):
    assert "up to 0.97 s" in refused(tmp_path, clip, start=5.0)
    folder = save_photos(tmp_path / "photos", pan(1, 3))
    assert "end at 0.07 s" in refused(tmp_path, folder, start=5.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stride": 2, "fps": 5.0}, "give one of them"),
        ({"stride": 0}, "--stride is 0"),
        ({"fps": -1.0}, "--fps is -1.0"),
        ({"fps": float("nan")}, "--fps is nan"),
        ({"max_frames": 0}, "--max-frames is 0"),
        ({"max_size": -5}, "--max-size is -5"),
        ({"shot": -1}, "counted from 0"),
        ({"start": 2.0, "end": 1.0}, "not before"),
    ],
)
def test_options_out_of_range(tmp_path, clip, options, text):
    assert text in refused(tmp_path, clip, OptionsError, **options)


# -- real recordings -------------------------------------------------------------------------------------------------

REAL_CLIPS = {
    "rgbd_static/handheld.mp4": (300, 640, 480),
    "dynamic/dog.mp4": (122, 1280, 720),
    "dynamic/teddy.mp4": (141, 368, 480),
    "dynamic_gt/clip.mp4": (72, 640, 480),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL_CLIPS)
def test_real_clips_are_one_shot(tmp_path, shared_data, name):
    record, recording, _ = frames_of(tmp_path, shared_data / "data" / name, stride=60)
    count, width, height = REAL_CLIPS[name]
    found = {key: record.summary[key] for key in ("source_frames", "width", "height", "shots")}
    assert found == {"source_frames": count, "width": width, "height": height, "shots": 1}
    assert record.warnings == []
    assert recording.names[1] == "000060"


@pytest.mark.shared
def test_handheld_at_stride_3_has_the_times_of_its_poses(tmp_path, shared_data):
    folder = shared_data / "data" / "rgbd_static"
    _, recording, _ = frames_of(tmp_path, folder / "handheld.mp4", stride=3)
    assert len(recording) == 100
    np.testing.assert_allclose(recording.timestamps_s, np.loadtxt(folder / "poses_color_tum.txt")[:, 0], atol=1e-4)


@pytest.mark.shared
def test_real_folders(tmp_path, shared_data):
    data = shared_data / "data"
    record, _, _ = frames_of(tmp_path, data / "static_sfm/fox/images", stride=25)
    assert (record.summary["width"], record.summary["height"]) == (720, 1280)  # portrait
    record, recording, _ = frames_of(
        tmp_path, data / "dynamic/car_shadow/images", stride=20, masks=data / "dynamic/car_shadow/masks"
    )
    assert (record.summary["width"], record.summary["height"]) == (854, 480)
    truth = cv2.imread(str(data / "dynamic/car_shadow/masks/00020.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(cv2.imread(str(recording.masks[1]), cv2.IMREAD_UNCHANGED), truth)
    _, recording, _ = frames_of(tmp_path, data / "dynamic/kitti/image_l", stride=10)
    assert read_rgb(recording.pictures[0]).shape == (370, 1226, 3)  # grey in the source
    assert Image.open(recording.pictures[0]).mode == "RGB"


@pytest.mark.shared
def test_no_cut_in_real_pictures_and_the_exact_cut_between_them(shared_data):
    from test_shots import starts

    from recon4d.formats.photos import list_pictures

    folders = ("static_sfm/fox/images", "dynamic/lady_running", "dynamic/car_shadow/images", "dynamic/kitti/image_l")
    clips = [[read_rgb(path) for path in list_pictures(shared_data / "data" / name)[0]] for name in folders]
    for clip in clips:
        assert starts(clip) == (0,)
    assert starts(clips[1] + clips[2] + clips[3] + clips[1][:20]) == (0, 65, 105, 125)
    assert starts(clips[0][:30] + clips[2]) == (0, 30)


def test_frames_of_another_recording_are_called_out_of_date(tmp_path, clip):
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    workspace = pipeline.run(clip, tmp_path / "scene", until="frames")
    assert pipeline.stale_units(workspace) == {}
    text = (workspace.root / "options.toml").read_text()
    (workspace.root / "options.toml").write_text(text.replace(str(clip), str(other)))
    assert pipeline.stale_units(workspace) == {}  # the same bytes in another place
    other.write_bytes(clip.read_bytes() + b"more")
    assert "other.mp4" in pipeline.stale_units(workspace)["frames"]
    other.unlink()
    assert "other.mp4" in pipeline.stale_units(workspace)["frames"]
