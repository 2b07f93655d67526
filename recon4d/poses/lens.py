"""Lenses as they are, and the way from the frames as decoded to the undistorted pinhole pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError, PosesError
from recon4d.poses.native import load_pycolmap
from recon4d.scene.camera import Camera

if TYPE_CHECKING:
    import pycolmap

PINHOLE_TOLERANCE_PX = 0.1  # displacements below this are not worth a resampling, which costs sharpness
WIDEST_DEG = 120.0  # beyond, a pinhole picture is mostly stretched border
ZOOM_RANGE = (0.5, 4.0)  # undistorted focal length over the lens's


@dataclass(frozen=True)
class Lens:
    """A camera with distortion, in pixels of the pictures in ``frames/``; first pixel centre (0.5, 0.5)."""

    model: str  # COLMAP's name: PINHOLE, SIMPLE_RADIAL, OPENCV, OPENCV_FISHEYE, ...
    width: int
    height: int
    params: tuple[float, ...]  # in COLMAP's order for the model

    @classmethod
    def from_native(cls, camera: pycolmap.Camera) -> Lens:
        return cls(camera.model_name, camera.width, camera.height, tuple(float(value) for value in camera.params))

    def native(self, camera_id: int = 1) -> pycolmap.Camera:
        """The same as a pycolmap camera. Raises PosesError when the number of parameters does not fit the model."""
        pycolmap = load_pycolmap()
        camera = pycolmap.Camera.create_from_model_name(camera_id, self.model, 1.0, self.width, self.height)
        if len(camera.params) != len(self.params):
            raise PosesError(
                f"poses: lens model {self.model} takes {len(camera.params)} values ({camera.params_info}), "
                f"{len(self.params)} were given"
            )
        camera.params = list(self.params)
        return camera

    @property
    def pinhole_part(self) -> Camera:
        """The lens without its distortion."""
        camera = self.native()
        return Camera(
            self.width,
            self.height,
            camera.focal_length_x,
            camera.focal_length_y,
            camera.principal_point_x,
            camera.principal_point_y,
        )

    def resized(self, width: int, height: int) -> Lens:
        """The lens of the same pictures resampled to another size."""
        if (width, height) == (self.width, self.height):
            return self
        camera = self.native()
        camera.rescale(width, height)
        return Lens.from_native(camera)

    def project(self, x_in_cam: np.ndarray) -> np.ndarray:
        """(N, 2) distorted pixels of points (N, 3) in the camera frame; NaN where the model has none."""
        return self.native().img_from_cam(np.ascontiguousarray(x_in_cam, dtype=np.float64))

    def unproject(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 2) directions x/z, y/z of distorted pixels (N, 2); NaN where the model has none."""
        return self.native().cam_from_img(np.ascontiguousarray(pixels, dtype=np.float64))

    def is_pinhole_like(self, camera: Camera) -> bool:
        """True when pictures of this lens already are, within 0.1 px, pictures of ``camera``."""
        if (self.width, self.height) != (camera.width, camera.height):
            return False
        u, v = np.meshgrid(np.linspace(0, self.width, 33), np.linspace(0, self.height, 33))
        pixels = np.stack([u.ravel(), v.ravel()], axis=1)
        with np.errstate(invalid="ignore"):
            moved = np.abs(self.project(_directions(camera, pixels)) - pixels)
        return bool(np.all(moved < PINHOLE_TOLERANCE_PX))  # NaN compares false

    def undistorted(self) -> Camera:
        """The pinhole camera its pictures are undistorted to: same size and principal point, no black borders.

        The focal length is the shortest one with which every pixel still comes from inside the frame, but not so
        short that the picture gets wider than 120 degrees.

        Raises:
            PosesError: no focal length gives a picture without borders (a spherical or nonsensical lens).
        """
        plain = self.pinhole_part
        if self.is_pinhole_like(plain):
            return plain
        low = max(ZOOM_RANGE[0], self.width / 2 / (plain.fx * np.tan(np.radians(WIDEST_DEG / 2))))
        high = ZOOM_RANGE[1]
        if not self._covers(_zoomed(plain, high)):
            raise PosesError(
                f"poses: a {self.model} lens with {', '.join(f'{value:.6g}' for value in self.params)} cannot be "
                "undistorted to a pinhole picture without borders: check the order and the size of its values"
            )
        if self._covers(_zoomed(plain, low)):
            return _zoomed(plain, low)
        for _ in range(30):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if self._covers(_zoomed(plain, middle)) else (middle, high)
        return _zoomed(plain, high)

    def _covers(self, camera: Camera) -> bool:
        """Whether the whole border of ``camera``'s picture comes from inside the frame."""
        u, v = np.linspace(0, camera.width, 65), np.linspace(0, camera.height, 65)
        border = np.concatenate(
            [np.stack([u, np.full(65, edge)], 1) for edge in (0.0, camera.height)]
            + [np.stack([np.full(65, edge), v], 1) for edge in (0.0, camera.width)]
        )
        directions = _directions(camera, border)
        source = self.project(directions)
        with np.errstate(invalid="ignore"):
            inside = np.all((source >= 0) & (source <= [self.width, self.height]))
        if not inside:
            return False
        # Polynomial lenses fold back far outside: there a pixel lands inside the frame but belongs elsewhere.
        return bool(
            np.all(np.abs(self.unproject(source) - directions[:, :2]) < 1e-3 * np.abs(directions[:, :2]) + 1e-3)
        )


def _zoomed(camera: Camera, factor: float) -> Camera:
    return Camera(camera.width, camera.height, camera.fx * factor, camera.fy * factor, camera.cx, camera.cy)


def _directions(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    xy = (pixels - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    return np.concatenate([xy, np.ones((len(xy), 1))], axis=1)


def undistortion_map(lens: Lens, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the undistorted picture lies in the frame.

    Returns:
        ``map_x``, ``map_y``: (H, W) float32 source positions in the picture in ``frames/`` for each pixel of
        ``camera``; first pixel centre (0.5, 0.5), so `cv2.remap` wants them minus 0.5.
    """
    rays = camera.rays().reshape(-1, 3)
    source = lens.project(rays).astype(np.float32).reshape(*camera.shape, 2)
    return np.ascontiguousarray(source[..., 0]), np.ascontiguousarray(source[..., 1])


def undistort_pixels(lens: Lens, camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """(N, 2) pixels of the undistorted picture from pixels (N, 2) of the frame."""
    return lens.unproject(pixels) * [camera.fx, camera.fy] + [camera.cx, camera.cy]


def write_lenses(path: Path, lenses: dict[str, Lens]) -> None:
    """`poses/lenses.json`: each lens once, and which frame was taken with which."""
    table = list(dict.fromkeys(lenses.values()))
    content = {
        "convention": "parameters in COLMAP's order; pixels of the pictures in frames/; first pixel centre (0.5, 0.5)",
        "lenses": [
            {"model": lens.model, "width": lens.width, "height": lens.height, "params": lens.params} for lens in table
        ],
        "frames": {name: table.index(lens) for name, lens in lenses.items()},
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_lenses(path: Path) -> dict[str, Lens]:
    """Reverse of `write_lenses`: name -> lens. Raises InputError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        table = [
            Lens(item["model"], item["width"], item["height"], tuple(item["params"])) for item in content["lenses"]
        ]
        return {name: table[row] for name, row in content["frames"].items()}
    except FileNotFoundError:
        raise InputError(f"{path} was not found: run the poses stage again") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error!r}): run the poses stage again") from None
