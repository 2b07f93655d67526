"""Reading textures, in plain PyTorch."""

from __future__ import annotations

import torch
from torch.nn import functional

FILTERS = "linear", "nearest"
PADDING = {"clamp": "border", "zero": "zeros", "wrap": "border"}


def read_texture(
    tex: torch.Tensor, uv: torch.Tensor, filter_mode: str = "linear", boundary_mode: str = "clamp"
) -> torch.Tensor:
    """Colours (B, H, W, C) of ``tex`` (B or 1, h, w, C) at ``uv`` (B, H, W, 2); see `Rasterizer.texture`.

    Raises:
        ValueError: an unknown mode, or shapes that do not fit.
    """
    check_modes(filter_mode, boundary_mode)
    if tex.ndim != 4 or uv.ndim != 4 or uv.shape[-1] != 2 or tex.shape[0] not in (1, uv.shape[0]):
        raise ValueError(
            f"texture: textures {tuple(tex.shape)} and uv {tuple(uv.shape)}; (B or 1, h, w, C), (B, H, W, 2) needed"
        )
    read = _nearest if filter_mode == "nearest" else _linear
    return read(tex, uv, boundary_mode)


def check_modes(filter_mode: str, boundary_mode: str) -> None:
    """Raises ValueError for a filter or a boundary that is not known."""
    if filter_mode not in FILTERS or boundary_mode not in PADDING:
        raise ValueError(
            f"texture: filter '{filter_mode}' and boundary '{boundary_mode}'; "
            f"{' or '.join(FILTERS)}, and {' or '.join(PADDING)} are known"
        )


def _linear(tex, uv, boundary_mode):
    channels_first = tex.permute(0, 3, 1, 2)
    if boundary_mode == "wrap":  # a border of what lies across, and coordinates of the larger picture
        size = uv.new_tensor([tex.shape[2], tex.shape[1]])
        uv = ((uv - uv.detach().floor()) * size + 1) / (size + 2)
        channels_first = functional.pad(channels_first, (1, 1, 1, 1), mode="circular")
    channels_first = channels_first.expand(len(uv), -1, -1, -1)
    colors = functional.grid_sample(
        channels_first, 2 * uv - 1, mode="bilinear", padding_mode=PADDING[boundary_mode], align_corners=False
    )
    return colors.permute(0, 2, 3, 1)


def _nearest(tex, uv, boundary_mode):
    height, width = tex.shape[1:3]
    size = uv.new_tensor([width, height])
    texel = (uv.detach() * size).floor().to(torch.int64)
    last = torch.tensor([width - 1, height - 1], device=uv.device)
    inside = ((texel >= 0) & (texel <= last)).all(dim=-1, keepdim=True)
    texel = texel.remainder(last + 1) if boundary_mode == "wrap" else torch.minimum(texel.clamp(min=0), last)
    batch = torch.arange(len(uv), device=uv.device)[:, None, None] if len(tex) > 1 else 0
    colors = tex[batch, texel[..., 1], texel[..., 0]]
    return colors * inside if boundary_mode == "zero" else colors
