"""Video files: upright frames in true colours with true times, and an honest count of what could not be decoded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError

if TYPE_CHECKING:
    import av
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# AVColorSpace -> the numbers of swscale's matrices. 0 (RGB) and 2 (not said) are missing: see _matrix.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_FULL_RANGE, _LIMITED_RANGE = 2, 1
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic
_FOCAL_TAG = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
_MAX_READ_ERRORS = 16  # in a row, before the rest of a file is given up


@dataclass(frozen=True)
class DecodedFrame:
    """One frame as the decoder gave it; pixels are converted when asked for."""

    index: int  # number of the decoded frame in the video
    timestamp_s: float  # from the first decoded frame
    damaged: bool  # the decoder had to make up parts of it, or of a frame it is predicted from
    stored: VideoFrame

    @property
    def rotation_deg(self) -> int:
        """Counter-clockwise turn that makes the stored picture upright: 0, 90, 180 or 270."""
        return round(self.stored.rotation / 90) % 4 * 90

    @property
    def hdr(self) -> str | None:
        """Name of the transfer curve of a high dynamic range video, else None."""
        return _HDR_TRANSFERS.get(self.stored.color_trc)

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, full range, upright, stored pixels (not yet square)."""
        # Without these two swscale takes the colour of every second pixel from its neighbour and rounds downwards.
        return self._upright(self._converted("rgb24", None, "BILINEAR", "FULL_CHR_H_INT", "ACCURATE_RND"))

    def thumbnail(self, size: int) -> np.ndarray:
        """(size, size, 3) uint8 RGB of the stored picture, stretched."""
        return self._converted("rgb24", (size, size), "AREA")

    def luma(self, max_size: int) -> np.ndarray:
        """(H, W) uint8 of the stored picture, longest side at most ``max_size`` px."""
        shrink = min(1.0, max_size / max(self.stored.width, self.stored.height))
        size = tuple(max(1, round(side * shrink)) for side in (self.stored.width, self.stored.height))
        return self._converted("gray", size, "AREA")

    def _upright(self, picture: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(picture, k=self.rotation_deg // 90))

    def _converted(self, pixel_format: str, size: tuple[int, int] | None, *scaling: str) -> np.ndarray:
        from av.video.reformatter import Interpolation

        flags = Interpolation(0)
        for name in scaling:
            flags |= Interpolation[name]
        width, height = size or (self.stored.width, self.stored.height)
        return self.stored.reformat(
            width,
            height,
            pixel_format,
            src_colorspace=self._matrix(),
            src_color_range=_FULL_RANGE if self._is_full_range() else _LIMITED_RANGE,
            dst_color_range=_FULL_RANGE,
            interpolation=flags,
        ).to_ndarray()

    def _matrix(self) -> int:
        # Where the file does not say: BT.709 for high definition, BT.601 below, as players do.
        high_definition = self.stored.width >= 1280 or self.stored.height > 576
        return _MATRICES.get(self.stored.colorspace, 1 if high_definition else 5)

    def _is_full_range(self) -> bool:
        return self.stored.color_range == _FULL_RANGE or self.stored.format.name.startswith("yuvj")


class Video:
    """An open video file. After `frames` has ended, the counters tell how it went."""

    def __init__(self, path: Path) -> None:
        """Raises InputError when there is no video in the file."""
        self.path = path
        self._container = _open(path)
        try:
            self._stream = self._video_stream()
        except InputError:
            self._container.close()
            raise
        # Read now: PyAV's streams must not be asked once their container is closed.
        self.pixel_aspect = _pixel_aspect(self._stream)  # width of a stored pixel over its height
        self.focal_35mm_mm = _focal_35mm_mm(self._stream, self._container)  # from the tags of phones, else None
        self.expected_duration_s = _duration_s(self._stream)  # None where the container does not say
        # Only mp4 and mov count pictures; AVI also counts the empty places of dropped frames.
        self._promised_frames = self._stream.frames if "mp4" in self._container.format.name else 0
        self._period_s = _period_s(self._stream)
        self.decoded = 0  # frames, damaged ones included
        self.damaged = 0
        self.read_errors = 0  # packets or places of the file that could not be used
        self.repaired_times = 0  # frames whose time was missing or not after the one before
        self._discarded = 0  # packets that an edit list takes out on purpose
        self._lost_reference = False  # since the last frame, something was lost that others are predicted from

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    def _video_stream(self) -> VideoStream:
        import av

        # A cover picture of a music file is a video stream to the container, and plain text is one to the tty reader.
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not streams or self._container.format.name == "tty":
            raise InputError(f"frames: {self.path} has no video in it: give a video file or a folder of pictures")
        return streams[0]

    @property
    def expected_frames(self) -> int | None:
        """Frames that should come, as the container says, or None when it does not."""
        return self._promised_frames - self._discarded if self._promised_frames else None

    def frames(self) -> Iterator[DecodedFrame]:
        """All frames in the order they are shown, one after the other; call once.

        Times are the container's, minus that of the first decoded frame. A time that is missing or not after the one
        before is replaced by the one before plus one frame period, and counted.
        """
        first_s = previous_s = None
        doubtful = False
        for stored in self._decoded():
            time_s = None if stored.pts is None else float(stored.pts * stored.time_base)
            if time_s is None or (previous_s is not None and time_s <= previous_s):
                time_s = 0.0 if previous_s is None else previous_s + self._period_s
                self.repaired_times += 1
            first_s = time_s if first_s is None else first_s
            previous_s = time_s
            # What is predicted from a lost frame looks like rubble (measured: 49 grey values off on average, and the
            # decoder says nothing), so nothing is trusted before the next frame that stands for itself.
            doubtful = bool(stored.is_corrupt) or (not stored.key_frame and (doubtful or self._lost_reference))
            self._lost_reference = False
            self.damaged += doubtful
            self.decoded += 1
            yield DecodedFrame(self.decoded - 1, time_s - first_s, doubtful, stored)

    def _decoded(self) -> Iterator[VideoFrame]:
        import av

        # One thread per frame loses more at the end of a cut off file, and names the wrong packet as the broken one.
        self._stream.thread_type = "SLICE"
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.read_errors += 1
                self._lost_reference |= not packet.is_disposable
                continue
            yield from frames

    def _packets(self) -> Iterator[av.Packet]:
        """Packets of the stream; goes on after places that cannot be read."""
        import av

        errors = 0
        while errors < _MAX_READ_ERRORS:
            try:
                for packet in self._container.demux(self._stream):
                    errors = 0
                    self._discarded += packet.is_discard
                    yield packet
                return
            except av.error.FFmpegError:
                errors += 1
                self.read_errors += 1
                self._lost_reference = True

    def _ends_early(self, last_timestamp_s: float, duration_s: float) -> bool:
        interval_s = last_timestamp_s / (self.decoded - 1) if self.decoded > 1 else self._period_s
        return last_timestamp_s + 2 * interval_s < 0.98 * duration_s

    def losses(self, last_timestamp_s: float) -> list[str]:
        """Sentences on what is missing, for a video that was walked to its end; empty when nothing is."""
        texts = []
        expected, duration_s = self.expected_frames, self.expected_duration_s
        if expected is not None and self.decoded < expected:
            texts.append(
                f"{expected - self.decoded} of {expected} frames of {self.path.name} could not be decoded "
                "(the file is cut off or damaged); the rest is used"
            )
        elif expected is None and duration_s is not None and self._ends_early(last_timestamp_s, duration_s):
            texts.append(
                f"{self.path.name} ends after {last_timestamp_s:.2f} s of {duration_s:.2f} s "
                "(the file is cut off or damaged); what is there is used"
            )
        elif self.read_errors:
            texts.append(f"{self.read_errors} places of {self.path.name} could not be decoded; the rest is used")
        if self.damaged:
            texts.append(
                f"{self.damaged} of {self.decoded} decoded frames of {self.path.name} are damaged, or predicted from "
                "lost ones, and are left out"
            )
        if self.repaired_times:
            texts.append(
                f"{self.repaired_times} of {self.decoded} frames of {self.path.name} have no usable time; "
                "one frame period after the frame before is taken"
            )
        return texts


def _pixel_aspect(stream: VideoStream) -> float:
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return float(ratio) if ratio else 1.0


def _duration_s(stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    with contextlib.suppress(KeyError, ValueError):  # Matroska keeps the length of a stream as a text
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return None


def _period_s(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return 1.0 / float(rate) if rate else 1.0 / 30.0


def _focal_35mm_mm(stream: VideoStream, container: av.container.InputContainer) -> float | None:
    for tags in (stream.metadata, container.metadata):
        with contextlib.suppress(KeyError, ValueError):
            if (focal := float(tags[_FOCAL_TAG])) > 0:
                return focal
    return None


def _open(path: Path) -> av.container.InputContainer:
    import av

    if path.stat().st_size == 0:
        raise InputError(f"frames: {path} is empty, a video is expected: was the copy complete?")
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        with open(path, "rb") as file:
            is_mp4 = file.read(12)[4:8] == b"ftyp"
        if is_mp4:
            raise InputError(
                f"frames: {path} has no readable index (the recording or copy was cut off before its end): "
                "copy it again, or repair it with a tool for broken mp4 files"
            ) from error
        raise InputError(
            f"frames: {path} is not a video that can be read: give a video file or a folder of pictures"
        ) from error
