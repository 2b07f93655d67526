"""New depth joined to depth that is there: one gain and shift for all of it, then no step along the seam."""

from __future__ import annotations

import numpy as np

from recon4d.errors import AlignmentError
from recon4d.fill.push_pull import push_pull
from recon4d.geometry.alignment import fit_frame, rank_agreement, to_domain, z_from_values
from recon4d.scene.depth import DepthKind, DepthMap

POINTS = 4000  # of the overlap, at random: more make the fit no better
FEWEST = 50  # pixels of overlap that a fit needs
SILHOUETTE = 1.1  # ratio of depths in 3x3 pixels that belong to two surfaces
FLAT = 0.02  # relative spread of depth below which a shift cannot be told from a gain
STEP = 0.1  # of log depth: rim pixels further off belong to another surface than the one that goes on in the hole
WITHOUT_SHIFT = {
    DepthKind.AFFINE_Z: DepthKind.SCALE_FREE_Z,
    DepthKind.AFFINE_DISPARITY: DepthKind.SCALE_FREE_DISPARITY,
}


def aligned(new: DepthMap, rendered: np.ndarray, known: np.ndarray, seed: int = 0) -> np.ndarray:
    """z-depth of a source's picture in the units of a rendered one.

    The unknowns of the source's kind are fitted robustly (`geometry.alignment.fit_frame`) to the pixels that both
    have, without those at silhouettes of the rendered depth. Where all of it lies equally deep only a gain is fitted.

    Args:
        rendered: (H, W) z, scene units.
        known: (H, W) bool, where ``rendered`` counts.

    Returns:
        (H, W) float64 z in scene units, 0 where the source has none or none in front of the camera.

    Raises:
        AlignmentError: both have too little in common, or the source's values run the other way.
    """
    kind = new.kind
    if kind.has_gain:
        both = new.valid & inner(rendered, known)
        if not kind.has_shift:
            both &= new.values > 0
        if both.sum() < FEWEST:
            raise AlignmentError(
                f"extend: new and present depth share {both.sum()} pixels, {FEWEST} are needed for a fit; put the"
                " keyframes closer together, or turn the camera less"
            )
        d, z = new.values[both].astype(np.float64), rendered[both].astype(np.float64)
        if len(d) > POINTS:
            chosen = np.random.default_rng(seed).choice(len(d), POINTS, replace=False)
            d, z = d[chosen], z[chosen]
        low, high = np.percentile(to_domain(z, kind), [5, 95])
        flat = high < (1 + FLAT) * low
        if kind.has_shift and not flat and rank_agreement(d, z, kind) < 0:
            raise AlignmentError(
                f"extend: the new depth falls where {kind.value} says it rises; give the source's true kind"
            )
        if flat and kind.has_shift and (d > 0).all():
            kind = WITHOUT_SHIFT[kind]
        fit = fit_frame(d, z, kind, seed)
        z = z_from_values(new.values, fit.gain, fit.shift, kind)
    else:
        z = new.values.astype(np.float64)
    return np.where(new.valid & np.isfinite(z) & (z > 0), z, 0.0)


def inner(z: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W) bool: known pixels whose 3x3 neighbours are known too, and on the same surface."""
    import cv2

    window = np.ones((3, 3), dtype=np.uint8)
    near = cv2.erode(np.where(known, z, np.inf).astype(np.float32), window)
    far = cv2.dilate(np.where(known, z, 0).astype(np.float32), window)
    whole = cv2.erode(known.astype(np.uint8), window) > 0
    return whole & (far / SILHOUETTE < near)


def without_step(z: np.ndarray, rendered: np.ndarray, known: np.ndarray, width_px: float) -> np.ndarray:
    """Depth that meets the known one at the rim of its holes.

    What is missing at the rim, as the logarithm of the ratio of depths, goes on into the hole as a membrane (Laplace's
    equation) that fades out over a width. Rim pixels that are another surface than the new depth there (an object in
    front of the hole) have no say.

    Args:
        z: (H, W) new depth, scene units, 0 where there is none.
        rendered: (H, W) z, scene units.
        known: (H, W) bool, where ``rendered`` counts; the holes are the rest.
        width_px: from the rim to where the new depth is left as it is.

    Returns:
        (H, W) float64: ``rendered`` where known, the corrected new depth in holes, 0 where there is neither.

    Source: the membrane of Perez et al., Poisson image editing, SIGGRAPH 2003, section 3, with a fade.
    """
    import cv2

    new = z > 0
    gap = np.log(np.where(known & new, rendered, 1.0) / np.where(known & new, z, 1.0))
    rim = known & new & (np.abs(gap) < STEP) & (cv2.dilate((~known).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    joined = np.where(known, rendered, z).astype(np.float64)
    if known.all() or not rim.any():
        return joined
    missing = push_pull(gap, rim)
    into = cv2.distanceTransform((~rim).astype(np.uint8), cv2.DIST_L2, 5)
    share = np.clip((into - 1.0) / width_px, 0, 1)
    fade = 1 - share * share * (3 - 2 * share)
    return np.where(known, rendered, z * np.exp(fade * missing))
