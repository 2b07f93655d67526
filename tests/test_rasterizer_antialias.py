"""Silhouettes: what they blend, and that following their gradient moves them where the picture wants them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recon4d.render import rasterizer as table
from recon4d.render.rasterizer import BACKENDS, get_rasterizer

SIZE = 40, 50


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.gpu] * (name != "cpu")) for name in BACKENDS])
def rasterizer(request):
    if request.param == "nvdiffrast" and (lacking := table.nvdiffrast_lacks()):
        pytest.skip(f"nvdiffrast: {lacking}")
    return get_rasterizer(request.param)


def at_pixels(pixels: torch.Tensor, z: float = 0.0) -> torch.Tensor:
    """(1, V, 4) clip positions of picture positions (V, 2)."""
    ndc = pixels / torch.tensor([SIZE[1], SIZE[0]]) * 2 - 1
    rest = torch.tensor([z, 1.0]).expand(len(pixels), 2)
    return torch.cat([ndc, rest], dim=1)[None]


def square(left: float, top: float, side: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Corners in pixels and the two triangles, one of them turned over."""
    corners = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]]) * side + torch.tensor([left, top])
    return corners, torch.tensor([[0, 1, 2], [0, 3, 2]], dtype=torch.int32)


def silhouette(rasterizer, pixels: torch.Tensor, tri: torch.Tensor) -> torch.Tensor:
    """(H, W) share of each pixel that the mesh covers, as antialiasing has it."""
    device = rasterizer.device
    pos, tri = at_pixels(pixels).to(device), tri.to(device)
    rast = rasterizer.rasterize(pos, tri, SIZE)
    return rasterizer.antialias((rast[..., 3:] > 0).float(), rast, pos, tri)[0, ..., 0]


@pytest.mark.parametrize("offset", [0.1, 0.35, 0.6, 0.85])
def test_square_blends_as_much_as_it_covers(rasterizer, offset):
    """Edges along the pixels: exact, but for the corners, where half a pixel may be lost."""
    covered = silhouette(rasterizer, *square(10 + offset, 8 + offset, 20.0)).cpu()
    assert float(covered[20, 9:12].sum()) == pytest.approx(2 - offset, abs=1e-5)
    assert float(covered[20, 29:32].sum()) == pytest.approx(1 + offset, abs=1e-5)
    assert float(covered[7:10, 20].sum()) == pytest.approx(2 - offset, abs=1e-5)
    assert float(covered.sum()) == pytest.approx(400, abs=2)


def test_gradient_of_an_edge_is_its_length(rasterizer):
    corners, tri = square(10.3, 8.4, 20.0)
    shift = torch.zeros(2, requires_grad=True)
    moved = corners + torch.tensor([[0.0, 0], [1, 0], [1, 0], [0, 0]]) * shift  # the right edge alone
    silhouette(rasterizer, moved, tri).sum().backward()
    assert float(shift.grad[0]) == pytest.approx(20, abs=1)  # pixels of area for one pixel of width


def test_boost_multiplies_the_gradient(rasterizer):
    corners, tri = square(10.3, 8.4, 20.0)
    device, gradients = rasterizer.device, []
    for boost in (1.0, 3.0):
        pos = at_pixels(corners).to(device).requires_grad_()
        rast = rasterizer.rasterize(pos.detach(), tri.to(device), SIZE)
        color = (rast[..., 3:] > 0).float() * torch.linspace(0, 1, SIZE[1], device=device)[:, None]
        rasterizer.antialias(color, rast, pos, tri.to(device), pos_gradient_boost=boost).sum().backward()
        gradients.append(pos.grad.cpu())
    assert gradients[0].abs().max() > 1
    torch.testing.assert_close(3 * gradients[0], gradients[1])


def disc(radius: float) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.arange(24) * (2 * torch.pi / 24)
    ring = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    tri = [[0, 1 + k, 1 + (k + 1) % 24] for k in range(24)]
    return torch.cat([torch.zeros(1, 2), ring]), torch.tensor(tri, dtype=torch.int32)


SHAPES = {
    "triangle": (torch.tensor([[-11.0, -9], [12, -6], [-3, 11]]), torch.tensor([[0, 1, 2]], dtype=torch.int32)),
    "disc": disc(11.0),
    "square": square(-10, -10, 20.0),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_finds_its_place_and_size_in_a_picture(rasterizer, shape):
    corners, tri = SHAPES[shape]
    middle, wanted_scale = torch.tensor([25.3, 20.6]), 1.15
    target = silhouette(rasterizer, wanted_scale * corners + middle, tri).detach()
    place, scale = torch.tensor([22.0, 23.0], requires_grad=True), torch.tensor(1.0, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [place], "lr": 0.3}, {"params": [scale], "lr": 0.02}])
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    for _ in range(120):
        optimizer.zero_grad()
        (silhouette(rasterizer, scale * corners + place, tri) - target).square().sum().backward()
        optimizer.step()
        decay.step()
    np.testing.assert_allclose(place.detach(), middle, atol=0.05)
    assert scale.item() == pytest.approx(wanted_scale, abs=0.01)


def sheet(fold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two strips with the edge x = 25.3 in common; the second goes on to the right (fold > 0) or back to the left."""
    x = torch.tensor([5.0, 25.3, 25.3 + fold])
    pixels = torch.stack([x.repeat(2), torch.tensor([3.0, 3, 3, 37, 37, 37])], dim=1)
    return pixels, torch.tensor([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]], dtype=torch.int32)


def blended(rasterizer, pixels, z, tri, topology_of=None) -> torch.Tensor:
    """(H, W) bool: pixels that antialiasing changes in a picture of noise."""
    device = rasterizer.device
    pos = at_pixels(pixels)
    pos[0, :, 2] = z
    pos, tri = pos.to(device), tri.to(device)
    color = torch.rand(1, *SIZE, 3, generator=torch.Generator().manual_seed(0)).to(device)
    rast = rasterizer.rasterize(pos, tri, SIZE)
    topology = None if topology_of is None else rasterizer.topology(topology_of.to(device))
    return (rasterizer.antialias(color, rast, pos, tri, topology) != color).any(dim=-1)[0].cpu()


def test_edges_inside_of_a_surface_blend_nothing_and_folds_do(rasterizer):
    depth = torch.tensor([0.0, 0, 0.1, 0, 0, 0.1])  # the second strip leads away
    goes_on, back = (blended(rasterizer, sheet(fold)[0], depth, sheet(fold)[1]) for fold in (15.0, -9.0))
    assert not goes_on[5:35, 7:38].any()
    assert goes_on[5:35, 3:7].any()  # its border does
    assert back[5:35, 24:27].any(dim=1).all()  # seen from one side of the fold, nothing from the other
    assert not back[5:35, 10:23].any()  # the hidden strip's end


def test_nearer_surface_makes_the_silhouette(rasterizer):
    """A square before a wall: the wall has no edge there, and colours mix nowhere else."""
    wall, wall_tri = square(-20, -20, 100.0)
    corners, tri = square(10.3, 8.4, 20.0)
    pixels = torch.cat([wall, corners])
    z = torch.cat([torch.full((4,), 0.5), torch.zeros(4)])
    changed = blended(rasterizer, pixels, z, torch.cat([wall_tri, tri + 4]))
    inner = torch.zeros(SIZE, dtype=torch.bool)
    inner[8:29, 10:31] = True
    inner[10:27, 12:29] = False  # a ring around its outline
    assert not changed[~inner].any()
    assert changed[9:28, 10].all()


@pytest.mark.parametrize(("edge", "blends"), [(20.4, True), (20.8, False)])
def test_edge_beyond_the_next_pixel_is_not_its_silhouette(rasterizer, edge, blends):
    """Two squares that cross at x = 20; the one nearer on the left goes on to ``edge``, behind the other."""
    corners, tri = square(0.0, 0.0, 1.0)
    left, right = corners * torch.tensor([edge - 5, 30]) + 5, corners * 30 + torch.tensor([10.0, 5])
    z = torch.cat([(left[:, 0] - 20) * 0.01, torch.zeros(4)])
    changed = blended(rasterizer, torch.cat([left, right]), z, torch.cat([tri, tri + 4]))[8:32]
    assert not changed[:, 12:20].any()
    assert changed[:, 20].all() == changed[:, 20].any() == blends


def test_third_triangle_at_an_edge_ends_there(rasterizer):
    """As in nvdiffrast, an edge joins two triangles: the first two stay one surface."""
    pixels, tri = sheet(15.0)
    depth = torch.tensor([0.0, 0, 0.1, 0, 0, 0.1, 0.3])
    pixels = torch.cat([pixels, torch.tensor([[28.0, 60.0]])])
    tri = torch.cat([tri, torch.tensor([[1, 6, 4]], dtype=torch.int32)])
    assert not blended(rasterizer, pixels, depth, tri)[5:30, 7:38].any()


def test_edge_with_an_end_behind_the_camera_is_still_smooth(rasterizer):
    """A runway: its borders meet at the horizon and pass under the camera."""
    device = rasterizer.device
    if device.type != "cpu":
        pytest.skip("nvdiffrast: divides by the w of both ends")
    corners = torch.tensor([[-1.0, 1, -5], [-1, 1, 20], [1, 1, 20], [1, 1, -5]], dtype=torch.float64)
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    x, y, z = corners.unbind(1)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    pos = torch.stack([x + shift * (x > 0), y, z - 0.5, z], dim=1)[None]  # focal length 1, near plane at 0.25
    rast = rasterizer.rasterize(pos, tri, SIZE)
    covered = rasterizer.antialias((rast[..., 3:] > 0).double(), rast, pos, tri)[0, ..., 0]
    covered.sum().backward()
    # In a row at ndc y the floor is at z = 1 / y, the right border at x = 1 / z: its pixels move by y * width / 2.
    y = (2 * torch.arange(SIZE[0], dtype=torch.float64) + 1) / SIZE[0] - 1
    visible = y > 1 / 20
    row = torch.arange(SIZE[1])[None] + 0.5
    border = (1 + y[:, None]) * SIZE[1] / 2
    exact = (border - row + 0.5).clamp(0, 1) * (row > SIZE[1] / 2)
    right = covered.detach() * (row > SIZE[1] / 2)
    steep = visible & (y < 0.95)
    np.testing.assert_allclose(right[steep].sum(1), exact[steep].sum(1), atol=0.5)
    assert float(shift.grad) == pytest.approx(float((y[visible] * SIZE[1] / 2).sum()), rel=0.12)


def test_topology_of_another_mesh_is_refused():
    rasterizer = get_rasterizer("cpu")
    pixels, tri = sheet(15.0)
    with pytest.raises(ValueError, match="topology is of 3 triangles, not of these 4"):
        blended(rasterizer, pixels, torch.zeros(6), tri, topology_of=tri[:3])
