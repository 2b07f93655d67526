"""Stage refine: the surfaces of all frames made to agree with the pictures, the structure, and each other."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from recon4d.errors import OptionsError
from recon4d.progress import Progress
from recon4d.scene.trajectory import PoseOrigin
from recon4d.stages.common import NOT_IN_KEY, check_range, execute
from recon4d.stages.working_pictures import usual_workers, working_size
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.refine.frame import Style
    from recon4d.scene.trajectory import Trajectory
    from recon4d.stages.anchors import MeasuredDepth
    from recon4d.stages.refine_cameras import Cameras
    from recon4d.stages.refine_walks import Answer, Plan, Walks

VERSION = 3
Method = Literal["gn", "render", "reference"]
BYTES_AT_WORK = 1200  # per pixel of a frame at work: grids of the energy and costs of the sweep
BYTES_AT_END = 170  # per pixel of the picture's own size
BATCH = 8  # frames at once on a GPU
MOVED_POINTS = "points.npz"  # the sparse points as corrected cameras see them; only then is it there
UNCORRECTED = "uncorrected"  # folder in the part: the walk that cameras are corrected with


@dataclass(frozen=True)
class RefineOptions:
    """How surfaces are refined, and how much time it may take."""

    profile: Literal["fast", "default", "max"] = "default"
    """fast: at 160 pixels, about a quarter of the time; default: at 320 pixels; max: at 640, with a walk more."""
    method: Method = "gn"
    """gn: Gauss-Newton on all terms, in walks in which frames hear each other; render: every frame by itself by
    differentiable rendering; reference: the same as published (Fink et al., 2025), minutes a frame, to compare with."""
    polish: bool = False
    """Afterwards look at every frame once more by differentiable rendering, about ten times slower than all the rest;
    it moves silhouettes only. On the clips it was measured on it gained nothing."""
    cameras: bool = False
    """Also correct poses and focal length, where the pictures ask for it: one walk more. It pays where structure from
    motion is a little off on still scenes; it is not taken where views that judge do not confirm it."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the energy is reckoned: by our own loops on all cores, or on a GPU that PyTorch can use. The same to
    rounding."""
    workers: int | None = field(default=None, metadata=NOT_IN_KEY)
    """Frames made at once on the CPU; without it one per core, or fewer where memory is short. No other result."""


def check_options(options: RefineOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError."""
    if options.workers is not None:
        check_range("refine", "workers", options.workers, low=1)
    if options.cameras and options.method != "gn":
        raise OptionsError(
            f"refine: --refine.cameras works with --refine.method gn only, not {options.method}: leave one of them out"
        )
    if options.polish and options.method != "gn":
        raise OptionsError(
            f"refine: --refine.polish follows --refine.method gn, and {options.method} renders already: leave one out"
        )
    if options.device == "cuda" and options.method != "gn":
        raise OptionsError(
            f"refine: --refine.device cuda works with --refine.method gn only, not {options.method}: leave one out"
        )
    if options.device == "cuda" and not _sees_gpu():
        raise OptionsError("refine: --refine.device is cuda, and PyTorch sees no GPU here: use cpu")


def _sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def run(workspace: Workspace, options: RefineOptions, progress: Progress | None = None) -> StageRecord:
    """Refine the surface of every frame."""
    check_options(options)
    reads = ("mesh", "motion", "align", "poses", *(f"depth/{item.source}" for item in _measured(workspace)))
    return execute(workspace, "refine", VERSION, options, reads, lambda part: _work(workspace, options, part), progress)


def plan_of(options: RefineOptions) -> Plan:
    """How much is done under a profile and method."""
    from recon4d.stages.refine_walks import Plan

    plan = {
        "fast": Plan(max_size=160, asked=9, steps=6, agreements=1),
        "default": Plan(max_size=320, asked=12, steps=8, agreements=1),
        "max": Plan(max_size=640, asked=15, steps=10, agreements=2),
    }[options.profile]
    plan = replace(plan, polish=options.polish)
    return plan if options.method == "gn" else replace(plan, method=options.method, agreements=0)


def energy_style() -> Style:
    """Weights of the energy."""
    from recon4d.refine.frame import Style

    return Style()


def _work(workspace: Workspace, options: RefineOptions, part: StagePart) -> dict[str, object]:
    from recon4d.formats.arrays import write_arrays
    from recon4d.geometry.stereo_views import StereoViews
    from recon4d.stages.refine_cameras import as_they_are

    trajectory, model = workspace.unrefined_trajectory(), workspace.sparse_model()
    still = _why_still(trajectory)
    if not still and not StereoViews(model, trajectory).has_parallax:
        still = "no frame sees a surface that another one sees from a place far enough away"
    if still:
        return _passed_on(workspace, trajectory, options, still, part)
    measured = _measured(workspace)
    plan = plan_of(options)
    full = trajectory.cameras[0].shape[::-1]
    width, height = working_size(full, plan.max_size)
    bytes_each = BYTES_AT_WORK * width * height + BYTES_AT_END * full[0] * full[1]
    line = _Line(workspace, measured, plan, options.workers or usual_workers(1, bytes_each), part)
    cameras, device = as_they_are(trajectory, model), options.device
    if options.cameras:
        cameras = line.with_corrected(cameras, device)
    _write_cameras(part, cameras.trajectory)
    if cameras.report.get("changed"):
        write_arrays(part.path / MOVED_POINTS, points=cameras.model.points)
    summary = line.refined(cameras, device)
    return {
        "profile": options.profile,
        "method": options.method,
        "size": f"{width}x{height}",
        "measured_by": [item.source for item in measured],
        **({"cameras": cameras.report} if options.cameras else {}),
        **summary,
    }


def _measured(workspace: Workspace) -> list[MeasuredDepth]:
    """The sources that align found to measure."""
    from recon4d.stages.anchors import read_measured

    with workspace.reading("align", "refine") as folder:
        return read_measured(folder)


def _passed_on(
    workspace: Workspace, trajectory: Trajectory, options: RefineOptions, why: str, part: StagePart
) -> dict[str, object]:
    """The surfaces of mesh, for clips that show nothing to refine them with."""
    from recon4d.formats.arrays import write_depth_mesh

    part.warn(f"refine: nothing is refined: {why}; the surfaces of mesh are passed on as they are")
    for name in part.pending(trajectory.names, "passing surfaces on"):
        write_depth_mesh(part.path / f"{name}.npz", workspace.depth_mesh(name, "mesh"))
    _write_cameras(part, trajectory)
    return {"frames": len(trajectory), "refined": 0, "profile": options.profile, "why_not": why}


def _write_cameras(part: StagePart, trajectory: Trajectory) -> None:
    from recon4d.formats.cameras_json import write_trajectory
    from recon4d.formats.trajectories import write_tum

    write_trajectory(part.path / "cameras.json", trajectory)
    write_tum(part.path / "trajectory.tum", trajectory.timestamps_s, trajectory.cam_from_world.inverse())


def _why_still(trajectory: Trajectory) -> str | None:
    if all(origin is PoseOrigin.STATIC for origin in trajectory.origin):
        return "the poses are those of a tripod, and pictures from one place show no depth"
    placed = sum(origin.is_evidence for origin in trajectory.origin)
    return f"{placed} of {len(trajectory)} frames has a pose of its own" if placed < 2 else None


class _Line:
    """The walks of a clip in their order, each frame of each resumable."""

    def __init__(
        self, workspace: Workspace, measured: list[MeasuredDepth], plan: Plan, workers: int, part: StagePart
    ) -> None:
        self._workspace, self._measured, self._plan, self._workers = workspace, measured, plan, workers
        self._part, self._style = part, energy_style()

    def with_corrected(self, cameras: Cameras, device: str) -> Cameras:
        """Cameras corrected with the depth of a walk of their own."""
        from recon4d.stages.refine_cameras import COMPARED, corrected

        folder = self._part.path / UNCORRECTED
        walks = self._walks(cameras, folder)
        self._walk(walks, 0, cameras.trajectory.names, folder, device)
        with self._part.progress.bar("correcting the cameras", 1) as bar:
            found = corrected(cameras, walks, walks.neighbours(COMPARED), self._part.path, self._workers)
            bar.advance()
        if not found.report["changed"]:
            self._keep(folder, cameras.trajectory.names)
        reason = found.report["reason"]
        self._part.progress.say(f"  cameras: {reason}" if reason else f"  cameras: {_told(found.report)}")
        return found

    def _keep(self, folder: Path, names: Sequence[str]) -> None:
        """Take the walk that cameras were asked with for the first one: they are the same."""
        from recon4d.stages.refine_walks import walk_folder

        first = self._part.path / walk_folder(0)
        if not first.exists() and (folder / walk_folder(0)).exists():
            (folder / walk_folder(0)).rename(first)
            for name in names:
                self._part.mark_done(f"{walk_folder(0)}/{name}")

    def refined(self, cameras: Cameras, device: str) -> dict[str, object]:
        """Write the surface of every frame; key numbers of the clip."""
        from recon4d.stages.refine_finish import CURVES, Finish
        from recon4d.stages.refine_walks import walk_folder

        names, folder = cameras.trajectory.names, self._part.path
        walks = self._walks(cameras, folder)
        for number in range(walks.last):
            self._walk(walks, number, names, folder, device)
        finish = Finish(self._workspace, cameras.trajectory, walks, self._style, folder)
        (folder / CURVES).mkdir(exist_ok=True)
        answers = _Answers(walks, walks.last, names, self._part, self._threads(device))
        label = "agreeing with other frames" if walks.last else "refining each frame"
        row_of = {name: i for i, name in enumerate(names)}
        self._part.each(
            names, label, lambda name: finish.made(row_of[name], answers(name)), finish.write, self._at_once(device)
        )
        summary = finish.summary()
        for made in (*(walk_folder(number) for number in range(walks.last)), UNCORRECTED):
            shutil.rmtree(folder / made, ignore_errors=True)
        for path in folder.glob("corrected*"):
            path.unlink()
        return summary

    def _walks(self, cameras: Cameras, folder: Path) -> Walks:
        from recon4d.stages.refine_walks import Walks

        return Walks(self._workspace, cameras, self._measured, self._plan, self._style, folder)

    def _walk(self, walks: Walks, number: int, names: Sequence[str], folder: Path, device: str) -> None:
        from recon4d.stages.refine_walks import walk_folder, write_found

        place = folder / walk_folder(number)
        place.mkdir(parents=True, exist_ok=True)
        prefix = place.relative_to(self._part.path)
        items = [f"{prefix}/{name}" for name in names]
        answers = _Answers(walks, number, names, self._part, self._threads(device), f"{prefix}/")
        self._part.each(
            items,
            "refining each frame" if number == 0 else "agreeing with other frames",
            lambda item: answers(Path(item).name).found,
            lambda item, made: write_found(self._part.path / f"{item}.npz", made),
            self._at_once(device),
        )

    def _threads(self, device: str) -> tuple[str, int]:
        return device, self._workers

    def _at_once(self, device: str) -> int:
        return self._workers if device == "cpu" else 1


class _Answers:
    """The answers of a walk by name: one at a time by our own loops, or many at once on a device."""

    def __init__(
        self,
        walks: Walks,
        number: int,
        names: Sequence[str],
        part: StagePart,
        where: tuple[str, int],
        prefix: str = "",
    ) -> None:
        self._walks, self._number, (self._device, self._workers) = walks, number, where
        self._row = {name: i for i, name in enumerate(names)}
        self._waiting = [name for name in names if not part.is_done(f"{prefix}{name}")]
        self._ready: dict[str, Answer] = {}

    def __call__(self, name: str) -> Answer:
        i = self._row[name]
        if self._device == "cpu":
            return self._walks.walk(self._number, i)
        if name not in self._ready:
            start = self._waiting.index(name)
            self._solve(self._waiting[start : start + BATCH])
        return self._ready.pop(name)

    def _solve(self, names: Sequence[str]) -> None:
        """What is asked of pictures is asked in threads; the device solves."""
        rows = [self._row[name] for name in names]
        with ThreadPoolExecutor(self._workers) as pool:
            prepared = list(pool.map(lambda i: self._walks.prepare(self._number, i), rows))
            found = self._walks.solved(prepared, self._device)
            problems = [problem for problem, _ in prepared]
            answers = pool.map(lambda *each: self._walks.complete(self._number, *each), rows, problems, found)
            self._ready |= dict(zip(names, answers))


def _told(report: dict[str, object]) -> str:
    """The correction of the cameras in words."""
    return (
        f"turned by {report['rotation_deg']:.3f} degrees and moved by {report['translation']:.2g} units (medians), "
        f"focal length {100 * report['focal_change']:+.2f} %"
    )
