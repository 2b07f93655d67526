"""The walks of fuse over the clip that make the background: room and exposure, volume, points."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import FuseError
from recon4d.scene.depth import Provenance
from recon4d.scene.trajectory import PoseOrigin
from recon4d.stages.working_pictures import no_part_of_background

if TYPE_CHECKING:
    from recon4d.geometry.tsdf import Judgement, Sighting, TsdfVolume
    from recon4d.scene.cloud import PointCloud
    from recon4d.scene.mesh import DepthMesh, TriMesh
    from recon4d.scene.trajectory import Trajectory
    from recon4d.stages.fuse import FuseOptions
    from recon4d.workspace import StagePart, Workspace

PIXELS_PER_VOXEL = 2.0  # at the typical depth: finer voxels than that are not seen by every frame
VOXELS_PER_SIGMA = 3.0  # at most: finer ones only hold noise
BAND_SIGMAS, BAND_VOXELS = 2.0, 3.0  # truncation: what frames say within it of each other is averaged
REACH_SIGMAS, REACH_VOXELS = 1.0, 1.5  # points so near to the surface belong to it
FRAMES_PER_VIEW, MOST_VIEWS, LEAST_VIEWS = 8, 12, 2  # without --fuse.min-views one for so many frames of the clip
MIN_ISLAND = 300  # voxels at the surface: smaller pieces that hang in the air are dropped
LEAST_WEIGHT = 1e-3  # of a frame's word, however unsure
LEAST_SIGMA = 1e-4  # of depth
UNSURE = 10.0  # times the typical relative sigma: pixels less sure than that count as no view of a surface
EDGE_OF_MOVERS = 3 / 640  # of the longer side, around what moves: not background either, masks are no sharper
SURVEYED = 24  # frames, evenly chosen, that tell how far and how sure depth is
LOOK_RADIUS = 1  # pixels around a sparse point whose mean is its colour


@dataclass(frozen=True)
class Survey:
    """What is known of the clip before anything is fused."""

    names: tuple[str, ...]  # frames that are evidence of what is where
    typical_depth: float  # scene units
    sigma: float  # typical standard deviation of depth, scene units
    relative_sigma: float  # typical standard deviation of depth over depth


@dataclass(frozen=True)
class Sizes:
    """Lengths of the background, scene units, and the frames that must have seen a surface."""

    voxel: float
    band: float
    reach: float
    min_views: int


@dataclass(frozen=True)
class Background:
    """The static part of a scene, and how it came about."""

    cloud: PointCloud
    mesh: TriMesh
    sizes: Sizes
    gains: dict[str, np.ndarray]  # name -> (3,) that bring the frame's colours to the clip's
    judgement: Judgement
    blocks: int
    kept: int  # points of frames that are background
    left: int  # points of frames that are not
    stray: int  # points of the background that stood apart from their neighbours, removed


def make_background(workspace: Workspace, options: FuseOptions, trajectory: Trajectory, part: StagePart) -> Background:
    """Three walks over the clip, one frame in memory (and the next being read).

    Raises:
        FuseError: nothing is left as background, or its voxels do not fit into memory.
    """
    from recon4d.geometry.exposure import exposure_gains
    from recon4d.geometry.fusion import without_outliers
    from recon4d.geometry.surface_points import SurfacePoints
    from recon4d.geometry.tsdf import BLOCK_BYTES, TsdfVolume
    from recon4d.scene.mesh import TriMesh
    from recon4d.stages.working_pictures import machine_memory

    survey = take_survey(workspace, trajectory)
    sizes = choose_sizes(options, trajectory, survey)
    volume = TsdfVolume(sizes.voxel, sizes.band, machine_memory() // 2 // BLOCK_BYTES)
    frames = Frames(workspace, trajectory, survey, {})
    looks, model = {}, workspace.sparse_model() if options.exposure else None
    for name, seen in frames.walk(part, "finding room"):
        try:
            volume.reserve(seen)
        except MemoryError as error:
            raise FuseError(
                f"fuse: a background in voxels of {sizes.voxel:g} units needs more than half of the machine's memory "
                f"({error}): give larger ones with --fuse.voxel-size"
            ) from error
        if model is not None and name in model.rows:
            looks[name] = looks_at_points(seen.picture, model.rows[name], model.pixels[name])
    frames.gains.update(exposure_gains(looks))
    for _, seen in frames.walk(part, "fusing background"):
        volume.add(seen)
    judgement = volume.judge(sizes.min_views, options.min_agreement, sizes.reach, MIN_ISLAND)
    points = SurfacePoints(volume, judgement, sizes.reach)
    for _, seen in frames.walk(part, "gathering points"):
        points.add(seen)
    cloud = points.cloud()
    steady = without_outliers(cloud.points.astype(np.float64))
    if not steady.any():
        raise FuseError(_nothing_left(volume, judgement, sizes, len(survey.names)))
    mesh = TriMesh(*volume.mesh(judgement.usable))
    stray = int((~steady).sum())
    counts = volume.count, points.kept, points.left, stray
    return Background(cloud[steady], mesh, sizes, frames.gains, judgement, *counts)


def _nothing_left(volume: TsdfVolume, judgement: Judgement, sizes: Sizes, frames: int) -> str:
    if volume.count == 0:
        return (
            "fuse: no frame has depth of its own that may become background: masks and what moves cover it all, "
            "or the depth is second-hand"
        )
    return (
        f"fuse: nothing is left as background of {frames} frames: {judgement.lonely} voxels are seen by fewer than "
        f"{sizes.min_views} frames, {judgement.carved} are seen through, {judgement.islands} hang in the air: "
        "lower --fuse.min-views or --fuse.min-agreement, or check that poses and depth belong to this clip"
    )


def take_survey(workspace: Workspace, trajectory: Trajectory) -> Survey:
    """How far and how sure depth is, from some frames. Raises FuseError when no frame has depth of its own."""
    names = tuple(view.name for view in trajectory if view.origin is not PoseOrigin.INTERPOLATED)
    depths, sigmas, relative = [], [], []
    some = np.unique(np.round(np.linspace(0, len(names) - 1, SURVEYED)).astype(int)) if len(names) else []
    # The others are asked only where those have nothing to say.
    for name in [names[row] for row in some] + list(names):
        if len(depths) >= len(some):
            break
        surface = workspace.scene_depth(name, workspace.surface_unit())
        seen = surface.valid & Provenance.first_hand(surface.provenance)
        if seen.any():
            depths.append(float(np.median(surface.depth[seen])))
            sigmas.append(float(np.median(surface.sigma[seen])))
            relative.append(float(np.median(surface.sigma[seen] / surface.depth[seen])))
    if not depths:
        raise FuseError(
            "fuse: no frame has depth of its own: what was filled or told by others is evidence of nothing; "
            "run align with a depth source that covers the pictures"
        )
    depth = float(np.median(depths))
    sigma, ratio = float(np.median(sigmas)), float(np.median(relative))
    return Survey(names, depth, max(sigma, LEAST_SIGMA * depth), max(ratio, LEAST_SIGMA))


def looks_at_points(picture: np.ndarray, rows: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the sparse points a frame sees (K,) int32, and their colours there (K, 3) uint8."""
    import cv2

    size = 2 * LOOK_RADIUS + 1
    blurred = cv2.blur(picture, (size, size))
    x, y = np.floor(pixels).astype(int).T
    height, width = picture.shape[:2]
    inside = (x >= LOOK_RADIUS) & (y >= LOOK_RADIUS) & (x < width - LOOK_RADIUS) & (y < height - LOOK_RADIUS)
    return rows[inside].astype(np.int32), blurred[y[inside], x[inside]]


def choose_sizes(options: FuseOptions, trajectory: Trajectory, survey: Survey) -> Sizes:
    """Voxels as fine as pixels and sigma are worth, and what follows from them."""
    pixel = survey.typical_depth / float(np.median([trajectory[name].camera.fx for name in survey.names]))
    voxel = options.voxel_size or max(PIXELS_PER_VOXEL * pixel, survey.sigma / VOXELS_PER_SIGMA)
    views = options.min_views
    if views is None:
        views = int(np.clip(len(survey.names) // FRAMES_PER_VIEW, LEAST_VIEWS, MOST_VIEWS))
    return Sizes(
        voxel=voxel,
        band=max(BAND_SIGMAS * survey.sigma, BAND_VOXELS * voxel),
        reach=max(REACH_SIGMAS * survey.sigma, REACH_VOXELS * voxel),
        min_views=min(views, len(survey.names)),
    )


@dataclass(frozen=True)
class Frames:
    """What each frame has to say of the background, read when asked for."""

    workspace: Workspace
    trajectory: Trajectory
    survey: Survey
    gains: dict[str, np.ndarray]  # name -> (3,); 1 for frames that are not in it

    def walk(self, part: StagePart, label: str) -> Iterator[tuple[str, Sighting]]:
        """All frames in order; the next one is read while one is worked on."""
        names = self.survey.names
        with ThreadPoolExecutor(1) as reader, part.progress.bar(label, len(names)) as bar:
            coming = reader.submit(self.sighting, names[0])
            for row, name in enumerate(names):
                seen = coming.result()
                if row + 1 < len(names):
                    coming = reader.submit(self.sighting, names[row + 1])
                yield name, seen
                bar.advance()

    def sighting(self, name: str) -> Sighting:
        """First-hand depth of one frame where nothing moves; a pixel of typical sigma weighs 1, no pixel more."""
        from recon4d.geometry.tsdf import Sighting

        mesh, view = self.workspace.depth_mesh(name), self.trajectory[name]
        surface, static = mesh.surface, static_pixels(self.workspace, name, mesh)
        sigma = np.maximum(surface.sigma, np.float32(1e-12))
        return Sighting(
            depth=np.where(static, surface.depth, np.float32(0)),
            weights=np.clip((np.float32(self.survey.sigma) / sigma) ** 2, np.float32(LEAST_WEIGHT), np.float32(1)),
            counts=surface.sigma <= np.float32(UNSURE * self.survey.relative_sigma) * surface.depth,
            measured=surface.provenance == Provenance.MEASURED,
            picture=self.workspace.picture(name),
            gains=self.gains.get(name, np.ones(3)).astype(np.float32),
            camera=view.camera,
            cam_from_world=view.cam_from_world,
        )


def static_pixels(workspace: Workspace, name: str, mesh: DepthMesh) -> np.ndarray:
    """(H, W) bool: first-hand pixels of a solid surface that neither move nor are under the user's mask."""
    from recon4d.geometry.meshing import well_joined

    surface = mesh.surface
    own = surface.valid & Provenance.first_hand(surface.provenance) & well_joined(mesh)
    return own & ~not_static(workspace, name, own.shape)


def not_static(workspace: Workspace, name: str, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: pixels that move, or lie beside what does, and those a mask takes out."""
    found = no_part_of_background(workspace, name, EDGE_OF_MOVERS)
    return np.zeros(shape, dtype=bool) if found is None else found
