"""From the options of render to the camera of each picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recon4d.errors import OptionsError
from recon4d.fill.camera_paths import PATHS, PathShape, make_path, usual_amplitude
from recon4d.fill.framing import framed, output_camera, sized
from recon4d.fill.keyed_path import keyed_path
from recon4d.fill.path_base import (
    CameraPath,
    central_depth,
    follow_times,
    freeze_times,
    looking,
    path_base,
    slowmo_times,
)
from recon4d.formats.camera_path_files import read_camera_path
from recon4d.scene.path_keys import PathSpace
from recon4d.scene.scene4d import Scene4D
from recon4d.scene.trajectory import Trajectory
from recon4d.stages.novel_view import focus_distance
from recon4d.stages.render import RenderOptions, read_size
from recon4d.workspace import Workspace

USUAL_FRAMES = 120
FRAMES_LOOKED_AT, COLUMNS = 24, 32  # of the clip, to know where the scene ends
STEADY_S = 0.25  # of `follow`: sigma of the Gaussian over which a hand's shake is evened out


@dataclass(frozen=True)
class Chosen:
    """The camera and the time of each picture."""

    path: CameraPath
    focus_depth: np.ndarray  # (N,) z of what is looked at, scene units
    told: tuple[str, ...] = ()  # what a person should know


def chosen_path(workspace: Workspace, options: RenderOptions) -> Chosen:
    """The camera and the time of each picture.

    Raises:
        OptionsError: there is no such path or frame.
        InputError: the file of a path cannot be read.
    """
    scene = workspace.scene()
    if options.path not in PATHS:
        path = path_of_file(scene, options)
        return Chosen(path, np.full(len(path), focus_distance(workspace, scene)))
    row = reference_row(scene.trajectory, options.at)
    times = moments(scene.trajectory, options, row)
    surface = workspace.depth_mesh(scene.names[row]).surface
    follows = options.path == "follow"
    up = scene.levelled_from_scene
    base = path_base(
        scene.trajectory,
        times,
        central_depth(surface.depth, surface.valid),
        reference=None if follows else row,
        up=None if up is None else up.rotation[2],
        steady=STEADY_S * scene.fps if follows else 0.0,
    )
    base = looking(base, np.where(surface.valid, surface.depth, 0))
    shape = PathShape(
        amplitude=0.0 if options.amplitude is None else options.amplitude,
        turns=options.turns,
        there_and_back=options.there_and_back,
        whole_turn=options.whole_turn,
        dolly_zoom=options.dolly_zoom,
        offset=_offset(scene, options),
        ends=_ends(scene.trajectory, options),
    )
    if options.amplitude is None:
        shape = replace(shape, amplitude=usual_amplitude(options.path, shape))

    def maker(amplitude: float) -> CameraPath:
        return sized_path(make_path(options.path, base, replace(shape, amplitude=amplitude)), options.size)

    if options.amplitude is not None or follows or options.between is not None:
        path = maker(shape.amplitude)
        return Chosen(path, path.depth_of(base.focus))
    points = scene_points(workspace)
    chosen = framed(maker, shape.amplitude, lambda _: points)
    told = f"the camera goes {chosen.amplitude:.2g} of the distance to what it looks at"
    if chosen.shrunk:
        told += f", not {shape.amplitude:.2g}: farther off the scene ends (--amplitude goes anyway)"
    return Chosen(chosen.path, chosen.path.depth_of(base.focus), (told,))


def reference_row(trajectory: Trajectory, at: str | None, option: str = "at") -> int:
    """The frame called ``at``, or the middle one. Raises OptionsError."""
    if at is None:
        return (len(trajectory) - 1) // 2
    if at not in trajectory:
        raise OptionsError(
            f"render: --{option} {at} is no frame of this scene: {trajectory.names[0]} to {trajectory.names[-1]} are"
        )
    return trajectory.names.index(at)


def moments(trajectory: Trajectory, options: RenderOptions, row: int, count: int | None = None) -> np.ndarray:
    """(N,) the time of each picture, in frames of the clip."""
    frames = options.frames or count
    if options.time == "slowmo":
        if options.frames is None and count is None:
            return slowmo_times(len(trajectory), options.slow)
        start = max(0.0, min(float(row), len(trajectory) - 1 - (frames - 1) / options.slow))
        return slowmo_times(len(trajectory), options.slow, frames, start)
    if options.time == "freeze":
        return freeze_times(len(trajectory), frames or USUAL_FRAMES, float(row))
    return follow_times(len(trajectory), frames or USUAL_FRAMES)


def _offset(scene: Scene4D, options: RenderOptions) -> tuple[float, float, float]:
    if options.offset is None:
        return (0.0, 0.0, 0.0)
    if options.path != "follow":
        raise OptionsError(f"render: --offset belongs to --path follow, found --path {options.path}")
    right, up, back = (length / (scene.metres_per_unit or 1.0) for length in options.offset)
    return right, up, back


def _ends(trajectory: Trajectory, options: RenderOptions) -> tuple[int, int] | None:
    if options.between is None:
        return None
    if options.path != "line":
        raise OptionsError(f"render: --between belongs to --path line, found --path {options.path}")
    first, last = (reference_row(trajectory, name, "between") for name in options.between)
    return first, last


def sized_path(path: CameraPath, size: str | None) -> CameraPath:
    """The same cameras with pictures of another size; they cover it without changing proportions."""
    wanted = read_size(size)
    return path if wanted is None else sized(path, *wanted)


def scene_points(workspace: Workspace) -> np.ndarray:
    """(N, 3) what some frames see, thinly, world frame."""
    trajectory = workspace.trajectory()
    rows = np.unique(np.round(np.linspace(0, len(trajectory) - 1, FRAMES_LOOKED_AT)).astype(int))
    found = []
    for view in (trajectory[trajectory.names[row]] for row in rows):
        depth = workspace.depth_mesh(view.name).surface
        step = max(1, max(depth.depth.shape) // COLUMNS)
        in_cam = view.camera.unproject(depth.depth.astype(np.float64))[::step, ::step][depth.valid[::step, ::step]]
        found.append(view.cam_from_world.inverse() @ in_cam)
    return np.concatenate(found)


def path_of_file(scene: Scene4D, options: RenderOptions) -> CameraPath:
    """The path that a file describes. Raises InputError where it cannot be read."""
    file = Path(options.path)
    if not file.exists():
        raise OptionsError(
            f"render: --path is {options.path}: one of {', '.join(PATHS)}, or a file that is there, is expected"
        )
    if options.amplitude is not None:
        raise OptionsError("render: --amplitude belongs to a path that is made here: leave it out, a file has its own")
    keys = read_camera_path(file).in_scene(PathSpace(options.coordinates), scene.delivered_from_scene())
    row = reference_row(scene.trajectory, options.at)
    camera = scene.trajectory.cameras[row]
    wanted = read_size(options.size)
    if wanted is not None:
        camera = output_camera(camera, *wanted)
    return keyed_path(keys, camera, moments(scene.trajectory, options, row, len(keys.world_from_cam)))
