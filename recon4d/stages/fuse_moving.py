"""What moves, for the stage fuse: steadied points of every frame, scene flow, and the course of every object."""

from __future__ import annotations

import csv
import io
import json
from collections import OrderedDict
from dataclasses import astuple, dataclass, fields
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.text_files import write_text
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import Provenance, SceneDepth
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.scene_flow import SceneFlow

if TYPE_CHECKING:
    from recon4d.motion.followed import MovingFrame
    from recon4d.motion.moving_layer import MovingLayer
    from recon4d.motion.object_path import ObjectPath, Sightings
    from recon4d.scene.trajectory import Trajectory
    from recon4d.stages.fuse import FuseOptions
    from recon4d.workspace import StagePart, Workspace

COUNTS = "moving/counts.csv"


@dataclass(frozen=True)
class FrameCount:
    """A row of COUNTS."""

    name: str
    points: int
    dropped: int  # pixels that were floaters
    flow_error_px: float  # median error of reprojection, NaN in the last frame and where nothing moves


def write_moving(
    workspace: Workspace, trajectory: Trajectory, options: FuseOptions, part: StagePart
) -> dict[str, object]:
    """Write `moving/NAME.ply`, `scene_flow/NAME.npz` and `objects.json` into the part of fuse.

    Two walks with a window of frames in memory: the first fits how objects move between frames, the second steadies
    their depth and writes.

    Returns:
        key numbers for the stage's record.
    """
    for folder in ("moving", "scene_flow"):
        (part.path / folder).mkdir(exist_ok=True)
    from recon4d.motion.moving_layer import REACH, moving_layer
    from recon4d.motion.object_path import Carrier

    frames = _Frames(workspace, trajectory, 2 * REACH + 3)
    sightings = _gather(frames, trajectory, part)
    paths = _paths(sightings, trajectory)
    carrier = Carrier(frames, sightings)
    _write_objects(workspace, trajectory, frames, sightings, paths, part)
    row_of = {name: row for row, name in enumerate(trajectory.names)}
    items = {f"moving/{name}": name for name in trajectory.names}
    counts = _read_counts(part)
    uncounted = [item for item, name in items.items() if part.is_done(item) and name not in counts]
    for item in chain(uncounted, part.pending(list(items), "steadying what moves")):
        name = items[item]
        layer = moving_layer(row_of[name], frames, len(trajectory), paths, carrier)
        cloud = _cloud(workspace, trajectory, name, layer, frames(row_of[name]), options.max_frame_points)
        _write_frame(part, name, cloud, layer.flow)
        error = _flow_error(layer, frames, row_of[name], trajectory)
        counts[name] = FrameCount(name, len(cloud), layer.dropped, error)
        _write_counts(part, [counts[known] for known in trajectory.names if known in counts])
    return {
        "objects": len(sightings),
        "rigid_objects": sum(seen.is_rigid for seen in sightings.values()),
        **_summary([counts[name] for name in trajectory.names]),
    }


def _flow_error(layer: MovingLayer, frames: _Frames, row: int, trajectory: Trajectory) -> float:
    """Median of `reprojection_error`, px; NaN in the last frame and where nothing moves."""
    from recon4d.motion.moving_layer import reprojection_error

    if row + 1 == len(trajectory):
        return np.nan
    frame = frames(row)
    other = trajectory[trajectory.names[row + 1]]
    error = reprojection_error(layer, frame.view, other, frame.motion.flow_next)
    return float(np.nanmedian(error)) if np.isfinite(error).any() else np.nan


def _read_counts(part: StagePart) -> dict[str, FrameCount]:
    """Rows of an earlier, interrupted run by name; none where there was no such run, damaged ones left out."""
    path, counts = part.path / COUNTS, {}
    if not path.exists():
        return counts
    lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    for line in lines[:-1]:  # what no end of a line follows may have been cut short
        try:
            name, points, dropped, error = next(csv.reader([line]))
            counts[name] = FrameCount(name, int(points), int(dropped), float(error))
        except (ValueError, csv.Error):  # the titles, or damaged
            continue
    return counts


def _write_counts(part: StagePart, counts: list[FrameCount]) -> None:
    """The whole table, with a line of titles, after every frame: a kill leaves the one before."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in fields(FrameCount)])
    table.writerows(map(astuple, counts))
    write_text(part.path / COUNTS, text.getvalue())


def _summary(counts: list[FrameCount]) -> dict[str, object]:
    """Numbers of all frames together."""
    known = [count.flow_error_px for count in counts if np.isfinite(count.flow_error_px)]
    return {
        "moving_points": sum(count.points for count in counts),
        "moving_dropped": sum(count.dropped for count in counts),
        "flow_error_px": float(np.median(known)) if known else None,
    }


class _Frames:
    """Moving frames by row of the trajectory; the last few are kept."""

    def __init__(self, workspace: Workspace, trajectory: Trajectory, kept: int) -> None:
        self._workspace, self._trajectory, self._most = workspace, trajectory, kept
        self._kept: OrderedDict[int, MovingFrame] = OrderedDict()

    def __call__(self, row: int) -> MovingFrame:
        from recon4d.motion.followed import MovingFrame

        if row not in self._kept:
            name = self._trajectory.names[row]
            mesh, motion = self._workspace.depth_mesh(name), self._workspace.motion(name)
            self._kept[row] = MovingFrame.of(self._trajectory[name], mesh, motion)
        self._kept.move_to_end(row)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return self._kept[row]


def _gather(frames: _Frames, trajectory: Trajectory, part: StagePart) -> dict[int, Sightings]:
    """First walk: how objects move between neighbouring frames."""
    from recon4d.motion.object_path import gather, gather_pair

    sightings: dict[int, Sightings] = {}
    with part.progress.bar("following what moves", len(trajectory)) as bar:
        for row in range(len(trajectory)):
            gather(frames(row), row, sightings)
            if row:
                gather_pair(frames(row - 1), frames(row), row - 1, sightings)
            bar.advance()
    return sightings


def _paths(sightings: dict[int, Sightings], trajectory: Trajectory) -> list[ObjectPath]:
    from recon4d.motion.object_path import paths

    return [path for label, seen in sorted(sightings.items()) for path in paths(label, seen, trajectory)]


def _write_frame(part: StagePart, name: str, cloud: PointCloud, flow: SceneFlow) -> None:
    from recon4d.formats.arrays import write_scene_flow
    from recon4d.formats.ply import write_cloud
    from recon4d.formats.scene_json import MOVING, SCENE_FLOW

    write_cloud(part.path / MOVING.format(name=name), cloud)
    write_scene_flow(part.path / SCENE_FLOW.format(name=name), flow)


def _cloud(
    workspace: Workspace,
    trajectory: Trajectory,
    name: str,
    layer: MovingLayer,
    frame: MovingFrame,
    max_points: int,
) -> PointCloud:
    """The points of a layer, its grid evenly thinned to at most ``max_points``."""
    from recon4d.geometry.fusion import frame_points

    surface, object_id = workspace.depth_mesh(name), frame.motion.object_id
    provenance = np.where(layer.told, np.uint8(Provenance.OTHER_FRAME), surface.surface.provenance)
    kept = layer.kept
    joined = [
        kept & np.roll(kept, -1, axis) & (object_id == np.roll(object_id, -1, axis)) & join
        for axis, join in ((1, surface.join_right), (0, surface.join_down))
    ]
    mesh = DepthMesh(SceneDepth(layer.depth, kept, frame.sigma, provenance), *joined)
    points = frame_points(trajectory[name], mesh)
    step = 1
    while kept[::step, ::step].sum() > max_points:
        step += 1
    thin = (slice(None, None, step), slice(None, None, step))
    chosen = kept[thin]
    return PointCloud(
        points=points.points[thin][chosen],
        colors=workspace.picture(name)[thin][chosen],
        normals=points.normals[thin][chosen],
        confidence=layer.confidence[thin][chosen],
        provenance=provenance[thin][chosen],
        object_id=object_id[thin][chosen],
    )


def _write_objects(
    workspace: Workspace,
    trajectory: Trajectory,
    frames: _Frames,
    sightings: dict[int, Sightings],
    paths: list[ObjectPath],
    part: StagePart,
) -> None:
    """`objects.json`: where each object is seen, and its pose there where one rigid motion explains it."""
    scale = workspace.metres_per_unit()
    entries = []
    for label, seen in sorted(sightings.items()):
        rows = sorted(seen.frames)
        own = [path for path in paths if path.label == label]
        poses, parts, length = _poses(own, seen, frames)
        entries.append(
            {
                "id": label,
                "names": [trajectory.names[row] for row in rows],
                "pixels": [seen.frames[row].pixels for row in rows],
                "rigid": seen.is_rigid,
                "residual_px": None if np.isnan(seen.residual_px) else round(seen.residual_px, 3),
                "part": [parts.get(row) for row in rows],
                "world_from_object": [poses[row].tolist() if row in poses else None for row in rows],
                "path_length": length,
                "path_length_m": None if scale is None else length * scale,
            }
        )
    _write_json(part, entries)


def _poses(
    own: list[ObjectPath], seen: Sightings, frames: _Frames
) -> tuple[dict[int, np.ndarray], dict[int, int], float]:
    """Poses (4, 4) and part of the path by row, and how far the object's middle goes, scene units."""
    from recon4d.motion.object_path import object_poses

    poses, parts, length = {}, {}, 0.0
    for number, path in enumerate(own):
        best = max((row for row in seen.frames if row in path), key=lambda row: seen.frames[row].pixels)
        frame = frames(best)
        core = frame.core(path.label)
        depth = frame.depth[core] * np.exp(path.gain(best))
        points = frame.view.cam_from_world.inverse() @ (frame.view.camera.rays()[core] * depth[:, None])
        of_path = object_poses(path, np.median(points, axis=0), best)
        centres = np.array([pose.translation for pose in of_path])
        length += float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())
        for row in range(path.first, path.last + 1):
            parts[row] = number
            if path.rigid:
                poses[row] = of_path[row - path.first].matrix
    return poses, parts, length


def _write_json(part: StagePart, objects: list[dict[str, object]]) -> None:
    from recon4d.formats.scene_json import OBJECTS

    text = json.dumps({"objects": objects}, indent=1)
    (part.path / OBJECTS).write_text(text + "\n", encoding="utf-8")
