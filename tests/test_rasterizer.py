"""What every backend of the differentiable rasteriser must do: coverage, weights, depth, textures, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
import readable_rasterizer as readable
import torch

from recon4d.errors import MissingDependency, OptionsError
from recon4d.render import rasterizer as table
from recon4d.render.rasterizer import BACKENDS, clip_from_camera, get_rasterizer, to_clip
from recon4d.scene.camera import Camera

CAMERA = Camera(64, 48, 55.0, 57.0, 30.5, 25.0)


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.gpu] * (name != "cpu")) for name in BACKENDS])
def rasterizer(request):
    if request.param == "nvdiffrast" and (lacking := table.nvdiffrast_lacks()):
        pytest.skip(f"nvdiffrast: {lacking}")
    return get_rasterizer(request.param)


def soup(seed: int, triangles: int = 14, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles that cross each other in front of the camera, some of them partly outside of the picture."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform((-1.5, -1.2, 3.0), (1.5, 1.2, 6.0), (batch, triangles, 1, 3))
    points = middle + rng.uniform(-0.9, 0.9, (batch, triangles, 3, 3))
    pos = to_clip(torch.tensor(points.reshape(batch, -1, 3)), torch.tensor(clip_from_camera(CAMERA, 0.5, 20.0)))
    return pos.float(), torch.arange(3 * triangles, dtype=torch.int32).reshape(-1, 3)


def waves(camera: Camera = CAMERA, step: int = 1) -> tuple[np.ndarray, torch.Tensor]:
    """A wavy depth grid as points (V, 3) in the camera frame, and its triangles."""
    rows, columns = np.mgrid[: camera.height : step, : camera.width : step]
    rays = camera.rays()[::step, ::step]
    points = rays * (3 + np.sin(columns / 9.0) + 0.5 * np.cos(rows / 7.0))[..., None]
    index = np.arange(rows.size, dtype=np.int32).reshape(rows.shape)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    tri = np.stack([np.stack([a, c, d], -1), np.stack([a, d, b], -1)], axis=2)
    return points.reshape(-1, 3), torch.from_numpy(tri.reshape(-1, 3).copy())


def drawn(rasterizer, pos, tri, size=CAMERA.shape):
    return rasterizer.rasterize(pos.to(rasterizer.device), tri.to(rasterizer.device), size).cpu()


def test_one_triangle_by_hand(rasterizer):
    pos = torch.tensor([[[-1.0, -1.0, 0.2, 1.0], [7.0, -1.0, 0.2, 1.0], [-1.0, 7.0, 0.2, 1.0]]])
    pos[0, 1] *= 2  # twice as far away: the same place in the picture, other weights
    rast = drawn(rasterizer, pos, torch.tensor([[0, 1, 2]], dtype=torch.int32), (2, 4))
    # The centre of column 1, row 0 is ndc (-1/4, -1/2): a share 3/32 of the way along x, 1/16 along y.
    flat = np.array([1 - 3 / 32 - 1 / 16, 3 / 32, 1 / 16])
    weights = flat / [1, 2, 1] / (flat / [1, 2, 1]).sum()
    np.testing.assert_allclose(rast[0, 0, 1], [weights[0], weights[1], 0.2, 1], rtol=1e-6)
    assert (rast[..., 3] == 1).all()
    assert rast[0, 1, 0, 0] < rast[0, 0, 0, 0]  # row 1 has the larger y, away from vertex 0


@pytest.mark.parametrize("seed", range(3))
def test_same_as_readable_twin(rasterizer, seed):
    pos, tri = soup(seed)
    ours, truth = drawn(rasterizer, pos, tri), readable.rasterize(pos.double(), tri, CAMERA.shape)
    same = ours[..., 3] == truth[..., 3]
    assert same.float().mean() > (0.9999 if rasterizer.device.type == "cpu" else 0.995)
    np.testing.assert_allclose(
        ours[same][:, :3], truth[same][:, :3].float(), atol=1e-4 if "cuda" in str(rasterizer.device) else 2e-6
    )
    attr = torch.rand(1, pos.shape[1], 5, generator=torch.Generator().manual_seed(seed))
    device = rasterizer.device
    values = rasterizer.interpolate(attr.to(device), ours.to(device), tri.to(device)).cpu()
    np.testing.assert_allclose(values, readable.interpolate(attr, ours, tri), atol=1e-6)


def test_same_as_rays_of_embree(rasterizer):
    o3d = pytest.importorskip("open3d")
    points, tri = waves(step=3)
    points += [0.3, 0.17, 0]  # seen from aside: hidden by itself in places, and no pixel centre on an edge
    rast = drawn(
        rasterizer, to_clip(torch.tensor(points), torch.tensor(clip_from_camera(CAMERA, 0.5, 20.0))).float(), tri
    )
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(points.astype(np.float32), tri.numpy().astype(np.uint32))
    rays = np.concatenate([np.zeros((*CAMERA.shape, 3)), CAMERA.rays()], axis=-1).astype(np.float32)
    hit = {name: value.numpy() for name, value in scene.cast_rays(rays).items()}
    number = np.where(np.isfinite(hit["t_hit"]), hit["primitive_ids"].astype(np.int64) + 1, 0)
    same = number == rast[0, ..., 3].numpy()
    assert same.mean() > 0.97
    weights = np.stack([1 - hit["primitive_uvs"].sum(-1), *np.moveaxis(hit["primitive_uvs"], -1, 0)], axis=-1)
    inside = same & (number > 0) & (weights.min(axis=-1) > 0.01)
    assert inside.mean() > 0.75
    np.testing.assert_allclose(rast[0, ..., :2].numpy()[inside], weights[inside][:, :2], atol=2e-4)
    # Away from edges nothing may differ: where Embree's hit lies well inside its triangle, it is ours, too.
    assert same[(number > 0) & (weights.min(axis=-1) > 0.2)].mean() == 1
    device = rasterizer.device
    attr = torch.tensor(points[None, :, 2:], dtype=torch.float32)
    depth = rasterizer.interpolate(attr.to(device), rast.to(device), tri.to(device))[0, ..., 0].cpu().numpy()
    np.testing.assert_allclose(depth[inside], hit["t_hit"][inside], rtol=2e-5)  # rays of z = 1


def fan(rng: np.random.Generator, on_centres: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles around a point, wound either way, in a 32x32 picture."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    ring = 16 + rng.uniform(9, 14, (9, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    pixels = np.vstack([rng.uniform(13, 19, (1, 2)), ring])
    if on_centres:
        pixels = np.floor(pixels) + 0.5
    w = rng.uniform(1, 3, (10, 1))
    pos = np.hstack([(pixels / 16 - 1) * w, 0.3 * w, w])
    tri = [[0, 1 + k, 1 + (k + 1) % 9] if k % 2 else [1 + (k + 1) % 9, 1 + k, 0] for k in range(9)]
    return torch.tensor(pos[None], dtype=torch.float32), torch.tensor(tri, dtype=torch.int32)


@pytest.mark.parametrize("on_centres", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_shared_edges_belong_to_one_triangle(rasterizer, seed, on_centres):
    pos, tri = fan(np.random.default_rng(seed), on_centres)
    covered = torch.cat([drawn(rasterizer, pos, tri[t : t + 1], (32, 32))[..., 3] for t in range(len(tri))])
    times = covered.sum(dim=0)
    assert times.max() == 1  # nowhere two of them
    together = drawn(rasterizer, pos, tri, (32, 32))[0, ..., 3]
    assert ((together > 0) == (times > 0)).all()
    rows = [np.flatnonzero(row) for row in times.numpy()]
    assert all(len(row) == 0 or row[-1] - row[0] + 1 == len(row) for row in rows[8:24])  # star shaped: no holes
    assert times.sum() > 200


def test_edges_along_rows_of_pixel_centres_belong_to_one_triangle(rasterizer):
    """Corners at every third pixel centre; corners in any order, so that each is an edge's start, end or neither."""
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[0:31:3, 0:31:3]
    pos = np.stack([(columns + 0.5) / 16 - 1, (rows + 0.5) / 16 - 1, 0 * rows, 1 + 0 * rows], axis=-1).reshape(1, -1, 4)
    index = np.arange(rows.size).reshape(rows.shape)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    tri = rng.permuted(np.concatenate([np.stack([a, c, d], axis=-1), np.stack([a, d, b], axis=-1)]), axis=1)
    pos, tri = torch.tensor(pos, dtype=torch.float32), torch.tensor(tri, dtype=torch.int32)
    times = sum(drawn(rasterizer, pos, tri[t : t + 1], (32, 32))[0, ..., 3] for t in range(len(tri)))
    assert (times[1:30, 1:30] == 1).all()
    assert times.max() == 1
    assert times[0].sum() + times[30].sum() <= 31  # of two opposite borders one owns its centres


def test_floor_under_the_camera_is_seen_from_the_near_plane_on(rasterizer):
    """Two large triangles with vertices behind the camera, one metre below it."""
    corners = np.array([[-50.0, 1, -40], [50, 1, -40], [50, 1, 60], [-50, 1, 60]])
    tri = torch.tensor([[0, 1, 2], [2, 3, 0]], dtype=torch.int32)
    near, far = 2.5, 12.0
    pos = to_clip(torch.tensor(corners), torch.tensor(clip_from_camera(CAMERA, near, far))).float()
    rast = drawn(rasterizer, pos, tri)
    rays = CAMERA.rays()
    with np.errstate(divide="ignore"):
        depth = np.where(rays[..., 1] > 0, 1 / rays[..., 1], np.inf)
    seen = rast[0, ..., 3].numpy() > 0
    rows = CAMERA.fy / depth  # pixels below the horizon, to tell what lies on the border from what does not
    sure = (abs(rows - CAMERA.fy / near) > 0.1) & (abs(rows - CAMERA.fy / far) > 0.1)
    np.testing.assert_array_equal(seen[sure], ((depth > near) & (depth < far))[sure])
    device = rasterizer.device
    attr = torch.tensor(corners[None], dtype=torch.float32).to(device)
    points = rasterizer.interpolate(attr, rast.to(device), tri.to(device))[0].cpu().numpy()
    np.testing.assert_allclose(points[seen & sure], rays[seen & sure] * depth[seen & sure, None], rtol=2e-3, atol=2e-3)


def rays_through(triangles: np.ndarray, near: float, far: float) -> tuple[np.ndarray, np.ndarray]:
    """Number of the nearest triangle between the planes (H, W), -1 for none, and whether that is beyond doubt."""
    corners = np.moveaxis(triangles, 1, 2)  # (T, 3, 3), a vertex in each column: ray = corners @ weights
    weights = np.einsum("tij,hwj->hwti", np.linalg.inv(corners), CAMERA.rays())
    depth = 1 / weights.sum(axis=-1)
    weights = weights * depth[..., None]
    hit = (weights > 0).all(axis=-1) & (depth > near) & (depth < far)
    unsure = (weights > -0.02).all(axis=-1) & (depth > 0.97 * near) & (depth < 1.03 * far)
    unsure &= ~((weights > 0.02).all(axis=-1) & (depth > 1.03 * near) & (depth < 0.97 * far))
    seen = np.where(hit, depth, 2 * far)
    first, second = np.moveaxis(np.sort(seen, axis=-1)[..., :2], -1, 0)
    close = (second < 1.05 * first) & hit.any(axis=-1)  # two that cross each other
    return np.where(hit.any(axis=-1), seen.argmin(axis=-1), -1), ~unsure.any(axis=-1) & ~close


@pytest.mark.parametrize("seed", range(4))
def test_triangles_all_around_the_camera_same_as_rays(rasterizer, seed):
    """Most of them have one or two vertices behind it, before the near plane, beyond the far one, or far aside."""
    rng = np.random.default_rng(seed)
    seen = rng.uniform((-1, -1, 1.5), (1, 1, 5.0), (8, 3))  # near it is a corner or more
    offset = rng.normal(size=(8, 3, 3)) * [4, 4, 8] * rng.choice([0.1, 1], (8, 3, 1))
    triangles = seen[:, None] + offset
    pos = to_clip(torch.tensor(triangles.reshape(-1, 3)), torch.tensor(clip_from_camera(CAMERA, 1.5, 5.0))).float()
    rast = drawn(rasterizer, pos, torch.arange(24, dtype=torch.int32).reshape(-1, 3))
    number, sure = rays_through(triangles, 1.5, 5.0)
    assert sure.mean() > 0.5
    assert len(np.unique(number[sure])) > 2
    np.testing.assert_array_equal(rast[0, ..., 3].numpy()[sure], number[sure] + 1)


def test_shared_edge_across_the_near_plane_has_no_gap(rasterizer):
    rng = np.random.default_rng(5)
    for _ in range(6):
        ends = np.array([[rng.uniform(-1, 1), 0.7, -1.0], [rng.uniform(-1, 1), 0.7, 9.0]])
        points = np.vstack([ends, [[-30, 0.7, 2.0], [30, 0.7, 2.0]]])
        tri = torch.tensor([[0, 1, 2], [1, 0, 3]], dtype=torch.int32)
        pos = to_clip(torch.tensor(points), torch.tensor(clip_from_camera(CAMERA, 0.5, 20.0))).float()
        one, other = (drawn(rasterizer, pos, tri[t : t + 1])[0, ..., 3] > 0 for t in range(2))
        assert not (one & other).any()
        both = (one | other)[CAMERA.height - 4].numpy()
        assert both.all()


def test_triangles_much_larger_than_the_picture(rasterizer):
    far = 3e7  # pictures away; two triangles with the edge x = y / 3 in common
    pos = torch.tensor([[-far, -3 * far], [far, 3 * far], [-far, 3 * far], [far, -3 * far]])
    pos = torch.cat([pos, torch.zeros(4, 1), torch.ones(4, 1)], dim=1)[None]
    tri = torch.tensor([[0, 1, 2], [0, 1, 3]], dtype=torch.int32)
    number = drawn(rasterizer, pos, tri, (30, 30))[0, ..., 3]
    centres = (2 * torch.arange(30.0) + 1) / 30 - 1
    away = centres[None] - centres[:, None] / 3
    sure = away.abs() > 0.5 / 30  # pixels
    assert torch.equal(number[sure], torch.where(away > 0, 2.0, 1.0)[sure])
    assert (number > 0).all()


def test_what_is_behind_or_too_far_is_not_seen(rasterizer):
    points, tri = waves(step=4)
    matrix = torch.tensor(clip_from_camera(CAMERA, 0.5, 20.0))
    assert (drawn(rasterizer, to_clip(torch.tensor(points), matrix).float(), tri)[..., 3] > 0).any()
    for moved in (points * [1, 1, -1], points + np.array([0, 0, 40.0]), points * 0.01, points * np.nan):
        assert not drawn(rasterizer, to_clip(torch.tensor(moved), matrix).float(), tri).any()


def test_empty_meshes_and_lost_indices(rasterizer):
    device = rasterizer.device
    pos, tri = soup(1)
    for corners, triangles in ((pos, tri[:0]), (pos[:, :0], tri[:0]), (pos[:, :0], tri)):
        corners = corners.clone().to(device).requires_grad_()
        triangles = triangles.to(device)
        rast = rasterizer.rasterize(corners, triangles, (5, 7))
        assert rast.shape == (2, 5, 7, 4)
        assert not rast.any()
        attr = corners[..., :3].detach().clone().requires_grad_()
        color = rasterizer.interpolate(attr, rast, triangles)
        color = rasterizer.antialias(color, rast, corners, triangles, rasterizer.topology(triangles))
        assert color.shape == (2, 5, 7, 3)
        color.sum().backward()
        assert not any(x.grad is not None and x.grad.any() for x in (attr, corners))
    broken = tri.clone()
    broken[3, 1], broken[5, 0] = -1, pos.shape[1]
    left = torch.tensor([t for t in range(len(tri)) if t not in (3, 5)])
    rast, alone = drawn(rasterizer, pos, broken), drawn(rasterizer, pos, tri[left])
    number = rast[..., 3].long() - 1
    assert not ((number == 3) | (number == 5)).any()
    np.testing.assert_array_equal(rast[..., :3], alone[..., :3])
    rasterizer.topology(broken.to(device))


def test_pictures_of_a_batch_are_those_of_each_alone(rasterizer):
    pos, tri = soup(4, batch=3)
    together = drawn(rasterizer, pos, tri)
    for n in range(3):
        np.testing.assert_array_equal(together[n], drawn(rasterizer, pos[n : n + 1], tri)[0])


def test_results_stay_as_they_were_when_more_is_rendered(rasterizer):
    device = rasterizer.device
    pos, tri = (x.to(device) for x in soup(2))
    pos.requires_grad_()
    attr = torch.rand(1, pos.shape[1], 2, generator=torch.Generator().manual_seed(1)).to(device)

    def gradient(between: bool) -> tuple[torch.Tensor, torch.Tensor]:
        pos.grad = None
        rast = rasterizer.rasterize(pos, tri, (20, 30))
        kept = rast.detach().clone()
        out = rasterizer.interpolate(attr, rast, tri)
        if between:
            rasterizer.interpolate(attr, rasterizer.rasterize(pos.detach() * 0.9, tri, (50, 60)), tri)
        out.square().sum().backward()
        assert torch.equal(rast, kept)
        return pos.grad.cpu()

    assert torch.allclose(gradient(between=False), gradient(between=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("boundary", ["clamp", "wrap", "zero"])
@pytest.mark.parametrize("filter_mode", ["linear", "nearest"])
@pytest.mark.parametrize("textures", [1, 2])
def test_texture_same_as_readable_twin(rasterizer, filter_mode, boundary, textures):
    random = torch.Generator().manual_seed(7)
    tex = torch.rand(textures, 5, 7, 3, generator=random)
    uv = 3 * torch.rand(2, 8, 9, 2, generator=random) - 1  # beyond the border on all sides
    colors = rasterizer.texture(tex.to(rasterizer.device), uv.to(rasterizer.device), filter_mode, boundary).cpu()
    tolerance = 1e-5 if rasterizer.device.type == "cpu" else 1e-2  # CUDA's filter has 8 bits between texels
    np.testing.assert_allclose(colors, readable.texture(tex, uv, filter_mode, boundary), atol=tolerance)


def test_texel_centres_by_hand(rasterizer):
    tex = torch.arange(6.0).reshape(1, 2, 3, 1).to(rasterizer.device)
    uv = torch.tensor([[[[0.5 / 3, 0.25], [2 / 3, 0.5], [0.0, 0.0]]]]).to(rasterizer.device)
    assert rasterizer.texture(tex, uv).flatten().tolist() == pytest.approx([0, 3, 0], abs=1e-6)
    assert rasterizer.texture(tex, uv, boundary_mode="zero").flatten().tolist() == pytest.approx([0, 3, 0], abs=1e-6)
    # At the corner of the picture all four corners meet when it wraps around: (0 + 2 + 3 + 5) / 4.
    assert rasterizer.texture(tex, uv, boundary_mode="wrap")[0, 0, 2].item() == pytest.approx(2.5, abs=1e-6)
    with pytest.raises(ValueError, match="'mirror'"):
        rasterizer.texture(tex, uv, boundary_mode="mirror")


def test_clip_matrix_puts_points_where_the_camera_does():
    points = np.random.default_rng(0).uniform((-1, -1, 1), (1, 1, 5), (20, 3))
    clip = to_clip(torch.tensor(points), torch.tensor(clip_from_camera(CAMERA, 0.5, 8.0)))
    ndc = (clip[0, :, :2] / clip[0, :, 3:]).numpy()
    pixels = (ndc + 1) / 2 * [CAMERA.width, CAMERA.height]
    np.testing.assert_allclose(pixels, CAMERA.project(points))
    ends = to_clip(torch.tensor([[0, 0, 0.5], [0, 0, 8.0]]).double(), torch.tensor(clip_from_camera(CAMERA, 0.5, 8.0)))
    np.testing.assert_allclose(ends[0, :, 2] / ends[0, :, 3], [-1, 1])
    with pytest.raises(ValueError, match="near < far"):
        clip_from_camera(CAMERA, 2.0, 1.0)


def test_backends_are_chosen_by_name(monkeypatch):
    monkeypatch.setattr(table, "nvdiffrast_lacks", lambda: "it is not installed")
    assert type(get_rasterizer()).__name__ == type(get_rasterizer("cpu")).__name__ == "CpuRasterizer"
    for words in (("nvdiffrast",), ("auto", "cuda:0")):
        with pytest.raises(MissingDependency, match=r"not installed: run tools/install_nvdiffrast\.sh"):
            get_rasterizer(*words)
    with pytest.raises(OptionsError, match="'opengl'; choose one of auto, cpu, nvdiffrast"):
        get_rasterizer("opengl")
    monkeypatch.setattr(table, "nvdiffrast_lacks", lambda: None)
    assert type(get_rasterizer("auto", "cpu")).__name__ == "CpuRasterizer"
