"""What a person who looks has asked to see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wish:
    """What a person asked to see."""

    frame: str  # name
    layers: frozenset[str] = frozenset()  # keys
    colors: str = "picture"  # key of a ColorMode
    together: int = 1  # frames whose clouds are drawn at once
    wire: bool = False  # meshes as their edges
    point_scale: float = 1.0
    picture: str = "picture"  # key of the ColorMode that the picture in the panel shows
