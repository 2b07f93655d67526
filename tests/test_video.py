"""Decoding of video files: orientation, times, colours, pixel shape, losses."""

from __future__ import annotations

import struct
import wave
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from video_clips import damaged_clip, hold_turned, pan, texture, write_clip, write_flat_yuv

from recon4d.errors import InputError
from recon4d.formats.video import Video


def decode(path):
    with Video(path) as video:
        frames = [(frame.index, frame.timestamp_s, frame.rgb()) for frame in video.frames()]
    return frames, video


def difference(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(float) - other).mean()


def test_frames_come_back_in_order_with_their_colours(tmp_path):
    pictures = pan(1, 7)
    frames, video = decode(write_clip(tmp_path / "clip.mp4", pictures))
    assert [index for index, _, _ in frames] == list(range(7))
    np.testing.assert_allclose([time for _, time, _ in frames], np.arange(7) / 30, atol=1e-9)
    assert max(difference(picture, rgb) for picture, (_, _, rgb) in zip(pictures, frames)) < 1.0
    assert video.losses(frames[-1][1]) == []


@pytest.mark.parametrize("clockwise_deg", [90, 180, 270])
def test_rotation_of_the_track_header_is_applied(tmp_path, clockwise_deg):
    pictures = pan(1, 3)
    path = hold_turned(write_clip(tmp_path / "clip.mp4", pictures), clockwise_deg)
    frames, _ = decode(path)
    for picture, (_, _, rgb) in zip(pictures, frames):
        assert difference(np.rot90(picture, k=-clockwise_deg // 90), rgb) < 1.0


def test_variable_frame_rate_keeps_its_true_times(tmp_path):
    ticks = [90_000 + tick for tick in (0, 3000, 4500, 12000, 12001, 90000)]  # the container starts at 1 s
    frames, video = decode(write_clip(tmp_path / "clip.mp4", pan(1, 6), ticks=ticks))
    expected = (np.array(ticks) - ticks[0]) / 90000
    np.testing.assert_allclose([time for _, time, _ in frames], expected, atol=1e-4)
    assert video.repaired_times == 0


def test_missing_and_backward_times_are_replaced_by_one_period_and_counted(tmp_path):
    with Video(write_clip(tmp_path / "clip.mp4", pan(1, 2))) as video:
        times = [10, 11, None, 11.2, 5, 13]  # seconds
        video._decoded = lambda: (
            SimpleNamespace(pts=time, time_base=1, is_corrupt=False, key_frame=False) for time in times
        )
        found = [frame.timestamp_s for frame in video.frames()]
    period = 1 / 30
    np.testing.assert_allclose(found, [0, 1, 1 + period, 1.2, 1.2 + period, 3])
    assert video.repaired_times == 2
    assert "2 of 6 frames" in video.losses(3.0)[-1]


def test_raw_stream_without_times_gets_the_frame_rate(tmp_path):
    frames, _ = decode(write_clip(tmp_path / "clip.h264", pan(1, 5)))
    times = np.array([time for _, time, _ in frames])
    assert times[0] == 0
    assert np.all(np.diff(times) > 0)


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv444p10le"])
def test_hevc_of_8_and_10_bit(tmp_path, pixel_format):
    pictures = pan(1, 4)
    options = {"preset": "ultrafast", "x265-params": "lossless=1:log-level=none"}
    path = write_clip(tmp_path / "clip.mp4", pictures, "libx265", pixel_format, options=options)
    frames, _ = decode(path)
    assert max(difference(picture, rgb) for picture, (_, _, rgb) in zip(pictures, frames)) < 1.0


def test_odd_sizes(tmp_path):
    pictures = pan(1, 3, height=53, width=97)
    frames, _ = decode(write_clip(tmp_path / "clip.mp4", pictures))
    assert max(difference(picture, rgb) for picture, (_, _, rgb) in zip(pictures, frames)) < 1.0


def test_shape_of_pixels_is_read(tmp_path):
    with Video(write_clip(tmp_path / "clip.mp4", pan(1, 2), aspect=Fraction(4, 3))) as video:
        assert video.pixel_aspect == pytest.approx(4 / 3)


BT601, BT709, UNSAID = 6, 1, 2
SMALL, LARGE = (64, 48), (1280, 64)


@pytest.mark.parametrize(
    ("yuv", "size", "colorspace", "full", "rgb"),
    [
        # Limited range, BT.601: R = 1.164 (81-16) + 1.596 (240-128), and so on.
        ((81, 90, 240), SMALL, BT601, False, (254, 0, 0)),
        # BT.709: R = 1.164 (81-16) + 1.793 (240-128) = 276; G = 75.7 - 0.213 (90-128) - 0.533 (240-128) = 24.
        ((81, 90, 240), SMALL, BT709, False, (255, 24, 0)),
        # Not said: BT.601 for small pictures, BT.709 for high definition.
        ((81, 90, 240), SMALL, UNSAID, False, (254, 0, 0)),
        ((81, 90, 240), LARGE, UNSAID, False, (255, 24, 0)),
        # Full range, BT.601: R = 76 + 1.402 (255-128) = 254.
        ((76, 85, 255), SMALL, BT601, True, (254, 0, 0)),
        ((128, 128, 128), SMALL, BT709, True, (128, 128, 128)),
        ((235, 128, 128), SMALL, BT709, False, (255, 255, 255)),
    ],
)
def test_colours_follow_the_flags_of_the_stream(tmp_path, yuv, size, colorspace, full, rgb):
    frames, _ = decode(write_flat_yuv(tmp_path / "clip.mp4", yuv, size, colorspace, full))
    np.testing.assert_allclose(frames[0][2].reshape(-1, 3).mean(0), rgb, atol=1.5)


def test_thumbnail_and_luma(tmp_path):
    with Video(write_flat_yuv(tmp_path / "clip.mp4", (126, 128, 128), (96, 64), BT601, False)) as video:
        frame = next(video.frames())
        assert frame.thumbnail(32).shape == (32, 32, 3)
        assert frame.luma(48).shape == (32, 48)
        np.testing.assert_allclose(frame.luma(48), 128, atol=1)  # 255 (126-16) / 219


def test_focal_length_in_35_mm_equivalent_is_read(tmp_path):
    tag = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
    path = write_clip(
        tmp_path / "clip.mov",
        pan(1, 2),
        metadata={tag: "26"},
        container_options={"movflags": "use_metadata_tags"},
    )
    with Video(path) as video:
        assert video.focal_35mm_mm == 26.0
    with Video(write_clip(tmp_path / "plain.mp4", pan(1, 2))) as video:
        assert video.focal_35mm_mm is None


@pytest.mark.parametrize(("transfer", "name"), [(1, None), (16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_noticed(tmp_path, transfer, name):
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream(
            "libx265",
            rate=30,
            # One thread: with several, the muxer now and then refuses the last packet.
            options={"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
        )
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le"
        stream.codec_context.color_trc = transfer
        for number, picture in enumerate(pan(1, 2)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with Video(tmp_path / "clip.mp4") as video:
        assert [frame.hdr for frame in video.frames()] == [name, name]


def test_a_cover_picture_is_no_video(tmp_path):
    plain = tmp_path / "sound.wav"
    with wave.open(str(plain), "w") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    cover = cv2.imencode(".png", texture(1, 16, 16))[1].tobytes()
    fields = [struct.pack(">I", 3), struct.pack(">I", 9), b"image/png", struct.pack(">I", 0), bytes(16)]
    picture = b"".join([*fields, struct.pack(">I", len(cover)), cover])
    with av.open(str(plain)) as source, av.open(str(tmp_path / "song.flac"), "w") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono", format="s16")
        for frame in source.decode(audio=0):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    song = (tmp_path / "song.flac").read_bytes()
    block = bytes([6]) + struct.pack(">I", len(picture))[1:] + picture  # FLAC metadata block 6: picture
    stream_info = 4 + 4 + 34
    assert song[4] & 0x7F == 0, "the first block is the stream info"
    (tmp_path / "song.flac").write_bytes(song[:stream_info] + block + song[stream_info:])
    with av.open(str(tmp_path / "song.flac")) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(InputError, match="no video in it"):
        Video(tmp_path / "song.flac")


def truncated(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def test_truncated_mp4_gives_what_is_there_and_says_how_much_is_lost(tmp_path):
    pictures = pan(1, 60)
    path = write_clip(tmp_path / "clip.mp4", pictures, container_options={"movflags": "faststart"})
    frames, video = decode(truncated(path, 0.6))
    assert 20 < len(frames) < 50
    assert max(difference(pictures[index], rgb) for index, _, rgb in frames) < 1.0
    assert f"{60 - len(frames)} of 60 frames" in video.losses(frames[-1][1])[0]


def test_truncated_matroska_is_noticed_by_its_length(tmp_path):
    path = write_clip(tmp_path / "clip.mkv", pan(1, 60))
    frames, video = decode(truncated(path, 0.6))
    assert len(frames) < 60
    assert "of 2.00 s" in video.losses(frames[-1][1])[0]


def test_frames_predicted_from_damaged_ones_are_marked_until_the_next_key_frame(tmp_path):
    with Video(damaged_clip(tmp_path / "clip.mp4")) as video:
        frames = [(frame.timestamp_s, frame.damaged, frame.rgb()) for frame in video.frames()]
    good = {round(time * 30) for time, damaged, _ in frames if not damaged}
    assert set(range(15)) | set(range(30, 60)) <= good
    assert not good & set(range(20, 30))
    originals = pan(1, 60)
    for time, damaged, rgb in frames:
        if not damaged:
            assert difference(originals[round(time * 30)], rgb) < 6
    assert video.damaged >= 9
    assert any("predicted from lost ones" in text for text in video.losses(frames[-1][0]))


def test_empty_places_of_an_avi_are_no_loss(tmp_path):
    # The time base of the helper is finer than the frame rate, so the file counts twenty places for each frame.
    frames, video = decode(write_clip(tmp_path / "clip.avi", pan(1, 10), "mjpeg", "yuvj444p", options={}))
    assert len(frames) == 10
    assert video.losses(frames[-1][1]) == []


@pytest.mark.parametrize(("codec", "pixel_format"), [("libx264rgb", "rgb24"), ("ffv1", "bgr0"), ("ffv1", "gbrp10le")])
def test_videos_stored_as_rgb_keep_their_pixels(tmp_path, codec, pixel_format):
    pictures = pan(1, 3)
    options = {"qp": "0"} if codec == "libx264rgb" else {}
    frames, _ = decode(write_clip(tmp_path / "clip.mkv", pictures, codec, pixel_format, options=options))
    for picture, (_, _, rgb) in zip(pictures, frames):
        np.testing.assert_array_equal(rgb, picture)


def test_mp4_without_its_index_is_refused(tmp_path):
    path = truncated(write_clip(tmp_path / "clip.mp4", pan(1, 30)), 0.7)
    with pytest.raises(InputError, match="no readable index"):
        Video(path)


def test_text_empty_and_audio_files_are_refused(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(InputError, match=r"empty\.mp4 is empty"):
        Video(tmp_path / "empty.mp4")
    for name in ("notes.txt", "notes.mp4", "notes.md"):
        (tmp_path / name).write_text("shopping list\n" * 400)
        with pytest.raises(InputError, match="give a video file or a folder of pictures"):
            Video(tmp_path / name)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(InputError, match="no video in it"):
        Video(tmp_path / "sound.mp4")


@pytest.mark.shared
def test_handheld_mp4_equals_its_source_pictures(shared_data):
    from recon4d.formats.pictures import read_rgb

    folder = shared_data / "data" / "rgbd_static"
    with Video(folder / "handheld.mp4") as video:
        for frame in video.frames():
            if frame.index % 60 == 0:
                source = read_rgb(folder / "color" / f"{frame.index:06d}.jpg")
                assert difference(source, frame.rgb()) < 3.5
                assert np.abs((source.astype(float) - frame.rgb()).mean((0, 1))).max() < 1.0
    assert video.decoded == 300


@pytest.mark.shared
def test_frame_that_an_edit_list_takes_out_is_no_loss(shared_data):
    with Video(shared_data / "data" / "dynamic" / "teddy.mp4") as video:
        last = list(video.frames())[-1]
    assert video.decoded == 141
    assert video.losses(last.timestamp_s) == []


@pytest.mark.shared
def test_exact_cuts_between_real_clips(shared_data):
    from recon4d.geometry.shots import THUMBNAIL_SIZE, ShotFinder

    finder = ShotFinder()
    for name, count in (
        ("dynamic/dog", 122),
        ("rgbd_static/handheld", 90),
        ("dynamic/teddy", 60),
        ("dynamic_gt/clip", 72),
    ):
        with Video(shared_data / "data" / f"{name}.mp4") as video:
            for frame in video.frames():
                if frame.index == count:
                    break
                finder.add(frame.thumbnail(THUMBNAIL_SIZE))
    assert finder.starts() == (0, 122, 212, 272)
