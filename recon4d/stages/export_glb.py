"""Export to GLB: one file that plays, and files of single frames: what moves, and the whole surface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.stages.export_delivery import Delivery

if TYPE_CHECKING:
    from recon4d.formats.glb import Shape


def write_glb(delivery: Delivery) -> None:
    """`glb/`: `scene.glb`, which plays, the background's mesh, and of each frame what moves and its whole surface."""
    from recon4d.stages.export_shapes import frame_surface, moving_shape

    root = delivery.folder("glb")
    if not delivery.part.is_done("glb scene"):
        _write_if_any(root / "static_mesh.glb", delivery.static_mesh(), delivery)
        _write_playing_glb(delivery, root / "scene.glb")
        delivery.part.mark_done("glb scene")
    if not (root / "scene.glb").exists():  # outside the block: what a killed run knew is said again
        delivery.part.warn("scene.glb is not written: what was chosen has no background, and nothing moves in it")
    moving, meshes, texture = (
        delivery.folder("glb", "moving"),
        delivery.folder("glb", "meshes"),
        delivery.options.texture,
    )
    for name in delivery.pending("glb", "writing GLB"):
        _write_if_any(moving / f"{name}.glb", moving_shape(delivery, name, texture), delivery)
        _write_if_any(meshes / f"{name}.glb", frame_surface(delivery, name, None, texture), delivery)


def _write_if_any(path: Path, shape: Shape, delivery: Delivery) -> None:
    """A file of one shape; a shape without a point or triangle has no file."""
    from recon4d.formats.glb import write_shape
    from recon4d.scene.shapes import is_empty

    if not is_empty(shape):
        write_shape(path, shape, delivery.data_up)


def _write_playing_glb(delivery: Delivery, path: Path) -> None:
    from recon4d.formats.glb import NothingToShow, write_sequence
    from recon4d.stages.export_shapes import moving_shape, static_shape

    options, names, starts_s = delivery.options, np.array(delivery.names), delivery.starts_s
    if len(names) > options.max_glb_frames:
        delivery.part.progress.say(f"  scene.glb plays {options.max_glb_frames} of {len(names)} frames, evenly chosen")
        chosen = np.round(np.linspace(0, len(names) - 1, options.max_glb_frames)).astype(int)
        names, starts_s = names[chosen], starts_s[chosen]
    with delivery.part.progress.bar("writing scene.glb", len(names)) as bar:

        def next_shape(name: str) -> Shape:
            bar.advance()
            return moving_shape(delivery, name, options.texture)

        try:
            static = static_shape(delivery)
            write_sequence(path, names.tolist(), starts_s, next_shape, static, delivery.data_up)
        except NothingToShow:
            path.unlink(missing_ok=True)
