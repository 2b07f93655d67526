"""nvdiffrast behind our names; what the methods mean: `recon4d.render.rasterizer.Rasterizer`.

Its licence allows research and evaluation only, and it needs CUDA: tools/install_nvdiffrast.sh.
"""

from __future__ import annotations

from typing import Any

import nvdiffrast.torch as dr
import torch

from recon4d.render.texture import check_modes


class NvdiffrastRasterizer:
    """A `Rasterizer` of float32 tensors on a CUDA device."""

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.device = torch.device(device or "cuda")
        self._context = dr.RasterizeCudaContext(device=self.device)

    def rasterize(self, pos: torch.Tensor, tri: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(B, H, W, 4) u, v, z/w, number + 1 of ``pos`` (B, V, 4), ``tri`` (T, 3) int32."""
        if _empty(pos, tri):
            return pos.new_zeros((len(pos), *size, 4)) + 0 * pos.sum()
        rast, _ = dr.rasterize(self._context, pos.contiguous(), tri.contiguous(), list(size), grad_db=False)
        return rast

    def interpolate(self, attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor) -> torch.Tensor:
        """(B, H, W, A) of ``attr`` (B or 1, V, A)."""
        if _empty(attr, tri):
            return attr.new_zeros((*rast.shape[:3], attr.shape[2])) + 0 * (attr.sum() + rast.sum())
        out, _ = dr.interpolate(attr.contiguous(), rast.contiguous(), tri.contiguous())
        return out

    def texture(
        self, tex: torch.Tensor, uv: torch.Tensor, filter_mode: str = "linear", boundary_mode: str = "clamp"
    ) -> torch.Tensor:
        """(B, H, W, C) of ``tex`` (B or 1, h, w, C) at ``uv`` (B, H, W, 2)."""
        check_modes(filter_mode, boundary_mode)
        return dr.texture(tex.contiguous(), uv.contiguous(), filter_mode=filter_mode, boundary_mode=boundary_mode)

    def topology(self, tri: torch.Tensor) -> Any:
        """nvdiffrast's own hash of edges; None for an empty mesh."""
        return dr.antialias_construct_topology_hash(tri.contiguous()) if len(tri) else None

    def antialias(
        self,
        color: torch.Tensor,
        rast: torch.Tensor,
        pos: torch.Tensor,
        tri: torch.Tensor,
        topology: Any = None,
        pos_gradient_boost: float = 1.0,
    ) -> torch.Tensor:
        """(B, H, W, C): ``color`` blended along silhouettes."""
        if _empty(pos, tri):
            return color + 0 * pos.sum()
        color, rast, pos, tri = (x.contiguous() for x in (color, rast, pos, tri))
        return dr.antialias(color, rast, pos, tri, topology_hash=topology, pos_gradient_boost=pos_gradient_boost)


def _empty(vertices: torch.Tensor, tri: torch.Tensor) -> bool:
    """nvdiffrast refuses meshes without vertices or triangles."""
    return len(tri) == 0 or vertices.shape[1] == 0
