"""Export to GLB: one file that plays, and meshes with the picture on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.scene.scene4d import UpAxis
from recon4d.stages.export_delivery import PLAYED_POINTS, PLAYED_STATIC_POINTS, Delivery

if TYPE_CHECKING:
    from recon4d.formats.glb import Up
    from recon4d.scene.cloud import PointCloud


def write_glb(delivery: Delivery) -> None:
    """`glb/`: `scene.glb`, which plays, the background's mesh, and a mesh of each frame."""
    from recon4d.formats.glb import write_mesh

    root = delivery.folder("glb")
    mesh = delivery.static_mesh()
    if len(mesh.faces):
        write_mesh(root / "static_mesh.glb", mesh, data_axes(delivery))
    if not delivery.part.is_done("glb scene"):
        _write_playing_glb(delivery, root / "scene.glb")
        delivery.part.mark_done("glb scene")
    folder = delivery.folder("glb", "meshes")
    for name in delivery.pending("glb", "writing GLB"):
        _write_picture_mesh(delivery, name, folder)


def data_axes(delivery: Delivery) -> Up:
    """How the delivered data lies, for the turn to glTF's y-up."""
    from recon4d.formats.glb import Up

    return {UpAxis.Z: Up.Z, UpAxis.Y: Up.Y, UpAxis.MODEL: Up.MINUS_Y}[delivery.up]


def _write_playing_glb(delivery: Delivery, path: Path) -> None:
    from recon4d.formats.glb import write_cloud_sequence

    options, names, starts_s = delivery.options, np.array(delivery.names), delivery.starts_s
    if len(names) > options.max_glb_frames:
        delivery.part.progress.say(f"  scene.glb plays {options.max_glb_frames} of {len(names)} frames, evenly chosen")
        chosen = np.round(np.linspace(0, len(names) - 1, options.max_glb_frames)).astype(int)
        names, starts_s = names[chosen], starts_s[chosen]
    with delivery.part.progress.bar("writing scene.glb", len(names)) as bar:

        def next_cloud(name: str) -> PointCloud:
            bar.advance()
            return delivery.moving(name, PLAYED_POINTS)

        static = delivery.static(PLAYED_STATIC_POINTS)
        write_cloud_sequence(path, names.tolist(), starts_s, next_cloud, static, data_axes(delivery))


def _write_picture_mesh(delivery: Delivery, name: str, folder: Path) -> None:
    """Mesh of one frame that wears its picture; a frame without a triangle has no file."""
    from recon4d.formats.glb import write_textured_mesh

    surface, camera = delivery.surface(name), delivery.scene.trajectory[name].camera
    if len(surface.faces):
        uv = (surface.pixels + 0.5) / [camera.width, camera.height]
        picture = delivery.workspace.picture_path(name)
        write_textured_mesh(folder / f"{name}.glb", surface.vertices, surface.faces, uv, picture, data_axes(delivery))
