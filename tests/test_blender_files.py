"""GLB and USD files opened plainly in real Blender: places, colours, times, the camera, textures the right way up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clients import blender
from fabricated import STILL, fabricate

from recon4d.formats.ply import read_cloud
from recon4d.stages.export import run
from recon4d.stages.export_options import ExportOptions
from recon4d.workspace import Workspace

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]
SCRIPT = Path(__file__).parent / "blender_checks/plain_files.py"
STARTS_S = {"000000": 0.0, "000003": 0.11, "000006": 0.2, "000009": 0.31}
IN_CAMERA = np.array([[0.0, 0.0, 2.0], [0.4, -0.3, 1.5], [-0.7, 0.5, 4.0]])  # scene units


@pytest.fixture(scope="module", params=["points", "quads", "meshes"])
def shaped(request, tmp_path_factory) -> tuple[str, Workspace]:
    workspace = fabricate(tmp_path_factory.mktemp(request.param) / "clip", ball_moves=True)
    run(workspace, ExportOptions(to=("ply", "glb", "usd"), shape=request.param))
    return request.param, workspace


def in_blender(folder: Path, path: Path, **task: object) -> dict[str, np.ndarray]:
    target = folder / f"{path.parent.name}_{path.stem}_{path.suffix[1:]}.npz"
    blender(SCRIPT, path, target, json.dumps(task))
    with np.load(target) as found:
        return dict(found)


def deliver(points: np.ndarray) -> np.ndarray:
    """By hand: levelled (x, z, 1 - y), two metres per unit."""
    x, y, z = np.asarray(points, dtype=np.float64).T
    return 2.0 * np.stack([x, z, 1.0 - y], axis=-1)


def shown_points(found: dict, key: str, shape: str) -> np.ndarray:
    """One place per point: squares by their middle."""
    points = found[f"{key}/points"]
    return points.reshape(-1, 4, 3).mean(axis=1) if shape == "quads" else points


def shown_colors(found: dict, key: str, shape: str) -> np.ndarray:
    """One colour per point: of squares every fourth."""
    colors = found[f"{key}/colors"]
    if shape == "quads":
        if str(found[f"{key}/domain"]) == "CORNER":
            vertex = np.zeros((len(found[f"{key}/points"]), 3))
            vertex[found[f"{key}/corners"]] = colors
            colors = vertex
        assert np.ptp(colors.reshape(-1, 4, 3), axis=1).max() < 1e-4
        return colors[::4]
    return colors


def test_glb(shaped, tmp_path):
    shape, workspace = shaped
    frames = [1, 12, 21, 32]  # hundredths, a little after each start
    found = in_blender(tmp_path, workspace.root / "export/glb/scene.glb", frames=frames, fps=100)
    suffix = " points" if shape == "points" else ""
    for frame, name in zip(frames, STARTS_S):
        shown = {other for other in STARTS_S if found.get(f"{frame}/{other}{suffix}/scale", False)}
        assert shown == ({name} if name != STILL else set())
        if shape != "meshes" and name != STILL:
            _compare(found, f"{frame}/{name}{suffix}", read_cloud(_ply(workspace, f"moving/{name}")), shape)
    if shape != "meshes":
        _compare(found, f"1/static{suffix}", read_cloud(_ply(workspace, "static")), shape)
    else:
        mesh = workspace.static_mesh()
        corners = found["1/static/points"][found["1/static/corners"]]
        np.testing.assert_allclose(corners, deliver(mesh.vertices)[mesh.faces.ravel()], atol=1e-4)
        np.testing.assert_allclose(found["1/static/colors"], mesh.colors[mesh.faces.ravel()], atol=1)


def test_usd(shaped, tmp_path):
    shape, workspace = shaped
    trajectory = workspace.trajectory()
    first = trajectory["000000"]
    points = deliver(first.cam_from_world.inverse() @ IN_CAMERA)
    # One frame takes 0.11 s: the last two start at 1.82 and 2.82, Blender shows them at the next whole ones.
    frames = dict(zip((0, 1, 2, 3), STARTS_S))
    found = in_blender(
        tmp_path, workspace.root / "export/usd/scene.usdc", frames=list(frames), points=points.tolist(), pixels=[64, 48]
    )
    assert found["range"].tolist() == [0, 3]
    for frame, name in frames.items():
        cloud = read_cloud(_ply(workspace, f"moving/{name}"))
        moving = found[f"{frame}/moving/points"]
        if name == STILL:
            assert len(moving) == 0
        elif shape == "meshes":
            surface = read_cloud(_ply(workspace, f"moving/{name}"))
            np.testing.assert_allclose(moving.mean(axis=0), surface.points.mean(axis=0), atol=0.1)
        else:
            _compare(found, f"{frame}/moving", cloud, shape)
    if shape == "meshes":
        mesh = workspace.static_mesh()
        np.testing.assert_allclose(found["0/static/points"], deliver(mesh.vertices), atol=1e-4)
        np.testing.assert_allclose(found["0/static/colors"], mesh.colors, atol=1)
    else:
        _compare(found, "0/static", read_cloud(_ply(workspace, "static")), shape)
    for code, name in ((0, "000000"), (1, "000003")):
        x, y, depth = found[f"{code}/camera/seen"].T
        view = trajectory[name]
        in_cam = view.cam_from_world @ first.cam_from_world.inverse() @ IN_CAMERA
        np.testing.assert_allclose(np.stack([64 * x, 48 * (1 - y)], axis=-1), view.camera.project(in_cam), atol=0.01)
        np.testing.assert_allclose(depth, 2.0 * in_cam[:, 2], atol=1e-4)
        np.testing.assert_allclose(found[f"{code}/camera/lens"], [0.8 * 36, 36], atol=1e-4)
    if shape != "points":  # Blender 4.5 gives points no material
        assert "ShaderNodeAttribute > Emission Color" in found["material/recorded_light"]


@pytest.mark.parametrize("kind", ["usd", "glb"])
def test_the_picture_lies_on_the_surface_the_right_way_up(tmp_path, kind):
    workspace = fabricate(tmp_path / "clip", ball_moves=True)
    run(workspace, ExportOptions(to=(kind,), frames="000006"))
    suffix = {"usd": "usdz", "glb": "glb"}[kind]
    found = in_blender(tmp_path, workspace.root / f"export/{kind}/meshes/000006.{suffix}", frames=[0])
    (name,) = {key.split("/")[1] for key in found if key.endswith("/uv")}
    corners = found[f"0/{name}/points"][found[f"0/{name}/corners"]]
    x, y, z = (corners / 2.0).T  # back by hand: metres, then levelled (x, z, 1 - y)
    view = workspace.trajectory()["000006"]
    pixels = view.camera.project(view.cam_from_world @ np.stack([x, 1 - z, y], axis=-1))
    columns, rows = np.floor(pixels).astype(int).T
    np.testing.assert_allclose(found[f"0/{name}/uv"] * [64, -48] + [0, 48], pixels, atol=0.01)
    u, v = found[f"0/{name}/uv"].T
    image = found["image"][..., :3] * 255  # its first row is the lowest
    drawn = image[np.floor(48 * v).astype(int), np.floor(64 * u).astype(int)]
    assert np.abs(drawn - workspace.picture("000006")[rows, columns]).max() <= 4  # two decoders of JPEG


def _ply(workspace: Workspace, name: str) -> Path:
    return workspace.root / f"export/ply/{name}.ply"


def _compare(found: dict, key: str, cloud, shape: str) -> None:
    """Places within a tenth of a millimetre, colours within a level."""
    np.testing.assert_allclose(shown_points(found, key, shape), cloud.points, atol=1e-4)
    np.testing.assert_allclose(shown_colors(found, key, shape), cloud.colors, atol=1)
    if f"{key}/radius" in found:
        assert (found[f"{key}/radius"] > 0).all()
        np.testing.assert_allclose(found[f"{key}/confidence"], cloud.confidence, atol=0.002)
