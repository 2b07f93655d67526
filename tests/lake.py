"""A picture of a lake below mountains and sky with exact depth, for tests of pictures that are brought to life."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon4d.formats.pictures import write_picture

FAR, MOUNTAIN, HEIGHT = 1000.0, 60.0, 2.0  # z of sky and mountain; of the camera above the water


def lake(width: int = 160, height: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture (H, W, 3) uint8, z (H, W), and what it shows (H, W): 0 sky, 1 mountain, 2 water, 3 a rock in it."""
    import cv2

    rng = np.random.default_rng(7)
    row, column = np.indices((height, width)) + 0.5
    shore, focal = 0.5 * height, width
    ridge = shore - height * (0.14 + 0.06 * np.sin(column / width * 9) + 0.04 * np.sin(column / width * 23))
    rock = ((column - 0.68 * width) / (0.08 * width)) ** 2 + ((row - 0.72 * height) / (0.07 * height)) ** 2 < 1
    kind = np.where(rock, 3, np.where(row > shore, 2, np.where(row > ridge, 1, 0)))
    plane = HEIGHT * focal / np.maximum(row - 0.44 * height, 1)
    z = np.choose(kind, [FAR, MOUNTAIN, plane, HEIGHT * focal / (0.35 * height)])

    def noise(across: float, down: float) -> np.ndarray:
        grid = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigmaX=across, sigmaY=down)
        return (grid / grid.std())[..., None]

    clouds = noise(0.06 * width, 0.03 * height)
    sky = np.array([118, 166, 224.0]) + np.clip(clouds, 0, 2) * np.array([58, 38, 10.0])
    stone = np.array([104, 98, 84.0]) + 34 * noise(1, 1)
    water = np.array([58, 104, 138.0]) + 11 * noise(0.03 * width, 0.9)
    grey = np.array([96, 88, 80.0]) + 26 * noise(1, 1)
    parts = (kind[..., None] == k for k in range(4))
    picture = sum(part * color for part, color in zip(parts, (sky, stone, water, grey)))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), z.astype(np.float32), kind


def write_lake(folder: Path, width: int = 160, height: int = 120) -> tuple[Path, Path]:
    """`lake.png` and its relative nearness `depth.npz`, as a network would give it."""
    picture, z, _ = lake(width, height)
    write_picture(folder / "lake.png", picture)
    nearness = (1 / z - 1 / z.max()) / (1 / z.min() - 1 / z.max())
    np.savez(folder / "depth.npz", disparity=nearness[None].astype(np.float32))
    return folder / "lake.png", folder / "depth.npz"
