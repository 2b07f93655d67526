"""The synthetic recording as files: a video like a user's, its truth beside it, and simulated video depth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.arrays import write_arrays
from recon4d.formats.pictures import write_picture
from recon4d.formats.trajectories import write_tum
from recon4d.formats.video_writer import Quality, VideoWriter
from recon4d.scene.camera import Camera
from recon4d.synthetic.corruptions import simulate_video_depth
from recon4d.synthetic.scene import SyntheticFrame, SyntheticScene

if TYPE_CHECKING:
    from recon4d.progress import Progress

MILLIMETRES = 1000.0


@dataclass(frozen=True)
class ClipFiles:
    """Where `write_clip` put things."""

    video: Path  # clip.mp4
    simulated_depth: Path  # npz: `depth` (T, h, w) float16 0..1, larger = nearer, and `names`
    depth: Path  # folder of NAME.png, uint16, millimetres
    mask: Path  # folder of NAME.png, uint8 object ids, 0 = static
    scene_flow: Path  # folder of NAME.npz: `next`, `prev` (H, W, 3) float16, metres, static exactly 0
    trajectory: Path  # TUM, camera-to-world, metres, z-up world
    intrinsics: Path  # json: width, height, fx, fy, cx, cy


def clip_files(folder: Path) -> ClipFiles:
    """The paths of a clip written to ``folder``."""
    truth = folder / "truth"
    return ClipFiles(
        video=folder / "clip.mp4",
        simulated_depth=folder / "simulated_depth.npz",
        depth=truth / "depth",
        mask=truth / "mask",
        scene_flow=truth / "scene_flow",
        trajectory=truth / "trajectory.tum",
        intrinsics=truth / "intrinsics.json",
    )


def write_clip(folder: Path | str, scene: SyntheticScene, progress: Progress | None = None) -> ClipFiles:
    """Write a scene's recording as a user would bring it, and its truth; files of the same names are replaced.

    Raises:
        ValueError: the picture has an odd side, which the video's chroma subsampling cannot hold.
    """
    from recon4d.progress import Silent

    camera = scene.camera
    if camera.width % 2 or camera.height % 2:
        raise ValueError(f"write_clip: {camera.width}x{camera.height} has an odd side, H.264 4:2:0 needs even ones")
    files = clip_files(Path(folder))
    for path in (files.depth, files.mask, files.scene_flow):
        path.mkdir(parents=True, exist_ok=True)
    depths = np.empty((len(scene), *camera.shape), dtype=np.float32)
    with _video(files.video, scene) as video, (progress or Silent()).bar("synthetic clip", len(scene)) as bar:
        for i, frame in enumerate(scene.frames()):
            video.add(frame.picture)
            _write_truth(files, frame)
            depths[i] = frame.depth
            bar.advance()
    trajectory = scene.trajectory
    write_tum(files.trajectory, trajectory.timestamps_s, trajectory.cam_from_world.inverse())
    _write_intrinsics(files.intrinsics, camera)
    write_arrays(files.simulated_depth, depth=simulate_video_depth(depths, scene.seed), names=np.array(scene.names))
    return files


def _write_truth(files: ClipFiles, frame: SyntheticFrame) -> None:
    name = frame.name
    write_picture(files.depth / f"{name}.png", np.rint(frame.depth * MILLIMETRES).astype(np.uint16))
    write_picture(files.mask / f"{name}.png", frame.object_id)
    flows = {"next": frame.flow_next.astype(np.float16), "prev": frame.flow_prev.astype(np.float16)}
    write_arrays(files.scene_flow / f"{name}.npz", **flows)


def _write_intrinsics(path: Path, camera: Camera) -> None:
    convention = "pixels; the centre of the top-left pixel is (0.5, 0.5)"
    path.write_text(json.dumps({**asdict(camera), "convention": convention}, indent=1) + "\n", encoding="utf-8")


def _video(path: Path, scene: SyntheticScene) -> VideoWriter:
    """What a phone's "high quality" would give."""
    return VideoWriter(path, scene.camera.width, scene.camera.height, scene.fps, Quality(crf=16, preset="medium"))
