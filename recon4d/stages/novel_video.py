"""Pictures of a moving camera into video files: the colours, and beside them depth, coverage and single pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.formats.video_writer import Quality, VideoWriter
from recon4d.progress import Progress
from recon4d.render.splatting import Rendered
from recon4d.threads import usable_cores

BEST = Quality(crf=16, preset="medium")  # a result, not a preview


@dataclass(frozen=True)
class Shown:
    """One picture of the video, made."""

    picture: np.ndarray  # (H, W, 3) uint8 that is shown
    rendered: Rendered  # of the one camera, or of the left one


@dataclass(frozen=True)
class Asides:
    """What is written beside the video, and where; None for what is not."""

    depth_video: Path | None = None  # colours of depth
    alpha_video: Path | None = None  # white is covered by what was seen or filled
    pictures: Path | None = None  # folder: NUMBER.png with alpha, NUMBER.npz with depth, alpha and provenance
    near: float = 1.0  # depth of the first colour, scene units
    far: float = 10.0


def write_novel_video(
    path: Path, count: int, make: Callable[[int], Shown], fps: float, asides: Asides, progress: Progress
) -> None:
    """Make ``count`` pictures, several at once, and write them in order; nothing is left behind when one fails."""
    first = make(0)
    height, width = first.picture.shape[:2]
    own_height, own_width = first.rendered.depth.shape
    with ExitStack() as open_files, progress.bar("rendering", count) as bar:
        video = open_files.enter_context(VideoWriter(path, width, height, fps, BEST))
        others = []
        for file, draw in ((asides.depth_video, depth_picture), (asides.alpha_video, alpha_picture)):
            if file is not None:
                others.append((open_files.enter_context(VideoWriter(file, own_width, own_height, fps, BEST)), draw))
        for number, shown in enumerate(_in_order(count, make, first)):
            video.add(shown.picture)
            for writer, draw in others:
                writer.add(draw(shown.rendered, asides))
            if asides.pictures is not None:
                write_single(asides.pictures, number, shown.rendered)
            bar.advance()
    for remark in video.remarks:
        progress.say(f"  warning: {remark}")


def _in_order(count: int, make: Callable[[int], Shown], first: Shown) -> Iterator[Shown]:
    """What ``make`` gives for 0 .. count - 1; a few more than there are cores are under way."""
    yield first
    workers = usable_cores()
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[Shown]] = deque()
        try:
            for number in range(1, count):
                under_way.append(pool.submit(make, number))
                if len(under_way) > workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def depth_picture(rendered: Rendered, asides: Asides) -> np.ndarray:
    """(H, W, 3) uint8 colours of depth, on one scale for the whole video."""
    from recon4d.view.depth_colors import colorize_depth

    return colorize_depth(rendered.depth, rendered.alpha > 0, asides.near, asides.far)


def alpha_picture(rendered: Rendered, asides: Asides) -> np.ndarray:
    """(H, W, 3) uint8 grey: the covered share of each pixel."""
    grey = np.round(rendered.alpha * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def write_single(folder: Path, number: int, rendered: Rendered) -> None:
    """A picture with alpha as PNG, and its numbers as npz."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    alpha = np.round(rendered.alpha * 255).astype(np.uint8)
    color = np.clip(np.round(rendered.color), 0, 255).astype(np.uint8)
    Image.fromarray(np.dstack([color, alpha])).save(folder / f"{number:06d}.png")
    np.savez_compressed(
        folder / f"{number:06d}.npz", depth=rendered.depth, alpha=rendered.alpha, provenance=rendered.provenance
    )
