"""Gradients of the rasteriser: against finite differences, and against the twin that gets them from PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import readable_rasterizer as readable
import torch

from recon4d.render import rasterizer as table
from recon4d.render.rasterizer import BACKENDS, get_rasterizer

SIZE = 9, 12


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.gpu] * (name != "cpu")) for name in BACKENDS])
def rasterizer(request):
    if request.param == "nvdiffrast" and (lacking := table.nvdiffrast_lacks()):
        pytest.skip(f"nvdiffrast: {lacking}")
    return get_rasterizer(request.param)


@pytest.fixture(scope="module")
def cpu():
    return get_rasterizer("cpu")


def folded_sheet(seed: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Clip positions of a crumpled 3x4 grid that hides itself, w between 1 and 3; and its triangles."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-0.9:0.9:3j, -0.9:0.9:4j]
    xy = np.stack([x, y], axis=-1).reshape(1, 12, 2) + rng.uniform(-0.45, 0.45, (batch, 12, 2))
    w = rng.uniform(1, 3, (batch, 12, 1))
    pos = np.concatenate([xy * w, rng.uniform(-0.8, 0.8, (batch, 12, 1)) * w, w], axis=-1)
    index = np.arange(12).reshape(3, 4)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    tri = np.concatenate([np.stack([a, c, d], -1), np.stack([a, d, b], -1)])
    return torch.tensor(pos), torch.tensor(tri, dtype=torch.int32)


def randoms(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inside(rast: torch.Tensor) -> torch.Tensor:
    """Pixels whose weights did not have to be clamped."""
    return (rast[..., 3] > 0) & (rast[..., :2] > 0).all(-1) & (rast[..., :2].sum(-1) < 1)


@pytest.mark.parametrize("seed", range(3))
def test_rasterize_against_finite_differences(cpu, seed):
    pos, tri = folded_sheet(seed, batch=1)
    whole = inside(cpu.rasterize(pos, tri, SIZE))
    assert whole.sum() > 40
    assert torch.autograd.gradcheck(lambda p: cpu.rasterize(p, tri, SIZE)[..., :2][whole], pos.requires_grad_())


def test_interpolate_against_finite_differences(cpu):
    pos, tri = folded_sheet(3)
    rast = cpu.rasterize(pos, tri, SIZE)
    uv = rast[..., :2].clone().requires_grad_()

    def values(attr, uv):
        return cpu.interpolate(attr, torch.cat([uv, rast[..., 2:]], dim=-1), tri)

    for batch in (1, 2):
        assert torch.autograd.gradcheck(values, (randoms(batch, 12, 3).requires_grad_(), uv))


@pytest.mark.parametrize("boundary", ["clamp", "wrap", "zero"])
def test_texture_against_finite_differences(cpu, boundary):
    tex, uv = randoms(1, 4, 5, 2).requires_grad_(), (2.4 * randoms(2, 3, 4, 2, seed=1) - 0.7).requires_grad_()
    assert torch.autograd.gradcheck(lambda tex, uv: cpu.texture(tex, uv, "linear", boundary), (tex, uv))
    assert torch.autograd.gradcheck(lambda tex: cpu.texture(tex, uv.detach(), "nearest", boundary), tex)


@pytest.mark.parametrize("seed", range(4))
def test_antialias_against_finite_differences(cpu, seed):
    pos, tri = folded_sheet(seed)
    rast = cpu.rasterize(pos, tri, SIZE)
    color = randoms(2, *SIZE, 2).requires_grad_()
    topology = cpu.topology(tri)
    # One step of a vertex, much smaller than a pixel, keeps rast: what is drawn where is not asked anew.
    assert torch.autograd.gradcheck(
        lambda color, pos: cpu.antialias(color, rast, pos, tri, topology), (color, pos.requires_grad_())
    )
    assert (cpu.antialias(color, rast, pos, tri) != color).any(dim=-1).sum() > 20


@pytest.mark.parametrize("seed", range(4))
def test_all_of_it_same_as_readable_twin(rasterizer, seed):
    double = rasterizer.device.type == "cpu"
    pos, tri = folded_sheet(seed)
    inputs = {"pos": pos, "uv": randoms(1, 12, 2), "tex": randoms(1, 6, 5, 3, seed=1)}
    target = randoms(2, *SIZE, 3, seed=2)

    def gradients(draw, device, dtype):
        leaves = {name: x.to(device, dtype).requires_grad_() for name, x in inputs.items()}
        picture = draw(**leaves, tri=tri.to(device))
        (picture - target.to(device, dtype)).square().sum().backward()
        return picture.detach().cpu().double(), {name: x.grad.cpu().double() for name, x in leaves.items()}

    def ours(pos, uv, tex, tri):
        rast = rasterizer.rasterize(pos, tri, SIZE)
        color = rasterizer.texture(tex, rasterizer.interpolate(uv, rast, tri)) * (rast[..., 3:] > 0)
        return rasterizer.antialias(color, rast, pos, tri)

    def theirs(pos, uv, tex, tri):
        rast = readable.rasterize(pos, tri, SIZE)
        color = readable.texture(tex, readable.interpolate(uv, rast, tri), "linear", "clamp") * (rast[..., 3:] > 0)
        return readable.antialias(color, rast, pos, tri)

    picture, found = gradients(ours, rasterizer.device, torch.float64 if double else torch.float32)
    truth, expected = gradients(theirs, "cpu", torch.float64)
    tolerance = 1e-9 if double else 1e-2
    np.testing.assert_allclose(picture, truth, atol=tolerance)
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], atol=tolerance * expected[name].abs().max(), err_msg=name)
    assert not found["pos"][..., 2].any()  # z never has one


def test_single_precision_is_close_to_double(cpu):
    pos, tri = folded_sheet(5)
    attr = randoms(1, 12, 2)

    def gradient(dtype):
        p, a = pos.to(dtype).requires_grad_(), attr.to(dtype).requires_grad_()
        rast = cpu.rasterize(p, tri, SIZE)
        out = cpu.antialias(cpu.interpolate(a, rast, tri), rast, p, tri)
        out.square().sum().backward()
        assert out.dtype == p.grad.dtype == dtype
        return p.grad.double(), a.grad.double()

    for single, double in zip(gradient(torch.float32), gradient(torch.float64)):
        np.testing.assert_allclose(single, double, atol=2e-6 * double.abs().max())


def test_gradient_of_triangles_smaller_than_a_pixel(cpu):
    """Their area in clip space is about 1e-9: nothing may be added to it to be safe from dividing by zero."""
    rows, columns = torch.meshgrid(torch.arange(21.0), torch.arange(21.0), indexing="ij")
    pos = (
        torch.stack([columns * 0.7 - 6.93, rows * 0.7 - 6.87, rows * 0, rows * 0 + 640], dim=-1).reshape(1, -1, 4) / 640
    )
    index = torch.arange(441, dtype=torch.int32).reshape(21, 21)
    a, b, c, d = (part.reshape(-1) for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    tri = torch.cat([torch.stack([a, c, d], -1), torch.stack([a, d, b], -1)])
    attr = pos[..., :1].double()  # ndc x: over a sheet that moves by dx, a pixel's value changes by -dx
    pos = (0.05 * pos.double()).requires_grad_()  # all at depth 0.05
    rast = cpu.rasterize(pos, tri, (1280, 1280))
    seen = int((rast[..., 3] > 0).sum())
    assert seen > 150
    cpu.interpolate(attr, rast, tri).sum().backward()
    assert float(pos.grad[..., 0].sum()) == pytest.approx(-seen / 0.05, rel=1e-6)


def test_triangle_without_area_that_snapping_makes_visible_has_no_gradient(cpu):
    rng = np.random.default_rng(0)
    ends = rng.uniform(-0.9, 0.9, (400, 2, 1, 2))
    share = np.stack([np.zeros(400), rng.uniform(0.2, 0.8, 400), np.ones(400)], axis=-1)[..., None]
    xy = (ends[:, 0] + share * (ends[:, 1] - ends[:, 0])).reshape(1, -1, 2)
    pos = torch.tensor(np.concatenate([xy, np.zeros_like(xy[..., :1]), np.ones_like(xy[..., :1])], axis=-1))
    tri = torch.arange(1200, dtype=torch.int32).reshape(-1, 3)
    rast = cpu.rasterize(pos.requires_grad_(), tri, (64, 64))
    assert (rast[..., 3] > 0).sum() > 20
    cpu.interpolate(randoms(1, 1200, 1), rast, tri).sum().backward()
    assert pos.grad.abs().max() < 1e4  # without precaution 1e16


def test_gradients_are_only_made_where_they_are_asked_for(cpu):
    pos, tri = folded_sheet(1)
    rast = cpu.rasterize(pos, tri, SIZE)
    assert not rast.requires_grad
    attr = randoms(1, 12, 2).requires_grad_()
    cpu.interpolate(attr, rast, tri).sum().backward()
    # Weights of a pixel add up to one.
    assert float(attr.grad[..., 0].sum()) == pytest.approx(float((rast[..., 3] > 0).sum()))
    (first,) = torch.autograd.grad(cpu.interpolate(attr, rast, tri).square().sum(), attr, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
