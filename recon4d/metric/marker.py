"""Metres from printed square markers (ArUco, AprilTag) of known side in view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recon4d.geometry.rotations import cross_matrix
from recon4d.metric.scale import STRUCTURE_SIGMA, USELESS_SIGMA, Cue, NoCue, consensus, student_widening
from recon4d.metric.triangulation import ROUNDS, project_with_jacobian, triangulate
from recon4d.scene.trajectory import View

MIN_FRAMES = 3  # fewer sightings of one number may be chance
MIN_SHARE = 0.5  # of a marker's sightings that must fit one square that stands still
CORNER_SIGMA_PX = 0.3  # least error of a corner: noise of pictures and poses
# Over-exposure and blur make the black square look smaller or larger, in all frames alike: by so many pixels, a guess.
# Rendered pictures with blur up to a twentieth of the side show less than 0.1.
EDGE_SIGMA_PX = 0.2
PRINT_SIGMA = 0.005  # relative, a guess: printers scale by a fraction of a per cent, rulers are read to half a mm
MAX_BENT = 0.1  # relative: how far sides and diagonals of a square may differ beyond their errors
CAUCHY = 2.385
# Corners in units of the side, in the order of OpenCV: x to the right, y down as printed, z into the paper.
SQUARE = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])

Sightings = dict[int, list[tuple[int, np.ndarray]]]  # marker number -> (row of the view, corners (4, 2) in pixels)


@dataclass(frozen=True)
class MarkerSquare:
    """A marker in the scene."""

    number: int
    corners: np.ndarray  # (4, 3) world frame, scene units
    log_side: float  # of the side in scene units
    sigma: float  # one standard deviation of log_side
    frames: int  # in which it was seen
    side_px: float  # median over them
    residual_px: float  # median distance of a corner from its projection


def often_seen(sightings: Sightings) -> Sightings:
    """The markers seen in at least `MIN_FRAMES` frames."""
    return {number: seen for number, seen in sightings.items() if len(seen) >= MIN_FRAMES}


def fit_square(number: int, seen: Sequence[tuple[int, np.ndarray]], views: Sequence[View]) -> MarkerSquare:
    """The square that stands still in the world and fits all sightings of one marker.

    Each corner is triangulated by itself; if the four make a square within their errors, place, turn and side of a
    square are fitted to all pixels at once (Gauss-Newton, Cauchy weights). The variance of the side is the larger of
    the one that noise of pixels leaves and the one that the frames' own pulls show (sandwich with frames as clusters,
    since the pose of a frame moves its four corners together; Liang and Zeger, Biometrika 1986).

    Raises:
        NoCue: fewer than `MIN_FRAMES` sightings, too little parallax, no square, or not standing still.
    """
    if len(seen) < MIN_FRAMES:
        raise NoCue(f"marker {number} is seen in {len(seen)} frames, {MIN_FRAMES} are needed")
    rows, pixels = [row for row, _ in seen], np.stack([corners for _, corners in seen])
    side_px = float(np.median(np.linalg.norm(np.roll(pixels, -1, axis=1) - pixels, axis=2)))
    chosen = [views[row] for row in rows]
    try:
        free = [triangulate(pixels[:, k], chosen, CORNER_SIGMA_PX) for k in range(4)]
        _check_square(np.stack([t.point for t in free]), np.stack([t.covariance for t in free]))
        corners, log_side, sigma, residual = _fit(np.stack([t.point for t in free]), pixels, chosen)
    except (NoCue, np.linalg.LinAlgError) as error:
        raise NoCue(f"marker {number} in {len(seen)} frames: {str(error).removeprefix('align: ')}") from error
    per_frame = residual.reshape(len(seen), 4).mean(axis=1)
    still = per_frame < max(2.0, 0.05 * side_px)
    if still.sum() < max(MIN_FRAMES, MIN_SHARE * len(seen)):
        raise NoCue(
            f"marker {number} fits one place in {still.sum()} of {len(seen)} frames only (residual "
            f"{np.median(per_frame):.1f} px): it moves, or is none"
        )
    if sigma > USELESS_SIGMA:
        raise NoCue(f"marker {number} in {len(seen)} frames: the camera moves too little to tell how large it is")
    return MarkerSquare(number, corners, log_side, sigma, int(still.sum()), side_px, float(np.median(residual)))


def _check_square(points: np.ndarray, covariances: np.ndarray) -> None:
    """Insist that four corners make a flat square as far as their errors allow. Raises NoCue."""
    sides = np.roll(points, -1, axis=0) - points
    side = float(np.linalg.norm(sides, axis=1).mean())
    error = math.sqrt(float(np.linalg.eigvalsh(covariances)[:, -1].max())) / side
    lengths = np.append(np.linalg.norm(sides, axis=1), np.linalg.norm(points[2:] - points[:2], axis=1) / math.sqrt(2))
    bent = float(np.abs(lengths / side - 1).max())
    flat = abs(float(np.linalg.det(np.stack([sides[0], sides[1], points[3] - points[0]])))) / side**3
    # 4: of eight lengths the worst lies 3 standard deviations off now and then.
    if max(bent, flat) > MAX_BENT + 4 * error:
        raise NoCue(
            f"its corners make no flat square (sides, diagonals and plane off by {100 * max(bent, flat):.0f} %)"
        )


def _fit(points: np.ndarray, pixels: np.ndarray, views: Sequence[View]) -> tuple[np.ndarray, float, float, np.ndarray]:
    """Corners (4, 3), log of the side, its sigma, and residuals (M * 4,) px.

    ``points`` (4, 3) are the corners to start from, ``pixels`` (M, 4, 2) those seen in ``views``.
    """
    count = len(views)
    rotation = np.repeat(np.stack([view.cam_from_world.rotation for view in views]), 4, axis=0)
    centres = np.repeat(np.stack([view.cam_from_world.inverse().translation for view in views]), 4, axis=0)
    each, flat = [view for view in views for _ in range(4)], pixels.reshape(-1, 2)
    centre = points.mean(axis=0)
    u, _, vt = np.linalg.svd((points - centre).T @ SQUARE)
    turn = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    log_side = math.log(float(np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1).mean()))
    for _ in range(ROUNDS):
        offsets = math.exp(log_side) * SQUARE @ turn.T
        by_point, residual = project_with_jacobian(np.tile(centre + offsets, (count, 1)), rotation, centres, flat, each)
        far = np.linalg.norm(residual, axis=1)
        noise = max(CORNER_SIGMA_PX, float(np.median(far)) / 1.18)  # median length of a 2-vector of unit normal numbers
        weights = 1 / (1 + (far / (CAUCHY * noise)) ** 2)
        by_unknown = np.concatenate(
            [np.broadcast_to(np.eye(3), (4, 3, 3)), cross_matrix(-offsets), offsets[:, :, None]], axis=2
        )
        jacobian = by_point @ np.tile(by_unknown, (count, 1, 1))  # (M * 4, 2, 7)
        gram = np.einsum("m,mki,mkj->ij", weights, jacobian, jacobian)
        pulls = np.einsum("m,mki,mk->mi", weights, jacobian, residual)
        step = np.linalg.solve(gram, pulls.sum(axis=0))
        centre, log_side = centre + step[:3], log_side + float(np.clip(step[6], -1, 1))
        turn = _small_turn(step[3:6]) @ turn
    inverse = np.linalg.inv(gram)
    by_frame = pulls.reshape(count, 4, -1).sum(axis=1) @ inverse[-1]
    freedom = max(count - 7 / 4, 1.0)  # seven unknowns, four corners a frame
    seen = math.sqrt(float((by_frame**2).sum()) * count / freedom)
    sigma = max(seen, noise * math.sqrt(float(inverse[-1, -1]))) * student_widening(freedom)
    return centre + math.exp(log_side) * SQUARE @ turn.T, log_side, sigma, far


def _small_turn(vector: np.ndarray) -> np.ndarray:
    """Rotation by a vector (radians), exactly orthonormal (Cayley; equal to the exponential to second order)."""
    half = cross_matrix(vector / 2)
    return np.linalg.solve(np.eye(3) - half, np.eye(3) + half)


def marker_cues(squares: Sequence[MarkerSquare], side_m: float, dictionary: str) -> list[Cue]:
    """Metres per unit from markers of the same side, at least one: one cue, or one each where they contradict.

    Several are combined by `consensus`; they stand in different places, so the structure's bending is allowed between
    them (and taken off again, since a cue's sigma is without it). All share the error of the print, and that by which
    blur moves the edges of a black square.
    """
    sides, sigmas = (np.array([getattr(square, key) for square in squares]) for key in ("log_side", "sigma"))
    found = consensus(sides, sigmas, STRUCTURE_SIGMA)
    if not found.decided:
        return [
            replace(cue, name=f"marker number {square.number} of {side_m:g} m")
            for square in squares
            for cue in marker_cues([square], side_m, dictionary)
        ]
    edges = EDGE_SIGMA_PX / float(np.median([square.side_px for square in squares]))
    sigma = math.sqrt(max(found.sigma**2 - STRUCTURE_SIGMA**2, 0.0) + edges**2 + PRINT_SIGMA**2)
    used = [square for square, weight in zip(squares, found.weights) if weight > 0]
    numbers = ", ".join(str(number) for number in sorted(square.number for square in used))
    residual = max(square.residual_px for square in used)
    detail = f"{dictionary} number {numbers} in {max(s.frames for s in used)} frames, corners off by {residual:.2g} px"
    if len(used) < len(squares):
        left = [str(square.number) for square in squares if square not in used]
        detail += f"; of another size, so not used: {', '.join(left)}"
    return [Cue(f"marker {side_m:g} m", side_m / math.exp(found.value), sigma, detail)]
