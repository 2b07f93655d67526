"""The ground: the lowest large level plane below the cameras.

Depth errs in proportion to itself, and for a point of the ground that error, seen as height, is the same share of the
camera's height wherever the point lies. So planes are looked for in the logarithm of the height below the cameras, and
tolerances are shares of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.geometry.averages import weighted_median
from recon4d.geometry.world_points import WorldPoints

SEARCHED_POINTS = 4000  # drawn by weight for the search; the fit takes all
CAP_STEP_DEG = 2.0  # between the directions that are tried
CANDIDATES = 24
BIN = 0.04  # of the logarithm of the height below the cameras
NEAREST, FARTHEST = 0.03, 4.0  # heights that are searched, in median distances of the points
IRLS_ROUNDS = 12
MIN_SIGMA = 0.003  # of the height: structure from motion is not better than this
ROUGH = 0.03  # of the height: cuts through furniture are as rough as a floor in poor depth, but lie anyhow
LEVEL_DEG = 35.0  # normals of points of the ground lie within this of its own
CELL = 0.5  # of the height: errors of depth hang together over about this length on the ground


@dataclass(frozen=True)
class GroundSearch:
    """What counts as ground."""

    max_tilt_deg: float = 25.0  # of its normal against the hint
    hint_sigma_deg: float = 10.0  # of the hint; it decides only between planes that all could be ground
    min_inliers: int = 60
    min_share: float = 0.04  # of the weight of all points
    max_below: float = 0.04  # of the weight of all points: with more below it a plane is a table
    max_roughness: float = 0.06  # spread of its points, as a share of the cameras' height above it
    min_distinct: float = 3.0  # how much denser its points lie than those around it
    min_cells: int = 6  # of half the cameras' height on a side, that its points lie in
    seed: int = 0


@dataclass(frozen=True)
class GroundPlane:
    """A plane ``normal . x + offset = height above the ground`` in the world frame, scene units."""

    normal: np.ndarray  # (3,) unit, points up
    offset: float
    sigma: float  # one standard deviation of the cameras' mean height above it
    tilt_sigma_deg: float  # root mean square angle between its normal and the true one
    inliers: int
    share: float  # of the weight of all points
    camera_height: float  # of the cameras' mean position above it

    def height(self, x_in_world: np.ndarray) -> np.ndarray:
        """(...) heights above the ground of points (..., 3)."""
        return np.asarray(x_in_world) @ self.normal + self.offset


@dataclass(frozen=True)
class GroundFinding:
    """The ground, or why there is none."""

    plane: GroundPlane | None
    reason: str  # half a sentence, for people


def find_ground(
    world: WorldPoints, centres: np.ndarray, up_hint: np.ndarray, search: GroundSearch = GroundSearch()
) -> GroundFinding:
    """The lowest large plane below the cameras that is nearly level; a table with things below it is not taken.

    Args:
        world: points of surfaces; rows that are not finite are left out, those with a wall's normal are no ground.
        centres: (C, 3) camera centres.
        up_hint: (3,) about up, within ``search.max_tilt_deg``.

    Raises:
        ValueError: there is no camera, or ``up_hint`` has length 0.
    """
    centres, length = np.atleast_2d(np.asarray(centres, dtype=np.float64)), float(np.linalg.norm(up_hint))
    if centres.shape[1] != 3 or len(centres) == 0 or not length > 0:
        raise ValueError(f"find_ground: centres {centres.shape} and a hint of up of length {length:g} are no cameras")
    up_hint = np.asarray(up_hint, dtype=np.float64) / length
    keep = np.isfinite(world.points).all(axis=1) & np.isfinite(world.weights) & (world.weights > 0)
    points, weights, normals = world.points[keep], world.weights[keep], world.normals[keep]
    if len(points) < search.min_inliers:
        return GroundFinding(None, f"{len(points)} points, {search.min_inliers} are needed")
    centre = centres.mean(axis=0)
    cloud = _Cloud(points - centre, weights / weights.sum(), normals)
    reach = float(np.median(np.linalg.norm(cloud.points, axis=1)))
    sample = cloud.drawn(search.seed)
    whys, layers = [(0.0, "no layer of points below the cameras is level and dense")], []
    for rough in _distinct_layers(sample, up_hint, reach, search):
        layer = _refined(cloud, rough.normal, rough.height, np.ones(3))
        why = "it comes apart" if layer is None else _why_not(layer, cloud, centres - centre, up_hint, search)
        if why is None:
            layers.append(layer)
        else:
            whys.append((rough.share, why))
    if not layers:
        return GroundFinding(None, max(whys)[1])
    best = max(layers, key=lambda layer: _merit(layer, up_hint, search))
    return GroundFinding(_plane(best, cloud, centre), "found")


@dataclass(frozen=True)
class _Cloud:
    points: np.ndarray  # (N, 3) relative to the cameras' mean position
    weights: np.ndarray  # (N,) sum 1
    normals: np.ndarray  # (N, 3), NaN where not known

    def drawn(self, seed: int) -> _Cloud:
        """Some of the points, drawn by weight: all alike."""
        count = min(SEARCHED_POINTS, len(self.points))
        rows = np.random.default_rng(seed).choice(len(self.points), count, p=self.weights)
        return _Cloud(self.points[rows], np.full(count, 1 / count), self.normals[rows])

    def level(self, normal: np.ndarray) -> np.ndarray:
        """(N,) bool: the surface may belong to a plane of this normal: not known, or not far off."""
        return ~(np.abs(self.normals @ normal) < np.cos(np.deg2rad(LEVEL_DEG)))  # NaN: may


@dataclass(frozen=True)
class _Layer:
    normal: np.ndarray
    height: float  # of the cameras' mean position above it
    sigma: float  # spread of its points
    inside: np.ndarray  # (N,) bool
    share: float  # of the weight, inside
    excess: float  # the share within 1.5 sigma, less that of as much space at its sides
    distinct: float  # the ratio of the two


def axes_around(up: np.ndarray) -> np.ndarray:
    """(3, 3) rows: two unit directions at right angles to unit ``up`` and to each other, then ``up``."""
    first = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(up, first), up])


def _cap(up: np.ndarray, radius_deg: float) -> np.ndarray:
    """(D, 3) directions within ``radius_deg`` of ``up``, evenly spread."""
    step, radius = np.tan(np.deg2rad(CAP_STEP_DEG)), np.tan(np.deg2rad(radius_deg))
    side = np.arange(-np.ceil(radius / step), np.ceil(radius / step) + 1) * step
    x, y = (grid.ravel() for grid in np.meshgrid(side, side))
    inside = x**2 + y**2 <= radius**2
    directions = np.stack([x[inside], y[inside], np.ones(inside.sum())], axis=1) @ axes_around(up)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _level_layers(
    cloud: _Cloud, up_hint: np.ndarray, reach: float, search: GroundSearch
) -> list[tuple[np.ndarray, float]]:
    """(normal, height below the cameras) of layers that are denser than the layers above and below them.

    The excess, not the number of points, is what counts: a layer that is tilted by 20 degrees cuts through floor,
    furniture and walls and holds more points than the floor.
    """
    directions = _cap(up_hint, search.max_tilt_deg)
    bins = int(np.ceil(np.log(FARTHEST / NEAREST) / BIN))
    counts = np.zeros((len(directions), bins))
    for row, direction in enumerate(directions):
        below = -(cloud.points @ direction)
        usable = (below > NEAREST * reach) & cloud.level(direction)
        at = (np.log(below[usable] / (NEAREST * reach)) / BIN).astype(int)
        counts[row] = np.bincount(at[at < bins], minlength=bins)
    padded = np.pad(counts, ((0, 0), (4, 4)))
    sums = [padded[:, k : k + bins] for k in range(9)]
    excess = sums[3] + sums[4] + sums[5] - 0.5 * sum(sums[k] for k in (0, 1, 2, 6, 7, 8))
    found = []
    for _ in range(CANDIDATES):
        row, k = np.unravel_index(int(np.argmax(excess)), excess.shape)
        if excess[row, k] < max(0.25 * search.min_share * len(cloud.points), 8):
            break
        found.append((directions[row], float(NEAREST * reach * np.exp(BIN * (k + 0.5)))))
        alike = directions @ directions[row] > np.cos(np.deg2rad(4 * CAP_STEP_DEG))
        excess[alike, max(k - 4, 0) : k + 5] = -1
    return found


def _distinct_layers(sample: _Cloud, up_hint: np.ndarray, reach: float, search: GroundSearch) -> list[_Layer]:
    """The layers of `_level_layers`, refined, each once."""
    found: list[_Layer] = []
    for normal, height in _level_layers(sample, up_hint, reach, search):
        layer = _refined(sample, normal, height, np.linspace(2.0, 1.0, IRLS_ROUNDS))
        if layer is None:
            continue
        again = any(
            abs(other.height / layer.height - 1) < 0.5 * BIN and other.normal @ layer.normal > np.cos(np.deg2rad(1.5))
            for other in found
        )
        if not again:
            found.append(layer)
    return found


def _merit(layer: _Layer, up_hint: np.ndarray, search: GroundSearch) -> float:
    """Of layers that have nothing below: the one with the most points for its thickness is the ground, not a cut.

    On real indoor clips the spread of floors was 0.7 to 2.5 % of the height, that of cuts through furniture 3 to 5 %.
    """
    tilt_deg = np.rad2deg(np.arccos(np.clip(layer.normal @ up_hint, -1, 1)))
    thickness = max(layer.sigma / layer.height, 0.01)
    return layer.excess / thickness * float(np.exp(-0.5 * (tilt_deg / search.hint_sigma_deg) ** 2))


def _refined(cloud: _Cloud, normal: np.ndarray, height: float, bands: np.ndarray) -> _Layer | None:
    """Least squares of the height, reweighted (Tukey) with given bands, in units of `BIN`.

    The axes follow the normal, so that errors along the rays, which move points sideways too, do not flatten the slope.
    A band that adapts to its residuals would widen in dense clutter until it holds furniture and walls.
    """
    for band in bands * BIN:
        residual = cloud.points @ normal + height
        usable = (np.abs(residual) < band * height) & cloud.level(normal)
        if height <= 0 or usable.sum() < 10:
            return None
        frame, points = axes_around(normal), cloud.points[usable]
        weights = cloud.weights[usable] * (1 - (residual[usable] / (band * height)) ** 2) ** 2
        slopes = _slopes(points @ frame.T, weights)
        normal = np.array([-slopes[0], -slopes[1], 1.0]) @ frame
        length = np.linalg.norm(normal)
        normal, height = normal / length, float(-slopes[2] / length)
    return _layer(cloud, normal, height) if height > 0 else None


def _layer(cloud: _Cloud, normal: np.ndarray, height: float) -> _Layer | None:
    level = cloud.level(normal)
    off, weights = np.abs(cloud.points[level] @ normal + height), cloud.weights[level]
    near = off < 2 * BIN * height
    if not near.any():
        return None
    sigma = max(1.4826 * weighted_median(off[near], weights[near]), MIN_SIGMA * height)
    core, sides = float(weights[off < 1.5 * sigma].sum()), float(weights[(off >= 3 * sigma) & (off < 6 * sigma)].sum())
    inside = level.copy()
    inside[level] = off < 3 * sigma
    share = float(cloud.weights[inside].sum())
    return _Layer(normal, height, sigma, inside, share, core - 0.5 * sides, core / max(0.5 * sides, 1e-9))


def _slopes(xyz: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(3,) a, b, c of the weighted least-squares plane z = a x + b y + c."""
    rows = np.stack([xyz[:, 0], xyz[:, 1], np.ones(len(xyz))], axis=1)
    scale = np.maximum(np.abs(rows).max(axis=0), 1e-12)
    normal_matrix = (rows / scale * weights[:, None]).T @ (rows / scale)
    right = (rows / scale * weights[:, None]).T @ xyz[:, 2]
    return np.linalg.lstsq(normal_matrix, right, rcond=1e-12)[0] / scale


def _why_not(
    layer: _Layer, cloud: _Cloud, centres: np.ndarray, up_hint: np.ndarray, search: GroundSearch
) -> str | None:
    """Half a sentence about what is wrong with a layer as ground, or None."""
    tilt_deg = np.rad2deg(np.arccos(np.clip(layer.normal @ up_hint, -1, 1)))
    if tilt_deg > search.max_tilt_deg + CAP_STEP_DEG:
        return f"the largest plane is tilted by {tilt_deg:.0f} degrees"
    if layer.sigma > ROUGH * layer.height and tilt_deg > 1.5 * search.hint_sigma_deg:
        return f"the largest plane is rough and tilted by {tilt_deg:.0f} degrees"
    if layer.inside.sum() < search.min_inliers or layer.share < search.min_share:
        return f"the largest level plane holds {100 * layer.share:.1f} % of the points"
    if layer.sigma > search.max_roughness * layer.height:
        return "the largest level layer of points is not flat"
    residual = cloud.points @ layer.normal + layer.height
    below = float(cloud.weights[residual < -max(5 * layer.sigma, 0.1 * layer.height)].sum())
    if below > min(search.max_below, 0.5 * layer.share):
        return f"{100 * below:.0f} % of the points lie below the largest level plane, so it is no ground"
    if (centres @ layer.normal + layer.height <= 0).mean() > 0.02:
        return "the camera passes through the largest level plane"
    if layer.distinct < search.min_distinct:
        return "the largest level layer of points is no denser than what is around it"
    if len(_cells(layer, cloud)[0]) < search.min_cells:
        return "the largest level plane is too small"
    return None


def _cells(layer: _Layer, cloud: _Cloud) -> tuple[np.ndarray, np.ndarray]:
    """Cells of the ground that hold at least three of its points, and the number of the cell (I,) of each point."""
    flat = cloud.points[layer.inside] @ axes_around(layer.normal)[:2].T
    cells, number, counts = np.unique(
        np.floor(flat / (CELL * layer.height)).astype(int), axis=0, return_inverse=True, return_counts=True
    )
    return cells[counts >= 3], number.ravel()


def _plane(layer: _Layer, cloud: _Cloud, centre: np.ndarray) -> GroundPlane:
    """The layer with its uncertainty: errors of points in one cell are taken as one error.

    Source: the sandwich covariance for clustered errors, Liang and Zeger, Biometrika 1986, eq. 2.
    """
    xyz, weights = cloud.points[layer.inside] @ axes_around(layer.normal).T, cloud.weights[layer.inside]
    rows = np.stack([xyz[:, 0], xyz[:, 1], np.ones(len(xyz))], axis=1)
    residual = xyz[:, 2] + layer.height
    number = _cells(layer, cloud)[1]
    groups = int(number.max()) + 1
    score = np.zeros((groups, 3))
    np.add.at(score, number, rows * (weights * residual)[:, None])
    bread = np.linalg.pinv((rows * weights[:, None]).T @ rows)
    covariance = bread @ (score.T @ score) @ bread * groups / max(groups - 3, 1)
    # A depth that bends as a whole lies on a plane as well as the true one: at least 0.5 %, half of what is left over.
    floor = max(0.005 * layer.height, 0.5 * layer.sigma) ** 2
    extent = np.cov(xyz[:, :2].T, aweights=weights)
    tilt = covariance[0, 0] + covariance[1, 1] + floor * np.trace(np.linalg.pinv(extent))
    return GroundPlane(
        normal=layer.normal,
        offset=float(layer.height - layer.normal @ centre),
        sigma=float(np.sqrt(covariance[2, 2] + floor)),
        tilt_sigma_deg=float(np.rad2deg(np.sqrt(tilt))),
        inliers=int(layer.inside.sum()),
        share=layer.share,
        camera_height=layer.height,
    )
