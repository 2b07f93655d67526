"""Differentiable rasterisers by name, and our pinhole camera as a clip matrix. How to use them: docs/rendering.md."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from recon4d.errors import MissingDependency, OptionsError
from recon4d.scene.camera import Camera

if TYPE_CHECKING:
    import torch

BACKENDS = {
    "cpu": "recon4d.render.cpu_rasterizer:CpuRasterizer",
    "nvdiffrast": "recon4d.render.nvdiffrast_rasterizer:NvdiffrastRasterizer",
}
AUTO = "auto"


class Rasterizer(Protocol):
    """Triangles into pictures, with gradients to vertices, attributes, colours and textures.

    Conventions are those of nvdiffrast: clip space (x, y, z, w) is seen where -w <= x, y, z <= w, pixel (column i,
    row j) has its centre at ndc x = (2i + 1) / W - 1, y = (2j + 1) / H - 1, so that row 0 is y = -1. The matrix of
    `clip_from_camera` puts the top of our pictures there. Tensors are contiguous and live on ``device``.
    """

    device: torch.device

    def rasterize(self, pos: torch.Tensor, tri: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Which triangle each pixel centre sees, and where on it.

        Args:
            pos: (B, V, 4) float, clip space.
            tri: (T, 3) int32, vertices of each triangle, seen from both sides. A triangle with an index outside
                0 .. V - 1 is left out, here and everywhere.
            size: (H, W), pixels.

        Returns:
            (B, H, W, 4): u and v, the perspective correct weights of vertices 0 and 1; z/w; triangle number plus 1.
            All 0 where nothing is seen. Only u and v have gradients, and only to x, y, w of ``pos``. The picture
            derivatives of u and v that nvdiffrast gives as a second result serve mipmaps and are not given here.
        """

    def interpolate(self, attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor) -> torch.Tensor:
        """Attributes of the vertices at every pixel.

        Args:
            attr: (B, V, A), or (1, V, A) for all pictures alike.
            rast: (B, H, W, 4), of `rasterize`.
            tri: (T, 3) int32.

        Returns:
            (B, H, W, A), 0 where nothing is seen; gradients to ``attr`` and to u and v.
        """

    def texture(
        self, tex: torch.Tensor, uv: torch.Tensor, filter_mode: str = "linear", boundary_mode: str = "clamp"
    ) -> torch.Tensor:
        """Colours of a texture; gradients to it and, if it is read linearly, to ``uv``.

        Args:
            tex: (B or 1, h, w, C).
            uv: (B, H, W, 2), (0, 0) .. (1, 1) from the corner of the first texel to that of the last: column then row.
            filter_mode: "linear" between texel centres, or "nearest".
            boundary_mode: beyond the border "clamp" holds its colour, "wrap" goes on at the other side, "zero" is 0.
                nvdiffrast wraps unless told otherwise, which bleeds one side of a photograph into the other.
        """

    def topology(self, tri: torch.Tensor) -> Any:
        """What `antialias` wants to know about ``tri`` (T, 3): make it once, use it as long as ``tri`` stays."""

    def antialias(
        self,
        color: torch.Tensor,
        rast: torch.Tensor,
        pos: torch.Tensor,
        tri: torch.Tensor,
        topology: Any = None,
        pos_gradient_boost: float = 1.0,
    ) -> torch.Tensor:
        """Blend the pixels along silhouettes, which gives the vertices of silhouettes a gradient.

        Args:
            color: (B, H, W, C).
            rast: (B, H, W, 4), of `rasterize` with ``pos`` and ``tri``; has no gradient here.
            topology: of ``tri``; made on the fly if not given, which costs more than the rest.
            pos_gradient_boost: the gradient to ``pos`` is multiplied by this.
        """


def get_rasterizer(name: str = AUTO, device: Any = None) -> Rasterizer:
    """A rasteriser of its own, with its own work arrays: make one and keep it.

    Args:
        name: "cpu", "nvdiffrast" (CUDA), or "auto": nvdiffrast where it and a CUDA device are there, else cpu.
        device: where tensors live; the backend's own default if not given. It decides what "auto" is.

    Raises:
        OptionsError: there is no such backend.
        MissingDependency: nvdiffrast is asked for, by its name or by a CUDA device, and cannot be used.
    """
    if name == AUTO and device is not None:
        name = "cpu" if str(device).startswith("cpu") else "nvdiffrast"
    elif name == AUTO:
        name = "cpu" if nvdiffrast_lacks() else "nvdiffrast"
    if name not in BACKENDS:
        raise OptionsError(f"render: there is no rasteriser '{name}'; choose one of {', '.join((AUTO, *BACKENDS))}")
    if name == "nvdiffrast" and (lacking := nvdiffrast_lacks()):
        raise MissingDependency(
            f"render: the rasteriser 'nvdiffrast' cannot be used, as {lacking}: run tools/install_nvdiffrast.sh on a "
            "machine with CUDA, or take 'cpu'"
        )
    module, _, maker = BACKENDS[name].partition(":")
    return getattr(importlib.import_module(module), maker)(device=device)


def nvdiffrast_lacks() -> str | None:
    """What keeps nvdiffrast from being used, in words, or None."""
    if importlib.util.find_spec("nvdiffrast") is None:
        return "it is not installed"
    import torch

    return None if torch.cuda.is_available() else "PyTorch sees no CUDA device"


def clip_from_camera(camera: Camera, near: float, far: float) -> np.ndarray:
    """(4, 4) float64 matrix from our camera frame (x right, y down, z forward) to clip space.

    Row 0 is the top of the picture, pixel = (ndc + 1) * size / 2 with first centre 0.5, w is the z-depth, and z/w goes
    from -1 at depth ``near`` to 1 at ``far``, both in the unit of the points.

    Raises:
        ValueError: not 0 < near < far.
    """
    if not 0 < near < far:
        raise ValueError(f"clip_from_camera: depths from {near} to {far}; 0 < near < far is needed")
    width, height = camera.width, camera.height
    return np.array(
        [
            [2 * camera.fx / width, 0, 2 * camera.cx / width - 1, 0],
            [0, 2 * camera.fy / height, 2 * camera.cy / height - 1, 0],
            [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, 1, 0],
        ]
    )


def to_clip(points: torch.Tensor, clip_from_points: torch.Tensor) -> torch.Tensor:
    """(B, V, 4) contiguous clip coordinates of points (V, 3) or (B, V, 3), by matrices (4, 4) or (B, 4, 4)."""
    clip = points @ clip_from_points[..., :3].mT + clip_from_points[..., None, :, 3]
    return (clip[None] if clip.ndim == 2 else clip).contiguous()
