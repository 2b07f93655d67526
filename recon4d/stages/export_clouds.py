"""Export of clouds and meshes, file by file: PLY, PCD, LAS."""

from __future__ import annotations

from recon4d.stages.export_delivery import Delivery


def write_ply(delivery: Delivery) -> None:
    """`ply/`: background as cloud and mesh, what moves in each frame, and a mesh of each frame."""
    from recon4d.formats.ply import write_cloud, write_mesh
    from recon4d.scene.mesh import TriMesh

    root, moving, meshes = delivery.folder("ply"), delivery.folder("ply", "moving"), delivery.folder("ply", "meshes")
    write_cloud(root / "static.ply", delivery.static())
    write_mesh(root / "static_mesh.ply", delivery.static_mesh())
    for name in delivery.pending("ply", "writing PLY"):
        write_cloud(moving / f"{name}.ply", delivery.moving(name))
        surface = delivery.surface(name)
        columns, rows = surface.pixels.T
        colors = delivery.workspace.picture(name)[rows, columns]
        write_mesh(meshes / f"{name}.ply", TriMesh(surface.vertices, surface.faces, colors))


def write_pcd(delivery: Delivery) -> None:
    """`pcd/`: `static.pcd`, and `moving/NAME.pcd` with the frame's camera in a comment."""
    from recon4d.formats import pcd

    root, moving = delivery.folder("pcd"), delivery.folder("pcd", "moving")
    pcd.write_pcd(root / "static.pcd", delivery.static())
    for name in delivery.pending("pcd", "writing PCD"):
        world_from_cam = delivery.trajectory[name].cam_from_world.inverse()
        pcd.write_pcd(moving / f"{name}.pcd", delivery.moving(name), world_from_cam)


def write_las(delivery: Delivery) -> None:
    """`las/`: `static.las`, and `moving/NAME.las`; a point's GPS time is its frame's, the background's the first."""
    _write_las(delivery, "las")


def write_laz(delivery: Delivery) -> None:
    """`laz/`: the same, packed."""
    _write_las(delivery, "laz")


def _write_las(delivery: Delivery, kind: str) -> None:
    from recon4d.formats import las

    root, moving = delivery.folder(kind), delivery.folder(kind, "moving")
    first_s = float(delivery.trajectory.timestamps_s[0])
    las.write_las(root / f"static.{kind}", delivery.static(), first_s, delivery.in_metres)
    for name in delivery.pending(kind, f"writing {kind.upper()}"):
        time_s = delivery.trajectory[name].timestamp_s
        las.write_las(moving / f"{name}.{kind}", delivery.moving(name), time_s, delivery.in_metres)
