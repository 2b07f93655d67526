"""Small clips for the tests of the frames stage, made with PyAV."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def texture(seed: int, height: int, width: int, tint: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """(H, W, 3) uint8 smooth random colours."""
    coarse = np.random.default_rng(seed).uniform(0, 1, (height // 12 + 2, width // 12 + 2, 3)) * tint
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 255, 0, 255).astype(np.uint8)


def pan(
    seed: int,
    count: int,
    height: int = 64,
    width: int = 96,
    step: int = 2,
    tint: tuple[float, float, float] = (1, 1, 1),
) -> list[np.ndarray]:
    """Frames of a camera that moves ``step`` px to the right per frame over a textured wall."""
    wall = texture(seed, height, width + step * count, tint)
    return [np.ascontiguousarray(wall[:, step * at : step * at + width]) for at in range(count)]


def write_clip(
    path: Path,
    pictures: Iterable[np.ndarray],
    codec: str = "libx264",
    pixel_format: str = "yuv444p",
    ticks: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Encode RGB pictures, without loss unless ``options`` are given; ``ticks``: times in 1/90000 s, else 30 fps."""
    pictures = list(pictures)
    with av.open(str(path), "w", options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=30, options=LOSSLESS if options is None else options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, 90000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for at, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.time_base = Fraction(1, 90000)
            frame.pts = ticks[at] if ticks else at * 3000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_flat_yuv(path: Path, yuv: tuple[int, int, int], size: tuple[int, int], colorspace: int, full: bool) -> Path:
    """A clip of three frames of one (Y, Cb, Cr), flagged with an AVColorSpace number and a range; no conversion."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=LOSSLESS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace = colorspace
        stream.codec_context.color_range = 2 if full else 1
        planes = [np.full((height, width), yuv[0]), *(np.full((height // 2, width // 2), value) for value in yuv[1:])]
        stacked = np.concatenate([plane.ravel() for plane in planes]).reshape(height * 3 // 2, width).astype(np.uint8)
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(stacked, "yuv420p")
            frame.colorspace, frame.color_range = colorspace, 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def hold_turned(path: Path, clockwise_deg: int) -> Path:
    """Write into the track header of an mp4 that its pictures are to be turned clockwise for display, as phones do.

    Source: ISO/IEC 14496-12, 8.3.2: matrix {a, b, u, c, d, v, x, y, w} in 16.16 and 2.30 fixed point; x' = a x + c y,
    y' = b x + d y with y downwards.
    """
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[clockwise_deg]
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    assert data[header] == 0, "version 0 of the box is expected"
    one = 1 << 16
    struct.pack_into(">9i", data, header + 40, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def damaged_clip(path: Path) -> Path:
    """60 frames, a key frame every 15; bytes of the second group are replaced."""
    options = {"preset": "ultrafast", "crf": "10", "g": "15", "keyint_min": "15", "sc_threshold": "0"}
    write_clip(path, pan(1, 60), pixel_format="yuv420p", options=options)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [at for at, packet in enumerate(packets) if packet.is_keyframe] == [0, 15, 30, 45]
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, packets[20].size, dtype=np.uint8).tobytes()
    data[packets[20].pos : packets[20].pos + packets[20].size] = noise
    path.write_bytes(data)
    return path
