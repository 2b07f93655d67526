"""Depth to look at: one scale for the clip, near is bright, holes are grey, and words that say what the numbers are."""

import dataclasses

import numpy as np
import pytest

from recon4d.formats import video_writer
from recon4d.formats.arrays import write_depth_map
from recon4d.formats.colormap import inferno_u8
from recon4d.formats.pictures import read_rgb
from recon4d.formats.video import Video
from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.view.depth_nearness import depth_scale, nearness
from recon4d.view.depth_preview import (
    NO_DEPTH,
    DepthClip,
    colored,
    depth_sheet,
    depth_summary,
    scale_of,
    write_missing_preview,
)

PICTURE = np.full((48, 80, 3), (30, 120, 60), dtype=np.uint8)


def depth_map(values, kind, valid=None):
    values = np.asarray(values, dtype=np.float32)
    valid = np.ones(values.shape, dtype=bool) if valid is None else valid
    return DepthMap(kind, values, valid, np.ones(values.shape), np.ones(values.shape))


def clip_of(folder, maps, fps=10.0, picture=PICTURE):
    names = [f"{k:06d}" for k in range(len(maps))]
    for name, depth in zip(names, maps):
        write_depth_map(folder / f"{name}.npz", depth)
    return DepthClip(folder, names, maps[0].kind, lambda name: picture, fps, "a clip")


def halves(left, right, kind, hole=False):
    """Two planes, and a hole in the upper left corner if wanted."""
    values = np.empty((24, 40))
    values[:, :20], values[:, 20:] = left, right
    valid = np.ones(values.shape, dtype=bool)
    valid[:8, :8] = not hole
    return depth_map(values, kind, valid)


@pytest.mark.parametrize("kind", list(DepthKind))
def test_near_is_bright_whatever_the_kind(kind, tmp_path):
    near, far = (8.0, 2.0) if kind.is_disparity else (2.0, 8.0)
    shown = colored(halves(near, far, kind), scale_of(clip_of(tmp_path, [halves(near, far, kind)])))
    assert np.array_equal(shown[12, 5], inferno_u8(np.array(1.0)))
    assert np.array_equal(shown[12, 35], inferno_u8(np.array(0.0)))


def test_z_is_shown_even_in_its_inverse_and_by_one_scale_for_all_frames(tmp_path):
    maps = [halves(1.0, 2.0, DepthKind.METRIC_Z), halves(4.0, 4.0, DepthKind.METRIC_Z)]
    scale = scale_of(clip_of(tmp_path, maps))
    assert (scale.low, scale.high) == pytest.approx((0.25, 1.0))
    assert scale.share(maps[0])[0][12, 35] == pytest.approx((0.5 - 0.25) / 0.75)
    assert scale.quantiles == pytest.approx((1.0, 3.0, 4.0))
    assert [scale.label(share) for share in (0.0, 1 / 3, 1.0)] == ["4 m", "2 m", "1 m"]


def test_values_that_mean_nothing_near_are_no_depth():
    values = np.array([[2.0, 0.0, -1.0, 5.0]], dtype=np.float32)
    near, usable = nearness(values, np.array([[True, True, True, False]]), DepthKind.SCENE_Z)
    assert np.array_equal(near, [[0.5, 0, 0, 0]])
    assert np.array_equal(usable, [[True, False, False, False]])


def test_a_few_wild_values_do_not_take_the_colours_from_the_rest():
    values = np.linspace(0.2, 0.8, 10_000).reshape(100, 100)
    values[::10, ::20] = 1e6
    scale = depth_scale([depth_map(values, DepthKind.AFFINE_DISPARITY)], 1, DepthKind.AFFINE_DISPARITY)
    assert scale.low == pytest.approx(0.2, abs=0.02)
    assert scale.high == pytest.approx(0.8, abs=0.02)


def test_a_clip_that_is_the_same_everywhere_or_has_nothing_is_drawn(tmp_path):
    flat = clip_of(tmp_path, [halves(3.0, 3.0, DepthKind.AFFINE_DISPARITY)])
    scale = scale_of(flat)
    assert scale.share(flat.depth("000000"))[0] == pytest.approx(0.5)
    nothing = depth_map(np.zeros((24, 40)), DepthKind.METRIC_Z, np.zeros((24, 40), dtype=bool))
    empty = clip_of(tmp_path, [nothing, nothing])
    write_missing_preview(empty)
    scale = scale_of(empty)
    assert scale.record() == {"values_5_50_95": [None, None, None], "without_depth": 1.0}
    assert (colored(nothing, scale) == NO_DEPTH).all()


def test_the_files_show_pictures_depth_and_holes(tmp_path):
    maps = [halves(2.0 + 0.1 * k, 8.0, DepthKind.SCENE_Z, hole=True) for k in range(5)]
    clip = clip_of(tmp_path, maps, fps=12.5)
    assert write_missing_preview(clip) == ()
    scale = scale_of(clip)
    assert scale.without == pytest.approx(64 / 960)
    assert np.array_equal(read_rgb(tmp_path / "depth.png"), depth_sheet(clip, scale))
    with Video(tmp_path / "preview.mp4") as video:
        frames = [(frame.timestamp_s, frame.rgb()) for frame in video.frames()]
    assert [time for time, _ in frames] == pytest.approx(np.arange(5) / 12.5)
    first = frames[0][1].astype(int)
    assert first.shape == (48, 160, 3)
    assert np.abs(first[24, 40] - PICTURE[0, 0]).max() <= 4
    assert np.abs(first[4, 84] - NO_DEPTH).max() <= 6
    assert first[36, 100].sum() > first[36, 150].sum() + 300


def test_one_frame_has_no_video_and_frames_without_times_are_told(tmp_path):
    assert write_missing_preview(clip_of(tmp_path, [halves(1, 2, DepthKind.SCENE_Z)])) == ()
    assert (tmp_path / "depth.png").exists()
    assert not (tmp_path / "preview.mp4").exists()
    (tmp_path / "depth.png").write_text("a sheet of the source's own")
    (remark,) = write_missing_preview(clip_of(tmp_path, [halves(1, 2, DepthKind.SCENE_Z)] * 2, fps=None))
    assert "have no times" in remark
    assert (tmp_path / "preview.mp4").exists()
    assert (tmp_path / "depth.png").read_text() == "a sheet of the source's own"


def test_a_missing_encoder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writer, "ENCODERS", ("no_such_encoder", "mpeg4"))
    (remark,) = write_missing_preview(clip_of(tmp_path, [halves(1, 2, DepthKind.SCENE_Z)] * 2))
    assert "no H.264 encoder" in remark


def test_pictures_of_other_shapes_are_shown_whole(tmp_path):
    clip = clip_of(tmp_path, [halves(1, 2, DepthKind.SCENE_Z)] * 3)
    tall = np.full((90, 41, 3), 200, dtype=np.uint8)
    mixed = dataclasses.replace(clip, picture_of=lambda name: tall if name == "000001" else PICTURE)
    write_missing_preview(mixed)
    with Video(tmp_path / "preview.mp4") as video:
        shown = [frame.rgb() for frame in video.frames()][1]
    assert abs(int(shown[24, 40, 0]) - 200) <= 4
    assert shown[24, 4, 0] < 60


def test_the_summary_says_kind_range_pace_and_terms():
    lines = depth_summary(
        {
            "kind": "affine_disparity",
            "frames": 50,
            "windows": 3,
            "agreement_of_windows": [0.913, 0.871],
            "values_5_50_95": [0.1, 0.25, 0.9],
            "without_depth": 0.031,
            "device": "cpu",
            "model": "someone/something",
            "licence": "research only",
            "commercial_use": False,
        },
        seconds=25.0,
    )
    assert lines == [
        "50 frames: inverse depth, scale and shift not known (affine_disparity)",
        "5 % of the numbers are below 0.1, half below 0.25, 95 % below 0.9; large is near",
        "3 windows of the model over the clip; where they meet, they agree at least to 0.87 of 1",
        "3.1 % of the pixels have no depth",
        "0.50 s a frame on cpu, loading included",
        "model someone/something, research only (not for commercial use)",
    ]
    assert depth_summary({"kind": "metric_z", "frames": 1, "windows": 0}, 2.0) == [
        "1 frame: z-depth in metres, as the source says (metric_z)",
        "2.00 s a frame, loading included",
    ]
