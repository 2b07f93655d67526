"""The furniture of the synthetic room: solids with their place, material and, for movers, their motion.

World frame: metres, z up, the floor at z = 0, the room 6 m (x) by 5 m (y) by 2.7 m (z).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recon4d.scene.transforms import Rigid3
from recon4d.synthetic import motion
from recon4d.synthetic.solids import BOX, CYLINDER, ELLIPSOID, ROOM
from recon4d.synthetic.texture import DOTS, MOTTLED, PATCHES, PLANKS, STRIPES

CRATE, BALL, BLOB = 1, 2, 3  # object ids of the movers; 0 is everything that stands still
MOVERS = {CRATE: "crate", BALL: "ball", BLOB: "blob"}
SIZE_M = (6.0, 5.0, 2.7)
TABLE_HEIGHT_M = 0.72


@dataclass(frozen=True)
class Material:
    """A solid texture: pattern, its size in metres, and four sRGB colours as hex (two grounds, two of the pattern)."""

    style: int
    cell: float
    palette: tuple[str, str, str, str]

    def linear_palette(self) -> np.ndarray:
        """(4, 3) linear RGB 0..1 (gamma 2.2)."""
        rgb = [[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in self.palette]
        return (np.array(rgb) / 255.0) ** 2.2


@dataclass(frozen=True)
class Solid:
    """One solid. A mover's material point p0 (rest frame) is at  centre + rotation @ (stretch * p0)."""

    kind: int
    half: tuple[float, float, float]  # half sizes at rest, metres (cylinder: radius, radius, half height)
    world_from_solid: Rigid3
    material: Material
    object_id: int = 0
    motion: Callable[[float], motion.Placement] | None = None  # time in s -> placement

    def at(self, time_s: float) -> motion.Placement:
        """Where the solid is and how it is stretched at a time."""
        if self.motion is not None:
            return self.motion(time_s)
        return motion.Placement(self.world_from_solid.rotation, self.world_from_solid.translation, np.ones(3))


WALLS = Material(DOTS, 0.40, ("e8dcc4", "cfd8cf", "4f8a8b", "d9774a"))
FLOOR = Material(PLANKS, 0.16, ("b98655", "7d5330", "3a2415", "dcae78"))
RUG = Material(STRIPES, 0.16, ("a23b3b", "bf5a45", "22335a", "f0dfb8"))
OAK = Material(STRIPES, 0.05, ("c08d57", "a8763f", "7d5228", "d9b07a"))
WALNUT = Material(STRIPES, 0.04, ("6d4428", "815434", "48290f", "a2744a"))
SOFA = Material(DOTS, 0.11, ("2f6d7a", "26566b", "e8c15a", "b9dbd8"))
CUSHION = Material(PATCHES, 0.07, ("e0a030", "c8862a", "f4e3b2", "8a3b2a"))
CUPBOARD = Material(MOTTLED, 0.10, ("dfe3e0", "9fb6ac", "ffffff", "ffffff"))
CLAY = Material(DOTS, 0.06, ("b4532e", "8f3d20", "f3d9b0", "e58f4a"))
LEAVES = Material(DOTS, 0.05, ("3d7a34", "28582b", "a9c95a", "173c1d"))
LAMPSHADE = Material(STRIPES, 0.05, ("f5e6b8", "f0d590", "e4b04a", "fff6da"))
STEEL = Material(MOTTLED, 0.08, ("8b9297", "565d63", "ffffff", "ffffff"))
PAINTING = Material(PATCHES, 0.12, ("1d3a6b", "27508c", "f2b134", "d6402f"))
ABSTRACT = Material(DOTS, 0.16, ("f3efe2", "e6dcc0", "cf3b2e", "1f3f77"))
LANDSCAPE = Material(STRIPES, 0.10, ("7fb0d6", "cfe2ee", "3f7a43", "e8b65c"))
FRAME = Material(MOTTLED, 0.04, ("2b2320", "4a3a30", "ffffff", "ffffff"))
BOOKS = tuple(
    Material(DOTS, 0.05, (a, b, c, "f6ecd2"))
    for a, b, c in (
        ("a83232", "7d2323", "e8c15a"),
        ("2d5f8b", "1f4566", "e7e1d0"),
        ("3b7d4f", "28583a", "f0d26a"),
        ("d49a2c", "a8751d", "5a2a1a"),
        ("6b4a86", "4d3463", "d9c7ea"),
        ("c9653b", "94462a", "2c3f57"),
    )
)
TOY_CRATE = Material(PATCHES, 0.085, ("e24f3a", "c73f2e", "f7d348", "2a6fb0"))
TOY_BALL = Material(PATCHES, 0.11, ("f5f2e8", "e4dcc8", "d8322f", "2263a8"))
JELLY = Material(DOTS, 0.085, ("58b56a", "3d9a5c", "f7e04b", "7a2f8f"))


def _box(material: Material, low: tuple, high: tuple, yaw_deg: float = 0.0) -> Solid:
    """Box between two corners (before its turn about its own vertical axis)."""
    low_m, high_m = np.array(low, dtype=float), np.array(high, dtype=float)
    pose = Rigid3(motion.yaw(np.radians(yaw_deg)), (low_m + high_m) / 2)
    return Solid(BOX, tuple((high_m - low_m) / 2), pose, material)


def _cylinder(material: Material, x: float, y: float, bottom: float, top: float, radius: float) -> Solid:
    pose = Rigid3(np.eye(3), np.array([x, y, (bottom + top) / 2]))
    return Solid(CYLINDER, (radius, radius, (top - bottom) / 2), pose, material)


def _ellipsoid(material: Material, centre: tuple, radii: tuple) -> Solid:
    return Solid(ELLIPSOID, radii, Rigid3(np.eye(3), np.array(centre, dtype=float)), material)


def static_solids() -> list[Solid]:
    """Everything that stands still: the room itself first, then furniture."""
    centre = np.array(SIZE_M) / 2
    shell = Solid(ROOM, tuple(centre), Rigid3(np.eye(3), centre), WALLS)
    floor = _box(FLOOR, (-0.1, -0.1, -0.2), (6.1, 5.1, 0.001))
    rug = _box(RUG, (2.15, 2.35, -0.01), (4.05, 3.65, 0.014), 4.0)
    return [shell, floor, rug, *_table(), *_sofa(), *_shelf(), *_corner(), *_pictures()]


def _table() -> list[Solid]:
    top = _box(OAK, (3.45, 3.3, TABLE_HEIGHT_M - 0.05), (4.75, 4.1, TABLE_HEIGHT_M), -8.0)
    legs = [_cylinder(WALNUT, x, y, 0.0, 0.69, 0.035) for x in (3.62, 4.56) for y in (3.46, 3.94)]
    cup = _cylinder(CLAY, 4.42, 3.55, TABLE_HEIGHT_M, TABLE_HEIGHT_M + 0.13, 0.05)
    books = [
        _box(BOOKS[0], (3.62, 3.66, TABLE_HEIGHT_M), (3.86, 3.96, TABLE_HEIGHT_M + 0.05), 20.0),
        _box(BOOKS[1], (3.64, 3.68, TABLE_HEIGHT_M + 0.05), (3.84, 3.94, TABLE_HEIGHT_M + 0.09), 47.0),
    ]
    return [top, *legs, cup, *books]


def _sofa() -> list[Solid]:
    return [
        _box(SOFA, (0.95, 3.95, 0.08), (2.75, 4.75, 0.42)),
        _box(SOFA, (0.96, 4.55, 0.30), (2.74, 4.85, 0.86)),
        _box(SOFA, (0.80, 3.93, 0.05), (0.99, 4.84, 0.62)),
        _box(SOFA, (2.71, 3.93, 0.05), (2.90, 4.84, 0.62)),
        _box(CUSHION, (1.20, 4.36, 0.40), (1.58, 4.50, 0.76), 14.0),
        _ellipsoid(CLAY, (2.35, 4.32, 0.52), (0.24, 0.13, 0.17)),
        _cylinder(WALNUT, 1.52, 3.42, 0.0, 0.36, 0.24),
        _ellipsoid(LAMPSHADE, (1.52, 3.42, 0.46), (0.11, 0.11, 0.10)),
    ]


def _shelf() -> list[Solid]:
    """Book case at the right wall, its boards facing -x."""
    boards = [_box(WALNUT, (5.60, 2.2, z), (5.99, 3.9, z + 0.04)) for z in (0.06, 0.50, 0.94, 1.38, 1.82)]
    sides = [_box(WALNUT, (5.58, y, 0.0), (5.99, y + 0.04, 1.90)) for y in (2.16, 3.90)]
    rng, books = np.random.default_rng(5), []  # the layout is fixed; a scene's seed changes textures and shake only
    for z in (0.10, 0.54, 0.98, 1.42):
        y = 2.26
        while y < 3.72:
            width = float(rng.uniform(0.05, 0.11))
            if rng.random() < 0.85:
                front, height = float(rng.uniform(5.62, 5.72)), float(rng.uniform(0.24, 0.36))
                books.append(
                    _box(BOOKS[rng.integers(len(BOOKS))], (front, y, z), (5.97, y + width - 0.006, z + height))
                )
            y += width
    return [*boards, *sides, *books]


def _corner() -> list[Solid]:
    """Cupboard at the left wall, a plant in the corner and a standing lamp."""
    leaves = [
        _ellipsoid(LEAVES, (5.30 + dx, 4.45 + dy, z), (r, r, 1.15 * r))
        for dx, dy, z, r in (
            (0, 0, 0.86, 0.26),
            (-0.16, -0.1, 1.14, 0.2),
            (0.13, -0.12, 1.2, 0.18),
            (0, 0.1, 1.42, 0.17),
        )
    ]
    return [
        _box(CUPBOARD, (0.01, 1.9, 0.0), (0.50, 3.1, 0.95)),
        _box(OAK, (0.005, 1.86, 0.95), (0.54, 3.14, 0.99)),
        _cylinder(CLAY, 0.28, 2.2, 0.99, 1.27, 0.10),
        _ellipsoid(LEAVES, (0.28, 2.2, 1.40), (0.17, 0.17, 0.20)),
        _box(BOOKS[2], (0.14, 2.6, 0.99), (0.42, 2.86, 1.05), 25.0),
        _cylinder(CLAY, 5.30, 4.45, 0.0, 0.42, 0.19),
        _cylinder(WALNUT, 5.30, 4.45, 0.4, 0.9, 0.03),
        *leaves,
        _cylinder(STEEL, 3.15, 4.70, 0.0, 0.03, 0.16),
        _cylinder(STEEL, 3.15, 4.70, 0.0, 1.55, 0.018),
        _cylinder(LAMPSHADE, 3.15, 4.70, 1.50, 1.85, 0.19),
    ]


def _pictures() -> list[Solid]:
    """Framed paintings on the back wall and the left wall."""
    framed = []
    for material, x, z, width, height in (
        (PAINTING, 1.45, 1.70, 0.95, 0.65),
        (ABSTRACT, 2.45, 1.72, 0.55, 0.75),
        (LANDSCAPE, 4.20, 1.62, 1.15, 0.75),
    ):
        for back, coat, rim in ((4.97, FRAME, 0.04), (4.955, material, 0.0)):
            half_width, half_height = width / 2 + rim, height / 2 + rim
            low, high = (x - half_width, back, z - half_height), (x + half_width, 5.0, z + half_height)
            framed.append(_box(coat, low, high))
    framed.append(_box(ABSTRACT, (0.0, 3.45, 1.35), (0.04, 4.25, 1.95)))
    return framed


def moving_solids() -> list[Solid]:
    """A crate that slides and turns, a ball that rolls, and a blob on the table that squashes and stretches."""
    placed_by_motion = Rigid3.identity()
    return [
        Solid(BOX, (0.21, 0.15, 0.17), placed_by_motion, TOY_CRATE, CRATE, motion.Crate(half_height=0.17)),
        Solid(ELLIPSOID, (0.19, 0.19, 0.19), placed_by_motion, TOY_BALL, BALL, motion.Ball(radius=0.19)),
        Solid(ELLIPSOID, (0.16, 0.16, 0.18), placed_by_motion, JELLY, BLOB, motion.Blob(0.18, TABLE_HEIGHT_M)),
    ]
