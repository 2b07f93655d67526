"""Depth and normals as EXR and 16-bit PNG, held against the exact scene."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from fabricated import fabricate, is_ball, render
from listening import Listener

from recon4d.formats.arrays import write_depth_mesh
from recon4d.formats.depth_png import steps_per_unit, write_depth_png
from recon4d.formats.exr_files import read_exr
from recon4d.stages.export import run
from recon4d.stages.export_options import ExportOptions
from recon4d.workspace import Workspace

NAME = "000000"
HOLE = (slice(2, 5), slice(7, 9))  # pixels without depth


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A scene whose first frame has a hole."""
    made = fabricate(tmp_path_factory.mktemp("maps") / "scene", frames=2, ball_moves=True)
    mesh = made.depth_mesh(NAME)
    fields = {"depth": mesh.surface.depth.copy(), "valid": mesh.surface.valid.copy()}
    fields["depth"][HOLE], fields["valid"][HOLE] = 0, False
    joins = {key: getattr(mesh, key).copy() for key in ("join_right", "join_down")}
    for join in joins.values():
        join[1:5, 6:9] = False
    mesh = replace(mesh, surface=replace(mesh.surface, **fields), **joins)
    write_depth_mesh(made.unit_dir("mesh") / f"{NAME}.npz", mesh)
    return made


def truth(workspace: Workspace, name: str = NAME) -> np.ndarray:
    """(H, W) z in metres: two metres per unit."""
    return 2.0 * render(workspace.trajectory()[name])[1]


def test_exr_depth_is_z_in_metres_and_0_where_nothing_is_known(workspace):
    pytest.importorskip("OpenEXR")
    run(workspace, ExportOptions(to=("exr",)))
    path = workspace.root / f"export/exr/depth/{NAME}.exr"
    depth, sigma = read_exr(path, ("Z",)), read_exr(path, ("sigma",))
    assert depth.dtype == np.float32
    assert (depth[HOLE] == 0).all()
    assert (sigma[HOLE] == 0).all()
    known = np.ones(depth.shape, dtype=bool)
    known[HOLE] = False
    np.testing.assert_allclose(depth[known], truth(workspace)[known], rtol=1e-6)
    np.testing.assert_allclose(sigma[known], 0.01 * depth[known], rtol=1e-5)
    data = path.read_bytes()
    assert b"metres; 0 is not known" in data[:1000]  # in the header, for people


def test_exr_normals_are_those_of_the_floor_the_wall_and_the_ball(workspace):
    pytest.importorskip("OpenEXR")
    run(workspace, ExportOptions(to=("exr",)))
    path = workspace.root / f"export/exr/normals/{NAME}.exr"
    normals = np.stack([read_exr(path, (channel,)) for channel in "RGB"], axis=-1)
    assert (normals[HOLE] == 0).all()
    view = workspace.trajectory()[NAME]
    points = view.cam_from_world.inverse() @ view.camera.unproject(render(view)[1]).reshape(-1, 3)
    on_floor = (abs(points[:, 1] - 1) < 1e-6).reshape(normals.shape[:2])
    on_wall = (abs(points[:, 2] - 6) < 1e-6).reshape(normals.shape[:2])
    has_one = np.linalg.norm(normals, axis=-1) > 0.5
    for part, expected in ((on_floor, (0, 0, 1)), (on_wall, (0, -1, 0))):  # z up; the wall faces backward
        found = normals[part & has_one]
        assert len(found) > 300
        np.testing.assert_allclose(np.median(found, axis=0), expected, atol=1e-3)
        assert (found @ expected > 0.999).mean() > 0.9  # not where two surfaces meet
    ball = is_ball(view, render(view)[1]) & has_one
    radial = (points.reshape(*normals.shape) - [0.3, 0.5, 3.0])[ball] / 0.5
    cosine = (normals[ball] * np.stack([radial[:, 0], radial[:, 2], -radial[:, 1]], axis=-1)).sum(axis=1)
    assert np.median(cosine) > 0.98


def test_png_is_millimetres_and_0_where_nothing_is_known(workspace):
    from PIL import Image

    run(workspace, ExportOptions(to=("png",)))
    with Image.open(workspace.root / f"export/png/{NAME}.png") as picture:
        assert picture.mode.startswith("I")
        stored = np.array(picture).astype(np.int64)
    assert (stored[HOLE] == 0).all()
    stored[HOLE] = np.round(1000 * truth(workspace))[HOLE]
    assert np.abs(stored - 1000 * truth(workspace)).max() <= 0.5 + 1e-3
    about = json.loads((workspace.root / "export/png/depth.json").read_text())
    assert about["unit"] == "metres"
    assert about["units_per_step"] == 0.001
    assert about["not_known"] == 0


def test_layers_and_provenance_take_pixels_out(workspace):
    from PIL import Image

    run(workspace, ExportOptions(to=("png",), layers=("moving",)))
    with Image.open(workspace.root / f"export/png/{NAME}.png") as picture:
        stored = np.array(picture)
    ball = is_ball(workspace.trajectory()[NAME], render(workspace.trajectory()[NAME])[1])
    np.testing.assert_array_equal(stored > 0, ball)
    run(workspace, ExportOptions(to=("png",), provenance=(0,)))  # all is of provenance 1
    with Image.open(workspace.root / f"export/png/{NAME}.png") as picture:
        assert not np.array(picture).any()


def test_unknown_size_chooses_fine_steps_and_says_so(tmp_path):
    from PIL import Image

    workspace = fabricate(tmp_path / "scene", frames=2, known=False)
    listener = Listener()
    run(workspace, ExportOptions(to=("png",), up="model"), listener)
    about = json.loads((workspace.root / "export/png/depth.json").read_text())
    depth = render(workspace.trajectory()["000003"])[1]
    assert about["unit"] == "scene units"
    assert about["units_per_step"] == 1 / 10000  # the wall is 6 units away: 20000 steps per unit would not fit
    with Image.open(workspace.root / "export/png/000003.png") as picture:
        assert np.abs(np.array(picture) / 10000 - depth).max() <= 0.5001 / 10000
    assert any("steps of 0.0001 scene units" in text for text in listener.said)


@pytest.mark.parametrize(
    ("farthest", "in_metres", "expected"),
    [
        (0.3, True, 1000),  # millimetres wherever they fit
        (65.5, True, 1000),
        (65.6, True, 500),
        (200.0, True, 200),
        (6000.0, True, 10),
        (10.0, False, 1000),
        (6.0, False, 10000),
        (0.01, False, 5_000_000),
        (1e6, False, 0.05),
    ],
)
def test_steps_by_hand(farthest, in_metres, expected):
    assert steps_per_unit(farthest, in_metres) == pytest.approx(expected, rel=1e-12)


def test_a_valid_depth_is_never_0_and_never_all_bits(tmp_path):
    from PIL import Image

    depth = np.array([[1e-5, 65.5354, 70.0, 2.0]], dtype=np.float32)
    write_depth_png(tmp_path / "a.png", depth, np.array([[True, True, True, False]]), 1000.0)
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array(picture).tolist() == [[1, 65534, 65534, 0]]


@pytest.mark.clients
def test_blender_opens_the_pictures(workspace, tmp_path):
    from clients import blender

    run(workspace, ExportOptions(to=("exr",)))
    script = tmp_path / "open.py"
    script.write_text(
        "import sys, bpy, numpy as np\n"
        "picture = bpy.data.images.load(sys.argv[-1])\n"
        "pixels = np.empty(len(picture.pixels), dtype=np.float32)\n"
        "picture.pixels.foreach_get(pixels)\n"
        "rows = pixels.reshape(picture.size[1], picture.size[0], picture.channels)[::-1]\n"
        "print('SEEN', picture.colorspace_settings.name, rows[40, 30, :3].tolist())\n"
    )
    normal = workspace.root / f"export/exr/normals/{NAME}.exr"
    seen = blender(script, normal).partition("SEEN ")[2].splitlines()[0]
    expected = [float(read_exr(normal, (channel,))[40, 30]) for channel in "RGB"]
    assert seen.startswith("Linear")
    np.testing.assert_allclose(json.loads(seen[seen.index("[") :]), expected, atol=1e-6)
    np.testing.assert_allclose(expected, [0, 0, 1], atol=1e-3)  # the floor
