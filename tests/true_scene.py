"""A scene folder that holds the truth in its own world and unit, so that every error is known."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from recon4d.formats.arrays import write_motion, write_scene_depth
from recon4d.formats.cameras_json import write_trajectory
from recon4d.formats.frames_table import write_frames_table
from recon4d.formats.pictures import write_picture
from recon4d.poses.lens import Lens, write_lenses
from recon4d.poses.models import write_model
from recon4d.poses.undistort import pinhole_model
from recon4d.scene.depth import SceneDepth
from recon4d.scene.motion import FrameMotion
from recon4d.scene.recording import Frame
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3, Sim3
from recon4d.stages.evaluate import EvaluateOptions
from recon4d.synthetic.clip import ClipFiles, write_clip
from recon4d.synthetic.scene import SyntheticFrame, SyntheticScene, synthetic_scene
from recon4d.workspace import RECORD, StageRecord, Workspace

COUNT = 7
# Where our world lies in the truth's: one unit of ours is 2.5 m.
TRUTH_FROM_SCENE = Sim3(
    2.5, Rigid3.from_quat_xyzw([0.1, 0.5, -0.3, 0.8], np.zeros(3)).rotation, np.array([1.0, -2.0, 0.5])
)


def publish(workspace: Workspace, unit: str, fill, **summary) -> None:
    part = workspace.start(unit, unit)
    fill(part.path)
    workspace.publish(part, StageRecord(unit, 1, f"key of {unit}", {}, {}, summary))


class Made:
    """The truth, and a scene folder that holds it in its own world and unit."""

    def __init__(
        self, root: Path, size: tuple[int, int] = (64, 48), count: int = COUNT, scene: SyntheticScene | None = None
    ) -> None:
        self.scene: SyntheticScene = scene or synthetic_scene(size=size, count=count)
        count = len(self.scene)
        self.files: ClipFiles = write_clip(root / "clip", self.scene)
        self.frames = list(self.scene.frames())
        truth = self.scene.trajectory
        poses = TRUTH_FROM_SCENE.inverse().apply_to_pose(truth.cam_from_world)
        self.trajectory = replace(truth, cam_from_world=poses, origin=(PoseOrigin.MEASURED,) * count)
        self.options = EvaluateOptions(
            depth_gt=self.files.depth, trajectory_gt=self.files.trajectory, mask_gt=self.files.mask
        )

    def lens(self) -> Lens:
        camera = self.scene.camera
        return Lens("PINHOLE", camera.width, camera.height, (camera.fx, camera.fy, camera.cx, camera.cy))

    def workspace(self, root: Path, depth=None, trajectory: Trajectory | None = None, lens=None, metric=None):
        """A scene with frames, poses and align; ``depth(frame)`` gives (metres, valid)."""
        workspace = Workspace.create(root)
        trajectory, depth = trajectory or self.trajectory, depth or _exact
        lens = lens or self.lens()

        def frames(folder: Path) -> None:
            write_frames_table(
                folder / "frames.csv",
                [Frame(f.name, i, "clip.mp4", f.timestamp_s, 0) for i, f in enumerate(self.frames)],
            )
            for frame in self.frames:
                write_picture(folder / f"{frame.name}.png", frame.picture)

        def poses(folder: Path) -> None:
            write_trajectory(folder / "cameras.json", trajectory)
            write_lenses(folder / "lenses.json", dict.fromkeys(trajectory.names, lens))

        def align(folder: Path) -> None:
            (folder / "scale.json").write_text(json.dumps({"metres_per_unit": metric}))
            (folder / "anchors.json").write_text("[]")
            for frame in self.frames:
                metres, valid = depth(frame)
                units = np.where(valid, metres / TRUTH_FROM_SCENE.scale, 0)
                write_scene_depth(
                    folder / f"{frame.name}.npz", SceneDepth(units, valid, 0.01 * units, np.zeros(units.shape))
                )

        publish(workspace, "frames", frames)
        publish(workspace, "poses", poses)
        publish(workspace, "align", align)
        return workspace

    def publish_motion(self, workspace: Workspace, object_id: Callable[[SyntheticFrame], np.ndarray]) -> None:
        """The unit motion with these numbers (H, W) of objects, moving for certain, and no flow."""

        def motion(folder: Path) -> None:
            (folder / "mask").mkdir()
            for frame in self.frames:
                numbers = np.asarray(object_id(frame))
                unknown = np.full((*numbers.shape, 2), np.nan)
                write_motion(folder / f"{frame.name}.npz", FrameMotion(numbers > 0, unknown, unknown, numbers))
                write_picture(folder / "mask" / f"{frame.name}.png", np.where(numbers > 0, 255, 0).astype(np.uint8))

        publish(workspace, "motion", motion)


def true_objects(frame: SyntheticFrame) -> np.ndarray:
    """(H, W) numbers of the objects, for `Made.publish_motion`."""
    return frame.object_id


def nothing_moves(frame: SyntheticFrame) -> np.ndarray:
    """(H, W) zeros, for `Made.publish_motion`."""
    return np.zeros_like(frame.object_id)


def _exact(frame):
    return frame.depth, np.ones(frame.depth.shape, dtype=bool)


def posed_scene(
    made: Made, root: Path, trajectory: Trajectory | None = None, source: str = "import", depth=None
) -> Workspace:
    """The frames with true poses and no sparse points; ``depth`` as for `Made.workspace`."""
    trajectory = trajectory or made.trajectory
    workspace = made.workspace(root, depth, trajectory)
    poses, camera = workspace.unit_dir("poses"), made.scene.camera
    count = len(made.frames)
    shutil.copytree(workspace.unit_dir("frames"), poses / "images", ignore=shutil.ignore_patterns("*.csv", "*.json"))
    files = {name: f"{name}.png" for name in trajectory.names}
    write_model(pinhole_model(None, trajectory, dict.fromkeys(files, made.lens()), files), poses / "sparse")
    write_summary(workspace, "frames", frames=count, width=camera.width, height=camera.height, source_frames=count)
    write_summary(workspace, "poses", frames=count, registered=len(trajectory), source=source)
    return workspace


def write_summary(workspace: Workspace, unit: str, **summary: object) -> None:
    record = dataclasses.replace(workspace.record(unit), summary=summary)
    (workspace.unit_dir(unit) / RECORD).write_text(json.dumps(dataclasses.asdict(record)))
