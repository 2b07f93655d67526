"""Depth of a source to look at: `depth.png` with some frames, `preview.mp4` with all of them; and told in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.formats.arrays import read_depth_map
from recon4d.formats.colormap import inferno_u8
from recon4d.formats.pictures import write_picture
from recon4d.formats.video_writer import VideoWriter
from recon4d.progress import Progress, Silent
from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.view.depth_nearness import UNITS, WORDS, DepthScale, depth_scale
from recon4d.view.drawing import FAINT, INK, paper, resized, shortened, tag, text_width, write

SHEET, VIDEO = "depth.png", "preview.mp4"
FRAMES, ABREAST = 6, 3  # of the sheet
CELL_PX, VIDEO_PX = 400, 640  # longest side of a picture on the sheet, in the video
MARGIN, GAP, HEAD, BAR = 28, 8, 72, 14
UNKNOWN_FPS = 10.0
NO_DEPTH = (62, 63, 68)  # brighter than what is far


@dataclass(frozen=True)
class DepthClip:
    """A source's finished depth and the pictures it belongs to."""

    folder: Path  # of NAME.npz; the preview is written here
    names: Sequence[str]  # in time order
    kind: DepthKind
    picture_of: Callable[[str], np.ndarray]  # name -> (H, W, 3) uint8 RGB, of any size
    fps: float | None  # true mean rate; None where it is not known
    title: str

    def depth(self, name: str) -> DepthMap:
        """Depth of one frame, read when asked for."""
        return read_depth_map(self.folder / f"{name}.npz", self.kind)


def write_missing_preview(clip: DepthClip, progress: Progress | None = None) -> tuple[str, ...]:
    """Write `depth.png` and, of two frames and more, `preview.mp4` where they are not there yet.

    One frame is in memory at a time. All frames have one scale: the middle 98 % of the clip in inferno, near is bright
    whatever the kind, grey where there is no depth. A source that has more to show writes a `depth.png` of its own.

    Returns:
        Remarks about the files.

    Raises:
        InputError: a file of depth is missing or damaged.
        MissingDependency: videos cannot be written here.
    """
    sheet, video = clip.folder / SHEET, clip.folder / VIDEO
    lacks_sheet, lacks_video = not sheet.exists(), len(clip.names) > 1 and not video.exists()
    if not (lacks_sheet or lacks_video):
        return ()
    progress = progress or Silent()
    scale = scale_of(clip, progress)
    if lacks_sheet:
        unfinished = clip.folder / f".{SHEET}"
        write_picture(unfinished, depth_sheet(clip, scale))
        unfinished.replace(sheet)
    return tuple(_write_video(video, clip, scale, progress)) if lacks_video else ()


def scale_of(clip: DepthClip, progress: Progress | None = None) -> DepthScale:
    """The clip's scale, from some pixels of every frame."""
    with (progress or Silent()).bar("range of depth", len(clip.names)) as bar:

        def read(name: str) -> DepthMap:
            bar.advance()
            return clip.depth(name)

        return depth_scale(map(read, clip.names), len(clip.names), clip.kind)


def colored(depth: DepthMap, scale: DepthScale) -> np.ndarray:
    """(H, W, 3) uint8 RGB of one frame on the clip's scale."""
    share, usable = scale.share(depth)
    return np.where(usable[..., None], inferno_u8(share), np.array(NO_DEPTH, dtype=np.uint8))


# -- the sheet -------------------------------------------------------------------------------------------------------


def depth_sheet(clip: DepthClip, scale: DepthScale) -> np.ndarray:
    """(H, W, 3) uint8: evenly chosen frames, picture above depth, and the scale in words."""
    chosen = np.unique(np.linspace(0, len(clip.names) - 1, FRAMES).round().astype(int))
    names = [clip.names[i] for i in chosen]
    cell = _cell(clip.picture_of(names[0]), CELL_PX)
    bands = -(-len(names) // ABREAST)
    columns = -(-len(names) // bands)
    width = columns * (cell[0] + GAP) - GAP
    step = 2 * cell[1] + 2 * GAP
    page = paper(HEAD + bands * step + GAP + BAR + 22 + MARGIN, width + 2 * MARGIN)
    write(page, shortened(clip.title, 0.8, width), (MARGIN, 36), 0.8, INK)
    write(page, shortened(_told(scale), 0.42, width), (MARGIN, 58), 0.42, FAINT)
    for k, name in enumerate(names):
        top, left = HEAD + k // columns * step, MARGIN + k % columns * (cell[0] + GAP)
        picture = clip.picture_of(name)
        above = _fitted(picture, cell)
        tag(above, name)
        page[top : top + cell[1], left : left + cell[0]] = above
        # The depth of a network may be of any shape, and always covers the whole picture.
        shown = _fitted(resized(colored(clip.depth(name), scale), picture.shape[1::-1]), cell)
        page[top + cell[1] : top + 2 * cell[1], left : left + cell[0]] = shown
    _bar(page[HEAD + bands * step + GAP :, MARGIN : MARGIN + width], scale)
    return page


def _told(scale: DepthScale) -> str:
    text = f"{scale.frames} frame{'s' if scale.frames > 1 else ''} of {WORDS[scale.kind]}; one scale for all of them"
    return text + (
        f"; {100 * scale.without:.1f} % of the pixels have no depth (grey)" if scale.without > 0.0005 else ""
    )


def _bar(part: np.ndarray, scale: DepthScale) -> None:
    """The colours from far to near, with what they mean under them."""
    width = part.shape[1]
    part[:BAR] = inferno_u8(np.linspace(0, 1, width))
    free = 0
    ends = (0.0, 1.0) if not scale.label(0.5) or width < 480 else (0.0, 0.25, 0.5, 0.75, 1.0)
    for share in ends:
        text = scale.label(share)
        if scale.kind in UNITS:
            text += {0.0: " (farthest)", 1.0: " (nearest)"}.get(share, "")
        long = text_width(text, 0.42)
        left = int(np.clip(share * width - long / 2, 0, max(width - long, 0)))
        if left >= free:
            write(part, text, (left, BAR + 18), 0.42, FAINT)
            free = left + long + 12


def _cell(picture: np.ndarray, longest: int) -> tuple[int, int]:
    """(width, height) of the picture's shape, even, no larger than the picture and than ``longest`` px."""
    height, width = picture.shape[:2]
    shrink = min(1.0, longest / max(height, width))
    return tuple(max(2, round(side * shrink / 2) * 2) for side in (width, height))


def _fitted(picture: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """A picture in a cell, whole, with bars where it has another shape."""
    height, width = picture.shape[:2]
    if abs(width * cell[1] - height * cell[0]) <= 0.02 * height * cell[0]:  # grids of networks are rounded
        return resized(picture, cell)
    fit = min(cell[0] / width, cell[1] / height)
    size = max(1, round(width * fit)), max(1, round(height * fit))
    out = paper(cell[1], cell[0])
    left, top = (cell[0] - size[0]) // 2, (cell[1] - size[1]) // 2
    out[top : top + size[1], left : left + size[0]] = resized(picture, size)
    return out


# -- the video -------------------------------------------------------------------------------------------------------


def _write_video(path: Path, clip: DepthClip, scale: DepthScale, progress: Progress) -> list[str]:
    """Picture and depth side by side, at the clip's mean pace; remarks about the file."""
    cell = _cell(clip.picture_of(clip.names[0]), VIDEO_PX)
    known = clip.fps is not None and np.isfinite(clip.fps) and clip.fps > 0
    remarks = [] if known else [f"{path.name}: the frames have no times, it shows {UNKNOWN_FPS:g} of them a second"]
    with (
        VideoWriter(path, 2 * cell[0], cell[1], clip.fps if known else UNKNOWN_FPS) as video,
        progress.bar("preview", len(clip.names)) as bar,
    ):
        for name in clip.names:
            picture = clip.picture_of(name)
            # The depth of a network may be of any shape, and always covers the whole picture.
            shown = resized(colored(clip.depth(name), scale), picture.shape[1::-1])
            video.add(np.hstack([_fitted(picture, cell), _fitted(shown, cell)]))
            bar.advance()
    return [*remarks, *video.remarks]


# -- words -----------------------------------------------------------------------------------------------------------


def depth_summary(summary: Mapping[str, object], seconds: float) -> list[str]:
    """Lines for people about one finished source.

    Args:
        summary: the record's: kind and frames; windows, values_5_50_95, without_depth (`DepthScale.record`), size,
            device, model, licence and commercial_use as far as the source has them.
        seconds: that making it took.
    """
    kind, frames = DepthKind(summary["kind"]), int(summary["frames"])
    size = f", made at {summary['size']}" if summary.get("size") else ""
    lines = [f"{frames} frame{'s' if frames != 1 else ''}{size}: {WORDS[kind]} ({kind.value})"]
    numbers = summary.get("values_5_50_95")
    if numbers and None not in numbers:
        unit = f" {UNITS[kind]}" if kind in UNITS else ""
        low, middle, high = (f"{number:.4g}" for number in numbers)
        end = "near" if kind.is_disparity else "far"
        lines.append(
            f"5 % of the numbers are below {low}, half below {middle}, 95 % below {high}{unit}; large is {end}"
        )
    if summary.get("windows"):
        text = f"{summary['windows']} window{'s' if summary['windows'] != 1 else ''} of the model over the clip"
        agreement = summary.get("agreement_of_windows")
        worst = f"; where they meet, they agree at least to {min(agreement):.2f} of 1" if agreement else ""
        lines.append(text + worst)
    if summary.get("without_depth"):
        lines.append(f"{100 * summary['without_depth']:.1f} % of the pixels have no depth")
    device = f" on {summary['device']}" if summary.get("device") else ""
    lines.append(f"{seconds / max(frames, 1):.2f} s a frame{device}, loading included")
    if summary.get("model"):
        lines.append(f"model {summary['model']}, {_terms(summary)}")
    if summary.get("base_model"):
        base = {"licence": summary.get("base_licence"), "commercial_use": summary.get("base_commercial_use")}
        lines.append(f"base model {summary['base_model']}, {_terms(base)}")
    return lines


def _terms(summary: Mapping[str, object]) -> str:
    licence = summary.get("licence") or "licence not known"
    said = {True: "commercial use allowed", False: "not for commercial use"}.get(summary.get("commercial_use"))
    return f"{licence} ({said})" if said else str(licence)
