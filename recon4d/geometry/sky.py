"""Sky without learned weights: smooth, of the sky's colours, at the upper border, and as far away as nothing else.

Colour alone would take white ceilings and walls for sky. So a clip has sky only if the depth says so against the
structure: at sparse points the source's nearness d follows the inverse depth, d = a / z + b, and b is what it gives at
infinity. A region counts when it lies at b, far beyond the far points, by more than that relation scatters. Where the
scatter hides the difference the answer is no: sky that is missed does less harm than a ceiling that is cut away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from recon4d.scene.depth import DepthKind

GRID_PIXELS = 160 * 120  # of the grid that decides
LEVELS = 16  # of each colour in the clip's model
RIM = 3  # pixels of the small grid
MIN_POINTS = 20
FAR_SHARE = 0.2  # of the points count as the far structure
SEPARATION = 4.0  # scatters between the far structure and infinity, without which nothing can be said
AT_INFINITY = 0.25  # of the way from infinity to the far structure: four times as far as the far points
NEARER_THAN_SKY = 0.5  # the same for single pixels of a clip that has sky
MIN_SHARE = 0.004  # of the picture: smaller regions are no evidence
MIN_FRAMES = 0.2  # of the sampled frames must show sky at infinity, and at least two where there are more
ROUGH = 10.0  # grey levels of gradient per pixel of the small grid; clouds stay below, leaves and walls' pictures above


@dataclass(frozen=True)
class SkyFrame:
    """One frame as it is looked at."""

    picture: np.ndarray  # (H, W, 3) uint8 RGB
    nearness: np.ndarray  # (h, w) float, larger = nearer: see `nearness`
    valid: np.ndarray  # (h, w) bool
    pixels: np.ndarray  # (K, 2) of sparse points that can be trusted, in the picture
    z: np.ndarray  # (K,) their depth, scene units
    up: tuple[float, float] = (0.0, -1.0)  # up in the picture; (0, 0): the camera looks up or down


@dataclass(frozen=True)
class SkyModel:
    """What a clip's sky looks like."""

    present: bool
    reason: str  # half a sentence, for people
    likelihood: np.ndarray  # (16, 16, 16) float32: share of sky among the pixels of each colour

    @classmethod
    def without(cls, reason: str) -> SkyModel:
        return cls(False, reason, np.zeros((LEVELS,) * 3, dtype=np.float32))


@dataclass(frozen=True)
class _Reach:
    """Nearness of the far structure and of infinity in one frame."""

    far: float
    infinity: float
    scatter: float

    @property
    def separable(self) -> bool:
        return self.far - self.infinity > SEPARATION * self.scatter

    def place(self, nearness: np.ndarray) -> np.ndarray:
        """0 at infinity, 1 at the far structure."""
        return (nearness - self.infinity) / max(self.far - self.infinity, 1e-12)


@dataclass(frozen=True)
class _Small:
    """A frame on the small grid."""

    colors: np.ndarray  # (h, w, 3) uint8
    roughness: np.ndarray  # (h, w) float32
    nearness: np.ndarray  # (h, w) float32
    valid: np.ndarray  # (h, w) bool
    points: np.ndarray  # (K, 2) int, column and row of the sparse points
    frame: SkyFrame


def nearness(values: np.ndarray, valid: np.ndarray, kind: DepthKind) -> np.ndarray:
    """(h, w) float32, larger = nearer and linear in 1/z where the kind allows it, from the values of a source.

    `AFFINE_Z` has an unknown shift in z, so its order is all that remains: it cannot tell infinity.
    """
    values = np.asarray(values, dtype=np.float32)
    if kind.is_disparity:
        return values
    if kind is DepthKind.AFFINE_Z:
        return -values
    return np.divide(1.0, values, out=np.zeros_like(values), where=valid & (values > 0))


def up_in_picture(rotation: np.ndarray, up: np.ndarray) -> tuple[float, float]:
    """Up (3,) of the world in the picture of a camera with ``cam_from_world`` rotation (3, 3), for `SkyFrame`.

    (0, 0) where the camera looks almost along it: then any side may be the upper one.
    """
    x, y, _ = rotation @ (up / np.linalg.norm(up))
    return (0.0, 0.0) if np.hypot(x, y) < 0.35 else (float(x), float(y))  # 0.35: within 20 degrees of it


def fit_sky(frames: Iterable[SkyFrame]) -> SkyModel:
    """Whether a clip shows sky, and its colours, from a sample of its frames (8 to 16 spread over the clip do)."""
    shown, seen, judged = np.zeros((LEVELS,) * 3), np.zeros((LEVELS,) * 3), 0
    proofs = frames_with = 0
    for frame in frames:
        small, reach = _shrunk(frame), _reach(frame)
        frames_with += 1
        if reach is None or not reach.separable:
            continue
        judged += 1
        sky = _at_infinity(small, reach)
        np.add.at(seen, _color_bins(small.colors), 1.0)
        if sky.mean() >= MIN_SHARE:
            proofs += 1
            np.add.at(shown, _color_bins(small.colors[sky]), 1.0)
    if judged == 0:
        return SkyModel.without("the depth does not tell the far structure from infinity")
    if proofs < max(min(2, frames_with), MIN_FRAMES * judged):
        return SkyModel.without("no smooth region at the upper border lies at infinity")
    return SkyModel(
        True, f"at infinity in {proofs} of {judged} frames", (_spread(shown) / (_spread(seen) + 2.0)).astype(np.float32)
    )


def sky_mask(frame: SkyFrame, model: SkyModel) -> np.ndarray:
    """(H, W) bool on the picture: the pixels of the sky, under the model of its clip."""
    height, width = frame.picture.shape[:2]
    if not model.present:
        return np.zeros((height, width), dtype=bool)
    small, reach = _shrunk(frame), _reach(frame)
    likelihood = model.likelihood[_color_bins(small.colors)]
    if reach is not None and reach.separable:
        far = (reach.place(small.nearness) < NEARER_THAN_SKY) | ~small.valid
    else:
        far = _far_by_color(small, likelihood) | ~small.valid
    # Clouds have edges: what certainly has the sky's colour may be rougher.
    candidate = far & (likelihood > 0.3) & (small.roughness < ROUGH * (1 + 2 * likelihood))
    sky = _regions(candidate, small, reach, everywhere=likelihood > 0.6)
    return _sharpened(sky, frame.picture)


# -- one frame --------------------------------------------------------------------------------------------------------


def _shrunk(frame: SkyFrame) -> _Small:
    import cv2

    height, width = frame.picture.shape[:2]
    shrink = min(1.0, float(np.sqrt(GRID_PIXELS / (height * width))))
    size = max(2, round(width * shrink)), max(2, round(height * shrink))
    colors = cv2.resize(frame.picture, size, interpolation=cv2.INTER_AREA)
    # Roughness at twice the grid's resolution: leaves and bricks average out on the grid itself.
    fine = cv2.resize(frame.picture, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(fine, cv2.COLOR_RGB2GRAY)
    slopes = cv2.magnitude(*(cv2.Sobel(grey, cv2.CV_32F, *along, scale=0.25) for along in ((1, 0), (0, 1))))
    roughness = cv2.resize(slopes, size, interpolation=cv2.INTER_AREA)
    near = np.asarray(frame.nearness, dtype=np.float32)
    valid = frame.valid & np.isfinite(near)
    near = cv2.resize(np.where(valid, near, np.float32(0)), size, interpolation=cv2.INTER_NEAREST)
    valid = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    scale = np.array([size[0] / width, size[1] / height])
    points = np.floor(np.asarray(frame.pixels, dtype=np.float64).reshape(-1, 2) * scale).astype(int)
    return _Small(colors, roughness, near, valid, np.clip(points, 0, np.array(size) - 1), frame)


def _reach(frame: SkyFrame) -> _Reach | None:
    """Robust line of nearness over inverse depth at the sparse points, None where there are too few."""
    near, valid = frame.nearness, frame.valid
    scale = np.array([near.shape[1] / frame.picture.shape[1], near.shape[0] / frame.picture.shape[0]])
    if len(frame.z) < MIN_POINTS:
        return None
    column, row = np.clip(np.floor(frame.pixels * scale).astype(int), 0, np.array(near.shape[::-1]) - 1).T
    usable = valid[row, column] & np.isfinite(near[row, column]) & (frame.z > 0)
    if usable.sum() < MIN_POINTS:
        return None
    d, y = near[row, column][usable].astype(np.float64), 1.0 / frame.z[usable]
    y /= np.median(y)
    weights = 1.0 / np.sqrt(y)  # errors grow with nearness, and the line matters at its far end
    for _ in range(8):
        rows = np.stack([y, np.ones_like(y)], axis=1) * np.sqrt(weights)[:, None]
        slope, infinity = np.linalg.lstsq(rows, d * np.sqrt(weights), rcond=None)[0]
        residual = np.abs(d - slope * y - infinity)
        weights = (
            1.0 / np.sqrt(y) / np.maximum(residual / max(float(np.median(residual)), 1e-12), 0.1)
        )  # least absolute
    if slope <= 0:
        return None
    away = y <= np.quantile(y, FAR_SHARE)
    scatter = max(1.4826 * float(np.median(residual[away])), 0.005 * float(np.ptp(d)))
    return _Reach(float(np.median(d[away])), float(infinity), scatter)


def _at_infinity(small: _Small, reach: _Reach) -> np.ndarray:
    """(h, w) bool: regions that are sky beyond doubt."""
    red, green, blue = (small.colors[..., k].astype(np.float32) for k in range(3))
    bright, dark = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    is_blue = (blue >= green) & (green >= red - 8) & (blue > red + 12) & (bright > 70)
    is_grey = (bright - dark < 0.22 * bright + 6) & (bright > max(90.0, float(np.median(bright))))
    candidate = (is_blue | is_grey) & (small.roughness < ROUGH) & small.valid
    candidate &= reach.place(small.nearness) < NEARER_THAN_SKY
    sky = _regions(candidate, small, reach)
    for region in _components(sky):
        if float(np.median(reach.place(small.nearness[region]))) > AT_INFINITY or region.sum() < MIN_SHARE * sky.size:
            sky &= ~region
    return sky


def _far_by_color(small: _Small, likelihood: np.ndarray) -> np.ndarray:
    """(h, w) bool: as far as what has the sky's colours, in a frame whose points do not tell infinity."""
    sure = (likelihood > 0.5) & (small.roughness < ROUGH) & small.valid
    rest = small.valid & ~sure
    if not (sure.any() and rest.any()):
        return np.zeros(sure.shape, dtype=bool)
    sky, other = float(np.quantile(small.nearness[sure], 0.3)), float(np.median(small.nearness[rest]))
    return small.nearness < sky + AT_INFINITY * max(other - sky, 0.0)


def _components(mask: np.ndarray) -> Iterable[np.ndarray]:
    """Masks of the 4-connected regions, largest first."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    for label in sorted(range(1, count), key=lambda k: -stats[k, cv2.CC_STAT_AREA]):
        yield labels == label


def _regions(
    candidate: np.ndarray, small: _Small, reach: _Reach | None, everywhere: np.ndarray | None = None
) -> np.ndarray:
    """The connected candidates that touch the upper border and hold no near points.

    Args:
        everywhere: (h, w) bool: where sky may also lie apart from the border, as between branches.
    """
    import cv2

    count, labels = cv2.connectedComponents(candidate.astype(np.uint8), connectivity=4)
    border = np.unique(np.concatenate([labels[side].ravel() for side in _upper_sides(small.frame.up)]))
    chosen = np.zeros(count, dtype=bool)
    chosen[border] = True
    if everywhere is not None and chosen[1:].any():
        inside = np.bincount(labels[everywhere], minlength=count)
        area = np.bincount(labels.ravel(), minlength=count)
        chosen |= (inside > 0.7 * area) & (area >= 3)
    chosen[0] = False
    # Points on the rim belong to the roof in front; inside, one in two hundred pixels is no chance.
    column, row = _near_points(small, reach).T
    core = cv2.erode(candidate.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0
    held = np.bincount(labels[row, column][core[row, column]], minlength=count)
    chosen &= held <= np.maximum(2, np.bincount(labels[core], minlength=count) / 200)
    return chosen[labels]


def _near_points(small: _Small, reach: _Reach | None) -> np.ndarray:
    """(K, 2) sparse points that are no farther than four times the far structure."""
    z = small.frame.z
    limit = 4 * np.quantile(z, 1 - FAR_SHARE) if len(z) else 0.0
    return small.points[z < limit] if reach is not None else small.points


def _upper_sides(up: tuple[float, float]) -> list[tuple[slice, slice]]:
    """The picture's sides that lie upward, as indices into its grid; three deep, for undistortion frays the rim."""
    full, low, high = slice(None), slice(None, RIM), slice(-RIM, None)
    sides = {(0, -1): (low, full), (0, 1): (high, full), (-1, 0): (full, low), (1, 0): (full, high)}
    length = float(np.hypot(*up))
    # 0.5: up to 60 degrees from the side's own direction, so one side always counts, and two when it is tilted.
    return [index for (x, y), index in sides.items() if length < 1e-6 or (x * up[0] + y * up[1]) / length > 0.5]


def _color_bins(colors: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.moveaxis(colors // (256 // LEVELS), -1, 0))


def _spread(counts: np.ndarray) -> np.ndarray:
    """Counts smoothed over neighbouring colours: 1, 2, 1 along each axis."""
    for axis in range(3):
        padded = np.pad(counts, [(1, 1) if k == axis else (0, 0) for k in range(3)])
        counts = 0.25 * padded.take(range(LEVELS), axis) + 0.5 * counts + 0.25 * padded.take(range(2, LEVELS + 2), axis)
    return counts


def _sharpened(sky: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """The mask of the small grid on the picture: near its rim each pixel goes to the side whose colour is nearer."""
    import cv2

    height, width = picture.shape[:2]
    if not sky.any():
        return np.zeros((height, width), dtype=bool)
    small = cv2.resize(picture, sky.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    weight = sky.astype(np.float32)
    window = (7, 7)
    count = cv2.blur(weight, window)[..., None]
    of_sky = cv2.blur(small * weight[..., None], window) / np.maximum(count, 1e-6)
    of_rest = cv2.blur(small * (1 - weight[..., None]), window) / np.maximum(1 - count, 1e-6)
    soft = cv2.resize(cv2.blur(weight, (3, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
    mask = soft > 0.5
    row, column = np.nonzero((soft > 0.02) & (soft < 0.98))
    small_row, small_column = row * sky.shape[0] // height, column * sky.shape[1] // width
    color = picture[row, column].astype(np.float32)
    to_sky = ((color - of_sky[small_row, small_column]) ** 2).sum(axis=1)
    to_rest = ((color - of_rest[small_row, small_column]) ** 2).sum(axis=1)
    both = (count[small_row, small_column, 0] > 1e-3) & (count[small_row, small_column, 0] < 1 - 1e-3)
    mask[row, column] = np.where(both, to_sky < to_rest, mask[row, column])
    return mask
