"""Truth as files, and which file belongs to which frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.errors import EvaluationError, InputError
from recon4d.formats.arrays import read_arrays
from recon4d.formats.depth_files import DepthFiles, open_depth_files
from recon4d.formats.natural import natural_key
from recon4d.scene.recording import Recording


@dataclass(frozen=True)
class Counting:
    """How the other side counts, where it is not by our frame names."""

    names: tuple[str, ...] | None = None  # entry k is the frame name of row k
    offset: int | None = None  # row k is source frame offset + k * stride
    stride: int | None = None

    @classmethod
    def read(cls, names_file: Path | None, offset: int | None, stride: int | None) -> Counting:
        """From options; the names file has one name per line, empty lines do not count. Raises InputError."""
        if names_file is None:
            return cls(None, offset, stride)
        try:
            # utf-8-sig: some editors begin a file with a mark that is no part of the first name.
            lines = names_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"evaluate: the names file {names_file} cannot be read ({error})") from None
        return cls(tuple(name for line in lines if (name := line.strip())), offset, stride)

    @property
    def is_given(self) -> bool:
        return self.names is not None or self.offset is not None or self.stride is not None


@dataclass(frozen=True)
class RowMatch:
    """Row of the truth per frame name, and the rule in words."""

    row_of: dict[str, int]
    rule: str


def match_rows(
    recording: Recording, rows: int, names: tuple[str, ...] | None, counting: Counting, what: str
) -> RowMatch:
    """Which row of the truth shows which frame; frames without truth are left out.

    Args:
        rows: number of rows (sorted files, or lines).
        names: what the rows are called, where they have names.
        what: the option, for messages.

    Raises:
        EvaluationError: no frame has truth, or the rows are not as many as the names given for them.
    """
    if counting.names is not None:
        if len(counting.names) != rows:
            raise EvaluationError(f"evaluate: --names names {len(counting.names)} rows, {what} has {rows}")
        match = RowMatch(_named(recording, counting.names), "by the names given with --names")
    elif counting.is_given or names is None:
        offset, stride = counting.offset or 0, 1 if counting.stride is None else counting.stride
        if stride < 1:
            raise EvaluationError(f"evaluate: --stride is {stride}, a number from 1 is expected")
        found = {f.name: divmod(f.source_index - offset, stride) for f in recording.frames}
        row_of = {name: row for name, (row, rest) in found.items() if rest == 0 and 0 <= row < rows}
        match = RowMatch(row_of, f"row k is source frame {offset} + {stride} k")
    else:
        match = RowMatch(_named(recording, names), "by name")
    if not match.row_of:
        first = f" ({names[0]} to {names[-1]})" if names else ""
        raise EvaluationError(
            f"evaluate: none of the frames {recording.names[0]} to {recording.names[-1]} has truth in {what}{first}, "
            f"matched {match.rule}: say how it counts with --offset and --stride (row k is source frame "
            "offset + k * stride) or with --names"
        )
    return match


def _named(recording: Recording, names: tuple[str, ...]) -> dict[str, int]:
    """Row per frame whose name, or whose source file's stem, is among ``names``."""
    row_of_name = {name: row for row, name in enumerate(names)}
    found = {}
    for frame in recording.frames:
        for candidate in (frame.name, Path(frame.source_name).stem):
            if candidate in row_of_name:
                found[frame.name] = row_of_name[candidate]
                break
    return found


class GridTruth:
    """Depth or masks, one grid per frame, read when asked for."""

    def __init__(self, path: Path, recording: Recording, counting: Counting, what: str) -> None:
        self._files: DepthFiles = open_depth_files(path)
        self.match = match_rows(recording, len(self._files), self._files.names, counting, what)

    def __contains__(self, name: str) -> bool:
        return name in self.match.row_of

    def __getitem__(self, name: str) -> np.ndarray:
        """(H, W) as stored. Raises KeyError for frames without truth."""
        return self._files.row(self.match.row_of[name])


class FlowTruth:
    """A folder of NAME.npz with world displacements under `next` (or `flow`)."""

    def __init__(self, path: Path, recording: Recording, counting: Counting) -> None:
        self._files = sorted(path.glob("*.npz"), key=lambda file: natural_key(file.name)) if path.is_dir() else []
        if not self._files:
            raise InputError(f"evaluate: --flow-gt {path} is no folder with .npz files of scene flow")
        names = tuple(file.stem for file in self._files)
        self.match = match_rows(recording, len(names), names, counting, "--flow-gt")

    def __contains__(self, name: str) -> bool:
        return name in self.match.row_of

    def __getitem__(self, name: str) -> np.ndarray:
        """(H, W, 3) float32. Raises InputError when the file holds something else."""
        path = self._files[self.match.row_of[name]]
        arrays = read_arrays(path)
        for key in ("next", "flow"):
            if key in arrays and arrays[key].ndim == 3 and arrays[key].shape[2] == 3:
                return arrays[key].astype(np.float32)
        raise InputError(f"evaluate: {path} has no array 'next' or 'flow' of shape (height, width, 3)")
