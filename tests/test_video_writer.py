"""Videos for people: what was put in comes out, at the true pace, and a lack of the encoder is told."""

import av
import numpy as np
import pytest

from recon4d.errors import MissingDependency
from recon4d.formats import video_writer
from recon4d.formats.video import Video
from recon4d.formats.video_writer import VideoWriter

COLORS = [(200, 40, 30), (20, 160, 60), (30, 60, 210), (120, 120, 120)]


def write(path, size=(48, 64), fps=12.5, colors=COLORS):
    with VideoWriter(path, size[1], size[0], fps) as video:
        for color in colors:
            video.add(np.full((*size, 3) if len(color) == 3 else color.shape, color, dtype=np.uint8))
    return video


def read(path):
    with Video(path) as video:
        frames = list(video.frames())
        return [frame.rgb() for frame in frames], [frame.timestamp_s for frame in frames]


@pytest.mark.parametrize("size", [(48, 64), (720, 1280), (47, 63)])
def test_pictures_come_back_in_their_colours_with_even_sides_and_true_times(tmp_path, size):
    write(tmp_path / "a.mp4", size)
    pictures, times = read(tmp_path / "a.mp4")
    assert np.allclose(times, np.arange(4) / 12.5)
    assert pictures[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert max(np.abs(picture.astype(int) - color).max() for picture, color in zip(pictures, COLORS)) <= 4
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("fps", [30000 / 1001, 0.25, 240.0, 7.3311])
def test_any_pace_is_kept(tmp_path, fps):
    write(tmp_path / "a.mp4", fps=fps)
    assert np.allclose(read(tmp_path / "a.mp4")[1], np.arange(4) / fps, rtol=1e-3)


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_an_error_on_the_way_leaves_no_file_and_keeps_an_older_one(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"older")
    with pytest.raises(ValueError, match="does not fit 64x48"):
        write(tmp_path / "a.mp4", colors=[COLORS[0], np.zeros((48, 60, 3))])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]


def test_without_h264_mpeg4_is_written_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writer, "ENCODERS", ("no_such_encoder", "mpeg4"))
    video = write(tmp_path / "a.mp4")
    assert (video.encoder, len(video.remarks)) == ("mpeg4", 1)
    assert "no H.264 encoder" in video.remarks[0]
    assert len(read(tmp_path / "a.mp4")[0]) == 4
    monkeypatch.setattr(video_writer, "ENCODERS", ("no_such_encoder",))
    with pytest.raises(MissingDependency, match="cannot encode video"):
        write(tmp_path / "b.mp4")


@pytest.mark.parametrize("fps", [0.0, -1.0, np.nan, np.inf])
def test_no_pace_is_refused(tmp_path, fps):
    with pytest.raises(ValueError, match="is no video"):
        VideoWriter(tmp_path / "a.mp4", 64, 48, fps)
