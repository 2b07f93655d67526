"""Cameras found for some of the frames, and how frames between them get a marked pose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon4d.poses.lens import Lens
from recon4d.scene.recording import Recording
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3, rotation_from_quat_xyzw

if TYPE_CHECKING:
    import pycolmap


@dataclass(frozen=True)
class Solution:
    """What structure from motion or an import says about the frames."""

    cam_from_world: dict[str, Rigid3]  # by frame name; frames that are not there have no pose
    lenses: dict[str, Lens]  # of the same frames
    origin: PoseOrigin
    model: pycolmap.Reconstruction | None  # with these lenses and image names = file names in frames/; None: no points


def complete(solution: Solution, recording: Recording, interpolate: bool) -> tuple[Trajectory, dict[str, Lens]]:
    """The trajectory of all frames that get a pose, and their lenses.

    Frames without a pose get one between their neighbours in time, marked INTERPOLATED; those before the first and
    after the last known frame are left out, as are all of them when ``interpolate`` is false.
    """
    names = [name for name in recording.names if name in solution.cam_from_world]
    time_of = dict(zip(recording.names, recording.timestamps_s))
    known = Rigid3(
        np.array([solution.cam_from_world[name].rotation for name in names]),
        np.array([solution.cam_from_world[name].translation for name in names]),
    )
    poses, lenses, origin = dict(solution.cam_from_world), dict(solution.lenses), dict.fromkeys(names, solution.origin)
    known_times = np.array([time_of[name] for name in names])
    for name in recording.names if interpolate else ():
        if name not in poses and known_times[0] < time_of[name] < known_times[-1]:
            before = int(np.searchsorted(known_times, time_of[name], side="right")) - 1
            poses[name] = interpolated(known, known_times, before, time_of[name])
            lenses[name] = solution.lenses[names[before]]
            origin[name] = PoseOrigin.INTERPOLATED
    kept = [name for name in recording.names if name in poses]
    camera_of = {lens: lens.undistorted() for lens in set(lenses.values())}
    trajectory = Trajectory(
        names=tuple(kept),
        timestamps_s=np.array([time_of[name] for name in kept]),
        cam_from_world=Rigid3(
            np.array([poses[name].rotation for name in kept]), np.array([poses[name].translation for name in kept])
        ),
        cameras=tuple(camera_of[lenses[name]] for name in kept),
        origin=tuple(origin[name] for name in kept),
    )
    return trajectory, {name: lenses[name] for name in kept}


def interpolated(known: Rigid3, times_s: np.ndarray, before: int, time_s: float) -> Rigid3:
    """``cam_from_world`` between rows ``before`` and ``before + 1``: centre on a line, rotation at constant speed.

    Source: Shoemake, SIGGRAPH 1985 (slerp).
    """
    share = (time_s - times_s[before]) / (times_s[before + 1] - times_s[before])
    world_from_cam = known[before : before + 2].inverse()
    centre = (1 - share) * world_from_cam.translation[0] + share * world_from_cam.translation[1]
    first, second = world_from_cam.quat_xyzw
    cosine = float(first @ second)
    if cosine < 0:  # q and -q are the same rotation: take the short way
        second, cosine = -second, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-8:
        quat = first
    else:
        quat = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle)
    return Rigid3(rotation_from_quat_xyzw(quat), centre).inverse()
