"""Which row of a depth file belongs to which frame, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recon4d.errors import DepthError
from recon4d.formats.row_numbers import rows_by_count
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


@dataclass(frozen=True)
class RowLabels:
    """What the files say of their rows."""

    count: int
    names: tuple[str, ...] | None = None  # frame names or stems of the pictures
    numbers: tuple[int, ...] | None = None  # which picture each row is, as the program counted what it was given


def match_rows(recording: Recording, rows: RowLabels, counting: RowCounting | None, source_frames: int) -> RowMatch:
    """Find the row of every frame.

    The rules, in this order: an explicit names file, explicit offset and stride, names in the file itself (frame name
    or source file stem), the program's own numbers where its names are none of ours, and the number of rows (both as
    for poses: `rows_by_count`).

    Args:
        counting: None where the user has no options to say how the rows count.

    Raises:
        DepthError: no rule fits, or a frame has no row.
    """
    way_out = NAME_IN_FILES if counting is None else SAY_HOW
    counting = counting or RowCounting()
    if counting.names_file is not None:
        listed = _read_names(counting.names_file)
        if len(listed) != rows.count:
            raise DepthError(f"depth: {counting.names_file} names {len(listed)} rows, the depth has {rows.count}")
        return _by_name(recording, listed, f"by the names in {counting.names_file.name}", way_out)
    if counting.offset is not None or counting.stride is not None:
        return _by_count(recording, rows, counting.offset or 0, 1 if counting.stride is None else counting.stride)
    if rows.names is not None and not (rows.numbers and _only_counts(recording, rows, source_frames)):
        return _by_name(recording, rows.names, "by name", way_out)
    found = rows_by_count(rows.count, rows.numbers, recording, source_frames, "depth: the frames of depth")
    if found is None:
        raise DepthError(
            f"depth: there are {rows.count} frames of depth, {len(recording)} chosen frames and {source_frames} in the "
            f"source: {way_out}"
        )
    missing = [frame.name for frame in recording.frames if frame.name not in found.row_of]
    if missing:
        raise DepthError(
            f"depth: {len(missing)} of {len(recording)} frames have no depth, matched {found.rule} (first: "
            f"{missing[0]}): choose the frames the depth was made of, or {way_out}"
        )
    return RowMatch(found.row_of, found.rule)


def _only_counts(recording: Recording, rows: RowLabels, source_frames: int) -> bool:
    """Names such as frame_0007 with which a program counts what it was given are no names of ours.

    They are where all frames are found by them, unless that contradicts a row for every frame of the source.
    """
    row_of_name = {name: row for row, name in enumerate(rows.names)}
    found = [row_of_name.get(frame.name, row_of_name.get(Path(frame.source_name).stem)) for frame in recording.frames]
    if None in found:
        return True
    return rows.count == source_frames and found != [frame.source_index for frame in recording.frames]


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


def _by_count(recording: Recording, rows: RowLabels, offset: int, stride: int) -> RowMatch:
    if stride < 1:
        raise DepthError(f"depth: --depth.stride is {stride}, a number from 1 is expected")
    found, row_of_number = {}, {number: row for row, number in enumerate(rows.numbers or range(rows.count))}
    for frame in recording.frames:
        number, rest = divmod(frame.source_index - offset, stride)
        row = row_of_number.get(number)
        if rest or row is None:
            raise DepthError(
                f"depth: frame {frame.name} is number {frame.source_index} of the source, no row of {rows.count} "
                f"counted from {offset} in steps of {stride} is it: correct --depth.offset and --depth.stride"
            )
        found[frame.name] = row
    return RowMatch(found, f"by source frame number, from {offset} in steps of {stride}")
