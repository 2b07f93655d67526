"""Depth as a video of grey values, or of the colours of the map inferno: the previews of video models, 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.colormap import inferno_share
from recon4d.formats.peers import PeerDepth
from recon4d.formats.video import DecodedFrame, Video
from recon4d.scene.depth import DepthKind

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
DARK = 48  # below it, in all three colours, grey and the map are hard to tell apart: the map begins with black
LEAST_LIT = 0.002  # share of the pixels of a picture that must not be dark before it tells
GREY_STEP = 3.0  # mean difference of the colours of a pixel that compression leaves of a grey picture
OFF_MAP = 40.0  # colours further from the map (8-bit units) are mixed of near and far, or of something else
MOST_OFF = 0.2  # share of such pixels in a picture that is still taken to be of the map


def read_depth_video(path: Path, key: str | None) -> PeerDepth | None:
    """Brighter is nearer: the whole clip from 0 to 1, in steps of 1/255 and with the traces of compression."""
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        return None
    files = DepthVideo(path)
    return PeerDepth(
        files,
        program="a depth video",
        kind=DepthKind.AFFINE_DISPARITY,
        why=f"{files.look} from 0 to 1, larger is nearer, as DepthCrafter writes; 8 bits are coarse: take the npz "
        "where there is one",
        numbers=tuple(range(len(files))),
    )


class DepthVideo:
    """Rows of a video, read forward; a row before the last one begins anew."""

    names, key = None, "video"

    def __init__(self, path: Path) -> None:
        """Raises InputError when it is no video, or neither grey nor of the map."""
        self.path = path
        with Video(path) as video:
            frames = video.frames()
            telling = next((lit for frame in frames if (lit := _lit(frame.rgb())) is not None), None)
            if not video.decoded:
                raise InputError(f"depth: {path} has no frame that can be decoded: make it again")
            if telling is None:
                raise InputError(f"depth: all pictures of {path} are black or nearly so: make it again")
            self._is_grey = bool(np.ptp(telling, axis=1).mean() <= GREY_STEP)
            if not self._is_grey and np.isnan(_from_inferno(telling)).mean() > MOST_OFF:
                raise InputError(
                    f"depth: the pictures of {path} are neither grey nor in the colours of the map inferno: give the "
                    "depth itself (npz, EXR), or a grey video"
                )
            self._count = video.expected_frames or video.decoded + sum(1 for _ in frames)
        self._frames: Iterator[DecodedFrame] | None = None
        self._next = 0

    @property
    def look(self) -> str:
        return "grey values" if self._is_grey else "colours of the map inferno"

    def __len__(self) -> int:
        return self._count

    def row(self, index: int) -> np.ndarray:
        if self._frames is None or index < self._next:
            self._frames, self._next = self._walk(), 0
        for frame in self._frames:
            self._next += 1
            if frame.index == index:
                rgb = frame.rgb()
                if self._is_grey:
                    return rgb.mean(axis=2, dtype=np.float32) / np.float32(255)
                return _from_inferno(rgb)
        raise InputError(f"depth: {self.path} ends before frame {index} of {self._count}: it is cut off, make it again")

    def _walk(self) -> Iterator[DecodedFrame]:
        with Video(self.path) as video:
            yield from video.frames()


def _lit(rgb: np.ndarray) -> np.ndarray | None:
    """(K, 3) colours of the pixels that are not dark; None of a picture in which nearly all are."""
    lit = rgb.max(axis=2) >= DARK
    return rgb[lit] if lit.mean() >= LEAST_LIT else None


def _from_inferno(rgb: np.ndarray) -> np.ndarray:
    """(...) float32 place of each colour (..., 3) in the map, 0..1; NaN far from it."""
    share, distance = inferno_share(rgb)
    return np.where(distance <= OFF_MAP, share, np.float32(np.nan))
