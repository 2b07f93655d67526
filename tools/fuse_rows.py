"""What `bench_fuse.py` scores: the fused background and its baselines against the true cloud; speed; memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from stereo_rows import CLOUD_DISTANCES, TRUE_VIEWS, TRUE_VOXEL, _start, _true_poses
from voxels import VoxelMerger

from recon4d import FuseOptions, Workspace
from recon4d.evaluation.cloud_scores import refine_similarity, score_cloud
from recon4d.evaluation.depth_scores import RatioMedian
from recon4d.evaluation.temporal import SPAN, StabilityFrame, surface_flicker
from recon4d.evaluation.truth import Counting, GridTruth
from recon4d.geometry.surface_points import SurfacePoints
from recon4d.geometry.tsdf import Sighting, TsdfVolume
from recon4d.progress import Silent
from recon4d.scene.camera import Camera
from recon4d.scene.depth import Provenance
from recon4d.scene.mesh import TriMesh
from recon4d.scene.transforms import Rigid3
from recon4d.stage_part import StagePart
from recon4d.stages.evaluate import EvaluateOptions
from recon4d.stages.evaluate_pairs import Pairs
from recon4d.stages.fuse_static import Frames, choose_sizes, make_background, take_survey

FLOATING = 0.10  # metres from any true surface
CONTRADICTED_BY = 2  # true frames that look through a floater: where the sensor measured nothing, nobody can tell
SAMPLES = 600_000  # points drawn from a mesh


class Truth:
    """All true static surface of a clip, and where our scene lies in it."""

    def __init__(self, workspace: Workspace, options: EvaluateOptions, camera: Camera) -> None:
        self._options, self._camera = options, camera
        self.poses = _true_poses(workspace, options)
        recording = workspace.recording()
        counting = Counting.read(options.names, options.offset, options.stride)
        self._depth = GridTruth(Path(options.depth_gt), recording, counting, "--depth-gt")
        masks = options.mask_gt
        self._mask = None if masks is None else GridTruth(Path(masks), recording, counting, "--mask-gt")
        merger = VoxelMerger(TRUE_VOXEL, columns=0)
        for name, depth in self.frames():
            points = self.poses[name].inverse() @ camera.unproject(depth)[depth > 0]
            merger.add(points, np.ones(len(points)), np.zeros((len(points), 0)))
        points, _, frames, _ = merger.result()
        self.cloud = points[frames >= TRUE_VIEWS]
        self.scale = _scale(workspace, options, counting)
        self._begin = _start(workspace, self.poses, self.scale)

    def frames(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and true depth (H, W) in metres, 0 where not known or moving."""
        for name in self.poses:
            if name not in self._depth:
                continue
            z = self._depth[name].astype(np.float64) * self._options.depth_gt_scale
            known = (z >= self._options.min_depth) & (z <= self._options.max_depth)
            yield name, np.where(known if self._mask is None else known & (self._mask[name] == 0), z, 0.0)

    def score(self, points: np.ndarray) -> dict[str, float]:
        """Scores of a cloud (N, 3) after iterative closest points with scale."""
        from scipy.spatial import cKDTree

        place = refine_similarity(points, self.cloud, self._begin, rounds=100)
        found = score_cloud(points, self.cloud, CLOUD_DISTANCES, place)
        placed = place @ np.asarray(points, dtype=np.float64)
        floats = cKDTree(self.cloud).query(placed, workers=-1)[0] > FLOATING
        scores = {"points": len(points), "floaters": float(floats.mean())}
        scores["contradicted"] = float(self._contradicted(placed[floats]).sum() / len(points))
        scores |= {"accuracy_mm": 1000 * found.accuracy_median, "completeness_mm": 1000 * found.completeness_median}
        for at in found.at:
            cm = f"{100 * at.distance:.0f}"
            scores |= {f"precision_{cm}": at.precision, f"recall_{cm}": at.recall, f"f_{cm}": at.f_score}
        return scores

    def _contradicted(self, placed: np.ndarray) -> np.ndarray:
        """(N,) bool: floating points that the truth's own frames look through."""
        through = np.zeros(len(placed), dtype=int)
        for name, depth in self.frames():
            in_cam = self.poses[name] @ placed
            u, v = np.floor(np.nan_to_num(self._camera.project(in_cam), nan=-1)).astype(int).T
            inside = (u >= 0) & (v >= 0) & (u < self._camera.width) & (v < self._camera.height)
            through += inside & (depth[np.where(inside, v, 0), np.where(inside, u, 0)] > in_cam[:, 2] + FLOATING)
        return through >= CONTRADICTED_BY


def _scale(workspace: Workspace, options: EvaluateOptions, counting: Counting) -> float:
    """Median of truth over estimate of the surfaces that are fused."""
    median = RatioMedian()
    stage = "refine" if workspace.surface_unit() == "refine" else "mesh"
    for _, pair in Pairs(workspace, replace(options, stage=stage, source=None), counting):
        static = pair.known if pair.moving is None else pair.known & ~pair.moving
        median.add(pair.estimate, pair.valid, pair.truth, static)
    return median.value()


# -- what is scored ------------------------------------------------------------------------------------------------


def on_mesh(mesh: TriMesh, count: int = SAMPLES) -> np.ndarray:
    """(count, 3) points drawn evenly from a mesh's surface. Source: Osada et al., ACM TOG 2002, eq. 1."""
    rng, corners = np.random.default_rng(0), mesh.vertices.astype(np.float64)[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    a, b, c = corners[rng.choice(len(area), count, p=area / area.sum())].transpose(1, 0, 2)
    r, s = rng.random((2, count, 1))
    return a * (1 - np.sqrt(r)) + b * np.sqrt(r) * (1 - s) + c * np.sqrt(r) * s


def frames_of(workspace: Workspace) -> tuple[Frames, float, float]:
    """What frames have to say, and voxel size and band that fuse would choose."""
    trajectory = workspace.trajectory()
    survey = take_survey(workspace, trajectory)
    sizes = choose_sizes(FuseOptions(), trajectory, survey)
    return Frames(workspace, trajectory, survey, {}), sizes.voxel, sizes.band


def all_points(workspace: Workspace, metre: float) -> np.ndarray:
    """Baseline: all valid points of all frames, one per voxel of a centimetre so that density does not count."""
    merger, trajectory = VoxelMerger(TRUE_VOXEL / metre, columns=0), workspace.trajectory()
    for view in trajectory:
        surface = workspace.scene_depth(view.name, workspace.surface_unit())
        points = view.cam_from_world.inverse() @ view.camera.unproject(surface.depth.astype(np.float64))[surface.valid]
        merger.add(points, np.ones(len(points)), np.zeros((len(points), 0)))
    return merger.result()[0]


def open3d_mesh(workspace: Workspace) -> TriMesh:
    """Baseline: open3d's volume fed the same depth, all first-hand pixels, three frames for a surface."""
    frames, voxel, band = frames_of(workspace)
    theirs = Open3dVolume(voxel, band / voxel)
    for name in frames.survey.names:
        seen, surface = frames.sighting(name), workspace.scene_depth(name, workspace.surface_unit())
        own = surface.valid & Provenance.first_hand(surface.provenance)
        theirs.add(replace(seen, depth=np.where(own, surface.depth, np.float32(0))))
    return theirs.mesh(3.0)


class Open3dVolume:
    """open3d's VoxelBlockGrid as its examples use it."""

    def __init__(self, voxel: float, voxels_in_band: float, blocks: int = 4000) -> None:
        import open3d as o3d

        self._o3d, self._band = o3d, voxels_in_band
        self.grid = o3d.t.geometry.VoxelBlockGrid(
            attr_names=("tsdf", "weight", "color"),
            attr_dtypes=(o3d.core.float32,) * 3,
            attr_channels=((1), (1), (3)),
            voxel_size=voxel,
            block_resolution=8,
            block_count=blocks,
            device=o3d.core.Device("CPU:0"),
        )

    def add(self, seen: Sighting) -> None:
        """Integrate one frame."""
        o3d, far = self._o3d, float(seen.depth.max()) * 1.01
        matrix = seen.camera.matrix.copy()
        matrix[:2, 2] -= 0.5  # open3d counts pixel centres as whole numbers
        lens, pose = o3d.core.Tensor(matrix), o3d.core.Tensor(seen.cam_from_world.matrix)
        depth = o3d.t.geometry.Image(o3d.core.Tensor(seen.depth))
        color = o3d.t.geometry.Image(o3d.core.Tensor(seen.picture.astype(np.float32) / 255))
        blocks = self.grid.compute_unique_block_coordinates(depth, lens, pose, 1.0, far, self._band)
        self.grid.integrate(blocks, depth, color, lens, lens, pose, 1.0, far, self._band)

    def mesh(self, least: float) -> TriMesh:
        """The surface that ``least`` frames or more saw."""
        mesh = self.grid.extract_triangle_mesh(weight_threshold=least)
        vertices = mesh.vertex.positions.numpy()
        return TriMesh(vertices, mesh.triangle.indices.numpy(), np.zeros(vertices.shape))


def flickers(workspace: Workspace, options: EvaluateOptions, truth: Truth) -> dict[str, float]:
    """Flicker in mm, mean over windows of frames, of the single frames' surfaces and of the background drawn there.

    The background is the same thing in all frames: what is left is how the true poses waver against ours.
    """
    stage = "refine" if workspace.surface_unit() == "refine" else "mesh"
    counting = Counting.read(options.names, options.offset, options.stride)
    pairs, drawn = Pairs(workspace, replace(options, stage=stage, source=None), counting), MeshDepth(workspace)
    windows = {"frames": deque(maxlen=SPAN), "background": deque(maxlen=SPAN)}
    found = {name: [] for name in windows}
    for name, pair in pairs:
        known = pair.known if pair.moving is None else pair.known & ~pair.moving
        background = drawn(name, pair.camera)
        for which, estimate, valid in (
            ("frames", pair.estimate, pair.valid & (background > 0)),
            ("background", background, background > 0),
        ):
            scaled = np.float32(truth.scale) * estimate
            frame = StabilityFrame(pair.camera, truth.poses[name], scaled, valid, pair.truth, known)
            windows[which].append(frame)
            if len(windows[which]) == SPAN and (one := surface_flicker(windows[which])) is not None:
                found[which].append(1000 * one.length)
    return {name: float(np.mean(values)) for name, values in found.items()}


class MeshDepth:
    """The background mesh drawn from the cameras of frames."""

    def __init__(self, workspace: Workspace) -> None:
        import torch

        from recon4d.render.rasterizer import get_rasterizer

        self._rasterizer, self._trajectory = get_rasterizer("cpu"), workspace.trajectory()
        mesh = workspace.static_mesh()
        self._vertices, self._faces = mesh.vertices.astype(np.float64), torch.from_numpy(mesh.faces.copy())

    def __call__(self, name: str, camera: Camera) -> np.ndarray:
        """(H, W) z-depth, 0 where there is no background."""
        import torch

        from recon4d.render.rasterizer import clip_from_camera, to_clip

        in_cam = self._trajectory[name].cam_from_world @ self._vertices
        far = float(in_cam[:, 2].max()) * 1.1
        points = torch.from_numpy(in_cam.astype(np.float32))[None]
        matrix = torch.from_numpy(clip_from_camera(camera, 1e-3 * far, far).astype(np.float32))
        rast = self._rasterizer.rasterize(to_clip(points, matrix).contiguous(), self._faces, camera.shape)
        return self._rasterizer.interpolate(points[..., 2:].contiguous(), rast, self._faces)[0, ..., 0].numpy()


# -- speed and memory ----------------------------------------------------------------------------------------------


def true_sightings(workspace: Workspace, truth: Truth, camera: Camera, count: int) -> list[Sighting]:
    """The true depth of the first frames at their true poses, metres: the same work for everybody."""
    ones, found = np.ones(camera.shape, dtype=np.float32), []
    for name, depth in truth.frames():
        picture = workspace.picture(name)
        if picture.shape[:2] == camera.shape:
            pose: Rigid3 = truth.poses[name]
            gains = np.ones(3, dtype=np.float32)
            found.append(Sighting(depth.astype(np.float32), ones, ones > 0, ones > 0, picture, gains, camera, pose))
        if len(found) == count:
            break
    return found


def speeds(seen: list[Sighting], voxel: float, band: float) -> dict[str, object]:
    """Frames per second of ours, of open3d's two volumes, and what comes out of them; once before, to compile."""
    ours(seen[:2], voxel, band)
    Open3dVolume(voxel, band / voxel).add(seen[0])
    found = {"ours": ours(seen, voxel, band)}
    begin, theirs = time.perf_counter(), Open3dVolume(voxel, band / voxel)
    for one in seen:
        theirs.add(one)
    rate = len(seen) / (time.perf_counter() - begin)
    found["VoxelBlockGrid"] = {"frames_per_s": rate, "triangles": len(theirs.mesh(3.0).faces)}
    found["ScalableTSDFVolume"] = _legacy(seen[:10], voxel, band)
    return found


def ours(seen: list[Sighting], voxel: float, band: float) -> dict[str, float]:
    """Room, distances and what is seen through; then points and mesh."""
    volume, begin = TsdfVolume(voxel, band), time.perf_counter()
    for one in seen:
        volume.reserve(one)
    for one in seen:
        volume.add(one)
    judgement = volume.judge(2.0, 0.67, 0.5 * band, 100)
    rate, begin = len(seen) / (time.perf_counter() - begin), time.perf_counter()
    points = SurfacePoints(volume, judgement, 0.5 * band)
    for one in seen:
        points.add(one)
    of_points, begin = len(seen) / (time.perf_counter() - begin), time.perf_counter()
    mesh = volume.mesh(judgement.usable)
    meshed = time.perf_counter() - begin
    return {"frames_per_s": rate, "points_per_s": of_points, "mesh_s": meshed, "triangles": len(mesh[1])}


def _legacy(seen: list[Sighting], voxel: float, band: float) -> dict[str, float]:
    import open3d as o3d

    volume = o3d.pipelines.integration.ScalableTSDFVolume(
        voxel_length=voxel, sdf_trunc=band, color_type=o3d.pipelines.integration.TSDFVolumeColorType.RGB8
    )
    begin = time.perf_counter()
    for one in seen:
        c = one.camera
        lens = o3d.camera.PinholeCameraIntrinsic(c.width, c.height, c.fx, c.fy, c.cx - 0.5, c.cy - 0.5)
        depth, color = o3d.geometry.Image(one.depth), o3d.geometry.Image(one.picture)
        image = o3d.geometry.RGBDImage.create_from_color_and_depth(color, depth, 1.0, 8.0, False)
        volume.integrate(image, lens, one.cam_from_world.matrix)
    rate = len(seen) / (time.perf_counter() - begin)
    return {"frames_per_s": rate, "triangles": len(volume.extract_triangle_mesh().triangles)}


class Repeated:
    """A scene whose clip is walked several times over, under names of its own: as long as wanted, the map the same."""

    def __init__(self, workspace: Workspace, times: int) -> None:
        self._workspace, trajectory = workspace, workspace.trajectory()
        names = tuple(f"{name}#{turn}" for turn in range(times) for name in trajectory.names)
        rows = np.tile(np.arange(len(trajectory)), times)
        self._trajectory = replace(
            trajectory,
            names=names,
            timestamps_s=np.arange(len(rows)) / 10.0,
            cam_from_world=trajectory.cam_from_world[rows],
            cameras=trajectory.cameras * times,
            origin=trajectory.origin * times,
        )

    def trajectory(self) -> object:
        """Of all turns."""
        return self._trajectory

    def __getattr__(self, what: str) -> object:
        found = getattr(self._workspace, what)
        if what in ("scene_depth", "depth_mesh", "picture", "ignored", "motion"):
            return lambda name, *more: found(name.partition("#")[0], *more)
        return found


def peak_memory(scene: Path, times: int) -> float:
    """Megabytes at the peak of the background of a clip walked ``times`` times, in a process of its own."""
    words = [sys.executable, Path(__file__), str(scene), str(times)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def _measure_memory(scene: Path, times: int) -> None:
    import tempfile

    from recon4d.stages.common import peak_memory_mb, reset_peak_memory

    repeated = Repeated(Workspace(scene), times)
    reset_peak_memory()
    with tempfile.TemporaryDirectory() as folder:
        options = FuseOptions(exposure=False, min_views=8)
        make_background(repeated, options, repeated.trajectory(), StagePart(Path(folder), Silent()))
    print(json.dumps(peak_memory_mb()))


if __name__ == "__main__":
    _measure_memory(Path(sys.argv[1]), int(sys.argv[2]))
