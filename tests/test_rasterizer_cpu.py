"""What the CPU rasteriser promises beyond the others: the same bits for any number of threads, and clear refusals."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from test_rasterizer import CAMERA, soup, waves

from recon4d.render import cpu_rasterizer
from recon4d.render.cpu_rasterizer import CpuRasterizer
from recon4d.render.crew import Crew
from recon4d.render.rasterizer import clip_from_camera, to_clip


def everything(rasterizer: CpuRasterizer, seed: int = 0) -> list[torch.Tensor]:
    """Outputs and gradients of all operations on a mesh that hides itself, of two pictures."""
    points, tri = waves()
    points = np.stack([points + np.array([0.3, 0, 0]), points * [1, 1, 1.1]])
    pos = to_clip(torch.tensor(points), torch.tensor(clip_from_camera(CAMERA, 0.5, 20.0))).float()
    attr = torch.rand(1, pos.shape[1], 3, generator=torch.Generator().manual_seed(seed))
    pos.requires_grad_(), attr.requires_grad_()
    rast = rasterizer.rasterize(pos, tri, CAMERA.shape)
    color = rasterizer.interpolate(attr, rast, tri)
    out = rasterizer.antialias(color, rast, pos, tri, rasterizer.topology(tri))
    out.square().sum().backward()
    return [rast.detach(), color.detach(), out.detach(), pos.grad, attr.grad]


@pytest.fixture
def small_pieces(monkeypatch):
    """Work cut so small that even little pictures are shared out."""
    monkeypatch.setattr(cpu_rasterizer, "CHUNK", 100)
    monkeypatch.setattr(cpu_rasterizer, "ROW_PIXELS", 64)


def test_same_bits_for_any_number_of_threads(small_pieces):
    alone = everything(CpuRasterizer(threads=1))
    for threads in (2, 3, 11):
        rasterizer = CpuRasterizer(threads=threads)
        for _ in range(2):
            for one, other in zip(alone, everything(rasterizer)):
                assert torch.equal(one, other)


def test_one_rasterizer_in_several_threads(small_pieces):
    rasterizer = CpuRasterizer(threads=2)
    expected = [everything(CpuRasterizer(threads=1), seed) for seed in range(4)]
    found: list[list[torch.Tensor]] = [[] for _ in expected]
    crew = [threading.Thread(target=lambda n=n: found[n].extend(everything(rasterizer, n))) for n in range(4)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    for one, other in zip(expected, found):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_order_of_triangles_does_not_matter():
    pos, tri = soup(3)
    order = torch.randperm(len(tri), generator=torch.Generator().manual_seed(0))
    rasterizer = CpuRasterizer()
    one, other = rasterizer.rasterize(pos, tri, (48, 64)), rasterizer.rasterize(pos, tri[order], (48, 64))
    torch.testing.assert_close(one[..., :3], other[..., :3], rtol=0, atol=0)
    number = other[..., 3].long() - 1
    assert torch.equal(one[..., 3].long() - 1, torch.where(number >= 0, order[number.clamp(min=0)], -1))


def test_first_of_equally_near_triangles_wins():
    pos, tri = soup(3, triangles=1, batch=1)
    twice = torch.cat([tri, tri])
    assert set(CpuRasterizer().rasterize(pos, twice, (48, 64))[..., 3].unique().tolist()) <= {0, 1}


def test_edges_are_paired_by_hand():
    """Three triangles at the edge 0-1, one that lost a vertex, one without area, and two at the edge 1-2."""
    tri = torch.tensor([[0, 1, 2], [3, 1, 0], [0, 1, 4], [0, -1, 1], [1, 1, 2], [1, 5, 2]], dtype=torch.int32)
    wings = CpuRasterizer().topology(tri).wings
    # Opposite each corner: of the first two at 0-1 each other's far corner; the others go on alone.
    expected = [[5, -1, 3], [2, -1, -1], [-1, -1, -1], [-1, -1, -1], [-1, -1, -1], [-1, 0, -1]]
    np.testing.assert_array_equal(wings, expected)


def test_call_that_fails_leaves_nothing_behind():
    crew = Crew(1)

    def fail() -> None:
        with crew.borrow() as scratch:
            scratch.array("bands", (4,), float)[:] = 7
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with crew.borrow() as scratch:
        assert not scratch.array("bands", (4,), float).any()
    with crew.borrow() as again:
        assert again is scratch


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda pos, tri: (pos, tri.long()), "int64; .* int32 is needed"),
        (lambda pos, tri: (pos.half(), tri), "pos torch.float16; all float32 or all float64"),
        (lambda pos, tri: (pos[0], tri), "pos is .42, 4."),
        (lambda pos, tri: (pos[..., :3], tri), r"\(B, V, 4\) and a picture are needed"),
    ],
)
def test_unfit_input_is_refused(spoil, match):
    with pytest.raises(ValueError, match=match):
        CpuRasterizer().rasterize(*spoil(*soup(0)), (8, 8))


def test_unfit_companions_are_refused():
    rasterizer = CpuRasterizer()
    pos, tri = soup(0)
    rast = rasterizer.rasterize(pos, tri, (8, 8))
    with pytest.raises(ValueError, match=r"attr torch\.float64, rast torch\.float32"):
        rasterizer.interpolate(pos.double(), rast, tri)
    with pytest.raises(ValueError, match=r"attr is \(3, 42, 4\) for 2 pictures"):
        rasterizer.interpolate(torch.cat([pos, pos])[:3], rast, tri)
    with pytest.raises(ValueError, match=r"colours \(2, 4, 8, 3\)"):
        rasterizer.antialias(torch.zeros(2, 4, 8, 3), rast, pos, tri)
    with pytest.raises(ValueError, match="out of its reach"):
        CpuRasterizer(device="cuda")
