"""Export to COLMAP: a workspace with model, pictures, masks, depth and normals, as its dense stages leave it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from recon4d.geometry.random_rows import random_rows
from recon4d.scene.depth import Provenance
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import Trajectory
from recon4d.stages.export_delivery import Delivery
from recon4d.stages.refine import MOVED_POINTS

BY_DEPTH = 10_000  # points of a model made from depth, where no option says: enough for splats to start from
SOURCES = 20  # views that patch matching compares with, as COLMAP's undistorter asks for


def write_colmap(delivery: Delivery) -> None:
    """`colmap/`: images, masks, sparse/0 and, for the dense stages, the same model in sparse, and stereo.

    The model is that of structure from motion. Where there is none, or its points are not wanted, points of the
    background take their place, seen by the frames whose depth agrees. Interpolated frames have no image.
    """
    sparse, trajectory = _structure(delivery)
    if not len(trajectory):
        delivery.part.warn("export: none of the written frames has a pose of its own, colmap is left out")
        return
    if not len(sparse):
        delivery.part.warn(
            "export: the COLMAP model has cameras but no points (no background is wanted, or there is none): "
            "its dense stages find no pictures that overlap"
        )
    pictures = delivery.link_pictures(delivery.folder("colmap", "images"), trajectory.names)
    files = {name: path.name for name, path in pictures.items()}
    _write_model(delivery, sparse, trajectory, files)
    _write_lists(delivery.folder("colmap", "stereo"), list(files.values()))
    _write_maps(delivery, trajectory, files)


def _structure(delivery: Delivery) -> tuple[SparseModel, Trajectory]:
    """Points with their tracks, and the cameras of the model: delivered frame, written frames."""
    found, trajectory = _points_of_poses(delivery), delivery.trajectory.without_interpolated()
    why = "the poses were not made from points"
    if found is not None and len(found):
        trajectory = trajectory.part([name for name in trajectory.names if name in found.rows])
        if _are_wanted(delivery):
            return _at_most(found, delivery), trajectory
        why = "the measured points of the COLMAP model are not wanted"
    sparse = _points_by_depth(delivery, trajectory)
    if len(sparse):
        delivery.part.warn(
            f"export: {why}, so the points of the COLMAP model are made from depth: "
            "they hold together, but cannot correct the cameras"
        )
    return sparse, trajectory


def _points_of_poses(delivery: Delivery) -> SparseModel | None:
    """The structure the poses were made from, as the delivered cameras see it; None where there is no model."""
    from recon4d.formats.arrays import read_arrays
    from recon4d.formats.colmap_model import read_sparse_model

    workspace = delivery.workspace
    with workspace.reading("poses", "export") as folder:
        if not (folder / "sparse").is_dir():
            return None
        sparse = read_sparse_model(folder / "sparse")
    moved = workspace.unit_dir(workspace.surface_unit()) / MOVED_POINTS
    points = read_arrays(moved)["points"] if moved.exists() else sparse.points
    return replace(sparse, points=delivery.delivered_from_scene @ points)


def _are_wanted(delivery: Delivery) -> bool:
    """Points of structure from motion stand still and were measured."""
    provenance = delivery.options.provenance
    return "static" in delivery.options.layers and (provenance is None or Provenance.MEASURED in provenance)


def _at_most(sparse: SparseModel, delivery: Delivery) -> SparseModel:
    """The model, or what is seen of a fixed random choice of its points."""
    most = delivery.options.max_static_points or delivery.options.max_points
    if most is None or len(sparse) <= most:
        return sparse
    kept = np.zeros(len(sparse), dtype=bool)
    kept[random_rows(len(sparse), most)] = True
    return replace(
        sparse,
        rows={name: rows[kept[rows]] for name, rows in sparse.rows.items()},
        pixels={name: pixels[kept[sparse.rows[name]]] for name, pixels in sparse.pixels.items()},
    )


def _points_by_depth(delivery: Delivery, trajectory: Trajectory) -> SparseModel:
    """Points of the background, each seen where its own z agrees with a frame's depth."""
    from recon4d.geometry.depth_tracks import seen_by_depth

    cloud = delivery.static(BY_DEPTH)
    points, rows, pixels = cloud.points.astype(np.float64), {}, {}
    for view in trajectory if len(cloud) else ():
        depth, usable = delivery.depth(view.name), delivery.usable(view.name)
        rows[view.name], pixels[view.name] = seen_by_depth(points, view, depth, usable)
    nothing = np.zeros(len(cloud))
    return SparseModel(points, nothing, nothing.astype(int), nothing, cloud.colors, pixels, rows)


def _write_model(delivery: Delivery, sparse: SparseModel, trajectory: Trajectory, files: dict[str, str]) -> None:
    """`sparse/0`, where COLMAP's mapper leaves a model and splat trainers look, and `sparse`, where stereo looks.

    Two copies: programs that refine a model write it where they found it.
    """
    from recon4d.formats.colmap_model import model_of
    from recon4d.poses.models import write_model

    folder = delivery.folder("colmap", "sparse", "0")
    write_model(model_of(sparse, trajectory, files), folder)
    for file in sorted(folder.iterdir()):
        shutil.copyfile(file, folder.parent / file.name)


def _write_lists(stereo: Path, files: list[str]) -> None:
    """Which pictures the dense stages work on."""
    (stereo / "fusion.cfg").write_text("".join(f"{file}\n" for file in files), encoding="utf-8")
    (stereo / "patch-match.cfg").write_text(
        "".join(f"{file}\n__auto__, {SOURCES}\n" for file in files), encoding="utf-8"
    )


def _write_maps(delivery: Delivery, trajectory: Trajectory, files: dict[str, str]) -> None:
    """Masks (white: use), and depth and normals (camera axes) of what stands still; 0 is not known."""
    from recon4d.formats.colmap_maps import write_map
    from recon4d.formats.pictures import write_picture

    masks = delivery.folder("colmap", "masks")
    depths, normals = (delivery.folder("colmap", "stereo", kind) for kind in ("depth_maps", "normal_maps"))
    for name in delivery.pending("colmap", "writing COLMAP"):
        if name not in trajectory:
            continue
        usable, depth, file = delivery.usable(name), delivery.depth(name), files[name]
        known = depth.valid & usable
        write_picture(masks / f"{file}.png", np.where(usable, 255, 0).astype(np.uint8))
        write_map(depths / f"{file}.geometric.bin", np.where(known, depth.depth, 0))
        in_cam = delivery.normals(name) @ trajectory[name].cam_from_world.rotation.T.astype(np.float32)
        write_map(normals / f"{file}.geometric.bin", np.where(known[..., None], in_cam, 0))
