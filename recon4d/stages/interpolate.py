"""The verb interpolate: more moments than were recorded, as pictures, video and a 4D scene of their own."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from recon4d.errors import OptionsError, WorkspaceError
from recon4d.formats.text_files import write_text
from recon4d.progress import Progress
from recon4d.scene.trajectory import PoseOrigin, Trajectory, View
from recon4d.scene.transforms import Rigid3
from recon4d.stages.common import check_range, check_types, execute
from recon4d.stages.out_of_date import other_inputs
from recon4d.workspace import StagePart, Workspace

UNIT, VERSION = "interpolate", 1
LONGEST_PAUSE = 3.0  # a gap of more usual intervals is a cut or frames without a pose: no moments in between
FILLS_ONLY = 1e6  # the background never hides what a frame shows, however near
CLOSED = 1.5  # splats of the fused background are so many times as large as its points lie apart
MOMENTS, PICTURES, VIDEO = "moments.json", "pictures", "interpolated.mp4"


@dataclass(frozen=True)
class InterpolateOptions:
    """Moments between the recorded frames."""

    factor: int = 4  # so many moments from one frame to the next, the frame itself included
    slowmo: float = 1.0  # the video takes so many times as long as the recording
    video: bool = True  # write interpolated.mp4
    pictures: Literal["jpg", "png", "none"] = "jpg"  # keep the picture of each moment
    clouds: bool = True  # write the point-cloud sequence and scene.json

    def check(self) -> None:
        """Raises OptionsError."""
        check_types(UNIT, self, "")
        check_range("", "factor", self.factor, low=2, high=64)
        check_range("", "slowmo", self.slowmo, above=0.0, high=1000.0)
        if not (self.video or self.clouds or self.pictures != "none"):
            raise OptionsError(f"{UNIT}: nothing is left to write: leave out one of --no-video, --no-clouds")


@dataclass(frozen=True)
class Moment:
    """One moment of the longer sequence; share 0 is a recorded frame."""

    name: str
    first: str  # frame before it, or the frame itself
    second: str | None  # frame after it; None for a recorded frame
    share: float  # of the time from the first to the second


def run_verb(workspace: Workspace, options: InterpolateOptions, progress: Progress) -> list[str]:
    """Make SCENE/interpolate and return what to tell the user. Raises OptionsError, WorkspaceError."""
    options.check()
    trajectory = workspace.trajectory()
    if len(trajectory) < 2:
        raise WorkspaceError(
            f"{UNIT}: the scene has {len(trajectory)} frame, 2 are needed to put moments between them: "
            "make a scene of a longer recording"
        )
    reads = ["poses", "motion", workspace.surface_unit(), "fuse"]
    with workspace.lock():
        record = execute(
            workspace, UNIT, VERSION, options, reads, lambda part: _work(workspace, options, part), progress
        )
    folder, summary = workspace.unit_dir(UNIT), record.summary
    lines = [
        f"{summary['moments']} moments from {len(trajectory)} frames; of the new pictures "
        f"{summary['from_background']:.2%} come from the fused background, {summary['made_up']:.2%} are filled"
    ]
    lines += [f"warning: {text}" for text in record.warnings]
    if why := other_inputs(workspace, workspace.need("fuse", UNIT)):
        lines.append(
            f"warning: the stage fuse is not up to date ({why}): run recon4d run --out {workspace.root}, then this"
        )
    return [*lines, *(f"  {path}" for path in (folder / VIDEO, folder / "scene.json") if path.exists())]


def moments(trajectory: Trajectory, factor: int) -> list[Moment]:
    """The moments in order: each frame, and after it ``factor`` - 1 that are spread evenly up to the next frame.

    None are put into gaps of more than `LONGEST_PAUSE` usual intervals.
    """
    intervals = np.diff(trajectory.timestamps_s)
    usual = np.median(intervals) if len(intervals) else 0.0
    found = []
    for row, name in enumerate(trajectory.names):
        found.append(Moment(name, name, None, 0.0))
        if row + 1 < len(trajectory) and intervals[row] <= LONGEST_PAUSE * usual:
            after = trajectory.names[row + 1]
            found += [Moment(f"{name}_{k:02d}", name, after, k / factor) for k in range(1, factor)]
    return found


def denser(trajectory: Trajectory, wanted: list[Moment]) -> Trajectory:
    """A trajectory with a view for every moment: centres on lines, rotations by slerp, lenses in proportion."""
    views = [view_between(trajectory, moment) for moment in wanted]
    return Trajectory(
        names=tuple(view.name for view in views),
        timestamps_s=np.array([view.timestamp_s for view in views]),
        cam_from_world=Rigid3(
            np.stack([view.cam_from_world.rotation for view in views]),
            np.stack([view.cam_from_world.translation for view in views]),
        ),
        cameras=tuple(view.camera for view in views),
        origin=tuple(view.origin for view in views),
    )


def view_between(trajectory: Trajectory, moment: Moment) -> View:
    """The camera of a moment."""
    from recon4d.poses.solution import interpolated
    from recon4d.scene.camera import Camera

    first = trajectory[moment.first]
    if moment.second is None:
        return first
    second, share = trajectory[moment.second], moment.share
    both = trajectory.part([moment.first, moment.second])
    pose = interpolated(both.cam_from_world, np.array([0.0, 1.0]), 0, share)
    lens = [
        (1 - share) * getattr(first.camera, key) + share * getattr(second.camera, key)
        for key in ("fx", "fy", "cx", "cy")
    ]
    time_s = (1 - share) * first.timestamp_s + share * second.timestamp_s
    camera = Camera(first.camera.width, first.camera.height, *lens)
    return View(moment.name, time_s, pose, camera, PoseOrigin.INTERPOLATED)


def _work(workspace: Workspace, options: InterpolateOptions, part: StagePart) -> dict[str, object]:
    trajectory = workspace.trajectory()
    wanted = moments(trajectory, options.factor)
    dense = denser(trajectory, wanted)
    for folder in (PICTURES, "moving"):
        (part.path / folder).mkdir(exist_ok=True)
    scored = _Shares(part.path / "shares.json")
    maker = _Maker(workspace, trajectory, dense, options)
    by_name = {moment.name: moment for moment in wanted}
    gaps = len(trajectory) - 1 - sum(moment.share > 0 for moment in wanted) // (options.factor - 1)
    if gaps:
        part.warn(
            f"{UNIT}: {gaps} gaps of more than {LONGEST_PAUSE:g} usual intervals are left as they are: "
            "the recording has a cut there, or frames without a pose"
        )
    for name in part.pending(list(by_name), "making moments"):
        scored.add(name, *maker.write(by_name[name], part.path))
    new = [scored.rows[moment.name] for moment in wanted if moment.second is not None]
    background, made_up = np.mean(new, axis=0) if new else (0.0, 0.0)
    _write_tables(part.path, wanted, dense, scored.rows)
    if options.clouds:
        _write_scene(workspace, part.path, dense)
    if options.video and not (part.path / VIDEO).exists():  # an interrupted run may have made it
        _write_video(part, trajectory, wanted, options)
    if options.pictures == "none":
        shutil.rmtree(part.path / PICTURES, ignore_errors=True)
    return {"moments": len(wanted), "from_background": float(background), "made_up": float(made_up), "gaps": gaps}


class _Shares:
    """What share of each new picture comes from the fused background and is made up; survives an interruption."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, list[float]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def add(self, name: str, background: float, made_up: float) -> None:
        self.rows[name] = [background, made_up]
        write_text(self._path, json.dumps(self.rows))


class _Maker:
    """Makes the picture and the moving points of moments; the last frames and the background are kept."""

    def __init__(
        self, workspace: Workspace, trajectory: Trajectory, dense: Trajectory, options: InterpolateOptions
    ) -> None:
        self._workspace, self._trajectory, self._dense, self._options = workspace, trajectory, dense, options
        self._frame = lru_cache(maxsize=2)(self._read_frame)
        self._background = None

    def write(self, moment: Moment, folder: Path) -> tuple[float, float]:
        """Write a moment's files; the shares of its picture that come from the background and that are made up."""
        from recon4d.formats.disk import link_or_copy
        from recon4d.formats.pictures import write_picture
        from recon4d.formats.ply import write_cloud
        from recon4d.formats.scene_json import MOVING

        own = MOVING.format(name=moment.name)
        if moment.second is None:
            source = self._workspace.picture_path(moment.name)
            link_or_copy(source, folder / PICTURES / source.name)
            if self._options.clouds:
                link_or_copy(self._workspace.unit_dir("fuse") / own, folder / own)
            return 0.0, 0.0
        if self._options.clouds:
            write_cloud(folder / own, self._cloud(moment))
        if not (self._options.video or self._options.pictures != "none"):
            return 0.0, 0.0
        picture, background, made_up = self._picture(moment)
        suffix = "png" if self._options.pictures == "png" else "jpg"
        write_picture(folder / PICTURES / f"{moment.name}.{suffix}", picture)
        return background, made_up

    def _read_frame(self, name: str) -> tuple:
        """Splats, surface, its pixels that are drawn, and the displacements to the frames after and before."""
        from recon4d.fill.between import known_motion, without_rims
        from recon4d.render.surface_splats import grid_splats

        object_id, flow = self._workspace.motion(name).object_id, self._workspace.scene_flow(name)
        ways = known_motion(flow.next, object_id), known_motion(flow.prev, object_id)
        mesh, keep, view = self._workspace.depth_mesh(name), without_rims(object_id), self._trajectory[name]
        splats = grid_splats(mesh, self._workspace.picture(name), view.cam_from_world, view.camera, keep)
        return splats, mesh, keep, *ways

    def _picture(self, moment: Moment) -> tuple[np.ndarray, float, float]:
        from recon4d.fill.between import SOLID, blended, finished, moved_splats
        from recon4d.fill.composite import laid_over
        from recon4d.render.splatting import splat

        view = self._dense[moment.name]
        centre, rendered = view.cam_from_world.inverse().translation, []
        for name, share, side in ((moment.first, moment.share, 0), (moment.second, 1 - moment.share, 1)):
            splats, mesh, keep, *ways = self._frame(name)
            splats = moved_splats(splats, mesh, share * ways[side], centre, keep)
            rendered.append(splat(splats, view.cam_from_world, view.camera))
        both = blended(*rendered, moment.share)
        open_before = both.alpha < SOLID
        if open_before.any():
            background = splat(self._static(), view.cam_from_world, view.camera)
            both = laid_over([both, background], in_front=FILLS_ONLY)
        picture, made_up = finished(both)
        return picture, float((open_before & ~made_up).mean()), float(made_up.mean())

    def _static(self):
        if self._background is None:
            from recon4d.render.surface_splats import cloud_splats

            cloud = self._workspace.static_cloud()
            self._background = cloud_splats(cloud, CLOSED * spacing(cloud.points))
        return self._background

    def _cloud(self, moment: Moment):
        from recon4d.fill.between import cloud_between, moved_cloud

        parts = []
        for name, share, side in ((moment.first, moment.share, 0), (moment.second, 1 - moment.share, 1)):
            way = self._frame(name)[3 + side]
            parts.append(moved_cloud(self._workspace.moving_cloud(name), self._trajectory[name], share * way))
        return cloud_between(*parts, moment.share)


def spacing(points: np.ndarray) -> np.ndarray:
    """(N,) how far each point lies from its second nearest neighbour, at most three times the usual."""
    from scipy.spatial import cKDTree

    if len(points) < 3:
        return np.full(len(points), 1e-6)
    apart = cKDTree(points).query(points, k=3)[0][:, 2]
    return np.clip(apart, 1e-9, 3 * max(np.median(apart), 1e-9))


def _write_tables(folder: Path, wanted: list[Moment], dense: Trajectory, shares: dict[str, list[float]]) -> None:
    from recon4d.formats.cameras_json import write_trajectory
    from recon4d.formats.trajectories import write_tum

    write_trajectory(folder / "cameras.json", dense)
    write_tum(folder / "trajectory.tum", dense.timestamps_s, dense.cam_from_world.inverse())
    rows = [
        {
            "name": moment.name,
            "timestamp_s": float(time_s),
            "first": moment.first,
            "second": moment.second,
            "share": moment.share,
            "from_background": shares[moment.name][0],
            "made_up": shares[moment.name][1],
        }
        for moment, time_s in zip(wanted, dense.timestamps_s)
    ]
    write_text(folder / MOMENTS, json.dumps({"moments": rows}, indent=1) + "\n")


def _write_scene(workspace: Workspace, folder: Path, dense: Trajectory) -> None:
    """`scene.json` beside what it names, so that everything that opens a 4D scene opens this one."""
    from recon4d.formats.disk import link_or_copy
    from recon4d.formats.scene_json import OBJECTS, STATIC, STATIC_MESH, write_scene

    fuse = workspace.unit_dir("fuse")
    for name in (STATIC, STATIC_MESH, OBJECTS):
        if (fuse / name).exists():
            link_or_copy(fuse / name, folder / name)
    scene = workspace.scene()
    write_scene(folder / "scene.json", dense, scene.metres_per_unit, scene.levelled_from_scene, "cameras.json")


def _write_video(part: StagePart, trajectory: Trajectory, wanted: list[Moment], options: InterpolateOptions) -> None:
    from recon4d.formats.pictures import read_rgb
    from recon4d.formats.video_writer import VideoWriter
    from recon4d.scene.scene4d import frame_rate

    camera, fps = trajectory.cameras[0], options.factor * frame_rate(trajectory.timestamps_s) / options.slowmo
    with VideoWriter(part.path / VIDEO, camera.width, camera.height, fps) as writer:
        for moment in wanted:
            paths = [part.path / PICTURES / f"{moment.name}.{suffix}" for suffix in ("png", "jpg")]
            writer.add(read_rgb(next(path for path in paths if path.exists())))
        part.warnings += writer.remarks
