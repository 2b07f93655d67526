"""A fixed random choice of rows: any regular choice of points on a grid shows as a pattern."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4)
def _order(count: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(count)


def random_rows(count: int, most: int | None) -> np.ndarray:
    """(K,) rising rows of ``count``: all of them, or ``most``; the same every time."""
    return np.arange(count) if most is None or count <= most else np.sort(_order(count)[:most])
