"""What the networks of single pictures have in common: their numbers as depth, and pictures of one size together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon4d.scene.depth import DepthKind, DepthMap, Provenance


def network_map(kind: DepthKind, values: np.ndarray) -> DepthMap:
    """A network's numbers (H, W) as depth of ``kind``.

    Numbers that are not finite are invalid, and so are those that are not positive where the kind has a true zero.
    One number everywhere is no depth: nothing is valid then.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(values).astype(np.float32)
    valid = np.isfinite(values)
    if not kind.has_shift:
        valid &= values > 0
    inside = values[valid]
    if inside.size and inside.min() == inside.max():
        valid = np.zeros_like(valid)
    values = np.where(valid, values, np.float32(0))
    provenance = np.full(values.shape, Provenance.FITTED, dtype=np.uint8)
    return DepthMap(kind, values, valid, valid.astype(np.float32), provenance)


def of_one_shape(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    """The places of arrays of equal shape, in the order in which the shapes first come."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, array in enumerate(arrays):
        places.setdefault(array.shape, []).append(place)
    return list(places.values())
