"""Which way is up and where the ground lies, from all the evidence a scene has: a part of the stage align."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from recon4d.errors import AlignmentError, InputError
from recon4d.scene.trajectory import PoseOrigin
from recon4d.scene.transforms import Rigid3
from recon4d.stages.common import pictures_in
from recon4d.workspace import Workspace

if TYPE_CHECKING:
    from recon4d.formats.gravity import GravitySamples
    from recon4d.geometry.ground import GroundFinding, GroundPlane
    from recon4d.geometry.levelling import UpChoice, UpEstimate
    from recon4d.geometry.world_points import WorldPoints
    from recon4d.scene.trajectory import Trajectory

SURFACE_POINTS = 60_000  # of all frames together
WRONG_AXES_DEG = 60.0  # readings that point this far from where cameras are held are in other axes
CONTRADICTED = 0.2  # share of the surfaces that may lie below a ground that only structure shows


@dataclass(frozen=True)
class LevelOptions:
    """What tells up."""

    gravity: Path | None = None  # table of readings, or folder of the original photos
    gravity_axes: Literal["camera", "phone"] = "camera"  # of the table
    ground: bool = True  # look for the ground


@dataclass(frozen=True)
class Evidence:
    """What the scene is made of, in the world."""

    structure: WorldPoints | None  # sparse points that can be trusted
    # Samples of the aligned depth of frames spread over the clip (`surface_points`), without sky and what the user's
    # masks ignore; what moves is among them unless it is masked.
    surfaces: WorldPoints | None


@dataclass(frozen=True)
class Levelling:
    """The levelled world, and why it is that."""

    levelled_from_scene: Rigid3  # z up; with a ground, z = 0 on it below the cameras
    choice: UpChoice
    estimates: tuple[UpEstimate, ...]
    ground: GroundPlane | None
    ground_reason: str
    source: str  # in words
    warnings: tuple[str, ...]


def level(workspace: Workspace, trajectory: Trajectory, evidence: Evidence, options: LevelOptions) -> Levelling:
    """Up from gravity, planes, the ground and the way cameras are held, whichever knows it best.

    Raises:
        AlignmentError: the readings in ``options.gravity`` have nothing to do with the clip's times or names.
        InputError: they cannot be read.
    """
    from recon4d.geometry.levelling import choose_up, levelled_from_up, up_from_cameras, up_from_ground

    held = up_from_cameras(_placed(trajectory).cam_from_world)
    estimates, warnings = [held], []
    measured, complaint = _measured(workspace, trajectory, options, held)
    estimates += [measured] if measured is not None else []
    warnings += [complaint] if complaint else []
    planes = _planes(evidence, choose_up(estimates).chosen)
    estimates += [planes] if planes is not None else []
    finding = _ground(evidence, trajectory, choose_up(estimates).chosen, options)
    if finding.plane is not None:
        estimates.append(up_from_ground(finding.plane))
    choice = choose_up(estimates)
    warnings += [
        f"align: {choice.chosen.source.words} and {other.source.words} disagree by {angle:.0f} degrees about up; the "
        "first is used" + (": check --align.gravity-axes" if measured is choice.chosen else "")
        for other, angle in choice.contradicting
    ]
    tripod = choice.chosen is held and all(origin is PoseOrigin.STATIC for origin in trajectory.origin)
    return Levelling(
        levelled_from_scene=levelled_from_up(choice.chosen.up, finding.plane, trajectory.centres.mean(axis=0)),
        choice=choice,
        estimates=tuple(estimates),
        ground=finding.plane,
        ground_reason=finding.reason,
        source="a tripod's camera, taken as level" if tripod else choice.chosen.source.words,
        warnings=tuple(warnings),
    )


def write_world_up(path: Path, levelling: Levelling) -> None:
    """`align/world_up.json`."""
    from recon4d.geometry.levelling import angle_deg

    ground, chosen = levelling.ground, levelling.choice.chosen
    content = {
        "levelled_from_scene": levelling.levelled_from_scene.matrix.tolist(),
        "source": levelling.source,
        "sigma_deg": chosen.sigma_deg,
        "ground": None
        if ground is None
        else {
            "normal": ground.normal.tolist(),
            "offset": ground.offset,
            "camera_height": ground.camera_height,
            "sigma": ground.sigma,
            "tilt_sigma_deg": ground.tilt_sigma_deg,
            "inliers": ground.inliers,
            "share": ground.share,
        },
        "ground_reason": levelling.ground_reason,
        "estimates": [
            {
                "source": estimate.source.words,
                "up": estimate.up.tolist(),
                "sigma_deg": estimate.sigma_deg,
                "samples": estimate.samples,
                "angle_to_chosen_deg": angle_deg(estimate.up, chosen.up),
            }
            for estimate in sorted(levelling.estimates, key=lambda e: e.source)
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _placed(trajectory: Trajectory) -> Trajectory:
    """Without the frames whose pose is only interpolated (all of them where there are no others)."""
    from recon4d.scene.trajectory import Trajectory

    rows = [i for i, origin in enumerate(trajectory.origin) if origin is not PoseOrigin.INTERPOLATED]
    if not rows:
        return trajectory
    return Trajectory(
        names=tuple(trajectory.names[i] for i in rows),
        timestamps_s=trajectory.timestamps_s[rows],
        cam_from_world=trajectory.cam_from_world[np.array(rows)],
        cameras=tuple(trajectory.cameras[i] for i in rows),
        origin=tuple(trajectory.origin[i] for i in rows),
    )


# -- gravity ----------------------------------------------------------------------------------------------------------


def _measured(
    workspace: Workspace, trajectory: Trajectory, options: LevelOptions, held: UpEstimate
) -> tuple[UpEstimate | None, str | None]:
    """Up from readings, and a complaint about them for the user."""
    from recon4d.formats.gravity import read_gravity_table, read_photo_ups

    trajectory = _placed(trajectory)
    if options.gravity is None:
        with workspace.reading("frames", "align") as folder:
            told = read_photo_ups(folder / "gravity.csv") if (folder / "gravity.csv").exists() else {}
        return _from_photos(told, trajectory, held)
    try:
        if options.gravity.is_dir():
            return _from_photos(_ups_in(options.gravity, trajectory), trajectory, held)
        samples = read_gravity_table(options.gravity)
    except InputError as error:
        raise InputError(f"align: --align.gravity: {error}") from error
    return _from_table(samples, options.gravity, options.gravity_axes, trajectory, held)


def _from_table(
    samples: GravitySamples, path: Path, axes: str, trajectory: Trajectory, held: UpEstimate
) -> tuple[UpEstimate | None, str | None]:
    from scipy.spatial.transform import Rotation, Slerp

    from recon4d.formats.gravity import CAM_FROM_PHONE
    from recon4d.geometry.levelling import BLOCK_S, up_from_gravity

    times, rows = np.unique(trajectory.timestamps_s, return_index=True)  # of frames of one time the first tells
    turns_of_frames = trajectory.cam_from_world.rotation[rows]
    away_s = np.maximum(np.maximum(times[0] - samples.timestamps_s, samples.timestamps_s - times[-1]), 0.0)
    # Frames of less than a block in all, such as a single one, take the readings around them, or the nearest: over
    # fewer, shaking does not average out.
    around_s = max(BLOCK_S - float(times[-1] - times[0]), 0.0)
    if away_s.min() > around_s:
        raise AlignmentError(
            f"align: {path} has readings from {samples.timestamps_s[0]:.2f} to {samples.timestamps_s[-1]:.2f} s, the "
            f"frames lie at {times[0]:.2f} to {times[-1]:.2f} s: count its seconds from the clip's first frame"
        )
    used = away_s <= max(around_s / 2, float(away_s.min()))
    at, readings = np.clip(samples.timestamps_s[used], times[0], times[-1]), samples.up[used]
    if len(times) > 1:
        rotation = Slerp(times, Rotation.from_matrix(turns_of_frames))(at).as_matrix()
    else:
        rotation = np.repeat(turns_of_frames, len(at), axis=0)
    poses = Rigid3(rotation, np.zeros((len(at), 3)))
    # A video is turned upright, its phone is not: the quarter turn between them, and whether the table holds the force
    # that holds the device up (Android) or its opposite (CoreMotion), show in how the camera was held.
    turns = [np.linalg.matrix_power(_QUARTER, k) @ CAM_FROM_PHONE for k in range(4)] if axes == "phone" else [np.eye(3)]
    readings = [sign * readings @ turn.T for turn in turns for sign in (1.0, -1.0)]
    return _plausible([up_from_gravity(each, poses, at) for each in readings], held, f"the readings of {path.name}")


_QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def _ups_in(folder: Path, trajectory: Trajectory) -> dict[str, np.ndarray]:
    """What the photos of a folder that are named like frames tell, by name. Raises AlignmentError where none does."""
    from recon4d.formats.gravity import photo_up

    named = {file.stem: file for file in pictures_in(folder) if file.stem in trajectory}
    ups = {name: up for name, file in named.items() if (up := photo_up(file)) is not None}
    if not ups:
        raise AlignmentError(
            f"align: no photo in {folder} is named like a frame ({trajectory.names[0]}, ...) and holds the "
            "acceleration that Apple's cameras note: give --align.gravity a table, or leave it out"
        )
    return ups


def _from_photos(
    up_of: Mapping[str, np.ndarray], trajectory: Trajectory, held: UpEstimate
) -> tuple[UpEstimate | None, str | None]:
    """Up from what photos told by name, in the axes of the frames."""
    from recon4d.geometry.levelling import UpSource, up_from_gravity

    rows = [row for row, name in enumerate(trajectory.names) if name in up_of]
    if not rows:
        return None, None
    ups = np.array([up_of[trajectory.names[row]] for row in rows])
    # Each photo is a reading of its own, whatever the time between them.
    apart_s = np.arange(len(rows), dtype=np.float64)
    estimate = up_from_gravity(ups, trajectory.cam_from_world[np.array(rows)], apart_s, UpSource.PHOTOS)
    return _plausible([estimate], held, "the acceleration noted in the photos")


def _plausible(candidates: list[UpEstimate], held: UpEstimate, what: str) -> tuple[UpEstimate | None, str | None]:
    """The candidate next to where the cameras were held, if it is not absurd."""
    from recon4d.geometry.levelling import angle_deg

    best = min(candidates, key=lambda estimate: angle_deg(estimate.up, held.up))
    angle = angle_deg(best.up, held.up)
    if angle > WRONG_AXES_DEG:
        return None, (
            f"align: {what} point {angle:.0f} degrees away from up as the cameras were held, so they are not used: "
            "check --align.gravity-axes"
        )
    if best.sigma_deg > 8.0:
        return best, f"align: {what} spread by {best.sigma_deg:.0f} degrees in the world: do they belong to this clip?"
    return best, None


# -- planes -----------------------------------------------------------------------------------------------------------


def _planes(evidence: Evidence, hint: UpEstimate) -> UpEstimate | None:
    from recon4d.geometry.levelling import up_from_planes

    return None if evidence.surfaces is None else up_from_planes(evidence.surfaces, hint)


def _ground(evidence: Evidence, trajectory: Trajectory, hint: UpEstimate, options: LevelOptions) -> GroundFinding:
    """The ground in structure and surfaces together, or in the structure alone where depth is too rough for it."""
    from recon4d.geometry.ground import GroundFinding, GroundSearch, find_ground
    from recon4d.geometry.world_points import WorldPoints

    if not options.ground:
        return GroundFinding(None, "not looked for")
    given = [part for part in (evidence.structure, evidence.surfaces) if part is not None and len(part)]
    if not given:
        return GroundFinding(None, "no points")
    # 8: ground may slope by itself.
    tilt_deg = float(np.clip(2.5 * hint.sigma_deg + 8.0, 12.0, 30.0))
    search = GroundSearch(max_tilt_deg=tilt_deg, hint_sigma_deg=max(hint.sigma_deg, 4.0))
    centres = _placed(trajectory).centres
    alike = [_as_one(part.thinned(SURFACE_POINTS)) for part in given]
    finding = find_ground(WorldPoints.concatenate(alike), centres, hint.up, search)
    if finding.plane is not None or len(given) < 2:
        return finding
    alone = find_ground(alike[0], centres, hint.up, search)
    if alone.plane is None:
        return finding
    surfaces = alike[1]
    below = alone.plane.height(surfaces.points) < -0.1 * alone.plane.camera_height
    return alone if float(surfaces.weights[below].sum()) < CONTRADICTED else finding


def _as_one(world: WorldPoints) -> WorldPoints:
    """The same points with a weight of 1 in all."""
    from recon4d.geometry.world_points import WorldPoints

    return WorldPoints(world.points, world.weights / world.weights.sum(), world.normals, world.groups)
