"""Export to USD: one stage that plays, with the camera, and a package of each frame's surface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recon4d.scene.cloud import PointCloud
from recon4d.stages.export_delivery import Delivery

if TYPE_CHECKING:
    from recon4d.formats.usd import Head
    from recon4d.formats.usd_shapes import Shape


def write_usd(delivery: Delivery) -> None:
    """`usd/`: `scene.usdc`, which plays, and the surface of each frame as `meshes/NAME.usdz`."""
    from recon4d.formats.usd import write_mesh_package
    from recon4d.scene.shapes import is_empty
    from recon4d.stages.export_shapes import frame_surface

    root = delivery.folder("usd")
    if not delivery.part.is_done("usd scene"):
        _write_scene(delivery, root / "scene.usdc")
        delivery.part.mark_done("usd scene")
    folder = delivery.folder("usd", "meshes")
    for name in delivery.pending("usd", "writing USD"):
        mesh = frame_surface(delivery, name, None, delivery.options.texture)
        if not is_empty(mesh):
            write_mesh_package(folder / f"{name}.usdz", _head(delivery, f"frame_{name}"), mesh)


def _write_scene(delivery: Delivery, path: Path) -> None:
    from recon4d.formats.usd import write_scene
    from recon4d.stages.export_shapes import moving_shape, one_frame, sized, static_shape

    def with_sizes(shape: object, seen_by: object) -> Shape:
        return sized(shape, seen_by) if isinstance(shape, PointCloud) else shape

    with delivery.part.progress.bar("writing scene.usdc", len(delivery.names)) as bar:

        def next_shape(name: str) -> Shape:
            bar.advance()
            return with_sizes(moving_shape(delivery, name, texture=False), one_frame(delivery, name))

        static = with_sizes(static_shape(delivery), delivery.trajectory)
        write_scene(path, _head(delivery, delivery.workspace.title), delivery.trajectory, next_shape, static)


def _head(delivery: Delivery, name: str) -> Head:
    from recon4d.formats.usd import Head

    return Head(name, delivery.data_up, delivery.in_metres, delivery.fps)
