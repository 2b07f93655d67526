"""Export to COLMAP: the model in the delivered frame, and its pictures."""

from __future__ import annotations

from recon4d.stages.export_delivery import Delivery, link_or_copy
from recon4d.stages.refine import MOVED_POINTS


def write_colmap(delivery: Delivery) -> None:
    """`colmap/`; left out, with a warning, where the poses were not made from points."""
    source = delivery.workspace.unit_dir("poses") / "sparse"
    if not source.is_dir():
        delivery.part.warn("export: there is no COLMAP model (the poses were not made from points), colmap is left out")
        return
    import pycolmap

    from recon4d.formats.arrays import read_arrays
    from recon4d.formats.colmap_model import read_reconstruction, with_cameras

    with delivery.workspace.reading("poses", "export"):
        model = read_reconstruction(source)
    moved = delivery.workspace.unit_dir(delivery.workspace.surface_unit()) / MOVED_POINTS
    if moved.exists():
        with_cameras(model, delivery.workspace.trajectory(), read_arrays(moved)["points"])
    turn = delivery.delivered_from_scene
    model.transform(pycolmap.Sim3d(turn.scale, pycolmap.Rotation3d(turn.rotation), turn.translation))
    images = delivery.folder("colmap", "images")
    for image in model.images.values():
        link_or_copy(delivery.workspace.unit_dir("poses") / "images" / image.name, images / image.name)
    model.write(str(delivery.folder("colmap", "sparse", "0")))
