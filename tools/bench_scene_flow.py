"""Scene flow, tracks and steadiness of what moves, against clips with true motion.

    python tools/bench_scene_flow.py SCENE --truth ../shared/data/dynamic_gt
    python tools/bench_scene_flow.py SCENE --truth CLIP            # a clip of `recon4d demo`, with its folder truth/

SCENE has been made up to fuse from the clip of that folder. Displacements are compared in the axes of each frame's
camera, under one scale for the clip: the median of true over estimated depth where nothing moves. Only pixels that are
of the object in truth count, whatever the scene takes them for; a displacement that is not known counts as none.
The mean error vector is the mean over all pixels and frames in the axes of the cameras: its length tells of errors that
do not cancel. The length ratio is the median over pixels of estimated over true length of the displacement.

Rows: `prior + flow` is X'(p + flow) - X(p) of the refined depth, with nothing done about its errors (where the flow or
the depth is not known the pixel is left out, so it is scored on its better pixels); `cameras` is the true motion as our
cameras see it, that is the error no scene flow with these cameras can be without.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d import Workspace
from recon4d.evaluation.sampling import nearest_at, sample_whole
from recon4d.formats.arrays import read_arrays
from recon4d.formats.pictures import read_grey
from recon4d.formats.trajectories import read_tum
from recon4d.scene.transforms import Rigid3

MILLIMETRES = 1000.0
MOVES_MM = 1.0  # a true displacement that is shorter has no length to compare with
SAME_SURFACE = 0.01  # of depth: a followed point that is off by more is hidden


@dataclass(frozen=True)
class TrueFrame:
    """Truth of one frame, metres."""

    depth: np.ndarray  # (H, W), 0 where not known
    object_id: np.ndarray  # (H, W)
    flow: np.ndarray  # (H, W, 3) world displacement to the next frame
    cam_from_world: Rigid3


class Truth:
    """The truth of a clip by frame name (the index of the decoded frame)."""

    def __init__(self, folder: Path) -> None:
        root = folder / "truth" if (folder / "truth").is_dir() else folder
        self._depth, self._mask = sorted((root / "depth").glob("*.png")), sorted((root / "mask").glob("*.png"))
        self._flow = sorted((root / "scene_flow").glob("*.npz"))
        tum = next(path for path in (root / "trajectory.tum", root / "poses_tum.txt") if path.exists())
        self._pose = read_tum(tum)[1].inverse()
        objects = folder / "objects.json"
        entries = json.loads(objects.read_text(encoding="utf-8"))["objects"] if objects.exists() else []
        self.poses = {e["id"]: np.array(e["world_from_object"]) for e in entries if e.get("world_from_object")}
        self.names = {e["id"]: e["name"] for e in entries}

    def __getitem__(self, name: str) -> TrueFrame:
        row = int(name)
        flow = read_arrays(self._flow[row])
        return TrueFrame(
            depth=_read_millimetres(self._depth[row]),
            object_id=read_grey(self._mask[row]),
            flow=flow.get("next", flow.get("flow")).astype(np.float32),
            cam_from_world=self._pose[row],
        )


def _read_millimetres(path: Path) -> np.ndarray:
    import cv2

    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) / np.float32(MILLIMETRES)


class Frames:
    """Estimate beside truth, frame by frame."""

    def __init__(self, scene: Path, truth: Path) -> None:
        self.workspace, self.truth = Workspace(scene), Truth(truth)
        self.trajectory = self.workspace.trajectory()
        ratios = []
        for name in self.trajectory.names:
            true, mesh = self.truth[name], self.workspace.depth_mesh(name)
            still = (true.depth > 0) & (true.object_id == 0) & mesh.surface.valid
            ratios.append(float(np.median(true.depth[still] / mesh.surface.depth[still])))
        self.scale = float(np.median(ratios))

    def moving_depth(self, name: str) -> np.ndarray:
        """(H, W) z of the points of the moving layer, scene units, 0 where there is none."""
        view, points = self.trajectory[name], self.workspace.moving_cloud(name).points.astype(np.float64)
        depth = np.zeros(view.camera.shape, dtype=np.float32)
        if len(points):
            in_cam = view.cam_from_world @ points
            x, y = np.floor(view.camera.project(in_cam)).astype(int).T
            depth[np.clip(y, 0, depth.shape[0] - 1), np.clip(x, 0, depth.shape[1] - 1)] = in_cam[:, 2]
        return depth


# -- scene flow ----------------------------------------------------------------------------------------------------


def flow_errors(frames: Frames) -> dict[str, dict[int, list[np.ndarray]]]:
    """Row -> object -> per frame (N, 5), mm: the error, camera axes, and the true and estimated length."""
    found = {row: defaultdict(list) for row in ("ours", "prior + flow", "nothing moves", "cameras")}
    names = frames.trajectory.names
    for name, after in itertools.pairwise(names):
        true, view, other = frames.truth[name], frames.trajectory[name], frames.trajectory[after]
        ours = frames.workspace.scene_flow(name).next
        if (ours[frames.workspace.motion(name).object_id == 0] != 0).any():
            raise AssertionError(f"{name}: the flow of what stands still is not 0")
        naive, known = _naive(frames, name, after)
        true_after = frames.truth[after].cam_from_world
        for label in np.unique(true.object_id[true.object_id > 0]):
            own = true.object_id == label
            in_camera = true.flow[own] @ true.cam_from_world.rotation.T
            length = np.linalg.norm(in_camera, axis=1)
            # The true points, moved as they really do, from our camera to our next one.
            points = view.camera.unproject(true.depth.astype(np.float64))[own]
            moved = true_after @ (true.cam_from_world.inverse() @ points + true.flow[own])
            seen = (view.cam_from_world @ other.cam_from_world.inverse()) @ (moved / frames.scale)
            rows = {
                "ours": (frames.scale * np.nan_to_num(ours[own]) @ view.cam_from_world.rotation.T, None),
                "prior + flow": (frames.scale * naive[own] @ view.cam_from_world.rotation.T, known[own]),
                "nothing moves": (np.zeros_like(in_camera), None),
                "cameras": (frames.scale * seen - points, None),
            }
            for row, (estimate, chosen) in rows.items():
                estimated = np.linalg.norm(estimate, axis=1)
                error = np.column_stack([estimate - in_camera, length, estimated]) * MILLIMETRES
                found[row][int(label)].append(error if chosen is None else error[chosen])
    return found


def _naive(frames: Frames, name: str, after: str) -> tuple[np.ndarray, np.ndarray]:
    """X'(p + flow) - X(p), world axes, and where it is known."""
    view, other = frames.trajectory[name], frames.trajectory[after]
    here, there = frames.workspace.depth_mesh(name).surface, frames.workspace.depth_mesh(after).surface
    flow = frames.workspace.motion(name).flow_next
    x = flow[..., 0] + np.arange(view.camera.width) + 0.5
    y = flow[..., 1] + np.arange(view.camera.height)[:, None] + 0.5
    depth, known = sample_whole(there.depth, there.valid, np.nan_to_num(x, nan=-1), np.nan_to_num(y, nan=-1))
    moved = other.camera.rays_at(np.nan_to_num(x), np.nan_to_num(y)) * depth[..., None]
    start = view.camera.unproject(here.depth.astype(np.float64))
    shape = start.shape
    worlds = [
        (pose.inverse() @ points.reshape(-1, 3)).reshape(shape)
        for pose, points in ((view.cam_from_world, start), (other.cam_from_world, moved))
    ]
    return worlds[1] - worlds[0], known & here.valid & np.isfinite(flow[..., 0])


# -- steadiness ----------------------------------------------------------------------------------------------------


def steadiness(frames: Frames) -> dict[str, dict[int, list[np.ndarray]]]:
    """Row -> object -> per three frames (N, 3): error of depth at the middle, its second difference, and its trend.

    Points are followed by the true flow through three frames; all mm, along the ray.
    """
    found = {"refined": defaultdict(list), "steadied": defaultdict(list)}
    names = frames.trajectory.names
    depths = {
        "refined": lambda name: np.where(
            frames.workspace.depth_mesh(name).surface.valid, frames.workspace.depth_mesh(name).surface.depth, 0
        ),
        "steadied": frames.moving_depth,
    }
    for three in zip(names, names[1:], names[2:]):
        true = [frames.truth[name] for name in three]
        estimate = {row: [read(name) for name in three] for row, read in depths.items()}
        for label in np.unique(true[0].object_id[true[0].object_id > 0]):
            errors = _followed_errors(frames, three, true, estimate, int(label))
            for row, error in errors.items():
                if len(error):
                    second, trend = error[:, 0] - 2 * error[:, 1] + error[:, 2], (error[:, 2] - error[:, 0]) / 2
                    found[row][int(label)].append(np.column_stack([error[:, 1], second, trend]) * MILLIMETRES)
    return found


def _followed_errors(
    frames: Frames, three: tuple[str, ...], true: list[TrueFrame], estimate: dict[str, list[np.ndarray]], label: int
) -> dict[str, np.ndarray]:
    """(N, 3) errors of depth, metres, of points that truth follows through three frames; of those all rows have."""
    own = true[0].object_id == label
    camera = frames.trajectory[three[0]].camera
    world = true[0].cam_from_world.inverse() @ camera.unproject(true[0].depth.astype(np.float64))[own]
    errors, there = {row: [] for row in estimate}, np.ones(len(world), dtype=bool)
    for k, frame in enumerate(true):
        in_cam = frame.cam_from_world @ world
        x, y = np.nan_to_num(frames.trajectory[three[k]].camera.project(in_cam), nan=-1).T
        there &= nearest_at(frame.object_id, x, y) == label
        there &= np.abs(nearest_at(frame.depth, x, y) / in_cam[:, 2] - 1) < SAME_SURFACE
        for row, depth in estimate.items():
            found = nearest_at(depth[k], x, y) * frames.scale
            there &= found > 0
            errors[row].append(found - nearest_at(frame.depth, x, y))
        world = world + nearest_at(frame.flow, x, y)
    return {row: np.stack(error, axis=1)[there] for row, error in errors.items()}


# -- tracks --------------------------------------------------------------------------------------------------------


def track_errors(frames: Frames) -> list[dict[str, object]]:
    """Of every rigid object of the scene that covers a true one: errors from frame to frame, and drift."""
    objects = json.loads((frames.workspace.unit_dir("fuse") / "objects.json").read_text(encoding="utf-8"))["objects"]
    return [row for entry in objects if entry["rigid"] for row in _of_track(frames, entry)]


def _of_track(frames: Frames, entry: dict[str, object]) -> list[dict[str, object]]:
    poses = {name: Rigid3.from_matrix(np.array(pose)) for name, pose in _posed(entry)}
    best = max(_posed(entry), key=lambda item: entry["pixels"][entry["names"].index(item[0])])[0]
    own = frames.workspace.motion(best).object_id == entry["id"]
    label = int(np.bincount(frames.truth[best].object_id[own].ravel()).argmax())
    if label not in frames.truth.poses:
        return []
    true = {name: Rigid3.from_matrix(frames.truth.poses[label][int(name)]) for name in poses}
    part = dict(zip(entry["names"], entry["part"]))
    turn, shift, drift, drift_turn = [], [], [], []
    for name, after in itertools.pairwise(frames.trajectory.names):
        if name in poses and after in poses and part[name] == part[after]:
            error = _camera_motion_error(frames, poses, true, name, after)
            turn.append(error[0])
            shift.append(error[1])
    for name in poses:
        if part[name] == part[best]:
            error = _camera_motion_error(frames, poses, true, best, name)
            drift_turn.append(error[0])
            drift.append(error[1])
    return [
        {
            "object": label,
            "poses": len(poses),
            "turn_deg": float(np.median(turn)),
            "shift_mm": float(np.median(shift)),
            "drift_turn_deg": float(np.max(drift_turn)),
            "drift_mm": float(np.max(drift)),
            "drift_mm_median": float(np.median(drift)),
        }
    ]


def _posed(entry: dict[str, object]) -> list[tuple[str, list]]:
    return [(name, pose) for name, pose in zip(entry["names"], entry["world_from_object"]) if pose is not None]


def _camera_motion_error(
    frames: Frames, poses: dict[str, Rigid3], true: dict[str, Rigid3], name: str, other: str
) -> tuple[float, float]:
    """Error of the turn, degrees, and of where the object's origin goes, mm, between two frames."""
    here, there = frames.trajectory[name], frames.trajectory[other]
    ours = poses[other] @ poses[name].inverse()
    theirs = true[other] @ true[name].inverse()
    true_here = frames.truth[name].cam_from_world
    # The true motion with the axes of our world: through the camera of the first frame.
    ours_from_theirs = here.cam_from_world.rotation.T @ true_here.rotation
    turned = ours_from_theirs @ theirs.rotation @ ours_from_theirs.T
    cosine = (np.trace(ours.rotation @ turned.T) - 1) / 2
    origin = true[name].translation
    start = here.cam_from_world.inverse() @ ((true_here @ origin) / frames.scale)
    ended = frames.scale * (there.cam_from_world @ (ours @ start))
    expected = frames.truth[other].cam_from_world @ true[other].translation
    off = float(np.linalg.norm(ended - expected))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), MILLIMETRES * off


# -- tables --------------------------------------------------------------------------------------------------------


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--truth", type=Path, required=True)
    arguments = parser.parse_args()
    frames = Frames(arguments.scene, arguments.truth)
    print("| object | row | EPE mean mm | median | along the ray | mean error vector | true length | length ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row, objects in flow_errors(frames).items():
        everything = [error for errors in objects.values() for error in errors]
        for label, errors in [*objects.items(), ("all", everything)]:
            print(f"| {frames.truth.names.get(label, label)} | {row} | " + " | ".join(_flow_cells(errors)) + " |")
    print("\n| object | row | depth error mm | second difference, mean mm | median | trend per frame |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row, objects in steadiness(frames).items():
        for label, errors in objects.items():
            error, second, trend = np.concatenate(errors).T
            numbers = np.abs(error).mean(), np.abs(second).mean(), np.median(np.abs(second)), trend.mean()
            cells = " | ".join(f"{number:.1f}" for number in numbers)
            print(f"| {frames.truth.names.get(label, label)} | {row} | {cells} |")
    print()
    for row in track_errors(frames):
        print(row)


def _flow_cells(errors: list[np.ndarray]) -> list[str]:
    """Over pixels of (N, 5) as in `flow_errors`, mm.

    Mean and median length of the error, mean of its part along the ray, length of the mean error vector, mean true
    length; and the median ratio of estimated to true length, NaN where nothing moves.
    """
    error = np.concatenate(errors)
    length = np.linalg.norm(error[:, :3], axis=1)
    moves = error[:, 3] > MOVES_MM
    ratio = np.median(error[moves, 4] / error[moves, 3]) if moves.any() else np.nan
    numbers = (
        length.mean(),
        np.median(length),
        np.abs(error[:, 2]).mean(),
        np.linalg.norm(error[:, :3].mean(axis=0)),
        error[:, 3].mean(),
    )
    return [*(f"{number:.1f}" for number in numbers), f"{ratio:.2f}"]


if __name__ == "__main__":
    main()
