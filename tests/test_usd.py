"""USD files: cameras, times, samples and materials in the reference library, and what its validators say."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from recon4d.errors import ExportError, MissingDependency
from recon4d.formats import usd
from recon4d.formats.usd import Head, Up, write_mesh_package, write_scene
from recon4d.formats.usd_camera import time_codes
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh
from recon4d.scene.shapes import PictureMesh, PointSquares, SizedPoints
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3

pytest.importorskip("pxr")

HEAD = Head("living room", Up.Z, True, 10.0)
TRIANGLE = TriMesh([[0, 0, 0], [1, 0, 0], [0, 1, 0.5]], [[0, 1, 2]], [[255, 0, 0], [10, 200, 90], [0, 0, 255]])


def usd_issues(path: Path) -> list[str]:
    """What the validators of the reference library say: schema, metadata, shading, packages."""
    from pxr import Usd, UsdValidation

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 20
    found = UsdValidation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    return [error.GetErrorAsString() for error in found]


def some_points(count: int, seed: int = 0) -> SizedPoints:
    rng = np.random.default_rng(seed)
    cloud = PointCloud(
        points=rng.normal(size=(count, 3)),
        colors=rng.integers(0, 256, (count, 3)),
        normals=np.broadcast_to([0.0, 0.6, 0.8], (count, 3)),
        confidence=rng.random(count),
        provenance=rng.integers(0, 5, count),
        object_id=rng.integers(0, 3, count),
    )
    return SizedPoints(cloud, rng.uniform(0.01, 0.02, count))


def a_walk(count: int, cameras: tuple[Camera, ...] | None = None, times_s: np.ndarray | None = None) -> Trajectory:
    rng = np.random.default_rng(1)
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(count)]
    turns = np.stack([turn * np.sign(np.linalg.det(turn)) for turn in turns])
    return Trajectory(
        names=tuple(f"{i:06d}" for i in range(count)),
        timestamps_s=5.0 + 0.1 * np.arange(count) if times_s is None else times_s,
        cam_from_world=Rigid3(turns, rng.normal(size=(count, 3))),
        cameras=cameras or (Camera(64, 48, 50.0, 50.0, 32.0, 24.0),) * count,
        origin=(PoseOrigin.MEASURED,) * count,
    )


def opened(path: Path):
    from pxr import Usd

    return Usd.Stage.Open(str(path))


def array(stage, prim: str, name: str, code: float | None = None) -> np.ndarray:
    from pxr import Usd

    return np.array(stage.GetPrimAtPath(prim).GetAttribute(name).Get(Usd.TimeCode.Default() if code is None else code))


def test_time_codes_of_even_frames_are_whole_despite_rounded_times():
    times = np.round(np.arange(100) / 29.97, 3)  # containers often keep milliseconds
    np.testing.assert_array_equal(time_codes(7.0 + times, 29.97), np.arange(100))


def test_time_codes_of_uneven_frames_are_fractional():
    np.testing.assert_allclose(time_codes(np.array([2.0, 2.11, 2.2, 2.31]), 10.0), [0, 1, 2, 3], atol=0.11)
    np.testing.assert_allclose(time_codes(np.array([0, 0.13, 0.17, 0.5]), 10.0), [0, 1.3, 1.7, 5])
    # Two that would fall together stay apart.
    np.testing.assert_allclose(time_codes(np.array([0, 0.095, 0.105]), 10.0), [0, 0.95, 1.05])


@pytest.mark.parametrize("up", [Up.Z, Up.MINUS_Y])
def test_the_camera_sees_every_point_in_its_pixel(tmp_path, up):
    from pxr import Gf, UsdGeom

    # Pixels that are not square, a centre beside the middle, and a lens that changes.
    cameras = tuple(Camera(64, 48, 50.0 + i, 60.0, 30.0, 26.5) for i in range(3))
    trajectory = a_walk(3, cameras)
    write_scene(tmp_path / "a.usdc", replace(HEAD, up=up), trajectory, lambda _: some_points(9), some_points(50))
    stage = opened(tmp_path / "a.usdc")
    prim = stage.GetPrimAtPath("/living_room/living_room_camera")
    root = UsdGeom.Xformable(stage.GetPrimAtPath("/living_room")).GetLocalTransformation()
    for code, view in enumerate(trajectory):
        frustum = UsdGeom.Camera(prim).GetCamera(code).frustum
        clip_from_world = root * frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()
        in_cam = np.array([0.4, -0.7, 3.0])
        in_world = view.cam_from_world.inverse() @ in_cam
        x, y, _ = clip_from_world.Transform(Gf.Vec3d(*in_world))
        seen = [(x + 1) / 2 * 64, (1 - y) / 2 * 48]
        np.testing.assert_allclose(seen, view.camera.project(in_cam), atol=1e-4)
    assert UsdGeom.Camera(prim).GetFocalLengthAttr().GetNumTimeSamples() == 3
    assert UsdGeom.Camera(prim).GetVerticalApertureOffsetAttr().GetNumTimeSamples() > 0
    assert UsdGeom.Camera(prim).GetHorizontalApertureAttr().GetNumTimeSamples() == 0  # the same in all


def test_nothing_is_clipped(tmp_path):
    trajectory = a_walk(2)
    static = some_points(50)
    write_scene(tmp_path / "a.usdc", HEAD, trajectory, lambda _: some_points(9, 4), static)
    near, far = array(opened(tmp_path / "a.usdc"), "/living_room/living_room_camera", "clippingRange")
    for view in trajectory:
        assert np.abs((view.cam_from_world @ static.cloud.points)[:, 2]).max() < far
    assert 0 < near < 1e-3


def test_points_come_back_with_all_they_know(tmp_path):
    static = some_points(500)
    write_scene(tmp_path / "a.usdc", HEAD, a_walk(1), lambda _: some_points(0), static)
    stage, cloud = opened(tmp_path / "a.usdc"), static.cloud
    read = {name: array(stage, "/living_room/static", name) for name in ("points", "widths", "normals", "extent")}
    np.testing.assert_array_equal(read["points"], cloud.points)
    np.testing.assert_allclose(read["widths"], static.widths, rtol=0.012)
    np.testing.assert_array_equal(read["normals"], cloud.normals)
    radii = read["widths"][:, None] / 2
    expected = [(cloud.points - radii).min(axis=0), (cloud.points + radii).max(axis=0)]
    np.testing.assert_allclose(read["extent"], expected, atol=1e-6)
    linear = array(stage, "/living_room/static", "primvars:displayColor")
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_array_equal(np.round(encoded * 255), cloud.colors)
    np.testing.assert_allclose(array(stage, "/living_room/static", "primvars:confidence"), cloud.confidence, atol=0.002)
    for name in ("provenance", "object_id"):
        np.testing.assert_array_equal(array(stage, "/living_room/static", f"primvars:{name}"), getattr(cloud, name))


def test_normals_that_nobody_knows_are_left_out(tmp_path):
    static = some_points(5)
    static = SizedPoints(PointCloud(static.cloud.points, static.cloud.colors), static.widths)
    write_scene(tmp_path / "a.usdc", HEAD, a_walk(1), lambda _: some_points(0), static)
    assert not opened(tmp_path / "a.usdc").GetPrimAtPath("/living_room/static").GetAttribute("normals").HasValue()


@pytest.mark.parametrize("saved_every", [1, 16])
def test_each_frame_is_shown_until_the_next_and_never_blended(tmp_path, monkeypatch, saved_every):
    monkeypatch.setattr(usd, "SAVED_EVERY", saved_every)
    counts = {"000000": 20, "000001": 20, "000002": 0, "000003": 7, "000004": 7}
    clouds = {name: some_points(count, i) for i, (name, count) in enumerate(counts.items())}
    times_s = np.array([5.0, 5.1, 5.25, 5.3, 5.4])
    write_scene(tmp_path / "a.usdc", HEAD, a_walk(5, None, times_s), clouds.get)
    stage = opened(tmp_path / "a.usdc")
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode(), stage.GetTimeCodesPerSecond()) == (0, 4, 10)
    shown_from = dict(zip(counts, (0, 1, 2.5, 3, 4)))
    until = [1, 2.5, 3, 4, 9]
    for (name, code), end in zip(shown_from.items(), until):
        for at in (code, (code + end) / 2, end - 2e-3):
            cloud = clouds[name].cloud
            np.testing.assert_array_equal(array(stage, "/living_room/moving", "points", at), cloud.points)
            for field in ("confidence", "provenance", "displayColor"):
                assert len(array(stage, "/living_room/moving", f"primvars:{field}", at)) == len(cloud)
            assert len(array(stage, "/living_room/moving", "widths", at)) == len(cloud)


def test_samples_go_to_the_disk_while_frames_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(usd, "SAVED_EVERY", 2)
    path, sizes = tmp_path / "a.usdc", []

    def next_points(name: str) -> SizedPoints:
        sizes.append(path.stat().st_size)
        return some_points(1000 + int(name), int(name))

    write_scene(path, HEAD, a_walk(8), next_points)
    least = 36 * 1000  # points, colours and normals of a frame, which are not compressed
    assert sizes[1] < least
    assert all(sizes[frame] > frame * least for frame in (2, 4, 6))
    assert path.stat().st_size < 8 * 1.4 * least  # what was saved is not written again


def test_frames_before_the_first_motion_are_empty(tmp_path):
    clouds = {f"{i:06d}": some_points(4 if i == 2 else 0) for i in range(4)}
    write_scene(tmp_path / "a.usdc", HEAD, a_walk(4), clouds.get, some_points(3))
    stage = opened(tmp_path / "a.usdc")
    assert [len(array(stage, "/living_room/moving", "points", code)) for code in (0, 1, 1.9, 2, 3)] == [0, 0, 0, 4, 0]
    assert usd_issues(tmp_path / "a.usdc") == []


def test_where_nothing_moves_and_where_there_is_nothing_there_is_no_prim(tmp_path):
    write_scene(tmp_path / "a.usdc", HEAD, a_walk(2), lambda _: some_points(0), some_points(0))
    stage = opened(tmp_path / "a.usdc")
    names = [prim.GetName() for prim in stage.GetPrimAtPath("/living_room").GetChildren()]
    assert names == ["recorded_light", "living_room_camera"]
    assert usd_issues(tmp_path / "a.usdc") == []


def squares(count: int, seed: int) -> PointSquares:
    cloud = some_points(count, seed).cloud
    around = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * 0.05
    return PointSquares(cloud, cloud.points[:, None] + around)


def meshes(count: int, seed: int) -> TriMesh:
    points = some_points(count, seed).cloud
    faces = np.arange(count // 3 * 3).reshape(-1, 3)
    return TriMesh(points.points[: 3 * len(faces)], faces, points.colors[: 3 * len(faces)])


@pytest.mark.parametrize("shape", [some_points, squares, meshes])
def test_the_validators_find_nothing(tmp_path, shape):
    write_scene(tmp_path / "a.usdc", HEAD, a_walk(3), lambda name: shape(6 * int(name), int(name)), shape(30, 9))
    assert usd_issues(tmp_path / "a.usdc") == []


def test_squares_are_faces_with_one_colour_each(tmp_path):
    from pxr import UsdGeom

    frames = {f"{i:06d}": squares(5 + i, i) for i in range(2)}
    write_scene(tmp_path / "a.usdc", HEAD, a_walk(2), frames.get, squares(3, 9))
    stage = opened(tmp_path / "a.usdc")
    prim = stage.GetPrimAtPath("/living_room/moving")
    assert UsdGeom.Mesh(prim).GetSubdivisionSchemeAttr().Get() == "none"
    for code, item in enumerate(frames.values()):
        np.testing.assert_array_equal(array(stage, "/living_room/moving", "points", code), item.corners.reshape(-1, 3))
        assert array(stage, "/living_room/moving", "faceVertexCounts", code).tolist() == [4] * len(item)
        assert array(stage, "/living_room/moving", "faceVertexIndices", code).tolist() == list(range(4 * len(item)))
        assert len(array(stage, "/living_room/moving", "primvars:displayColor", code)) == len(item)
    assert UsdGeom.PrimvarsAPI(prim).GetPrimvar("displayColor").GetInterpolation() == "uniform"


def test_meshes_change_their_triangles_with_time(tmp_path):
    frames = {f"{i:06d}": meshes(9 - 3 * i, i) for i in range(3)}
    write_scene(tmp_path / "a.usdc", HEAD, a_walk(3), frames.get, TRIANGLE)
    stage = opened(tmp_path / "a.usdc")
    for code, item in enumerate(frames.values()):
        np.testing.assert_array_equal(array(stage, "/living_room/moving", "points", code), item.vertices)
        indices = array(stage, "/living_room/moving", "faceVertexIndices", code)
        np.testing.assert_array_equal(indices, item.faces.ravel())
    assert array(stage, "/living_room/static", "faceVertexIndices").tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("up", "axis", "upward"), [(Up.Z, "Z", [0, 0, 1]), (Up.Y, "Y", [0, 1, 0]), (Up.MINUS_Y, "Y", [0, -1, 0])]
)
def test_the_stage_says_what_its_numbers_mean(tmp_path, up, axis, upward):
    from pxr import Gf, Usd, UsdGeom

    head = Head("7 rooms", up, up is not Up.MINUS_Y, 29.97)
    write_scene(tmp_path / "a.usdc", head, a_walk(1), lambda _: some_points(2))
    stage = opened(tmp_path / "a.usdc")
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert UsdGeom.GetStageUpAxis(stage) == axis
    assert stage.GetFramesPerSecond() == 29.97
    assert stage.GetDefaultPrim().GetName() == "_7_rooms"
    said = stage.GetRootLayer().customLayerData["recon4d"]
    assert said["units"].startswith("metres") == (up is not Up.MINUS_Y)
    assert ("model" in said["axes"]) == (up is Up.MINUS_Y)
    assert "0 measured" in said["provenance"]
    prim = stage.GetPrimAtPath("/_7_rooms/moving")
    turned = UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(Usd.TimeCode(0)).TransformDir(Gf.Vec3d(*upward))
    np.testing.assert_allclose(turned, [0, axis == "Y", axis == "Z"], atol=1e-12)


def test_everything_shown_wears_the_material_that_reads_its_colours(tmp_path):
    from pxr import UsdShade

    write_scene(tmp_path / "a.usdc", HEAD, a_walk(1), lambda _: some_points(2), some_points(3))
    stage = opened(tmp_path / "a.usdc")
    for name in ("static", "moving"):
        prim = stage.GetPrimAtPath(f"/living_room/{name}")
        material = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0]
        surface = material.ComputeSurfaceSource()[0]
        reader = surface.GetInput("emissiveColor").GetConnectedSources()[0][0].source
        assert UsdShade.Shader(reader.GetPrim()).GetIdAttr().Get() == "UsdPrimvarReader_float3"
        assert reader.GetInput("varname").Get() == "displayColor"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_package_holds_the_mesh_and_its_picture_as_it_is(tmp_path, suffix):
    from pxr import Sdf

    picture = tmp_path / f"000003{suffix}"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (21, 30, 3), dtype=np.uint8))
    uv = np.array([[0.5 / 30, 0.5 / 21], [1, 0], [0, 1]])
    worn = PictureMesh(TRIANGLE.vertices, TRIANGLE.faces, uv, picture)
    write_mesh_package(tmp_path / "000003.usdz", Head("frame_000003", Up.Z, True), worn)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["000003.usdz", picture.name])
    package = Sdf.ZipFile.Open(str(tmp_path / "000003.usdz"))
    assert package.GetFileNames() == ["000003.usdc", picture.name]
    assert bytes(package.GetFile(picture.name)) == picture.read_bytes()
    for name in package.GetFileNames():
        assert package.GetFileInfo(name).dataOffset % 64 == 0
        assert package.GetFileInfo(name).compressionMethod == 0
    stage = opened(tmp_path / "000003.usdz")
    np.testing.assert_allclose(array(stage, "/frame_000003/mesh", "primvars:st"), uv * [1, -1] + [0, 1], atol=1e-6)
    found = stage.GetPrimAtPath("/frame_000003/mesh_material/picture").GetAttribute("inputs:file").Get()
    assert found.resolvedPath.endswith(f"000003.usdz[{picture.name}]")
    assert usd_issues(tmp_path / "000003.usdz") == []


def test_a_package_without_a_picture_has_colours(tmp_path):
    write_mesh_package(tmp_path / "a.usdz", Head("a", Up.Y, True), TRIANGLE)
    stage = opened(tmp_path / "a.usdz")
    np.testing.assert_allclose(array(stage, "/a/mesh", "primvars:displayColor")[0], [1, 0, 0])
    np.testing.assert_allclose(array(stage, "/a/mesh", "extent"), [[0, 0, 0], [1, 1, 0.5]])
    assert usd_issues(tmp_path / "a.usdz") == []


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path):
    times_s = np.array([1.0, 1.0])
    with pytest.raises(ExportError, match="do not increase"):
        write_scene(tmp_path / "a.usdc", HEAD, a_walk(2, None, times_s), lambda _: some_points(2))
    bad = SizedPoints(PointCloud([[0, np.nan, 0]], [[1, 2, 3]]), [1.0])
    with pytest.raises(ExportError, match="not finite"):
        write_scene(tmp_path / "a.usdc", HEAD, a_walk(1), lambda _: bad)
    with pytest.raises(ExportError, match="no triangles"):
        write_mesh_package(tmp_path / "a.usdz", HEAD, TriMesh(TRIANGLE.vertices, np.zeros((0, 3)), TRIANGLE.colors))
    with pytest.raises(ExportError, match="not finite"):
        write_mesh_package(tmp_path / "a.usdz", HEAD, replace(TRIANGLE, vertices=TRIANGLE.vertices + np.inf))
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pxr", None)
    for write in (
        lambda: write_scene(tmp_path / "a.usdc", HEAD, a_walk(1), lambda _: some_points(2)),
        lambda: write_mesh_package(tmp_path / "a.usdz", HEAD, TRIANGLE),
    ):
        with pytest.raises(MissingDependency, match=r"recon4d\[usd\]"):
            write()
