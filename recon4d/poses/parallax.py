"""Has the camera moved at all, and did it do more than turn? Measured on the matches, before anything is mapped.

A static camera and one that only turns both give matches in plenty, and a mapper can make a model of noise from them.
So the matches are asked two questions: how far do they move, and how much of that a turn of the camera leaves over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.errors import PosesError
from recon4d.poses.lens import Lens
from recon4d.poses.native import load_pycolmap

PAIRS_LOOKED_AT = 48
MATCHES_PER_PAIR = 256
LEAST_MATCHES = 30
TURN_ROUNDS = 10
FOCALS = np.geomspace(0.35, 4.0, 14)  # of the longest side: 110 to 14 degrees
RADIALS = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1)  # at half the diagonal
# Of the longest side: 1 px at 640. Matches are good to half a pixel; a hand-held pan of a street left 0.0022.
LEAST_MOTION = 0.0015
UPPER = 0.9  # quantile over the pairs: those with the most motion decide, a few wrong ones do not


@dataclass(frozen=True)
class PictureMotion:
    """How the pictures move, over the verified pairs that are widest apart."""

    displacement_px: float  # median over the matches of a pair, upper quantile over the pairs
    parallax_px: float  # the same after the best turn of the camera has been taken out
    pairs: int  # number of pairs looked at; 0: nothing is known and both values are 0


def measure_motion(database: Path, files: Sequence[str], lens: Lens | None) -> PictureMotion:
    """Read the widest verified pairs of a database and measure them.

    Args:
        files: names in time order.
        lens: the known lens; None looks for the focal length and distortion that explain most as a turn.
    """
    first, second, size = _widest_matches(database, files)
    if not len(first):
        return PictureMotion(0.0, 0.0, 0)
    displacement = np.median(np.linalg.norm(second - first, axis=-1), axis=-1)
    parallax = parallax_of_known_lens(first, second, lens) if lens else parallax_of_any_lens(first, second, size)
    return PictureMotion(float(np.quantile(displacement, UPPER)), float(np.quantile(parallax, UPPER)), len(first))


def _widest_matches(database: Path, files: Sequence[str]) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Matched pixels (P, M, 2) in either frame of the widest verified pairs, and the size of the frames."""
    pycolmap = load_pycolmap()
    rng = np.random.default_rng(0)
    with pycolmap.Database.open(database) as opened:
        images = {image.image_id: image for image in opened.read_all_images()}
        place = {image_id: files.index(image.name) for image_id, image in images.items()}
        widest: dict[int, tuple[int, int]] = {}
        for pair_id, inliers in zip(*opened.read_two_view_geometry_num_inliers()):
            pair = sorted(pycolmap.pair_id_to_image_pair(pair_id), key=place.__getitem__)
            gap = place[pair[1]] - place[pair[0]]
            if inliers >= LEAST_MATCHES and gap > _gap(widest.get(pair[0]), place):
                widest[pair[0]] = tuple(pair)
        chosen = list(widest.values())
        chosen = (
            [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, PAIRS_LOOKED_AT).astype(int))]
            if chosen
            else []
        )
        first, second = np.zeros((2, len(chosen), MATCHES_PER_PAIR, 2))
        for row, (a, b) in enumerate(chosen):
            matches = opened.read_two_view_geometry(a, b).inlier_matches
            some = matches[rng.choice(len(matches), MATCHES_PER_PAIR, replace=len(matches) < MATCHES_PER_PAIR)]
            first[row] = opened.read_keypoints(a)[some[:, 0], :2]
            second[row] = opened.read_keypoints(b)[some[:, 1], :2]
        cameras = opened.read_all_cameras()
    return first, second, (cameras[0].width, cameras[0].height)


def _gap(pair: tuple[int, int] | None, place: dict[int, int]) -> int:
    return 0 if pair is None else place[pair[1]] - place[pair[0]]


def parallax_of_known_lens(first: np.ndarray, second: np.ndarray, lens: Lens) -> np.ndarray:
    """(P,) median pixels that the best turn leaves over, for matches (P, M, 2) taken with a known lens."""
    camera = lens.pinhole_part
    rays = [lens.unproject(pixels.reshape(-1, 2)).reshape(pixels.shape) for pixels in (first, second)]
    return np.median(left_over(*rays), axis=-1) * camera.fx


def parallax_of_any_lens(first: np.ndarray, second: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(P,) the same for the focal length and radial distortion that leave the least over; ``size`` in pixels."""
    centre, radius = np.array(size) / 2, np.hypot(*size) / 2
    best = None
    for radial in RADIALS:
        offsets = []
        for pixels in (first, second):
            offset = pixels - centre
            offsets.append(offset * (1 + radial * np.sum(offset**2, axis=-1, keepdims=True) / radius**2))
        for focal in FOCALS * max(size):
            parallax = np.median(left_over(offsets[0] / focal, offsets[1] / focal), axis=-1) * focal
            if best is None or np.median(parallax) < np.median(best):
                best = parallax
    return best


def left_over(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(P, M) distance, focal lengths, between seen directions and directions turned by each pair's best rotation.

    Args:
        first, second: (P, M, 2) directions x/z, y/z of matched points.

    Source: Kabsch, Acta Cryst. A32 1976, with weights 1/residual (L1) so that near things and movers do not decide.
    """
    rays = [np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1) for xy in (first, second)]
    a, b = (ray / np.linalg.norm(ray, axis=-1, keepdims=True) for ray in rays)
    weight = np.ones(a.shape[:-1])
    for _ in range(TURN_ROUNDS):
        u, _, vt = np.linalg.svd(np.einsum("pm,pmi,pmj->pij", weight, b, a))
        u[..., -1] *= np.linalg.det(u @ vt)[:, None]
        turned = a @ np.swapaxes(u @ vt, -1, -2)
        ahead = np.maximum(turned[..., 2:], 1e-6)
        distance = np.linalg.norm(turned[..., :2] / ahead - second, axis=-1)
        weight = 1 / np.maximum(distance, 1e-4)
    return distance


def check_motion(motion: PictureMotion, longest_side: int) -> None:
    """Raise PosesError when the camera stood still or only turned; ``longest_side`` of the frames, pixels."""
    least = LEAST_MOTION * longest_side
    instead = "use --poses.source static for a tripod (one marked pose for all frames), or none to make depth alone"
    if not motion.pairs:
        raise PosesError(
            f"poses: no two frames have {LEAST_MATCHES} verified matches, they may show different places or be too "
            "blurred: take more frames (--frames.stride), or --poses.source none to make depth alone"
        )
    if motion.displacement_px < least:
        raise PosesError(
            f"poses: the camera does not move: features shift by {motion.displacement_px:.2f} px between the frames "
            f"furthest apart, {least:.1f} px are needed: {instead}"
        )
    if motion.parallax_px < least:
        raise PosesError(
            f"poses: too little parallax, the camera only turns: features shift by {motion.displacement_px:.0f} px, "
            f"but a turn explains all but {motion.parallax_px:.2f} px and {least:.1f} px are needed: move the camera "
            f"sideways, or {instead}"
        )
