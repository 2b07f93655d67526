"""The differentiable rasteriser on the CPU; what its methods mean: `recon4d.render.rasterizer.Rasterizer`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from recon4d.render import antialias_kernels, raster_kernels
from recon4d.render import raster_kernels_interpolate as interpolate_kernels
from recon4d.render.crew import Crew
from recon4d.render.texture import read_texture

CHUNK = 1 << 14  # triangles or vertices drawn between two looks at what is left to do
ROW_PIXELS = 1 << 12  # fewer are not worth another thread
BANDS = 8  # of rows, each with sums of its own: fixed, so that sums do not depend on the number of threads
MOST_LAYERS = 8  # threads that draw at once, each into keys of its own
MOST_TRIANGLES = 1 << 24  # whose numbers float32 holds exactly


@dataclass(frozen=True)
class Topology:
    """Which triangles meet at which edges."""

    wings: np.ndarray  # (T, 3) int32, see `antialias_kernels.pair_edges`


class CpuRasterizer:
    """A `Rasterizer` whose loops are compiled by numba at the first call, for float32 and float64 apart.

    Results are the same to the bit for any number of threads. Large work arrays stay with the rasteriser and grow to
    the largest picture and mesh seen; what the methods return is never one of them and stays valid as long as the
    caller holds it, whatever is rendered later. Several threads may use one rasteriser: each call in flight then has
    work arrays of its own.

    Args:
        threads: that share the work of one call, as many as PyTorch uses if not given; 1 is best where several frames
            are rendered at once.
    """

    def __init__(self, device: torch.device | str | None = None, threads: int | None = None) -> None:
        self.device = torch.device(device or "cpu")
        if self.device.type != "cpu":
            raise ValueError(f"CpuRasterizer: tensors on {self.device} are out of its reach; 'cpu' is needed")
        self._crew = Crew(max(1, threads or torch.get_num_threads()))

    def rasterize(self, pos: torch.Tensor, tri: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(B, H, W, 4) u, v, z/w, number + 1 of ``pos`` (B, V, 4) float32 or float64, ``tri`` (T, 3) int32."""
        _check("rasterize", tri, pos=pos)
        if pos.shape[-1] != 4 or min(size) < 1 or len(tri) >= MOST_TRIANGLES:
            raise ValueError(
                f"rasterize: {len(tri)} triangles of vertices {tuple(pos.shape)} on {size[0]}x{size[1]} pixels; "
                f"fewer than {MOST_TRIANGLES}, (B, V, 4) and a picture are needed"
            )
        return _Rasterize.apply(pos.contiguous(), tri.contiguous(), tuple(size), self._crew)

    def interpolate(self, attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor) -> torch.Tensor:
        """(B, H, W, A) of ``attr`` (B or 1, V, A)."""
        _check("interpolate", tri, attr=attr, rast=rast)
        _check_batch("interpolate", len(rast), attr=attr)
        return _Interpolate.apply(attr.contiguous(), rast.contiguous(), tri.contiguous(), self._crew)

    def texture(
        self, tex: torch.Tensor, uv: torch.Tensor, filter_mode: str = "linear", boundary_mode: str = "clamp"
    ) -> torch.Tensor:
        """(B, H, W, C) of ``tex`` (B or 1, h, w, C) at ``uv`` (B, H, W, 2)."""
        return read_texture(tex, uv, filter_mode, boundary_mode)

    def topology(self, tri: torch.Tensor) -> Topology:
        """Edges of ``tri`` (T, 3) int32 paired, by sorting them."""
        _check("topology", tri)
        return Topology(antialias_kernels.pair_edges(tri.numpy()))

    def antialias(
        self,
        color: torch.Tensor,
        rast: torch.Tensor,
        pos: torch.Tensor,
        tri: torch.Tensor,
        topology: Topology | None = None,
        pos_gradient_boost: float = 1.0,
    ) -> torch.Tensor:
        """(B, H, W, C): ``color`` blended along silhouettes."""
        _check("antialias", tri, color=color, rast=rast, pos=pos)
        if color.shape[:3] != rast.shape[:3]:
            raise ValueError(f"antialias: colours {tuple(color.shape)} of pixels {tuple(rast.shape)}")
        _check_batch("antialias", len(rast), pos=pos)
        topology = topology or self.topology(tri)
        if topology.wings.shape != tuple(tri.shape):
            raise ValueError(f"antialias: the topology is of {len(topology.wings)} triangles, not of these {len(tri)}")
        color, rast, pos, tri = (x.contiguous() for x in (color, rast.detach(), pos, tri))
        return _Antialias.apply(color, pos, rast, tri, topology.wings, pos_gradient_boost, self._crew)


def _check(operation: str, tri: torch.Tensor, **tensors: torch.Tensor) -> None:
    """Raises ValueError unless triangles are (T, 3) int32 and the tensors on the CPU and of one floating type."""
    if tri.dtype != torch.int32 or tri.ndim != 2 or tri.shape[1] != 3:
        raise ValueError(f"{operation}: tri is {tuple(tri.shape)} {tri.dtype}; (T, 3) int32 is needed")
    if {x.dtype for x in tensors.values()} not in (set(), {torch.float32}, {torch.float64}):
        found = ", ".join(f"{name} {x.dtype}" for name, x in tensors.items())
        raise ValueError(f"{operation}: {found}; all float32 or all float64 is needed")
    for name, x in tensors.items():
        if x.ndim != (3 if name in ("pos", "attr") else 4) or x.device.type != "cpu":
            raise ValueError(f"{operation}: {name} is {tuple(x.shape)} on {x.device}")
    if "rast" in tensors and tensors["rast"].shape[-1] != 4:
        raise ValueError(f"{operation}: rast is {tuple(tensors['rast'].shape)}; (B, H, W, 4) is needed")


def _check_batch(operation: str, count: int, **tensors: torch.Tensor) -> None:
    for name, x in tensors.items():
        if len(x) not in (1, count) or (name == "pos" and x.shape[-1] != 4):
            raise ValueError(f"{operation}: {name} is {tuple(x.shape)} for {count} pictures")


def _zeros_like(x: torch.Tensor) -> torch.Tensor:
    """Not by PyTorch: after each of its parallel operations its threads spin for a while, and ours want the cores."""
    return torch.from_numpy(np.zeros(x.shape, dtype=x.numpy().dtype))


def _rows(crew: Crew, work: Callable[[int, int], None], size: tuple[int, int]) -> None:
    crew.ranges(work, size[0], least=-(-ROW_PIXELS // size[1]))


def _sum_over_rows(crew: Crew, work: Callable[..., tuple[int, int]], height: int, out: np.ndarray) -> None:
    """Add what ``work(first, last, sums)`` leaves in ``sums`` (V, C) for bands of rows to ``out`` (V, C)."""
    with crew.borrow() as scratch:
        bands = scratch.array("bands", (BANDS, *out.shape), np.float64)  # 0 outside of this block
        written = np.zeros((BANDS, 2), dtype=np.int64)

        def one(n: int) -> None:
            written[n] = work(height * n // BANDS, height * (n + 1) // BANDS, bands[n])

        crew.each(one, BANDS)
        crew.ranges(
            lambda first, last: interpolate_kernels.sum_bands(bands, written, first, last, out), len(out), least=CHUNK
        )


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pos, tri, size, crew):
        rast = pos.new_empty((len(pos), *size, 4))
        for corners, picture in zip(pos.detach().numpy(), rast.numpy()):
            _rasterize_one(corners, tri.numpy(), picture, crew)
        ctx.crew = crew
        ctx.save_for_backward(pos, tri, rast)
        return rast

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        pos, tri, rast = (x.detach() for x in ctx.saved_tensors)
        grad_pos = _zeros_like(pos)
        for corners, seen, asked, out in zip(pos.numpy(), rast.numpy(), grad.contiguous().numpy(), grad_pos.numpy()):

            def work(first, last, sums, corners=corners, seen=seen, asked=asked):
                return raster_kernels.resolve_backward(corners, tri.numpy(), seen, asked, first, last, sums)

            _sum_over_rows(ctx.crew, work, rast.shape[1], out)
        return grad_pos, None, None, None


def _rasterize_one(pos: np.ndarray, tri: np.ndarray, rast: np.ndarray, crew: Crew) -> None:
    size = rast.shape[:2]
    chunks = -(-len(tri) // CHUNK)
    layers = max(1, min(crew.threads, MOST_LAYERS, chunks))
    with crew.borrow() as scratch:
        keys = scratch.array("keys", (layers, *size), np.int64)
        snapped = scratch.array("xy", (len(pos), 2), np.int32), scratch.array("deep", (len(pos),), np.float64)
        crew.ranges(
            lambda first, last: raster_kernels.snap_vertices(pos, size, first, last, *snapped), len(pos), least=CHUNK
        )
        left = itertools.count()

        def draw(layer: int) -> None:
            keys[layer] = raster_kernels.EMPTY
            while (chunk := next(left)) < chunks:
                last = min(len(tri), (chunk + 1) * CHUNK)
                raster_kernels.draw(pos, tri, snapped, chunk * CHUNK, last, keys[layer])

        crew.each(draw, layers)
        _rows(crew, lambda first, last: raster_kernels.resolve(keys, pos, tri, first, last, rast), size)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attr, rast, tri, crew):
        out = attr.new_empty((*rast.shape[:3], attr.shape[2]))
        values = attr.detach().expand(len(rast), -1, -1).numpy()
        for corners, seen, picture in zip(values, rast.detach().numpy(), out.numpy()):

            def work(first, last, corners=corners, seen=seen, picture=picture):
                interpolate_kernels.interpolate(corners, seen, tri.numpy(), first, last, picture)

            _rows(crew, work, rast.shape[1:3])
        ctx.crew = crew
        ctx.save_for_backward(attr, rast, tri)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        attr, rast, tri = (x.detach() for x in ctx.saved_tensors)
        wants_attr, wants_uv = ctx.needs_input_grad[:2]
        grad_attr = _zeros_like(attr)
        grad_rast = torch.empty_like(rast if wants_uv else rast[:, :1, :1])
        for n, (seen, asked, to_uv) in enumerate(zip(rast.numpy(), grad.contiguous().numpy(), grad_rast.numpy())):
            which = n if len(attr) > 1 else 0
            corners = attr[which].numpy()

            def work(first, last, sums, corners=corners, seen=seen, asked=asked, to_uv=to_uv):
                return interpolate_kernels.interpolate_backward(
                    corners, seen, tri.numpy(), asked, first, last, (wants_uv, wants_attr), to_uv, sums
                )

            _sum_over_rows(ctx.crew, work, rast.shape[1], grad_attr[which].numpy())
        return grad_attr if wants_attr else None, grad_rast if wants_uv else None, None, None


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, color, pos, rast, tri, wings, boost, crew):
        out = torch.empty_like(color)
        alpha = color.new_empty((*rast.shape[:3], 2))
        edge = torch.empty(alpha.shape, dtype=torch.int8)
        corners = pos.detach().expand(len(rast), -1, -1).numpy()
        for n in range(len(rast)):
            seen, found = rast[n].numpy(), (alpha[n].numpy(), edge[n].numpy())
            before, after = color[n].detach().numpy(), out[n].numpy()

            def find(first, last, n=n, seen=seen, found=found):
                antialias_kernels.find_silhouettes(seen, corners[n], tri.numpy(), wings, first, last, *found)

            def blend(first, last, found=found, before=before, after=after):
                antialias_kernels.blend(before, found[0], first, last, after)

            _rows(crew, find, rast.shape[1:3])
            _rows(crew, blend, rast.shape[1:3])
        ctx.crew, ctx.boost = crew, boost
        ctx.save_for_backward(color, pos, rast, tri, alpha, edge)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        color, pos, rast, tri, alpha, edge = (x.detach() for x in ctx.saved_tensors)
        wants_color, wants_pos = ctx.needs_input_grad[:2]
        grad_color = torch.empty_like(color) if wants_color else None
        grad_pos = _zeros_like(pos) if wants_pos else None
        for n in range(len(rast)):
            which = n if len(pos) > 1 else 0
            asked, found = grad[n].contiguous().numpy(), (alpha[n].numpy(), edge[n].numpy())
            if wants_color:
                to_color = grad_color[n].numpy()

                def work(first, last, asked=asked, found=found, to_color=to_color):
                    antialias_kernels.blend_backward(asked, found[0], first, last, to_color)

                _rows(ctx.crew, work, rast.shape[1:3])
            if wants_pos:
                antialias_kernels.silhouettes_backward(
                    pos[which].numpy(),
                    tri.numpy(),
                    rast[n].numpy(),
                    color[n].numpy(),
                    asked,
                    found,
                    float(ctx.boost),
                    grad_pos[which].numpy(),
                )
        return grad_color, grad_pos, None, None, None, None, None
