"""What can be drawn in the live viewer, as plain arrays: shown frame (z up), shown unit (metres where known)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Points:
    """Coloured points."""

    points: np.ndarray  # (N, 3) float32
    colors: np.ndarray  # (N, 3) uint8 sRGB
    size: float  # width of one, shown unit

    @classmethod
    def joined(cls, parts: list[Points]) -> Points:
        """All points of several, with the mean size of these."""
        sizes = [part.size for part in parts]
        points, colors = (np.concatenate([getattr(p, field) for p in parts]) for field in ("points", "colors"))
        return cls(points, colors, float(np.mean(sizes)))


@dataclass(frozen=True)
class Surface:
    """Triangles with colours at their corners."""

    vertices: np.ndarray  # (N, 3) float32
    faces: np.ndarray  # (T, 3) int32
    colors: np.ndarray  # (N, 3) uint8 sRGB
    wire: bool  # only the edges, in one colour


@dataclass(frozen=True)
class Lines:
    """Straight pieces."""

    ends: np.ndarray  # (N, 2, 3) float32
    color: Color
    width_px: float


@dataclass(frozen=True)
class Arrows:
    """Arrows from their first to their second end."""

    ends: np.ndarray  # (N, 2, 3) float32
    color: Color
    width: float  # of the shaft, shown unit


@dataclass(frozen=True)
class Frustum:
    """One camera."""

    name: str
    position: np.ndarray  # (3,)
    quat_wxyz: np.ndarray  # (4,) shown frame from camera
    fov_rad: float  # vertical
    aspect: float  # width / height
    picture: np.ndarray | None  # (h, w, 3) uint8, small


@dataclass(frozen=True)
class Frusta:
    """Cameras in one colour."""

    frusta: tuple[Frustum, ...]
    color: Color
    size: float  # shown unit
    width_px: float


@dataclass(frozen=True)
class Grid:
    """A level net of squares."""

    centre: np.ndarray  # (3,)
    extent: float  # width and length, shown unit
    square: float  # side of one square, shown unit


Drawing = Points | Surface | Lines | Arrows | Frusta | Grid
