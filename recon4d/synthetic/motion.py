"""How the camera walks and how the movers move: smooth functions of time that go on for as long as one likes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recon4d.scene.transforms import Rigid3


@dataclass(frozen=True)
class Placement:
    """Where a solid is: material point p0 is at  centre + rotation @ (stretch * p0)  in the world."""

    rotation: np.ndarray  # (3, 3) world_from_solid
    centre: np.ndarray  # (3,) metres, world frame
    stretch: np.ndarray  # (3,) along the solid's own axes; 1 = at rest


def yaw(angle: float) -> np.ndarray:
    """(3, 3) turn about the vertical, radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Crate:
    """Slides over the floor on an ellipse and turns about the vertical."""

    half_height: float  # metres

    def __call__(self, time_s: float) -> Placement:
        phase = 2 * np.pi * time_s / 16.0 + np.pi
        centre = np.array([2.35 + 0.5 * np.cos(phase), 2.75 - 0.28 * np.sin(phase), 0.015 + self.half_height])
        return Placement(yaw(0.9 * np.sin(2 * np.pi * time_s / 9.0) + 0.5), centre, np.ones(3))


@dataclass(frozen=True)
class Ball:
    """Rolls to and fro over the floor without slipping."""

    radius: float  # metres

    def __call__(self, time_s: float) -> Placement:
        way, heading = -0.85 * np.cos(2 * np.pi * time_s / 8.0), np.radians(168.0)
        along = np.array([np.cos(heading), np.sin(heading), 0.0])
        axis = np.array([-along[1], along[0], 0.0])  # z x along: the top of the ball moves ahead
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        angle = way / self.radius
        # Rodrigues' formula.
        rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        return Placement(rotation, np.array([4.05, 2.35, 0.015 + self.radius]) + way * along, np.ones(3))


@dataclass(frozen=True)
class Blob:
    """Squashes and stretches in place at constant volume, standing on the table and turning a little."""

    rest_radius_z: float  # metres
    table_height: float  # metres

    def __call__(self, time_s: float) -> Placement:
        tall = 1.0 + 0.32 * np.sin(2 * np.pi * time_s / 2.4)
        wide = tall**-0.5
        lean = 0.05 * np.sin(2 * np.pi * time_s / 3.1)
        centre = np.array([4.12 + lean, 3.68, self.table_height + tall * self.rest_radius_z])
        turn = yaw(0.6 * np.sin(2 * np.pi * time_s / 5.0))
        return Placement(turn, centre, np.array([wide, wide, tall]))


@dataclass(frozen=True)
class Walk:
    """A person with a phone: half an ellipse around the middle of the room, eyes on it, and a shaking hand.

    The camera turns by about 80 degrees: with much less, structure from motion cannot tell a longer focal length from a
    deeper room.
    """

    seed: int
    shake: float = 1.0  # 1 = a calm hand (about 6 mm and 0.4 degrees rms); 0 = none
    _phases: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_phases", np.random.default_rng(self.seed).uniform(0, 2 * np.pi, (6, 3)))

    def __call__(self, time_s: float) -> Rigid3:
        """cam_from_world at a time."""
        phase = np.pi * (0.12 + 0.76 * time_s / 6.0)
        position = np.array([3.0 - 1.7 * np.cos(phase), 1.5 - 0.9 * np.sin(phase), 1.5 + 0.08 * np.sin(1.7 * phase)])
        target = np.array([3.0 + 0.1 * np.cos(phase), 3.0, 0.82 + 0.06 * np.cos(2.3 * phase)])
        hand = self._hand(time_s)
        forward = target - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        level = np.stack([right, np.cross(forward, right), forward])  # rows: the camera's axes in the world
        rotation = Rigid3.from_quat_xyzw([*(0.5 * 0.0065 * hand[3:]), 1.0], np.zeros(3)).rotation @ level
        return Rigid3(rotation, -rotation @ (position + 0.006 * hand[:3]))

    def _hand(self, time_s: float) -> np.ndarray:
        """(6,) shake of place and angle, about unit rms: sways near 1 Hz, trembles near 2 and 4 Hz."""
        rates, weights = np.array([0.9, 2.1, 4.3]), np.array([1.1, 0.75, 0.35])
        return self.shake * np.sin(2 * np.pi * rates * time_s + self._phases) @ weights
