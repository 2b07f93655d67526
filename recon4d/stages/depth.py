"""Stage depth: one or several sources, each into its own folder, on the grid of the undistorted picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import DepthError, InputError, OptionsError
from recon4d.formats.path_text import is_text, shown
from recon4d.progress import Progress
from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.scene.windows import OverlapPair
from recon4d.stages.common import BY_CONTENT, NOT_IN_KEY, PATH_AFTER_EQUALS, check_range, execute
from recon4d.stages.depth_more import KINDS, MoreDepth, check_more, parse_more
from recon4d.stages.depth_mvs import MVS, StereoDepth, make_stereo_depth
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.depth.precomputed import PrecomputedRequest
    from recon4d.poses.lens import Lens
    from recon4d.scene.camera import Camera

VERSION = 2
AUTO, PRECOMPUTED = "auto", "precomputed"
OF_MVS = {"source": MVS} | NOT_IN_KEY  # enters the key of depth/mvs as a field of `StereoDepth`, and no other


@dataclass(frozen=True)
class DepthOptions:
    """Where depth comes from."""

    source: str = AUTO
    """Depth source, or several with commas; the first is the primary one. auto: precomputed where --path names depth,
    else mvs; precomputed: files you have; mvs: multi-view stereo on the pictures of a moving camera."""
    path: Path | None = field(default=None, metadata=BY_CONTENT)
    """For precomputed: an .npz or .npy stack (frames, height, width), or a folder with a file per frame."""
    kind: KINDS = "auto"
    """What the numbers mean; auto detects it and says what it took."""
    key: str | None = None
    """Name of the array in an npz; without it depth, depths, disparity and the like are tried."""
    metres_per_value: float | None = None
    """For metric files: metres that 1 stands for (without it 0.001 for whole numbers, 1 for floats)."""
    sensor: bool = False
    """The depth was measured by a sensor (RGB-D, lidar): its points count as measured."""
    names: Path | None = field(default=None, metadata=BY_CONTENT)
    """Text file that names the rows of the depth, one frame name per line."""
    offset: int | None = None
    """Row k of the depth is source frame offset + k * stride."""
    stride: int | None = None
    """See offset."""
    windows: str | None = None
    """LENGTH:OVERLAP of the windows of frames in which a video model made the depth, in frames it saw: 110:25 for
    DepthCrafter as it comes. Without it, what the npz says (windows, overlap_rows, overlap_earlier, overlap_later)."""
    more: tuple[str, ...] = field(default=(), metadata=PATH_AFTER_EQUALS)
    """Further depth of the same frames, NAME[:KIND][:sensor][:METRES]=PATH each: it becomes depth/NAME and anchors the
    primary depth, or is that itself where align names it. METRES is what 1 stands for (as metres-per-value); its rows
    are matched by name or by their number."""
    max_size: int = field(default=320, metadata=OF_MVS)
    """For mvs: longest side (pixels) of the pictures it works on. Twice as many take four times as long or more."""
    complete: bool = field(default=True, metadata=OF_MVS)
    """For mvs: also give depth where nothing was measured, marked as seen in another frame or completed."""
    workers: int | None = field(default=None, metadata=OF_MVS)
    """For mvs: frames at a time; without it one per core, as far as memory goes. The result is the same."""


def run(workspace: Workspace, options: DepthOptions, progress: Progress | None = None) -> list[StageRecord]:
    """Make the depth of every named source; one record each, the primary one's first.

    These sources are what later stages read from now on. Depth that the options named before stays on the disk, unread.
    """
    check_options(options)
    if progress is not None:
        _say_choice(options, progress)
    records = []
    for unit, own in unit_options(options).items():
        make = make_stereo_depth if isinstance(own, StereoDepth) else _read_files
        with _named(unit.partition("/")[2] if isinstance(own, MoreDepth) else None):
            records.append(
                execute(
                    workspace,
                    unit,
                    getattr(own, "version", VERSION),
                    own,
                    ("frames", "poses"),
                    lambda part, own=own, make=make: make(workspace, own, part),
                    progress,
                )
            )
    workspace.put_in_force([record.unit.partition("/")[2] for record in records])
    return records


@contextmanager
def _named(name: str | None) -> Iterator[None]:
    """Say of which further depth a message speaks."""
    try:
        yield
    except (DepthError, InputError) as error:
        if name is None:
            raise
        raise type(error)(f"depth: {name}: {str(error).removeprefix('depth: ')}") from error


def _say_choice(options: DepthOptions, progress: Progress) -> None:
    names = source_names(options)
    if MVS in names and options.path is None and AUTO in [name.strip() for name in options.source.split(",")]:
        progress.say("no depth was given (--depth.path): it is measured in the pictures by multi-view stereo (mvs)")
    if options.path is not None and PRECOMPUTED not in names:
        progress.say(f"--depth.path is not read by --depth.source {options.source}; {PRECOMPUTED},{MVS} has both")


def unit_options(options: DepthOptions) -> dict[str, DepthOptions | StereoDepth | MoreDepth]:
    """The units to make, the primary one first, and what of the options concerns each: no other change redoes it."""
    usual = {option.name: option.default for option in fields(options) if option.metadata.get("source") == MVS}
    own: dict[str, DepthOptions | StereoDepth | MoreDepth] = {}
    for name in source_names(options):
        stereo = StereoDepth(options.max_size, options.complete, options.workers)
        own[f"depth/{name}"] = stereo if name == MVS else replace(options, source=name, more=(), **usual)
    return own | {f"depth/{name}": entry for name, entry in parse_more(options.more, _taken()).items()}


def units_read_by_align(sources: Sequence[str], primary: str | None) -> tuple[str, ...]:
    """The units that align reads of these sources in force: the primary one, then those that anchor it.

    Args:
        primary: the source --align.primary names; None for the first.
    """
    first = [primary] if primary is not None else list(sources[:1])
    return tuple(f"depth/{name}" for name in [*first, *(name for name in sources if name not in first)])


def check_options(options: DepthOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError or InputError."""
    from recon4d.depth import SOURCES
    from recon4d.depth.windows import parse_windows

    names = source_names(options)
    if not names or len(set(names)) != len(names):
        raise OptionsError(f"depth: '{options.source}' names no source, or one twice: see --depth.source")
    unknown = [name for name in names if name not in (*SOURCES, MVS)]
    if unknown:
        raise OptionsError(
            f"depth: there is no source '{unknown[0]}'; known are {', '.join((AUTO, *SOURCES, MVS))}; depth made "
            f"elsewhere is read with --depth.path, beside stereo with --depth.source {PRECOMPUTED},{MVS}"
        )
    if options.path is None and PRECOMPUTED in names:
        raise OptionsError(
            "depth: the source precomputed needs --depth.path: an npz as DepthCrafter writes it, or a folder of depth "
            "files; without any, --depth.source mvs measures depth in the pictures"
        )
    if options.path is not None and not is_text(options.path):
        raise OptionsError(f"depth: the path {shown(options.path)} is not valid UTF-8: rename the file or folder")
    if PRECOMPUTED in names and not Path(options.path).exists():
        raise InputError(f"depth: {options.path} was not found: correct --depth.path")
    if options.windows is not None:
        parse_windows(options.windows)
    check_range("depth", "max_size", options.max_size, low=64, high=4096)
    if options.workers is not None:
        check_range("depth", "workers", options.workers, low=1)
    check_more(parse_more(options.more, _taken()))


def source_names(options: DepthOptions) -> list[str]:
    """The sources that the options name, the primary one first; auto is the one it stands for."""
    names = [name.strip() for name in options.source.split(",") if name.strip()]
    chosen = MVS if options.path is None else PRECOMPUTED
    return [chosen if name == AUTO else name for name in names]


def _taken() -> list[str]:
    """Names that no further depth may have."""
    from recon4d.depth import SOURCES

    return [AUTO, *SOURCES, MVS]


def _read_files(workspace: Workspace, options: DepthOptions | MoreDepth, part: StagePart) -> dict[str, object]:
    """Depth that others made, one file or row per frame."""
    from recon4d.depth import source_opener
    from recon4d.formats.arrays import write_depth_map
    from recon4d.formats.windows_json import write_overlap, write_windows
    from recon4d.poses.lens import read_lenses

    recording, trajectory = workspace.recording(), workspace.unrefined_trajectory()
    frames = workspace.record("frames").summary
    opener = source_opener(options.source if isinstance(options, DepthOptions) else PRECOMPUTED)
    size = int(frames["width"]), int(frames["height"])
    source = opener(_request(options), recording, size, int(frames["source_frames"]))
    for remark in source.remarks:
        part.progress.say(f"  {remark}")
    lenses = read_lenses(workspace.unit_dir("poses") / "lenses.json")
    invalid = 0.0
    for name in part.pending(trajectory.names, "reading depth"):
        depth = source.depth(name)
        if not depth.valid.any():
            raise DepthError(f"depth: frame {name} has no finite number that can be a depth: make the depth again")
        depth = undistorted(depth, lenses[name], trajectory[name].camera)
        write_depth_map(part.path / f"{name}.npz", depth)
        pair = source.overlap(name)
        if pair is not None:
            earlier, later = (undistorted(item, lenses[name], trajectory[name].camera) for item in pair)
            both = OverlapPair(earlier.values, later.values, earlier.valid & later.valid)
            write_overlap(part.path, name, both)
        invalid += 1.0 - depth.valid.mean()
    known = set(trajectory.names)  # frames without a pose have no depth here
    windows = [window for names in source.windows if (window := [name for name in names if name in known])]
    if windows:
        write_windows(part.path, windows)
    if invalid > 0.005 * len(trajectory):
        part.progress.say(f"  {100 * invalid / len(trajectory):.1f} % of the pixels have no depth")
    return {
        "kind": source.kind.value,
        "sensor": options.sensor,
        "frames": len(trajectory),
        "windows": len(windows),
        "remarks": list(source.remarks),
    }


def _request(options: DepthOptions | MoreDepth) -> PrecomputedRequest:
    """The options in the depth room's own words."""
    from recon4d.depth.matching import RowCounting
    from recon4d.depth.precomputed import PrecomputedRequest
    from recon4d.depth.windows import parse_windows

    request = PrecomputedRequest(
        path=Path(options.path),
        kind=None if options.kind == "auto" else DepthKind(options.kind),
        metres_per_value=options.metres_per_value,
        sensor=options.sensor,
    )
    if isinstance(options, MoreDepth):
        return request
    counting = RowCounting(options.names, options.offset, options.stride)
    windows = parse_windows(options.windows) if options.windows is not None else None
    return replace(request, key=options.key, counting=counting, windows=windows)


def undistorted(depth: DepthMap, lens: Lens, camera: Camera) -> DepthMap:
    """Depth of the recorded picture brought to the undistorted one, on a grid as fine as it came.

    z does not change: both pictures have the same centre and axes, only the ray of a pixel moves.
    """
    from recon4d.geometry.resample import sample_grid
    from recon4d.poses.lens import undistortion_map

    if lens.is_pinhole_like(camera):
        return depth
    height, width = depth.values.shape
    map_x, map_y = undistortion_map(lens, camera.resized(width, height))
    x, y = map_x * (width / lens.width), map_y * (height / lens.height)
    values, valid = sample_grid(depth.values, depth.valid, x, y)
    confidence, _ = sample_grid(depth.confidence, depth.valid, x, y)
    row, column = np.clip(y.astype(int), 0, height - 1), np.clip(x.astype(int), 0, width - 1)
    return DepthMap(depth.kind, values, valid, confidence, depth.provenance[row, column])


def sample_overlap(pair: OverlapPair, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the earlier and the later window say at positions in the picture.

    Args:
        u, v: (K,) shares of the picture's width and height, 0..1.

    Returns:
        earlier (K,) float32, later (K,) float32, valid (K,) bool in both.
    """
    from recon4d.geometry.resample import sample_grid

    height, width = pair.valid.shape
    x, y = np.asarray(u) * width, np.asarray(v) * height
    (earlier, valid), (later, _) = (sample_grid(grid, pair.valid, x, y) for grid in (pair.earlier, pair.later))
    return earlier, later, valid
