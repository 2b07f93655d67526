"""Video files for people: H.264 in mp4, which every player and browser shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import MissingDependency

if TYPE_CHECKING:
    from av.codec import Codec

# In the order of preference. The last one plays in most players, though in few browsers.
ENCODERS = ("libx264", "libopenh264", "mpeg4")
# One thread: their number changes the bytes. No macroblock tree: with it the same pictures gave several files.
OPTIONS = {
    "libx264": {"threads": "1", "x264-params": "mbtree=0:rc-lookahead=0"},
    "libopenh264": {"threads": "1"},
    "mpeg4": {"qmin": "2", "qmax": "4", "threads": "1"},
}
BITS_PER_PIXEL = 1.0  # and frame, for encoders that cannot be told a quality
BT601, BT709, LIMITED = 5, 1, 1  # AVColorSpace and AVColorRange


@dataclass(frozen=True)
class Quality:
    """What libx264 is told; the others get a rate of bits that is enough."""

    crf: int = 20  # less is better; 18 cannot be told from the pictures
    preset: str = "veryfast"


class VideoWriter:
    """An open mp4 file that takes one picture after the other; it appears under its name when closed without error.

    Pictures with odd sides get their last row or column twice: 4:2:0 colour needs even ones.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float, quality: Quality | None = None) -> None:
        """Open the file.

        Args:
            width, height: of the pictures to come, pixels.
            fps: pictures a second.
            quality: without it, that for looking at.

        Raises:
            ValueError: fps is not a positive number, or a side is below 1.
            MissingDependency: PyAV was built without any encoder this writer can use.
        """
        import av

        if not (math.isfinite(fps) and fps > 0 and width > 0 and height > 0):
            raise ValueError(f"VideoWriter: {width}x{height} at {fps} pictures a second is no video")
        self.path, self._size = path, (height, width)
        codec = _encoder()
        self.encoder = codec.name
        self.remarks: tuple[str, ...] = ()
        if codec.name == ENCODERS[-1]:
            self.remarks = (
                f"{path.name}: this PyAV has no H.264 encoder, MPEG-4 part 2 is written instead: browsers may not show "
                "it; pip install --upgrade av brings one",
            )
        self._unfinished = path.with_name(f".{path.stem}.part.mp4")
        self._container = av.open(str(self._unfinished), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(fps).limit_denominator(1001) or Fraction(1, 1001)
        options = dict(OPTIONS[codec.name])
        if codec.name == ENCODERS[0]:
            quality = quality or Quality()
            options |= {"crf": str(quality.crf), "preset": quality.preset}
        self._stream = self._container.add_stream(codec.name, rate=rate, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = (
            width + width % 2,
            height + height % 2,
            "yuv420p",
        )
        # What players take where a file says nothing; here it does say.
        self._matrix = BT709 if width >= 1280 or height > 576 else BT601
        self._stream.codec_context.colorspace, self._stream.codec_context.color_range = self._matrix, LIMITED
        if codec.name != ENCODERS[0]:
            self._stream.bit_rate = int(max(1e6, BITS_PER_PIXEL * width * height * float(rate)))

    def add(self, picture: np.ndarray) -> None:
        """Append (H, W, 3) uint8 RGB. Raises ValueError when it is of another size than the video."""
        import av

        if picture.shape != (*self._size, 3) or picture.dtype != np.uint8:
            height, width = self._size
            raise ValueError(
                f"VideoWriter: {picture.shape} {picture.dtype} does not fit {width}x{height} pixels of RGB"
            )
        odd = [(0, side % 2) for side in self._size]
        even = np.pad(picture, (*odd, (0, 0)), mode="edge") if any(map(any, odd)) else np.ascontiguousarray(picture)
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        self._encode(frame.reformat(format="yuv420p", dst_colorspace=self._matrix, dst_color_range=LIMITED))

    def _encode(self, frame: object) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        try:
            if kind is None:
                self._encode(None)
            self._container.close()
            if kind is None:
                self._unfinished.replace(self.path)
        finally:
            self._unfinished.unlink(missing_ok=True)


def _encoder() -> Codec:
    import av

    for name in ENCODERS:
        try:
            return av.codec.Codec(name, "w")
        except (av.error.FFmpegError, ValueError):
            continue
    raise MissingDependency(
        f"av cannot encode video (none of {', '.join(ENCODERS)} is in it): pip install --upgrade av"
    )
