"""Water and sky in one picture with depth, by simple signs, and a steady motion for them.

No network looks at the picture, so this can be wrong: each region comes with its confidence and the reason, and people
should look at what was chosen. Smoke and fire have no sign of their own here: give a mask for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.geometry.sky import SkyFrame, fit_sky, sky_mask
from recon4d.scene.depth import DepthKind

SPEED = 1 / 1600  # of the picture's width per frame: 0.4 px at 640
SMALLEST = 0.01  # of the picture
FADE = 0.012  # of the picture's longer side over which motion fades at a region's edge
RIM = 1.5  # pixels inside a region's edge that stay: they hold colours of both sides
STRUCTURE = 12.0  # grey levels per pixel: what a matcher of pictures would find again


@dataclass(frozen=True)
class Fluid:
    """A region that seems to flow."""

    kind: str  # "sky", "water"
    mask: np.ndarray  # (H, W) bool
    motion: np.ndarray  # (H, W, 2) float32 pixels per frame, 0 outside
    confidence: float  # 0..1, a rule of thumb
    reason: str  # half a sentence, for people


def find_fluids(picture: np.ndarray, depth: np.ndarray, speed: float | None = None) -> list[Fluid]:
    """The regions that look like sky or water, maybe none.

    Args:
        picture: (H, W, 3) uint8.
        depth: (H, W) z, positive everywhere; its unit does not matter.
        speed: pixels per frame; None for `SPEED`.
    """
    speed = SPEED * picture.shape[1] if speed is None else speed
    sky = sky_region(picture, depth)
    fluids = []
    if sky.mean() >= SMALLEST:
        drift = steady(sky, np.array([speed, 0.0]))
        fluids.append(Fluid("sky", sky, drift, 0.8, "smooth, of the sky's colours, at the upper border and farthest"))
    water = _water(picture, depth, sky)
    if water is not None:
        mask, confidence, reason = water
        fluids.append(Fluid("water", mask, _downstream(mask, depth, speed), confidence, reason))
    return fluids


def steady(mask: np.ndarray, direction: np.ndarray, fade_px: float | None = None) -> np.ndarray:
    """(H, W, 2) float32: one motion (2,) in pixels per frame within a mask, fading to 0 towards its edge.

    At the border of the picture it does not fade: what flows there flows on beyond.
    """
    return (soft_edge(mask, fade_px)[..., None] * np.asarray(direction, dtype=np.float32)).astype(np.float32)


def soft_edge(mask: np.ndarray, fade_px: float | None = None) -> np.ndarray:
    """(H, W) float32: 0 outside a mask, rising smoothly to 1 within ``fade_px`` from its edge inwards."""
    import cv2

    fade = FADE * max(mask.shape) if fade_px is None else fade_px
    padded = np.pad(mask.astype(np.uint8), 1, mode="edge")
    if padded.all() or not fade > 0:
        return mask.astype(np.float32)
    inside = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    share = np.clip((inside - RIM) / np.float32(fade), 0, 1)
    return share * share * (3 - 2 * share)


def sky_region(picture: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(H, W) bool: the sky, as `geometry.sky` finds it in a clip of one frame.

    Its far structure are pixels with edges, where a clip would have sparse points; their depth is the picture's own.
    """
    import cv2

    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    slope = cv2.magnitude(*(cv2.Sobel(grey, cv2.CV_32F, *along, scale=0.25) for along in ((1, 0), (0, 1))))
    # Where depth jumps the point may be of either side.
    level = np.log(depth.astype(np.float32))
    jump = cv2.dilate(level, np.ones((5, 5))) - cv2.erode(level, np.ones((5, 5)))
    row, column = np.nonzero((slope > STRUCTURE) & (jump < 0.5))
    chosen = np.random.default_rng(0).permutation(len(row))[:4000]
    row, column = row[chosen], column[chosen]
    frame = SkyFrame(
        picture=picture,
        nearness=(1 / depth).astype(np.float32),
        valid=np.ones(depth.shape, dtype=bool),
        pixels=np.stack([column + 0.5, row + 0.5], axis=-1),
        z=depth[row, column].astype(np.float64),
    )
    return sky_mask(frame, fit_sky([frame]))


def _water(picture: np.ndarray, depth: np.ndarray, sky: np.ndarray) -> tuple[np.ndarray, float, str] | None:
    """Mask, confidence and reason of what may be water; None where nothing is."""
    import cv2

    height, width = depth.shape
    blur = max(3, int(0.03 * max(height, width)) | 1)
    smooth = cv2.GaussianBlur(picture, (0, 0), blur / 3).astype(np.float32)
    red, green, blue = np.moveaxis(smooth, -1, 0)
    bluish = blue - red - np.maximum(green - blue, 0)  # above 0: the colours of the sky, and of water that shows it
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    across, down = (np.abs(cv2.Sobel(grey, cv2.CV_32F, *a, scale=0.125)) for a in ((1, 0), (0, 1)))
    across, down = (cv2.blur(grid, (blur, blur)) for grid in (across, down))
    lying = (down + 0.5) / (across + 0.5)  # ripples seen at a low angle are streaks from left to right
    near = 1 / depth.astype(np.float32)
    # On a level surface nearness grows evenly down the picture: a share of its median for each row.
    tilt = cv2.Sobel(cv2.GaussianBlur(near, (0, 0), blur / 2), cv2.CV_32F, 0, 1, scale=0.125)
    level = tilt > 0.05 * float(np.median(near)) / height
    below = np.arange(height)[:, None] > (np.nonzero(sky)[0].max() if sky.any() else 0.35 * height) * 0.8
    candidate = below & level & ~sky & (bluish > 6) & (np.maximum(across, down) < 14) & (lying > 0.9)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (blur, blur))
    candidate = cv2.morphologyEx(candidate.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(candidate)
    wide = stats[:, cv2.CC_STAT_AREA] > 2 * SMALLEST * height * width
    large = [k for k in range(1, count) if wide[k] and centres[k, 1] > 0.45 * height]
    if not large:
        return None
    mask = np.isin(labels, large)
    # What stands in the water is found on the picture itself: the blur above has taken its rim for water.
    fine = cv2.GaussianBlur(picture, (0, 0), 1.0).astype(np.float32)
    own = fine[..., 2] - fine[..., 0] > 0.4 * np.median(bluish[mask])
    mask &= cv2.erode(own.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0
    lies, shade = float(np.median(lying[mask])), float(np.median(bluish[mask]))
    # Asphalt and grey carpets are level and bluish too (by 25 of 255, edges 1.3 to 1): only both signs together count.
    streaks, color = np.clip(lies - 1, 0, 1), np.clip((shade - 10) / 40, 0, 1)
    confidence = 0.2 + 0.65 * float(np.sqrt(streaks * color)) + (0.1 if sky.any() else 0.0)
    reason = f"level, bluish (by {shade:.0f} of 255), streaked sideways (edges lie to stand as {lies:.1f} to 1)"
    return mask, round(confidence, 2), reason


def _downstream(mask: np.ndarray, depth: np.ndarray, speed: float) -> np.ndarray:
    """Motion towards the viewer, the way that nearness grows; faster where it is nearer, as perspective has it."""
    near = 1 / depth[mask].astype(np.float64)
    row, column = np.nonzero(mask)
    rows = np.stack([column - column.mean(), row - row.mean(), np.ones(len(row))], axis=1)
    slope = np.linalg.lstsq(rows, near, rcond=None)[0][:2]
    length = float(np.hypot(*slope))
    way = slope / length if length > 0 else np.array([0.0, 1.0])
    pace = np.zeros(mask.shape, dtype=np.float32)
    pace[mask] = np.clip(near / np.median(near), 0.25, 2.0)
    return steady(mask, way * speed) * pace[..., None]


def chosen_picture(picture: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the picture with what drifts tinted, and arrows along its motion."""
    import cv2

    speed = np.hypot(motion[..., 0], motion[..., 1])
    shown = picture.astype(np.float32)
    most = float(speed.max())
    if most > 0:
        share = 0.45 * np.minimum(1, speed / most)[..., None]
        shown = shown * (1 - share) + np.float32([255, 60, 160]) * share
    canvas = np.ascontiguousarray(np.clip(np.rint(shown), 0, 255).astype(np.uint8))
    step = max(8, max(speed.shape) // 24)
    for row in range(step // 2, speed.shape[0], step):
        for column in range(step // 2, speed.shape[1], step):
            if speed[row, column] > 0.1 * most > 0:
                way = motion[row, column] / most * step * 0.8
                end = round(column + float(way[0])), round(row + float(way[1]))
                cv2.arrowedLine(canvas, (column, row), end, (255, 255, 255), 1, cv2.LINE_AA, tipLength=0.35)
    return canvas


def scene_z(values: np.ndarray, valid: np.ndarray, kind: DepthKind, ratio: float) -> np.ndarray:
    """(H, W) float32 z of every pixel, from the depth of one picture alone; holes are filled.

    Where the kind lacks a shift, nothing but a choice can tell how far the farthest is: ``ratio`` times as far as the
    nearest, which is 1 (Make-It-4D: disparity stretched to 0..1, depth 1 / max(disparity, 1 / ratio)). z of a kind
    without shift is kept; a scale-free disparity is taken relative to its nearest, and cut off at ``ratio``.

    Raises:
        ValueError: no pixel is valid, or all have the same value where the shift is unknown.
    """
    d = np.asarray(values, dtype=np.float64)
    if not valid.any() or (kind.has_shift and np.ptp(d[valid]) == 0):
        raise ValueError("no depth, or the same everywhere")
    low, high = d[valid].min(), d[valid].max()
    if kind is DepthKind.AFFINE_DISPARITY:
        z = 1 / np.maximum((d - low) / (high - low), 1 / ratio)
    elif kind is DepthKind.SCALE_FREE_DISPARITY:
        z = 1 / np.maximum(d / high, 1 / ratio)
    elif kind is DepthKind.AFFINE_Z:
        z = 1 + (ratio - 1) * (d - low) / (high - low)
    else:
        z = d
    return _filled(np.where(valid, z, 0), valid).astype(np.float32)


def _filled(z: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Holes at the upper border are sky, as far as the farthest; others are as far as the pixel next to them."""
    import cv2

    if valid.all():
        return z
    _, labels = cv2.connectedComponents((~valid).astype(np.uint8), connectivity=4)
    above = np.isin(labels, np.unique(labels[0])) & ~valid
    _, places = cv2.distanceTransformWithLabels(
        (~valid).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(places.max() + 1)
    of_label[places[valid]] = z[valid]
    return np.where(valid, z, np.where(above, z[valid].max(), of_label[places]))
