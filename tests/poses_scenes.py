"""Two textured planes seen through any lens, and workspaces with frames: for tests of the poses stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from recon4d.formats.frames_table import write_frames_table
from recon4d.formats.pictures import write_picture
from recon4d.poses.lens import Lens
from recon4d.scene.recording import Frame
from recon4d.scene.transforms import Rigid3
from recon4d.workspace import StageRecord, Workspace

FAR, NEAR = 6.0, 3.5  # distances of the two planes
NEAR_HALF_WIDTH, NEAR_HALF_HEIGHT = 1.0, 0.6


@lru_cache
def texture(seed: int, size: int = 1024) -> np.ndarray:
    """(size, size) uint8 blobs of all sizes."""
    rng = np.random.default_rng(seed)
    out = np.zeros((size, size))
    for cells in (16, 48, 128, 320):
        out += cv2.resize(rng.normal(size=(cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 45 * out, 0, 255).astype(np.uint8)


def two_planes(lens: Lens, cam_from_world: Rigid3) -> np.ndarray:
    """(H, W, 3) uint8 picture of a wall at z = 6 and a board before it at z = 3.5."""
    u, v = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
    xy = lens.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    rays = np.concatenate([xy, np.ones((len(xy), 1))], axis=1) @ cam_from_world.rotation
    centre = cam_from_world.inverse().translation
    on_board, on_wall = (centre + rays * ((z - centre[2]) / rays[:, 2])[:, None] for z in (NEAR, FAR))
    board = (np.abs(on_board[:, 0]) < NEAR_HALF_WIDTH) & (np.abs(on_board[:, 1]) < NEAR_HALF_HEIGHT)
    picture = np.where(board, _look(texture(1), on_board, 130), _look(texture(2), on_wall, 75))
    return np.repeat(picture.reshape(lens.height, lens.width, 1), 3, axis=2)


def _look(of: np.ndarray, points: np.ndarray, pixels_per_unit: float) -> np.ndarray:
    # One row of pixels would be longer than OpenCV's 32767.
    place = (points[:, :2] * pixels_per_unit + of.shape[0] / 2).astype(np.float32).reshape(-1, 16, 2)
    return cv2.remap(of, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT).ravel()


def looking_at(centres: np.ndarray, target: np.ndarray) -> Rigid3:
    """(N,) ``cam_from_world`` of cameras at centres (N, 3) that look at a point, y axis down."""
    rotations = []
    for centre in centres:
        z = (target - centre) / np.linalg.norm(target - centre)
        x = np.cross([0.0, 1, 0], z)
        x /= np.linalg.norm(x)
        rotations.append(np.stack([x, np.cross(z, x), z]))
    rotation = np.array(rotations)
    return Rigid3(rotation, -np.einsum("nij,nj->ni", rotation, centres))


def walk(count: int, length: float = 1.6) -> Rigid3:
    """A sideways walk of ``length`` that looks at the board."""
    along = np.linspace(-0.5, 0.5, count)
    centres = np.stack([length * along, 0.3 * length * np.sin(5 * along), 0.2 * length * along], axis=1)
    return looking_at(centres, np.array([0.0, 0, 4.5]))


def turn(count: int, degrees: float) -> Rigid3:
    """A camera that turns on the spot."""
    angles = np.radians(np.linspace(-degrees / 2, degrees / 2, count))
    targets = np.stack([np.sin(angles), 0.2 * np.sin(2 * angles), np.cos(angles)], axis=1)
    rotation = np.concatenate([looking_at(np.zeros((1, 3)), target).rotation for target in targets])
    return Rigid3(rotation, np.zeros((count, 3)))


def workspace_with(
    root: Path,
    pictures: Sequence[np.ndarray],
    kind: str = "video",
    masks: Sequence[np.ndarray] | None = None,
    focal_px: float | None = None,
    source_names: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Workspace:
    """A scene folder in which the frames stage has written these pictures, 10 per second."""
    workspace = Workspace.create(root)
    part = workspace.start("frames", "made-by-a-test")
    names = names or [f"{3 * i:06d}" for i in range(len(pictures))]
    source = source_names or ["clip.mp4"] * len(pictures)
    for name, picture in zip(names, pictures):
        write_picture(part.path / f"{name}.png", picture)
    for name, mask in zip(names, masks or ()):
        (part.path / "mask").mkdir(exist_ok=True)
        write_picture(part.path / "mask" / f"{name}.png", mask)
    frames = [Frame(name, 3 * i, source[i], 0.1 * i, 0) for i, name in enumerate(names)]
    write_frames_table(part.path / "frames.csv", frames)
    (part.path / "calibration.json").write_text(json.dumps({"focal_px": focal_px, "source": "test"}))
    height, width = pictures[0].shape[:2]
    summary = {
        "frames": len(pictures),
        "width": width,
        "height": height,
        "kind": kind,
        "source_frames": 3 * len(pictures),
        "source_fps": 30.0 if kind == "video" else None,
        "resized_from": None,
    }
    workspace.publish(part, StageRecord("frames", 1, "made-by-a-test", {}, {}, summary=summary))
    return workspace
