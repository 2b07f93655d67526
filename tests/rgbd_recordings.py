"""Small RGB-D recordings of every layout, of a wall 2 m away with a hole in the sensor's sight."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 32, 24
HOLE = (slice(4, 8), slice(10, 14))


def colour(number: int) -> Image.Image:
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def metres(number: int) -> np.ndarray:
    """(24, 32) float32: 2 m, one centimetre more in every frame, and a hole."""
    depth = np.full((HEIGHT, WIDTH), 2.0 + 0.01 * number, dtype=np.float32)
    depth[HOLE] = 0
    return depth


def save_depth(path: Path, number: int, per_metre: float = 1000.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(metres(number) * per_metre).astype(np.uint16)).save(path)


def save_colour(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour(number).save(path)


def write_tum(folder: Path, count: int = 4) -> Path:
    """Pictures every 0.1 s from 100 s on, depth 5 ms later; the third frame's depth is missing."""
    rgb, depth, truth = ["# colour"], ["# depth"], ["# poses"]
    for n in range(count):
        save_colour(folder / "rgb" / f"{100 + 0.1 * n:.6f}.png", n)
        rgb.append(f"{100 + 0.1 * n:.6f} rgb/{100 + 0.1 * n:.6f}.png")
        if n != 2:
            save_depth(folder / "depth" / f"{100.005 + 0.1 * n:.6f}.png", n, 5000.0)
            depth.append(f"{100.005 + 0.1 * n:.6f} depth/{100.005 + 0.1 * n:.6f}.png")
    for n in range(50):  # x is the time since the first picture
        truth.append(f"{99.99 + 0.01 * n:.4f} {-0.01 + 0.01 * n:.4f} 0 0 0 0 0 1")
    (folder / "rgb.txt").write_text("\n".join(rgb))
    (folder / "depth.txt").write_text("\n".join(depth))
    (folder / "groundtruth.txt").write_text("\n".join(truth))
    return folder


def write_scannet(folder: Path, count: int = 3) -> Path:
    """The colour camera lies 0.1 m to the right of the depth camera; tracking of frame 1 is lost."""
    lens = np.array([[40.0, 0, 15.5, 0], [0, 40.0, 11.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    motion = np.eye(4)
    motion[0, 3] = -0.1
    (folder / "intrinsic").mkdir(parents=True)
    (folder / "pose").mkdir()
    for name, matrix in (("color", lens), ("depth", lens)):
        np.savetxt(folder / "intrinsic" / f"intrinsic_{name}.txt", matrix)
    np.savetxt(folder / "intrinsic/extrinsic_color.txt", np.eye(4))
    np.savetxt(folder / "intrinsic/extrinsic_depth.txt", motion)
    for n in range(count):
        save_colour(folder / "color" / f"{n}.jpg", n)
        save_depth(folder / "depth" / f"{n}.png", n)
        pose = np.full((4, 4), -np.inf) if n == 1 else np.eye(4)
        pose[2, 3] += n
        np.savetxt(folder / "pose" / f"{n}.txt", pose)
    return folder


def calibration() -> dict[str, object]:
    camera = {"fx": 40.0, "fy": 40.0, "cx": 15.5, "cy": 11.5}
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "color_camera": camera,
        "depth_camera": camera,
        "color_from_depth_translation_m": [-0.1, 0, 0],
        "metres_per_value": 0.001,
        "invalid_values": [0, 65535, 1234],
        "fps": 10.0,
    }


def write_folder(folder: Path, numbers: tuple[int, ...] = (0, 3, 6)) -> Path:
    for n in numbers:
        save_colour(folder / "color" / f"{n:06d}.png", n)
        save_depth(folder / "depth" / f"{n:06d}.png", n)
    (folder / "calibration.json").write_text(json.dumps(calibration()))
    (folder / "poses.txt").write_text("".join(f"{n / 10} {n} 0 0 0 0 0 1\n" for n in numbers))
    return folder


def raw_lzfse(data: bytes) -> bytes:
    """An LZFSE stream of two raw blocks."""
    half = len(data) // 2
    parts = (data[:half], data[half:])
    return b"".join(b"bvx-" + struct.pack("<I", len(part)) + part for part in parts) + b"bvx$"


def r3d_metadata(count: int) -> dict[str, object]:
    turn = np.sin(np.pi / 4)  # a quarter turn about y
    return {
        "w": WIDTH,
        "h": HEIGHT,
        "dw": WIDTH // 2,
        "dh": HEIGHT // 2,
        "fps": 30,
        "K": [40.0, 0, 0, 0, 41.0, 0, 16.0, 12.0, 1],
        "frameTimestamps": [5.0 + 0.5 * n for n in range(count)],
        "perFrameIntrinsicCoeffs": [[40.0 + n, 41.0 + n, 16.0, 12.0] for n in range(count)],
        "poses": [[0, turn, 0, turn, float(n), 0, 0] for n in range(count)],
    }


def write_r3d(path: Path, count: int = 3, pack=raw_lzfse, **changes: object) -> Path:
    """Depth of half the size: 2 m and 1 cm per frame; confidence 0, 1 and 2 in the first three columns, then 2."""
    levels = np.full((HEIGHT // 2, WIDTH // 2), 2, dtype=np.uint8)
    levels[:, 0], levels[:, 1] = 0, 1
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata", json.dumps(r3d_metadata(count) | changes))
        archive.writestr("../outside.txt", "no file of this name may appear")
        for n in range(count):
            depth = np.full((HEIGHT // 2, WIDTH // 2), 2 + 0.01 * n, dtype="<f4")
            depth[3, 4] = np.nan
            with archive.open(f"rgbd/{n}.jpg", "w") as file:
                colour(n).save(file, "JPEG")
            archive.writestr(f"rgbd/{n}.depth", pack(depth.tobytes()))
            archive.writestr(f"rgbd/{n}.conf", pack(levels.tobytes()))
    return path
