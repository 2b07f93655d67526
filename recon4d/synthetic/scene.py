"""A synthetic recording with exact truth: pictures, z-depth, masks, scene flow, poses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recon4d.scene.camera import Camera
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3
from recon4d.synthetic.motion import Placement, Walk
from recon4d.synthetic.room import Solid, moving_solids, static_solids


@dataclass(frozen=True)
class SyntheticFrame:
    """One frame and its truth, taken at the pixel centres. World frame: metres, z up."""

    name: str  # six-digit index
    timestamp_s: float
    picture: np.ndarray  # (H, W, 3) uint8 RGB
    depth: np.ndarray  # (H, W) float32 z-depth, metres; every pixel has one
    object_id: np.ndarray  # (H, W) uint8, 0 = static
    flow_next: np.ndarray  # (H, W, 3) float32 world displacement to the next frame, metres; static exactly 0
    flow_prev: np.ndarray  # (H, W, 3) float32 the same to the frame before
    cam_from_world: Rigid3


@dataclass(frozen=True)
class _Arrays:
    """The solids at one moment, as the ray caster takes them."""

    kinds: np.ndarray  # (P,) int64
    rotations: np.ndarray  # (P, 3, 3) world_from_solid
    centres: np.ndarray  # (P, 3) metres
    halves: np.ndarray  # (P, 3) current half sizes, metres
    reach: np.ndarray  # (P,) radius of the bounding ball, metres
    stretch: np.ndarray  # (P, 3)

    @property
    def geometry(self) -> tuple[np.ndarray, ...]:
        return self.kinds, self.rotations, self.centres, self.halves, self.reach


@dataclass(frozen=True)
class SyntheticScene:
    """A textured room with movers, seen by a handheld camera. Frames are made when asked for, in any order."""

    camera: Camera
    count: int
    fps: float
    seed: int
    samples: int  # rays per pixel side for the picture
    solids: tuple[Solid, ...]
    walk: Walk

    def __len__(self) -> int:
        return self.count

    @property
    def names(self) -> tuple[str, ...]:
        """Six-digit frame indices, as the frames stage names decoded frames."""
        return tuple(f"{i:06d}" for i in range(self.count))

    @property
    def trajectory(self) -> Trajectory:
        """True poses of all frames."""
        times = np.arange(self.count) / self.fps
        poses = [self.walk(time_s).matrix for time_s in times]
        origin = (PoseOrigin.IMPORTED,) * self.count
        return Trajectory(self.names, times, Rigid3.from_matrix(np.array(poses)), (self.camera,) * self.count, origin)

    def frames(self) -> Iterator[SyntheticFrame]:
        """All frames in order, one in memory at a time."""
        return (self.frame(i) for i in range(self.count))

    def frame(self, i: int) -> SyntheticFrame:
        """The i-th frame; raises IndexError outside 0..count-1."""
        if not 0 <= i < self.count:
            raise IndexError(f"frame {i} of a scene with {self.count}")
        from recon4d.synthetic.raycast import cast_centres, cast_picture

        time_s = i / self.fps
        cam_from_world, now = self.walk(time_s), self._arrays(time_s)
        view = self._view(cam_from_world)
        depth, solid = np.empty(self.camera.shape), np.empty(self.camera.shape, dtype=np.int64)
        local, picture = np.empty((*self.camera.shape, 3)), np.empty((*self.camera.shape, 3), dtype=np.uint8)
        cast_centres(view, now.geometry, depth, solid, local)
        cast_picture(view, self.samples, now.geometry, (now.stretch, *self._look()), picture)
        return SyntheticFrame(
            name=self.names[i],
            timestamp_s=time_s,
            picture=picture,
            depth=depth.astype(np.float32),
            object_id=np.array([s.object_id for s in self.solids], dtype=np.uint8)[solid],
            flow_next=self._flow(solid, local, now, time_s + 1 / self.fps),
            flow_prev=self._flow(solid, local, now, time_s - 1 / self.fps),
            cam_from_world=cam_from_world,
        )

    def _view(self, cam_from_world: Rigid3) -> tuple:
        """Origin and rotation (world_from_cam) and calibration, as the kernels take them."""
        world_from_cam, camera = cam_from_world.inverse(), self.camera
        return (
            world_from_cam.translation,
            np.ascontiguousarray(world_from_cam.rotation),
            *map(float, (camera.fx, camera.fy, camera.cx, camera.cy)),
        )

    def _arrays(self, time_s: float) -> _Arrays:
        places = [solid.at(time_s) for solid in self.solids]
        stretch = np.array([place.stretch for place in places])
        halves = np.array([solid.half for solid in self.solids]) * stretch
        return _Arrays(
            kinds=np.array([solid.kind for solid in self.solids]),
            rotations=np.array([place.rotation for place in places]),
            centres=np.array([place.centre for place in places]),
            halves=halves,
            reach=np.linalg.norm(halves, axis=1),
            stretch=stretch,
        )

    def _look(self) -> tuple[np.ndarray, ...]:
        """Style, cell, seed and palette of every solid's material."""
        materials = [solid.material for solid in self.solids]
        seeds = np.random.default_rng(self.seed).integers(0, 1 << 20, len(materials))
        return (
            np.array([material.style for material in materials]),
            np.array([material.cell for material in materials], dtype=np.float64),
            seeds.astype(np.int64),
            np.array([material.linear_palette() for material in materials]),
        )

    def _flow(self, solid: np.ndarray, local: np.ndarray, now: _Arrays, then_s: float) -> np.ndarray:
        """(H, W, 3) float32: where each material point will be, minus where it is."""
        flow = np.zeros(local.shape, dtype=np.float32)
        for index, moving in enumerate(self.solids):
            if moving.motion is None:
                continue
            seen = solid == index
            material = local[seen] / now.stretch[index]
            here = Placement(now.rotations[index], now.centres[index], now.stretch[index])
            flow[seen] = _world_points(moving.at(then_s), material) - _world_points(here, material)
        return flow


def _world_points(place: Placement, material: np.ndarray) -> np.ndarray:
    """(N, 3) world points of material points (N, 3)."""
    return (material * place.stretch) @ place.rotation.T + place.centre


def synthetic_scene(
    seed: int = 0,
    count: int = 60,
    size: tuple[int, int] = (320, 240),
    fps: float = 10.0,
    movers: bool = True,
    shake: float = 1.0,
    samples: int = 2,
) -> SyntheticScene:
    """The standard scene.

    Args:
        seed: of the textures and of the shaking hand; the furniture and the movers' paths do not change.
        count: number of frames.
        size: (width, height) of the pictures, pixels; the field of view stays 65 degrees across.
        fps: frames per second; the walk and the movers take the same time whatever the rate.
        movers: False leaves crate, ball and blob away.
        shake: strength of the hand's shake, 0 = a camera on rails.
        samples: rays per pixel along each side (textures fade below a pixel by themselves).
    """
    width, height = size
    focal = 0.785 * width
    camera = Camera(width, height, focal, focal, width / 2, height / 2)
    solids = static_solids() + (moving_solids() if movers else [])
    return SyntheticScene(camera, count, fps, seed, samples, tuple(solids), Walk(seed, shake))
