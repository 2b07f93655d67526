"""Which row of another program's files belongs to which frame, from how many rows there are and how it counted them."""

from __future__ import annotations

from dataclasses import dataclass

from recon4d.errors import InputError
from recon4d.scene.recording import Recording

NEARLY_ALL = 0.9  # of the rows: so many frames found by either way of counting, and neither can be told to be meant


@dataclass(frozen=True)
class CountedRows:
    """Row per frame name, of the frames that have one; and the rule in words."""

    row_of: dict[str, int]
    rule: str


def rows_by_count(
    count: int, numbers: tuple[int, ...] | None, recording: Recording, source_frames: int, what: str
) -> CountedRows | None:
    """Find the row of each frame of a program that was given the whole source or the chosen frames alone.

    Numbers 0, 1, 2, ... say no more than their count does: it is that of the chosen frames, or of the source. Other
    numbers say what was left out. They count the source where one of them is above the last chosen frame's place.
    Where they could count both, they count the chosen frames if counting in the source finds clearly fewer rows a
    frame; nobody knows if it finds about as many.

    Args:
        count: of the rows.
        numbers: of the rows, as the program counted what it was given; None: it does not say.
        recording: the chosen frames.
        source_frames: number of frames in the video or of pictures in the folder.
        what: the rows, to begin a sentence.

    Returns:
        None where the count fits neither.

    Raises:
        InputError: the numbers go beyond the source, or could mean either.
    """
    row_of = {number: row for row, number in enumerate(range(count) if numbers is None else numbers)}
    in_chosen = {frame.name: row_of[k] for k, frame in enumerate(recording.frames) if k in row_of}
    in_source = {frame.name: row_of[frame.source_index] for frame in recording.frames if frame.source_index in row_of}
    if numbers is None or numbers == tuple(range(count)):
        if count == len(recording):
            return CountedRows(in_chosen, "row by row, as many as chosen frames")
        return CountedRows(in_source, "row by row, as many as frames of the source") if count == source_frames else None
    last = max(numbers)
    if last >= source_frames:
        raise InputError(
            f"{what} name frame {last}, the source has {source_frames} frames: are they of another recording?"
        )
    if last >= len(recording) or in_source == in_chosen:
        return CountedRows(in_source, "by their numbers of frames of the source")
    if len(in_source) >= NEARLY_ALL * len(in_chosen):
        raise InputError(
            f"{what} name {count} frames from {min(numbers)} to {last}, which can be frames of the source as well as "
            f"the {len(recording)} chosen ones: choose every frame of what the program was given (--frames.stride 1, "
            "no limits)"
        )
    return CountedRows(in_chosen, "by their numbers of chosen frames")
