"""Which frames of a clip DepthCrafter sees, and at which size: the choices of its authors' program.

Source: Hu et al., DepthCrafter, arXiv 2409.02095, and measurements of its public program (v1.0.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import DepthError, InputError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MULTIPLE = 64  # sides divide by it: eight for the VAE, eight for the halvings of the UNet


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


def read_clip(path: Path, max_res: int = 1024, target_fps: float = -1, most: int = -1) -> tuple[np.ndarray, float]:
    """A video as the authors' program hands it to the model: scaled while its colours are converted.

    Returns:
        (T, h, w, 3) uint8 RGB at the working size, and the frames per second of the result.

    Raises:
        InputError, DepthError: not a video, or too small.
    """
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stored = list(container.decode(stream))
            fps = float(stream.average_rate or stream.guessed_rate or 30)
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"depth: {path} is not a readable video ({error})") from error
    if not stored:
        raise InputError(f"depth: {path} has no frames")
    taken, rate = sampled_frames(len(stored), fps, target_fps, most)
    size = working_size(stored[0].width, stored[0].height, max_res)
    return np.stack([_scaled(stored[index], *size) for index in taken]), rate


def resized_pictures(pictures: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(N, h, w, 3) uint8 of RGB pictures (H, W, 3) uint8 brought to (width, height) by FFmpeg's bilinear scaling.

    No way of resizing of OpenCV or Pillow gives the same numbers. Pictures of this size stay as they are.
    """
    from av.video.frame import VideoFrame

    same = [picture.shape[1::-1] == size for picture in pictures]
    return np.stack(
        [
            picture if fits else _scaled(VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24"), *size)
            for picture, fits in zip(pictures, same)
        ]
    )


def _scaled(frame: VideoFrame, width: int, height: int) -> np.ndarray:
    return frame.reformat(width, height, "rgb24", interpolation="BILINEAR").to_ndarray()
