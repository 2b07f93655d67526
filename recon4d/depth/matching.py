"""Which row of a depth file belongs to which frame, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recon4d.errors import DepthError
from recon4d.scene.recording import Recording

SAY_HOW = "say how the depth counts with --depth.offset and --depth.stride, or with --depth.names"
NAME_IN_FILES = "name the rows in the files themselves, by an array 'names' in the npz or a file per frame"


@dataclass(frozen=True)
class RowMatch:
    """Row per frame name, and the rule in words."""

    row_of: dict[str, int]
    rule: str


@dataclass(frozen=True)
class RowCounting:
    """How the other side counts, where the user says so."""

    names_file: Path | None = None  # line k names row k
    offset: int | None = None  # row k is source frame offset + k * stride
    stride: int | None = None


def match_rows(
    recording: Recording, rows: int, names: tuple[str, ...] | None, counting: RowCounting | None, source_frames: int
) -> RowMatch:
    """Find the row of every frame.

    The rules, in this order: an explicit names file, explicit offset and stride, names in the file itself (frame name
    or source file stem), as many rows as chosen frames, as many rows as the source has frames.

    Args:
        counting: None where the user has no options to say how the rows count.

    Raises:
        DepthError: no rule fits, or a frame has no row.
    """
    way_out = NAME_IN_FILES if counting is None else SAY_HOW
    counting = counting or RowCounting()
    if counting.names_file is not None:
        listed = _read_names(counting.names_file)
        if len(listed) != rows:
            raise DepthError(f"depth: {counting.names_file} names {len(listed)} rows, the depth has {rows}")
        return _by_name(recording, listed, f"by the names in {counting.names_file.name}", way_out)
    if counting.offset is not None or counting.stride is not None:
        return _by_count(recording, rows, counting.offset or 0, counting.stride or 1)
    if names is not None:
        return _by_name(recording, names, "by name", way_out)
    if rows == len(recording):
        return RowMatch({f.name: k for k, f in enumerate(recording.frames)}, "row by row, as many as chosen frames")
    if rows == source_frames:
        return _by_count(recording, rows, 0, 1)
    raise DepthError(
        f"depth: there are {rows} frames of depth, {len(recording)} chosen frames and {source_frames} in the source: "
        f"{way_out}"
    )


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DepthError(
            f"depth: the names file {path} is not readable ({error}): one name per line is expected"
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


def _by_name(recording: Recording, names: tuple[str, ...], rule: str, way_out: str) -> RowMatch:
    if len(set(names)) != len(names):
        raise DepthError("depth: two rows of the depth have the same name")
    row_of_name = {name: k for k, name in enumerate(names)}
    found, missing = {}, []
    for frame in recording.frames:
        for candidate in (frame.name, Path(frame.source_name).stem):
            if candidate in row_of_name:
                found[frame.name] = row_of_name[candidate]
                break
        else:
            missing.append(frame.name)
    if missing:
        raise DepthError(
            f"depth: {len(missing)} of {len(recording)} frames have no depth of their name (first: {missing[0]}; the "
            f"depth names {names[0]} to {names[-1]}): choose the frames the depth was made of, or {way_out}"
        )
    return RowMatch(found, rule)


def _by_count(recording: Recording, rows: int, offset: int, stride: int) -> RowMatch:
    if stride < 1:
        raise DepthError(f"depth: --depth.stride is {stride}, a number from 1 is expected")
    found = {}
    for frame in recording.frames:
        row, rest = divmod(frame.source_index - offset, stride)
        if rest or not 0 <= row < rows:
            raise DepthError(
                f"depth: frame {frame.name} is number {frame.source_index} of the source, no row of {rows} counted "
                f"from {offset} in steps of {stride} is it: correct --depth.offset and --depth.stride"
            )
        found[frame.name] = row
    return RowMatch(found, f"by source frame number, from {offset} in steps of {stride}")
