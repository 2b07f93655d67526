"""Where the camera was: one pose per frame, matched by name, with how each pose came about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3


class PoseOrigin(str, Enum):
    """How a pose came about. Only the first two are evidence; the others only place things."""

    MEASURED = "measured"  # structure from motion on this frame
    IMPORTED = "imported"  # given by the user
    INTERPOLATED = "interpolated"  # between registered neighbours in time
    STATIC = "static"  # the one pose of a tripod

    @property
    def is_evidence(self) -> bool:
        return self in (PoseOrigin.MEASURED, PoseOrigin.IMPORTED)


@dataclass(frozen=True)
class View:
    """One frame of a trajectory."""

    name: str
    timestamp_s: float
    cam_from_world: Rigid3
    camera: Camera
    origin: PoseOrigin


@dataclass(frozen=True)
class Trajectory:
    """Poses and undistorted cameras of the frames, in time order."""

    names: tuple[str, ...]
    timestamps_s: np.ndarray  # (N,) float64
    cam_from_world: Rigid3  # batch (N,)
    cameras: tuple[Camera, ...]
    origin: tuple[PoseOrigin, ...]

    def __post_init__(self) -> None:
        counts = {
            len(self.names),
            len(self.timestamps_s),
            len(self.cam_from_world),
            len(self.cameras),
            len(self.origin),
        }
        if len(counts) != 1:
            raise ValueError(f"Trajectory: fields of different length: {sorted(counts)}")
        if len(set(self.names)) != len(self.names):
            raise ValueError("Trajectory: names are not unique")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[View]:
        return (self[name] for name in self.names)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> View:
        """The view of the frame called ``name``. Raises KeyError."""
        try:
            i = self.names.index(name)
        except ValueError:
            raise KeyError(name) from None
        return View(name, float(self.timestamps_s[i]), self.cam_from_world[i], self.cameras[i], self.origin[i])

    def part(self, names: Sequence[str]) -> Trajectory:
        """The frames called ``names``, in that order. Raises KeyError."""
        place = {name: row for row, name in enumerate(self.names)}
        rows = np.array([place[name] for name in names], dtype=int)
        return Trajectory(
            names=tuple(names),
            timestamps_s=self.timestamps_s[rows],
            cam_from_world=self.cam_from_world[rows],
            cameras=tuple(self.cameras[row] for row in rows),
            origin=tuple(self.origin[row] for row in rows),
        )

    def without_interpolated(self) -> Trajectory:
        """The frames whose pose was not guessed from those of their neighbours."""
        return self.part([view.name for view in self if view.origin is not PoseOrigin.INTERPOLATED])

    @property
    def centres(self) -> np.ndarray:
        """(N, 3) camera centres in the world frame."""
        return self.cam_from_world.inverse().translation
