"""Writing and reading a cloud of half a million points in every format: recon4d against open3d and trimesh, in one run.

python tools/bench_formats.py

Files are read back by another program than the one that wrote them, but for LAS and LAZ, whose bytes are laspy's (the
tests read them by the letter of the specification), and open3d's PCD. Errors are the largest of all points.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3

ROUNDS = 5
POINTS = 500_000
ROOM_M = np.array([5.0, 4.0, 3.0])
Seen = tuple[np.ndarray, np.ndarray]  # positions (N, 3) metres, colours (N, 3) 8-bit sRGB


@dataclass(frozen=True)
class Case:
    """A writer of a format, and an independent reader."""

    format: str
    writer: str
    file: str
    write: Callable[[Path], object]
    reader: str
    read: Callable[[Path], Seen]


def best_seconds(work: Callable[[], object]) -> float:
    """The fastest of a few rounds: the others were disturbed."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def room(count: int) -> PointCloud:
    """Points on the floor and walls of a room of 5 x 4 x 3 m, side by side as in a scan, with 2 mm of noise."""
    rng = np.random.default_rng(0)
    per_side = count // 4
    parts = []
    for axis, place in ((2, 0.0), (0, 0.0), (1, 0.0), (0, 1.0)):
        across = int(np.ceil(np.sqrt(per_side)))
        grid = np.stack(np.divmod(np.arange(per_side), across), axis=-1) / across
        normal = np.zeros(3)
        normal[axis] = 1 - 2 * place
        points = np.insert(grid, axis, place, axis=1) * ROOM_M + rng.normal(scale=0.002, size=(per_side, 1)) * normal
        chequer = (np.floor(4 * points).sum(axis=1) % 2)[:, None] * 60
        colors = np.clip(80 + 20 * axis + chequer + rng.normal(scale=4, size=(per_side, 3)), 0, 255)
        parts.append(PointCloud(points, colors, np.tile(normal, (per_side, 1)), rng.uniform(size=per_side)))
    return PointCloud.concatenate(parts)


def by_open3d(path: Path) -> Seen:
    import open3d as o3d

    seen = o3d.io.read_point_cloud(str(path))
    return np.asarray(seen.points), np.round(np.asarray(seen.colors) * 255)


def by_trimesh(path: Path) -> Seen:
    import trimesh

    seen = trimesh.load(path, process=False)
    return np.asarray(seen.vertices), np.asarray(seen.colors)[:, :3]


def by_the_specification(path: Path) -> Seen:
    """The only node of a GLB that has points, from its bytes, in its own axes; stored colours are linear in glTF."""
    import json
    import struct

    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    content, body = json.loads(data[20 : 20 + length]), data[28 + length :]
    kinds = {5121: "u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}

    def accessor(number: int) -> np.ndarray:
        item = content["accessors"][number]
        view, columns = content["bufferViews"][item["bufferView"]], {"VEC3": 3, "VEC4": 4}[item["type"]]
        kind = np.dtype(kinds[item["componentType"]])
        step = view.get("byteStride", columns * kind.itemsize)
        raw = np.frombuffer(body, np.uint8, step * item["count"], view.get("byteOffset", 0) + item.get("byteOffset", 0))
        values = raw.reshape(-1, step)[:, : columns * kind.itemsize].copy().view(kind).astype(np.float64)
        if item.get("normalized"):
            values /= np.iinfo(kind).max
        return values

    node = next(item for item in content["nodes"] if "mesh" in item)
    attributes = content["meshes"][node["mesh"]]["primitives"][0]["attributes"]
    points = accessor(attributes["POSITION"]) * node.get("scale", [1, 1, 1]) + node.get("translation", [0, 0, 0])
    return points, srgb_from_linear(accessor(attributes["COLOR_0"])[:, :3])


def by_laspy(path: Path) -> Seen:
    import laspy

    seen = laspy.read(str(path))
    return seen.xyz, np.stack([seen.red, seen.green, seen.blue], axis=-1) // 257


def by_pxr(path: Path) -> Seen:
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(str(path))
    geometry = next(UsdGeom.Points(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Points))
    colors = np.array(geometry.GetDisplayColorAttr().Get())
    return np.array(geometry.GetPointsAttr().Get()), srgb_from_linear(colors.astype(np.float64))


def srgb_from_linear(linear: np.ndarray) -> np.ndarray:
    return np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def our_cases(cloud: PointCloud) -> list[Case]:
    from recon4d.formats import glb, las, pcd, ply, usd
    from recon4d.scene.shapes import SizedPoints

    still = Trajectory(
        ("0",), np.zeros(1), Rigid3.identity(1), (Camera(640, 480, 500, 500, 320, 240),), (PoseOrigin.STATIC,)
    )
    sized = SizedPoints(cloud, np.full(len(cloud), 0.01))
    nothing = SizedPoints(cloud[:0], np.zeros(0))
    head = usd.Head("bench", usd.Up.Z, in_metres=True)
    return [
        Case("PLY", "recon4d", "a.ply", lambda path: ply.write_cloud(path, cloud), "open3d", by_open3d),
        Case("PCD", "recon4d", "a.pcd", lambda path: pcd.write_pcd(path, cloud), "open3d", by_open3d),
        Case("LAS", "recon4d", "a.las", lambda path: las.write_las(path, cloud, 0.0, True), "laspy", by_laspy),
        Case("LAZ", "recon4d", "a.laz", lambda path: las.write_las(path, cloud, 0.0, True), "laspy", by_laspy),
        Case("GLB", "recon4d", "a.glb", lambda path: glb.write_shape(path, cloud), "its bytes", by_the_specification),
        Case(
            "USD",
            "recon4d",
            "a.usdc",
            lambda path: usd.write_scene(path, head, still, lambda _: nothing, sized),
            "pxr",
            by_pxr,
        ),
    ]


def other_cases(cloud: PointCloud) -> list[Case]:
    import open3d as o3d

    from recon4d.formats.interop import to_open3d_cloud, to_trimesh_cloud

    in_open3d, in_trimesh = to_open3d_cloud(cloud), to_trimesh_cloud(cloud)

    def open3d_writes(path: Path) -> object:
        return o3d.io.write_point_cloud(str(path), in_open3d)

    return [
        Case("PLY", "open3d", "b.ply", open3d_writes, "trimesh", by_trimesh),
        Case("PLY", "trimesh", "c.ply", in_trimesh.export, "open3d", by_open3d),
        Case("PCD", "open3d", "b.pcd", open3d_writes, "open3d", by_open3d),
        Case("GLB", "trimesh", "c.glb", in_trimesh.export, "its bytes", by_the_specification),
    ]


def measured(case: Case, cloud: PointCloud, folder: Path, against_s: float | None) -> tuple[str, float]:
    """A row of the table, and the seconds of writing."""
    path = folder / case.file
    write_s = best_seconds(lambda: case.write(path))
    points, colors = case.read(path)
    read_s = best_seconds(lambda: case.read(path))
    off_mm = 1000 * np.abs(points - cloud.points).max()
    off_levels = np.abs(colors.astype(np.float64) - cloud.colors).max()
    cells = (
        case.format,
        case.writer,
        f"{path.stat().st_size / len(cloud):.1f}",
        f"{1000 * write_s:.0f} ms",
        f"{write_s / (against_s or write_s):.1f}",
        f"{off_mm:.4f}",
        f"{off_levels:.0f}",
        f"{case.reader}, {1000 * read_s:.0f} ms",
    )
    return f"| {' | '.join(cells)} |", write_s


def main() -> None:
    cloud, against_s = room(POINTS), None
    print("| format | writer | bytes per point | write | against our PLY | off, mm | off, levels | read by |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for case in [*our_cases(cloud), *other_cases(cloud)]:
            row, write_s = measured(case, cloud, Path(folder), against_s)
            against_s = against_s or write_s
            print(row)


if __name__ == "__main__":
    main()
