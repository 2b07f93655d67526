"""The poses stage: where the camera was, by structure from motion or from somebody else, and undistorted pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from recon4d.errors import OptionsError, PosesError
from recon4d.progress import Progress
from recon4d.stages import first_pass
from recon4d.stages.common import BY_CONTENT, NOT_IN_KEY, execute
from recon4d.workspace import USERS_MASKS, StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.poses.intrinsics import LensKnowledge
    from recon4d.poses.lens import Lens
    from recon4d.poses.solution import Solution
    from recon4d.scene.recording import Recording
    from recon4d.scene.trajectory import Trajectory

VERSION = 3


@dataclass(frozen=True)
class PosesOptions:
    """Where the cameras come from."""

    source: Literal["colmap", "import", "static", "none"] = "colmap"
    """colmap: structure from motion; import: poses you have (--path); static: a tripod, one marked pose for all frames;
    none: no poses, so that depth alone can be made."""
    path: Path | None = field(default=None, metadata=BY_CONTENT)
    """What to import: a COLMAP model folder, transforms.json, a TUM or KITTI trajectory, an npz with 'poses'
    (camera-to-world) and 'intrinsics', what Depth Anything 3, MegaSaM, ViPE or MonST3R
    wrote, or an RGB-D recording with poses."""
    camera: str | None = None
    """The lens as fx,fy,cx,cy[,distortion...] in pixels of the frames as written; it is kept fixed. Left out: found
    by structure from motion, or read from the import."""
    camera_model: Literal[
        "auto",
        "simple_pinhole",
        "pinhole",
        "simple_radial",
        "radial",
        "opencv",
        "full_opencv",
        "opencv_fisheye",
        "simple_radial_fisheye",
        "radial_fisheye",
        "thin_prism_fisheye",
        "fov",
    ] = "auto"
    """Lens model, by COLMAP's names. auto: pinhole when --camera has four numbers, simple_radial when the lens is
    unknown."""
    mapper: Literal["auto", "incremental", "global"] = "auto"
    """COLMAP's mapper. auto: incremental up to 300 frames, global above."""
    matching: Literal["auto", "sequential", "exhaustive"] = "auto"
    """Which frames are compared: neighbours in time, or all with all. auto: exhaustive for up to 60 pictures of a
    folder, else sequential."""
    overlap: int = 10
    """Sequential matching: each frame is compared with this many next ones, and with some further away."""
    loop_closure: bool = True
    """Sequential matching: also compare frames far apart in time that look alike."""
    max_features: int = 4096
    """Most features per frame; more find more points and take longer."""
    unregistered: Literal["interpolate", "drop"] = "interpolate"
    """Frames without a pose between frames with one: give them a marked pose that is never used as evidence, or leave
    them out. Frames before the first and after the last pose are always left out."""
    min_registered: float = 0.3
    """Refuse when less than this share of the frames gets a pose (0..1)."""
    deterministic: bool = True
    """Map with one thread: the same frames give the same poses, bit for bit."""
    second_pass: bool = field(default=False, metadata=NOT_IN_KEY)
    """Leave out what a first pass of the line found to move; recon4d run --passes 2 makes that pass and sets this."""
    threads: int = field(default=0, metadata=NOT_IN_KEY)
    """Threads for features, matching and (not deterministic) mapping; 0 takes all cores."""


def run(workspace: Workspace, options: PosesOptions, progress: Progress | None = None) -> StageRecord:
    """Write ``poses/``: undistorted pictures and masks, sparse model, trajectory, lenses.

    Raises:
        WorkspaceError: it is to be the second pass, and there was no first one.
        PosesError: no trustworthy cameras can be had; the sentence says what was measured and what to do.
        InputError: the import cannot be read.
        OptionsError: options that contradict each other.
    """
    check_options(options)
    left_out = first_pass.left_out(workspace, options.second_pass)
    try:
        return execute(
            workspace,
            "poses",
            VERSION,
            options,
            # What is left out enters the key as an input; hence second_pass itself need not.
            reads=("frames",) if left_out is None else ("frames", first_pass.UNIT),
            work=lambda part: _work(workspace, options, part, left_out),
            progress=progress,
        )
    except PosesError as error:
        if left_out is None:
            raise
        share = f"{100 * left_out.summary['moving_share']:.0f} % of the pixels"
        raise PosesError(f"{error} ({share} move and were left out: --passes 1 keeps them)") from error


def check_options(options: PosesOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError."""
    if options.source == "import" and options.path is None:
        raise OptionsError("poses: --poses.source import needs --poses.path: the model or trajectory to read")
    if options.source != "import" and options.path is not None:
        raise OptionsError(f"poses: --poses.path is only read with --poses.source import, not {options.source}")
    for name, low, high in (("overlap", 1, 1000), ("max_features", 64, 100_000), ("min_registered", 0, 1)):
        value = getattr(options, name)
        if not low <= value <= high:
            raise OptionsError(f"poses: --poses.{name.replace('_', '-')} is {value}, {low} to {high} is expected")
    if options.threads < 0:
        raise OptionsError(f"poses: --poses.threads is {options.threads}, 0 (all cores) or more is expected")


def _work(
    workspace: Workspace, options: PosesOptions, part: StagePart, left_out: StageRecord | None
) -> dict[str, object]:
    from recon4d.poses.solution import complete
    from recon4d.stages.poses_sfm import SfmSteps

    recording = users = workspace.recording()
    if left_out is not None:
        recording = first_pass.united_masks(workspace, users, part.path / "united_masks")
    knowledge = _lens_knowledge(workspace, options)
    steps = SfmSteps(part, recording, options, str(workspace.record("frames").summary.get("kind", "video")))
    if options.source == "colmap":
        solution = steps.solve(knowledge)
    elif options.source == "import":
        solution = _imported(workspace, options, knowledge, recording, steps)
    else:
        solution = _standing(part, options, knowledge, recording)
    trajectory, lenses = complete(solution, recording, options.unregistered == "interpolate")
    _say_gaps(part, recording, trajectory)
    _write_pictures(part, recording, trajectory, lenses)
    if left_out is not None:
        first_pass.write_users_masks(users, trajectory, lenses, part.path / USERS_MASKS)
    points = _write_model(part, recording, solution, trajectory, lenses)
    _write_records(part.path, trajectory, lenses)
    summary = _summary(options, recording, solution, trajectory, lenses) | points | steps.facts
    summary["left_out_share"] = None if left_out is None else left_out.summary["moving_share"]
    # Large, and of no use to anyone later. The database goes first: without it a resumed run starts the steps anew,
    # so a kill amid this leaves nothing that is taken for done.
    (part.path / "sfm" / "database.db").unlink(missing_ok=True)
    for folder in ("sfm", "united_masks"):
        shutil.rmtree(part.path / folder, ignore_errors=True)
    return summary


def _lens_knowledge(workspace: Workspace, options: PosesOptions) -> LensKnowledge:
    from recon4d.poses.intrinsics import lens_knowledge

    frames = workspace.record("frames").summary
    calibration = workspace.unit_dir("frames") / "calibration.json"
    prior = json.loads(calibration.read_text(encoding="utf-8"))["focal_px"] if calibration.exists() else None
    return lens_knowledge(options.camera, options.camera_model, int(frames["width"]), int(frames["height"]), prior)


def _standing(part: StagePart, options: PosesOptions, knowledge: LensKnowledge, recording: Recording) -> Solution:
    """One pose for all frames: a tripod, or nothing is known."""
    from recon4d.poses.intrinsics import GUESSED_FOCAL, Knowledge
    from recon4d.poses.solution import Solution
    from recon4d.scene.trajectory import PoseOrigin
    from recon4d.scene.transforms import Rigid3

    if knowledge.knowledge is Knowledge.GUESS:
        part.warn(
            f"the focal length is a guess ({knowledge.lens.pinhole_part.fx:.0f} px, {GUESSED_FOCAL} times the longest "
            "side): distances across the picture scale with it; give --poses.camera fx,fy,cx,cy when you know it"
        )
    poses = dict.fromkeys(recording.names, Rigid3.identity())
    return Solution(poses, dict.fromkeys(recording.names, knowledge.lens), PoseOrigin.STATIC, None)


def _imported(
    workspace: Workspace, options: PosesOptions, knowledge: LensKnowledge, recording: Recording, steps: object
) -> Solution:
    from recon4d.poses.given import FrameSize, imported_solution
    from recon4d.poses.imports import match_to_frames, read_import
    from recon4d.poses.verdict import check_registered

    frames = workspace.record("frames").summary
    imported = read_import(Path(options.path))
    matching = match_to_frames(imported, recording, int(frames["source_frames"]), frames["source_fps"])
    width, height = int(frames["width"]), int(frames["height"])
    size = FrameSize(width, height, *(frames.get("resized_from") or (width, height)))
    lens = knowledge.lens if options.camera is not None else None
    solution = imported_solution(imported, matching, recording, lens, size)
    steps.say_import(imported, matching)
    check_registered(len(solution.cam_from_world), len(recording), options.min_registered, "have a pose in the import")
    return solution if solution.model is not None else steps.triangulate(solution)


def _say_gaps(part: StagePart, recording: Recording, trajectory: Trajectory) -> None:
    interpolated = [view.name for view in trajectory if view.origin.value == "interpolated"]
    dropped = [name for name in recording.names if name not in trajectory.names]
    if interpolated:
        part.warn(
            f"{len(interpolated)} of {len(recording)} frames have an interpolated pose (such as {interpolated[0]}): "
            "marked, and never used as evidence"
        )
    if dropped:
        part.warn(f"{len(dropped)} of {len(recording)} frames have no pose and are left out (such as {dropped[0]})")


def _write_pictures(part: StagePart, recording: Recording, trajectory: Trajectory, lenses: dict[str, Lens]) -> None:
    from recon4d.poses.undistort import write_undistorted

    images, masks = part.path / "images", part.path / "masks"
    images.mkdir(exist_ok=True)
    row_of = {name: row for row, name in enumerate(recording.names)}
    name_of = {f"images/{name}": name for name in trajectory.names}
    for item in part.pending(list(name_of), "undistorting"):
        name = name_of[item]
        row = row_of[name]
        picture, mask = recording.pictures[row], recording.masks[row]
        write_undistorted(picture, mask, lenses[name], trajectory[name].camera, images, masks)


def _write_model(
    part: StagePart, recording: Recording, solution: Solution, trajectory: Trajectory, lenses: dict[str, Lens]
) -> dict[str, object]:
    """Write ``sparse/`` and return its key numbers."""
    import numpy as np

    from recon4d.formats.colmap_model import sparse_from_reconstruction
    from recon4d.poses.models import write_model
    from recon4d.poses.undistort import pinhole_model

    files = dict(zip(recording.names, (path.name for path in recording.pictures)))
    model = pinhole_model(solution.model, trajectory, lenses, files)
    write_model(model, part.path / "sparse")
    sparse = sparse_from_reconstruction(model)
    if not len(sparse):
        return {"points": 0, "reprojection_error_px": None, "median_track_length": None, "median_angle_deg": None}
    return {
        "points": len(sparse),
        "reprojection_error_px": round(float(np.average(sparse.error_px, weights=sparse.track_length)), 3),
        "median_track_length": float(np.median(sparse.track_length)),
        "median_angle_deg": round(float(np.median(sparse.angle_deg)), 2),
    }


def _write_records(folder: Path, trajectory: Trajectory, lenses: dict[str, Lens]) -> None:
    from recon4d.formats.cameras_json import write_trajectory
    from recon4d.formats.trajectories import write_tum
    from recon4d.poses.lens import write_lenses

    write_tum(folder / "trajectory.tum", trajectory.timestamps_s, trajectory.cam_from_world.inverse())
    write_trajectory(folder / "cameras.json", trajectory)
    write_lenses(folder / "lenses.json", lenses)


def _summary(
    options: PosesOptions, recording: Recording, solution: Solution, trajectory: Trajectory, lenses: dict[str, Lens]
) -> dict[str, object]:
    import numpy as np

    return {
        "source": options.source,
        "frames": len(recording),
        "registered": 0 if options.source == "none" else len(solution.cam_from_world),
        "interpolated": sum(view.origin.value == "interpolated" for view in trajectory),
        "dropped": len(recording) - len(trajectory),
        "focal_px": round(float(np.median([lens.pinhole_part.fx for lens in lenses.values()])), 2),
        "camera_model": next(iter(lenses.values())).model,
    }
