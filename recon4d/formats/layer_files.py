"""`layers/NAME.npz`: the layers of a frame without loss, and pictures of them for people and other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.arrays import read_arrays, write_arrays
from recon4d.formats.exr_writer import write_exr
from recon4d.scene.camera import Camera
from recon4d.scene.layered import Layer, LayeredDepth

FIELDS = ("color", "depth", "alpha", "provenance")  # arrays (K, H, W) or (K, H, W, 3), the nearest layer first


def write_layers(path: Path, layered: LayeredDepth) -> None:
    """Write the layers and their camera (width, height, fx, fy, cx, cy)."""
    c = layered.camera
    camera = np.array([c.width, c.height, c.fx, c.fy, c.cx, c.cy], dtype=np.float64)
    stacked = {field: np.stack([getattr(layer, field) for layer in layered.layers]) for field in FIELDS}
    write_arrays(path, camera=camera, **stacked)


def read_layers(path: Path) -> LayeredDepth:
    """Reverse of `write_layers`. Raises InputError."""
    arrays = read_arrays(path)
    try:
        width, height, *lens = arrays["camera"].tolist()
        camera = Camera(int(width), int(height), *lens)
        count = len(arrays["depth"])
        layers = tuple(Layer(*(arrays[field][row] for field in FIELDS)) for row in range(count))
        return LayeredDepth(camera, layers)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no layers as they are written ({error}): make it again") from error


def write_layer_pictures(folder: Path, name: str, layered: LayeredDepth) -> list[Path]:
    """`NAME_0.png`, `NAME_1.png`...: one PNG with transparency per layer, the nearest first."""
    import cv2

    paths = []
    for number, layer in enumerate(layered.layers):
        alpha = np.round(255 * np.clip(layer.alpha, 0, 1)).astype(np.uint8)
        stored = np.concatenate([layer.color[..., ::-1], alpha[..., None]], axis=-1)
        done, data = cv2.imencode(".png", np.ascontiguousarray(stored), [cv2.IMWRITE_PNG_COMPRESSION, 3])
        assert done
        paths.append(folder / f"{name}_{number}.png")
        paths[-1].write_bytes(data.tobytes())
    return paths


def write_layer_depths(folder: Path, name: str, layered: LayeredDepth) -> list[Path]:
    """`NAME_0.exr`...: z in scene units in the channel Z, 0 where there is no surface. Raises MissingDependency."""
    paths = []
    for number, layer in enumerate(layered.layers):
        paths.append(folder / f"{name}_{number}.exr")
        write_exr(paths[-1], {"Z": layer.depth}, "z of a layer in scene units, 0 = nothing")
    return paths
