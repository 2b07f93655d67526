"""Metres from the known distance of two cameras that were mounted together."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.errors import OptionsError
from recon4d.metric.scale import LENGTH_SIGMA, Cue, student_widening

FEW_PAIRS_SIGMA = 0.05  # relative, a guess: pose noise of a stereo pair, where too few pairs show it
SPREAD_PAIRS = 4  # so many pairs show their spread


@dataclass(frozen=True)
class PairRule:
    """Which frames are taken by two cameras of known distance."""

    first: str  # frame name, or a pattern with one *
    second: str
    metres: float

    def pairs(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """Rows of the frames that belong together: where the stars stand for the same text.

        Raises:
            OptionsError: no two frames fit.
        """
        stems = [{_star(pattern, name): i for i, name in enumerate(names)} for pattern in (self.first, self.second)]
        found = [(row, stems[1][star]) for star, row in stems[0].items() if star is not None and star in stems[1]]
        if not found:
            raise OptionsError(
                f'align: --metric.baseline "{self.first} {self.second}" fits no two frames with a pose (frames are '
                f"called {', '.join(names[:3])}, ...): correct the names"
            )
        return found


def _star(pattern: str, name: str) -> str | None:
    """The text that the star of ``pattern`` stands for in ``name`` ("" without a star), None if it does not fit."""
    start, star, end = pattern.partition("*")
    if not star:
        return "" if name == pattern else None
    match = re.fullmatch(f"{re.escape(start)}(.*){re.escape(end)}", name, flags=re.DOTALL)
    return match.group(1) if match else None


def parse_baseline(text: str) -> PairRule:
    """``"left_* right_* 0.12"``: two names with a star each, or two names, and metres. Raises OptionsError."""
    problem = f"align: --metric.baseline {text!r} is not two frame names and their distance in metres, such as "
    problem += '"left_* right_* 0.12"'
    try:
        words = shlex.split(text)  # names with spaces are quoted inside
        first, second, metres = words[0], words[1], float(words[2])
    except (ValueError, IndexError):
        raise OptionsError(problem) from None
    if len(words) != 3 or not (math.isfinite(metres) and metres > 0):
        raise OptionsError(problem)
    if (first.count("*"), second.count("*")) not in ((0, 0), (1, 1)) or first == second:
        raise OptionsError(
            f"align: --metric.baseline {text!r} needs one * in both names, or in none, and two different names"
        )
    return PairRule(first, second, metres)


def baseline_cue(first: np.ndarray, second: np.ndarray, metres: float) -> Cue:
    """Metres per unit from camera centres (N, 3) each, scene units, row by row ``metres`` apart; N >= 1.

    The median of the distances decides, its error comes from their spread; with fewer than `SPREAD_PAIRS` pairs it is
    a guess. The stated distance counts as good to `LENGTH_SIGMA`.
    """
    distances = np.linalg.norm(np.asarray(first) - np.asarray(second), axis=1)
    if not (distances > 0).all():
        raise OptionsError("align: --metric.baseline names two frames with the same camera centre: correct the names")
    logs = np.log(metres / distances)
    middle, count = float(np.median(logs)), len(logs)
    if count < SPREAD_PAIRS:
        error = max(FEW_PAIRS_SIGMA / math.sqrt(count), float(np.ptp(logs)) / 2)
        how = "too few to show their spread"
    else:
        spread = max(1.4826 * float(np.median(np.abs(logs - middle))), float(np.std(logs, ddof=1)) / 2)
        error = 1.2533 * spread / math.sqrt(count) * student_widening(count - 1)  # 1.2533: of a median against a mean
        how = f"which spread by {100 * spread:.1f} %"
    detail = f"median distance of {count} pair{'s' if count > 1 else ''} {math.exp(-middle) * metres:.4g} units, {how}"
    return Cue(f"baseline {metres:g} m", math.exp(middle), math.hypot(error, LENGTH_SIGMA), detail)
