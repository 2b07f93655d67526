"""Metres from the known distance of two points that a person picked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.errors import AlignmentError, OptionsError
from recon4d.metric.scale import LENGTH_SIGMA, USELESS_SIGMA, Cue, NoCue
from recon4d.metric.triangulation import triangulate
from recon4d.scene.depth import SceneDepth
from recon4d.scene.trajectory import View

PICK_SIGMA_PX = 2.0  # a guess: how well a person hits a corner
# Length, as a share of the picture's width, over which errors of video depth forget each other: measured on a network's
# depth of a real room, where the correlation of relative errors falls from 0.92 at 1 % of the width to 0.23 at 19 %.
CORRELATION_LENGTH = 0.13
MISSED_SIGMAS = 5.0  # errors of a pick; further off it is another point
NEAR_SURFACE = 0.05  # relative: a point of the fused cloud lies so near to the depth of single frames
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Pick:
    """A pixel in the undistorted picture of a frame; the centre of the top-left pixel is (0.5, 0.5)."""

    frame: str
    x: float
    y: float


@dataclass(frozen=True)
class KnownDistance:
    """What a person says about two points."""

    ends: tuple[tuple[Pick, ...] | np.ndarray, tuple[Pick, ...] | np.ndarray]  # picks, or a point (3,) in scene units
    metres: float
    tolerance_m: float  # one standard deviation
    text: str


def parse_distance(text: str) -> KnownDistance:
    """Read ``"NAME x,y x,y 0.85"`` and its other forms.

    Two ends, then metres, then perhaps ``+-`` and a tolerance. An end is ``x,y`` in the frame named before it (the
    second may leave the name out), several of these joined with ``+``, or ``X,Y,Z`` in scene units.

    Raises:
        OptionsError: it is none of these.
    """
    problem = f"align: --metric.distance {text!r}"
    # The space before the length is what parts it from "x,y".
    found = re.fullmatch(
        rf"(.*?\S)\s+({_NUMBER})\s*m?\s*(?:(?:\+-|±|\+/-)\s*({_NUMBER})\s*m?)?", text.strip(), re.DOTALL
    )
    if not found:
        raise OptionsError(f'{problem} does not end in a length in metres, such as "000012 310,200 420,205 0.85"')
    body, metres = found[1], float(found[2])
    tolerance = LENGTH_SIGMA * metres if found[3] is None else float(found[3])
    if not metres > 0 or not 0 <= tolerance < metres:
        raise OptionsError(
            f"{problem} has the length {found[2]} m +- {tolerance:g}, more than 0 and its tolerance is expected"
        )
    solid = re.fullmatch(r"\s+".join([",".join([f"({_NUMBER})"] * 3)] * 2), body)
    if solid:
        values = np.array([float(value) for value in solid.groups()])
        return KnownDistance((values[:3], values[3:]), metres, tolerance, text)
    ends: list[list[Pick]] = []
    position, frame = 0, ""
    for pixel in re.finditer(rf"(?:(?<=\s)|^)({_NUMBER}),({_NUMBER})(?=[\s+]|$)", body):
        name = body[position : pixel.start()].strip()
        joined = name.startswith("+")
        name = name[1:].strip() if joined else name
        frame = name or frame
        if not frame or (joined and not name):
            raise OptionsError(f"{problem} does not name the frame of the pixel {pixel[0]}: write NAME x,y before it")
        if not joined:
            ends.append([])
        ends[-1].append(Pick(frame, float(pixel[1]), float(pixel[2])))
        position = pixel.end()
    if len(ends) != 2 or body[position:].strip():
        raise OptionsError(
            f"{problem} has {len(ends)} ends, two are expected, as NAME x,y x,y LENGTH or NAME x,y NAME2 x,y LENGTH "
            "(+ joins pixels of one end) or X,Y,Z X,Y,Z LENGTH"
        )
    return KnownDistance((tuple(ends[0]), tuple(ends[1])), metres, tolerance, text)


@dataclass(frozen=True)
class PickedEnd:
    """A picked point in the world, with what its place depends on."""

    point: np.ndarray  # (3,) world frame, scene units
    covariance: np.ndarray  # (3, 3) scene units squared, of errors that the other end does not share
    depth_error: np.ndarray  # (3,) movement by one standard deviation of the depth under the pixel; 0 if triangulated
    pick: Pick | None = None  # where that depth was read
    width: int = 0  # of that picture, pixels

    def correlation(self, other: PickedEnd) -> float:
        """How alike the relative depth errors under both pixels are, 0..1: near pixels of one frame err together."""
        if self.pick is None or other.pick is None or self.pick.frame != other.pick.frame:
            return 0.0
        apart_px = math.hypot(self.pick.x - other.pick.x, self.pick.y - other.pick.y)
        return math.exp(-apart_px / (CORRELATION_LENGTH * self.width))


def lifted(pick: Pick, view: View, surface: SceneDepth) -> PickedEnd:
    """The point of the surface under a pixel.

    The depth is the median of the valid pixels within the error of the pick; how much they differ (a slant, or the edge
    of an object) widens the covariance along the ray.

    Raises:
        AlignmentError: the pixel is outside the picture, or no pixel around it has a depth.
    """
    camera = view.camera
    if not (0 <= pick.x <= camera.width and 0 <= pick.y <= camera.height):
        raise AlignmentError(
            f"align: the pixel {pick.x:g},{pick.y:g} of --metric.distance lies outside frame {pick.frame} "
            f"({camera.width}x{camera.height}): pick it in the undistorted pictures (poses/images)"
        )
    column, row = int(min(pick.x, camera.width - 1)), int(min(pick.y, camera.height - 1))
    reach = math.ceil(PICK_SIGMA_PX)
    around = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    valid = surface.valid[around]
    if not valid.any():
        raise AlignmentError(
            f"align: frame {pick.frame} has no depth at {pick.x:g},{pick.y:g} of --metric.distance: pick a point on a "
            "surface, or one in several frames (NAME x,y+NAME2 x,y)"
        )
    depths = surface.depth[around][valid].astype(np.float64)
    z, sigma = float(np.median(depths)), float(np.median(surface.sigma[around][valid]))
    turn = view.cam_from_world.rotation.T
    ray = turn @ camera.rays_at(pick.x, pick.y)
    right, down = turn[:, 0] * z * PICK_SIGMA_PX / camera.fx, turn[:, 1] * z * PICK_SIGMA_PX / camera.fy
    covariance = np.outer(right, right) + np.outer(down, down) + np.outer(ray, ray) * depths.var()
    return PickedEnd(view.cam_from_world.inverse().translation + z * ray, covariance, sigma * ray, pick, camera.width)


def met(picks: Sequence[Pick], views: Sequence[View]) -> PickedEnd:
    """The point where the rays of several picks meet, one per view.

    Raises:
        AlignmentError: they do not meet as well as a person can pick.
        NoCue: they are nearly parallel.
    """
    found = triangulate(np.array([[pick.x, pick.y] for pick in picks]), views, PICK_SIGMA_PX)
    worst = int(np.argmax(found.residual_px))
    if found.residual_px[worst] > MISSED_SIGMAS * PICK_SIGMA_PX:
        raise AlignmentError(
            f"align: the pixels of one end of --metric.distance do not meet (frame {picks[worst].frame} is "
            f"{found.residual_px[worst]:.0f} px off): pick the same point in each frame"
        )
    return PickedEnd(found.point, found.covariance, np.zeros(3))


def on_surface(point: np.ndarray, view: View, surface: SceneDepth) -> PickedEnd | None:
    """A point (3,) of the world as an end, where the surface of this frame holds it; None where it does not."""
    x_in_cam = view.cam_from_world @ point
    if not x_in_cam[2] > 0:
        return None
    x, y = (float(v) for v in view.camera.project(x_in_cam))
    if not (0 <= x < view.camera.width and 0 <= y < view.camera.height and surface.valid[int(y), int(x)]):
        return None
    here = lifted(Pick(view.name, x, y), view, surface)
    z = float((view.cam_from_world @ here.point)[2])
    sigma = float((view.cam_from_world.rotation @ here.depth_error)[2]) / z  # the error lies along the ray
    if abs(z / float(x_in_cam[2]) - 1) > max(3 * sigma, NEAR_SURFACE):
        return None
    return PickedEnd(np.asarray(point, dtype=np.float64), here.covariance, here.depth_error, here.pick, here.width)


def distance_cue(ends: Sequence[PickedEnd], metres: float, tolerance_m: float) -> Cue:
    """Metres per unit from two points that are ``metres`` apart.

    With u the unit vector between the points, N their own covariances, and e_a, e_b their movements by one standard
    deviation of depth, the variance of the distance is u'(N_a + N_b)u + (u.e_a)^2 + (u.e_b)^2 - 2 c (u.e_a)(u.e_b),
    c the correlation of both depth errors. Fully correlated (c = 1) it is the distance times the relative depth error,
    since a common factor on depth moves both points away from the camera alike.

    Raises:
        NoCue: both points are one, or the distance is too uncertain.
    """
    a, b = ends
    between = b.point - a.point
    distance = float(np.linalg.norm(between))
    if not distance > 0:
        raise NoCue(f"align: both ends of --metric.distance {metres:g} m are the same point: pick two different points")
    u = between / distance
    along_a, along_b = float(u @ a.depth_error), float(u @ b.depth_error)
    variance = float(u @ (a.covariance + b.covariance) @ u)
    variance += along_a**2 + along_b**2 - 2 * a.correlation(b) * along_a * along_b
    relative = math.sqrt(variance) / distance
    length = f"{distance:.4g} +- {math.sqrt(variance):.2g} units"
    if relative > USELESS_SIGMA:
        raise NoCue(
            f"align: the distance of --metric.distance {metres:g} m is {length} in the scene, too uncertain for a "
            "scale: pick points further apart, or each in several frames (NAME x,y+NAME2 x,y)"
        )
    detail = f"{length} between the picked points"
    return Cue(f"distance {metres:g} m", metres / distance, math.hypot(relative, tolerance_m / metres), detail)
