"""Depth that others made: the primary one of `--depth.path`, and further ones of `--depth.more`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from recon4d.errors import InputError, OptionsError, Recon4dError
from recon4d.formats.path_text import is_text, shown
from recon4d.scene.depth import DepthKind
from recon4d.stages.common import BY_CONTENT, check_range
from recon4d.stages.depth_frames import DepthFrames
from recon4d.stages.depth_options import KINDS, MVS, DepthOptions, fields_of
from recon4d.workspace import StagePart, Workspace

if TYPE_CHECKING:
    from recon4d.depth.precomputed import Precomputed, PrecomputedRequest


LEAST_METRES, MOST_METRES = 1e-9, 1e6  # that a stored 1 can stand for


@dataclass(frozen=True)
class FileDepth:
    """What of the depth options concerns depth/precomputed."""

    version: ClassVar[int] = 3

    path: Path | None = field(metadata=BY_CONTENT)
    kind: KINDS
    key: str | None
    metres_per_value: float | None
    sensor: bool
    names: Path | None = field(metadata=BY_CONTENT)
    offset: int | None
    stride: int | None
    windows: str | None

    @classmethod
    def of(cls, options: DepthOptions) -> FileDepth:
        return cls(**fields_of(cls, options))

    def check(self) -> None:
        from recon4d.depth.windows import parse_windows

        if self.path is None:
            raise OptionsError(
                "depth: the source precomputed needs --depth.path: an npz as DepthCrafter writes it, or a folder of "
                f"depth files; without any, --depth.source {MVS} measures depth in the pictures"
            )
        if not is_text(self.path):
            raise OptionsError(f"depth: the path {shown(self.path)} is not valid UTF-8: rename the file or folder")
        if not Path(self.path).exists():
            raise InputError(f"depth: {self.path} was not found: correct --depth.path")
        if self.windows is not None:
            parse_windows(self.windows)
        check_metres_per_value(self.metres_per_value)
        if self.stride is not None:
            check_range("depth", "stride", self.stride, low=1)

    def extra_key(self, before: Mapping[str, object] | None = None) -> object:
        return _recognised(self.path, self.key)

    def make(self, workspace: Workspace, part: StagePart) -> dict[str, object]:
        from recon4d.depth.matching import RowCounting
        from recon4d.depth.windows import parse_windows

        windows = parse_windows(self.windows) if self.windows is not None else None
        counting = RowCounting(self.names, self.offset, self.stride)
        return _read(workspace, replace(_request(self), key=self.key, counting=counting, windows=windows), part)


@dataclass(frozen=True)
class MoreDepth:
    """The options of one further depth; the same as those of the primary one, under another name."""

    typed_as: ClassVar[str] = "--depth.more"
    version: ClassVar[int] = 3

    path: Path = field(metadata=BY_CONTENT)
    kind: KINDS = "auto"
    sensor: bool = False
    metres_per_value: float | None = None

    def extra_key(self, before: Mapping[str, object] | None = None) -> object:
        return _recognised(self.path)

    def make(self, workspace: Workspace, part: StagePart) -> dict[str, object]:
        return _read(workspace, _request(self), part)


def check_metres_per_value(metres: float | None) -> None:
    """Refuse what a stored 1 cannot stand for. Raises OptionsError."""
    if metres is not None:
        check_range("depth", "metres_per_value", metres, low=LEAST_METRES, high=MOST_METRES)


def _recognised(path: Path | None, key: str | None = None) -> list[str | None] | None:
    """As whose depth the files are read: some programs are told by the names of their files, not by content alone."""
    from recon4d.formats.peers import read_peer_depth

    try:
        found = None if path is None else read_peer_depth(Path(path), key)
    except Recon4dError:
        return None  # is told when the depth is made
    return None if found is None else [found.program, found.kind, found.otherwise]


def _request(options: FileDepth | MoreDepth) -> PrecomputedRequest:
    """The options in the depth room's own words."""
    from recon4d.depth.precomputed import PrecomputedRequest

    return PrecomputedRequest(
        path=Path(options.path),
        kind=None if options.kind == "auto" else DepthKind(options.kind),
        metres_per_value=options.metres_per_value,
        sensor=options.sensor,
    )


def _checked(workspace: Workspace, source: Precomputed, frames: DepthFrames, part: StagePart) -> Precomputed:
    """The source, read as the kind that the sparse points of the poses show."""
    from recon4d.stages.depth_check import check_kind, sample_names

    sample = ((name, frames.undistorted(name, source.depth(name))) for name in sample_names(workspace))
    verdict = check_kind(workspace, source.kind, source.told, sample, source.otherwise)
    if verdict.remark is None:
        return source
    if verdict.changed:
        part.warn(verdict.remark)
        source = source.of_kind(verdict.kind)
    else:
        part.progress.say(f"  {verdict.remark}")
    source.remarks += (verdict.remark,)
    return source


def _read(workspace: Workspace, request: PrecomputedRequest, part: StagePart) -> dict[str, object]:
    """Write the depth of the files, frame by frame."""
    from recon4d.depth.precomputed import open_precomputed

    frames = DepthFrames(workspace, part)
    source = open_precomputed(request, frames.recording, frames.size, frames.source_frames, frames.source_size)
    for remark in source.remarks:
        part.progress.say(f"  {remark}")
    source = _checked(workspace, source, frames, part)
    for name in part.pending(frames.names, "reading depth"):
        depth = source.depth(name)
        frames.write(name, depth)
        pair = source.overlap(name)
        if pair is not None:
            frames.write_overlap(name, *pair)
    windows = frames.write_windows(source.windows)
    return {
        "kind": source.kind.value,
        "sensor": request.sensor,
        "frames": len(frames.names),
        "windows": windows,
        "remarks": list(source.remarks),
    }
