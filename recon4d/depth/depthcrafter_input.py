"""Which frames of a clip DepthCrafter sees, and at which size: the choices of its authors' program.

Source: Hu et al., DepthCrafter, arXiv 2409.02095, and measurements of its public program (v1.0.1).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import DepthError, InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.filter import Graph
    from av.video.frame import VideoFrame

MULTIPLE = 64  # sides divide by it: eight for the VAE, eight for the halvings of the UNet
TICKS_PER_S = 90_000  # times do not matter to scaling


def working_size(width: int, height: int, max_res: int = 1024) -> tuple[int, int]:
    """(width, height) in multiples of 64 for a picture of this size; the proportion of the sides changes a little.

    Raises:
        DepthError: a side is so small that no multiple of 64 is near it.
    """
    # Python's round, which takes halves to the even number, as the authors' program does.
    size = tuple(round(side / MULTIPLE) * MULTIPLE for side in (width, height))
    if max(size) > max_res:
        shrink = max_res / max(width, height)
        size = tuple(round(side * shrink / MULTIPLE) * MULTIPLE for side in (width, height))
    if min(size) == 0:
        raise DepthError(
            f"depth: pictures of {width}x{height} pixels become {size[0]}x{size[1]} in multiples of {MULTIPLE}: "
            f"sides of more than {MULTIPLE // 2} pixels are needed, also after --depth.max-res {max_res} shrank them"
        )
    return size


def sampled_frames(count: int, fps: float, target_fps: float = -1, most: int = -1) -> tuple[list[int], float]:
    """Numbers of the frames that the authors' program takes of a video, and the rate it gives its result.

    Args:
        count, fps: frames of the video, and frames per second.
        target_fps: wanted rate; -1 for all frames.
        most: take at most so many frames; -1 for all.
    """
    rate = fps if target_fps == -1 else target_fps
    taken = list(range(0, count, max(round(fps / rate), 1)))
    return taken[:most] if most != -1 else taken, rate


def read_clip(
    path: Path | str, max_res: int = 1024, target_fps: float = -1, most: int = -1
) -> tuple[np.ndarray, float]:
    """A video as the authors' program hands it to the model: scaled while its colours are converted.

    Returns:
        (T, h, w, 3) uint8 RGB at the working size, and the frames per second of the result.

    Raises:
        InputError, DepthError: not a video, or too small.
    """
    path = Path(path)
    with _opened(path) as stored:
        count = sum(1 for _ in stored.frames())
    with _opened(path) as stored:
        taken, rate = sampled_frames(count, stored.fps, target_fps, most)
        size = working_size(*stored.size, max_res)
    return VideoPixels(path, taken, size).read(0, len(taken)), rate


class VideoPixels:
    """Chosen frames of a video at the working size, scaled and converted as the authors' program does.

    That program, through its decoder, takes FFmpeg's filter ``scale`` with bilinear interpolation straight to RGB: the
    colours differ by 2 to 3 grey levels from those of the frames stage, which minds the matrix a video names.
    """

    def __init__(self, path: Path, indices: Sequence[int], size: tuple[int, int]) -> None:
        """
        Args:
            indices: numbers of the decoded frames, ascending.
        """
        self._path, self._indices, self._size = path, list(indices), size
        self._rows: Iterator[np.ndarray] = iter(())
        self._next = len(self._indices)

    def read(self, first: int, end: int) -> np.ndarray:
        """(end - first, h, w, 3) uint8 RGB of chosen frames. Forward is quick, back starts the video anew.

        Raises InputError where the video ends before them.
        """
        if first < self._next:
            self._rows, self._next = self._scaled_rows(), 0
        rows = []
        while self._next < end:
            row = next(self._rows, None)
            if row is None:
                raise InputError(f"depth: {self._path} has no frame {self._indices[self._next]}: is it the same video?")
            if self._next >= first:
                rows.append(row)
            self._next += 1
        return np.stack(rows)

    def _scaled_rows(self) -> Iterator[np.ndarray]:
        wanted = set(self._indices)
        scaler = _Scaler(*self._size)
        with _opened(self._path) as stored:
            for index, frame in enumerate(stored.frames()):
                if index in wanted:
                    yield scaler(frame)


class _Stored:
    """The frames of a video as they are stored."""

    def __init__(self, path: Path, container: InputContainer) -> None:
        self._path, self._container, self._stream = path, container, container.streams.video[0]
        self.size = self._stream.width, self._stream.height
        self.fps = float(self._stream.average_rate or self._stream.guessed_rate or 30)

    def frames(self) -> Iterator[VideoFrame]:
        import av

        try:
            yield from self._container.decode(self._stream)
        except av.error.FFmpegError as error:
            raise InputError(f"depth: {self._path} cannot be decoded to its end ({error})") from error


@contextmanager
def _opened(path: Path) -> Iterator[_Stored]:
    import av

    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"depth: {path} is not a readable video ({error})") from error
    with container:
        if not container.streams.video:
            raise InputError(f"depth: {path} has no video in it")
        yield _Stored(path, container)


def resized_pictures(pictures: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(N, h, w, 3) uint8 of RGB pictures (H, W, 3) uint8 brought to (width, height) by FFmpeg's bilinear scaling.

    No way of resizing of OpenCV or Pillow gives the same numbers. Pictures of this size stay as they are.
    """
    from av.video.frame import VideoFrame

    scaler = _Scaler(*size)
    return np.stack(
        [
            picture
            if picture.shape[1::-1] == size
            else scaler(VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24"))
            for picture in pictures
        ]
    )


class _Scaler:
    """FFmpeg's filter ``scale=WIDTH:HEIGHT:flags=bilinear``, to RGB."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._graph: tuple[object, Graph] | None = None  # what frames it is for, and the filters

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        kind = frame.width, frame.height, frame.format.name
        if self._graph is None or self._graph[0] != kind:
            self._graph = kind, self._filters(frame)
        graph = self._graph[1]
        graph.push(frame)
        return graph.pull().to_ndarray()

    def _filters(self, frame: VideoFrame) -> Graph:
        import av

        graph = av.filter.Graph()
        chain = [
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, TICKS_PER_S)
            ),
            graph.add("scale", f"{self._width}:{self._height}:flags=bilinear"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        for one, following in itertools.pairwise(chain):
            one.link_to(following)
        graph.configure()
        return graph
