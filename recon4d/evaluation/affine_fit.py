"""One scale and shift for a whole clip, for depth that is relative: fitted to the truth, for scoring only."""

from __future__ import annotations

import numpy as np

from recon4d.errors import EvaluationError


class AffineFit:
    """Ordinary least squares of ``y = gain * x + shift`` over all pixels of a clip, frame by frame, in float64."""

    def __init__(self) -> None:
        self._sums = np.zeros(5)  # n, x, y, xx, xy

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take in matching values of any one shape."""
        x, y = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
        self._sums += [x.size, x.sum(), y.sum(), x @ x, x @ y]

    def solve(self) -> tuple[float, float]:
        """Gain and shift. Raises EvaluationError when the values do not determine them."""
        n, x, y, xx, xy = self._sums
        spread = n * xx - x * x
        if n < 2 or spread <= 1e-12 * max(n * xx, 1e-300):
            raise EvaluationError(
                f"evaluate: scale and shift of relative depth cannot be fitted to the truth ({int(n)} pixels have "
                "both, or all estimates are equal): check that depth and truth belong to the same frames"
            )
        gain = (n * xy - x * y) / spread
        return gain, (y - gain * x) / n
