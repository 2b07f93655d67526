"""`recon4d align`: how well every stretch of a clip was brought to the structure, as a table for the terminal."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.geometry.averages import weighted_median

MAX_LINES = 25
LEAST_GROUP = 10  # frames in a line, where a clip has more frames than lines
SUSPECT = 0.15  # median relative error from which a line is marked
LONGEST_NAME = 16
UNKNOWN = math.nan


@dataclass(frozen=True)
class FitLine:
    """What the table needs of a row of `fits.csv`; relative errors, 0.05 for 5 %, NaN where not known."""

    name: str
    gain: float
    shift: float
    points: int
    residual_median: float
    held_out: int  # points that took no part in the fit
    held_out_median: float
    held_out_95: float
    carried: bool


def read_fits(path: Path) -> list[FitLine]:
    """The rows of `fits.csv`; columns it lacks are not known, others are passed over. Raises InputError."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [_line(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is no readable table of fits ({error!r})") from error


def _line(row: dict[str, str]) -> FitLine:
    def number(column: str) -> float:
        text = row.get(column)
        return float(text) if text else UNKNOWN

    def count(column: str) -> int:
        return int(float(row.get(column) or 0))

    return FitLine(
        name=row["name"],
        gain=float(row["gain"]),
        shift=number("shift"),
        points=count("points"),
        residual_median=number("residual_median"),
        held_out=count("held_out"),
        held_out_median=number("held_out_median"),
        held_out_95=number("held_out_95"),
        carried=row.get("carried") in ("True", "true", "1"),
    )


def alignment_table(rows: Sequence[FitLine], suspect: float = SUSPECT) -> str:
    """A line per frame, for long clips per stretch of frames, and one for the clip.

    Numbers of several frames are medians over them, errors weighted by the points they come from.

    Args:
        suspect: median relative error from which a line is marked with !.
    """
    if not rows:
        return "no frames"
    size = 1 if len(rows) <= MAX_LINES else max(LEAST_GROUP, math.ceil(len(rows) / MAX_LINES))
    groups = [rows[start : start + size] for start in range(0, len(rows), size)]
    lines = [[_range(group), *_cells(group), _marks(group, suspect)] for group in groups]
    total = [f"{len(rows)} frames" if len(rows) > 1 else "1 frame", *_cells(rows), _marks(rows, math.inf)]
    heads = ["frames" if size > 1 else "frame", "gain", "shift", "points", "error", "held-out", "95 % below", ""]
    table = [heads, *lines, total]
    shown = [
        column for column in range(len(heads)) if column in (0, 7) or any(line[column] != "-" for line in table[1:])
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    texts = ["  ".join(_aligned(line[column], widths[column], column) for column in shown).rstrip() for line in table]
    rule = "-" * max(len(text) for text in texts)
    legend = [f"! median error of {100 * suspect:.0f} % or more"] if any("!" in line[-1] for line in lines) else []
    return "\n".join([texts[0], rule, *texts[1:-1], rule, texts[-1], *legend])


def _aligned(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column in (0, 7) else text.rjust(width)


def _range(group: Sequence[FitLine]) -> str:
    names = [group[0].name] if len(group) == 1 else [group[0].name, group[-1].name]
    return " - ".join(name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}" for name in names)


def _cells(group: Sequence[FitLine]) -> list[str]:
    """Gain, shift, points and the three errors as text; - where not known."""
    shifts = [row.shift for row in group if math.isfinite(row.shift)]
    points, held_out = [row.points for row in group], [row.held_out for row in group]
    return [
        f"{np.median([row.gain for row in group]):.4g}",
        f"{np.median(shifts):.4g}" if any(shifts) else "-",
        f"{np.median(points):.0f}",
        _percent(weighted_median([row.residual_median for row in group], points)),
        _percent(weighted_median([row.held_out_median for row in group], held_out)),
        _percent(weighted_median([row.held_out_95 for row in group], held_out)),
    ]


def _marks(group: Sequence[FitLine], suspect: float) -> str:
    held_out = weighted_median([row.held_out_median for row in group], [row.held_out for row in group])
    own = weighted_median([row.residual_median for row in group], [row.points for row in group])
    worst = max((error for error in (held_out, own) if math.isfinite(error)), default=0.0)
    carried = sum(row.carried for row in group)
    count = "carried" if len(group) == 1 else f"{carried} carried"
    return " ".join((["!"] if worst >= suspect else []) + ([count] if carried else []))


def _percent(error: float) -> str:
    return f"{100 * error:.1f} %" if math.isfinite(error) else "-"
