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
