"""COLMAP models as arrays. The binary layout is read by pycolmap alone: it changes between versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import Trajectory

if TYPE_CHECKING:
    import pycolmap

PAIRS_AT_ONCE = 4_000_000  # cosines held in memory while the largest angles are sought: 32 MB


def read_reconstruction(folder: Path) -> pycolmap.Reconstruction:
    """Open a COLMAP model folder, binary or text. Raises InputError."""
    import pycolmap

    try:
        return pycolmap.Reconstruction(str(folder))
    except (RuntimeError, ValueError, IndexError) as error:
        # The native message carries file and line of the C++ source; only its last part says something to a user.
        reason = str(error).strip().rpartition("] ")[2].splitlines()[0] if str(error).strip() else "unknown reason"
        raise InputError(
            f"{folder} is no readable COLMAP model ({reason}): "
            "cameras, images and points3D as .bin or .txt are expected"
        ) from None


def read_sparse_model(folder: Path) -> SparseModel:
    """The points of a COLMAP model and where each of its registered images saw them; names are stems of image names.

    Raises:
        InputError: the folder is no model.
    """
    return sparse_from_reconstruction(read_reconstruction(folder))


def sparse_from_reconstruction(model: pycolmap.Reconstruction) -> SparseModel:
    """`SparseModel` of an open reconstruction; points in the order of their ids."""
    ids = np.array(sorted(model.points3D), dtype=np.int64)
    points3d = [model.points3D[i] for i in ids]
    points = np.array([point.xyz for point in points3d]).reshape(-1, 3)
    pixels, rows, seen_from = {}, {}, []
    for image_id in sorted(model.reg_image_ids(), key=lambda i: model.images[i].name):
        image = model.images[image_id]
        observed = image.get_observation_points2D()
        name = Path(image.name).stem
        pixels[name] = np.array([point.xy for point in observed]).reshape(-1, 2)
        rows[name] = np.searchsorted(ids, np.array([point.point3D_id for point in observed], dtype=np.int64))
        seen_from.append(np.broadcast_to(image.projection_center(), (len(observed), 3)))
    row = np.concatenate([*rows.values(), np.zeros(0, dtype=np.int64)])
    centres = np.concatenate([*seen_from, np.zeros((0, 3))])
    return SparseModel(
        points=points,
        error_px=np.array([point.error for point in points3d]),
        track_length=np.bincount(row, minlength=len(ids)),
        angle_deg=largest_angles_deg(points, row, centres),
        colors=np.array([point.color for point in points3d], dtype=np.uint8).reshape(-1, 3),
        pixels=pixels,
        rows=rows,
    )


def model_of(sparse: SparseModel, trajectory: Trajectory, files: dict[str, str]) -> pycolmap.Reconstruction:
    """A model of pinholes: one image per frame, and the points at least two of these images see, with their tracks.

    Args:
        sparse: in the frame of ``trajectory``; what frames saw that are not in it does not count.
        trajectory: cameras of the images.
        files: name -> file name of its picture.
    """
    import pycolmap

    out = pycolmap.Reconstruction()
    camera_ids = {camera: number for number, camera in enumerate(dict.fromkeys(trajectory.cameras), start=1)}
    for camera, number in camera_ids.items():
        native = pycolmap.Camera.create_from_model_name(number, "PINHOLE", 1.0, camera.width, camera.height)
        native.params = [camera.fx, camera.fy, camera.cx, camera.cy]
        out.add_camera_with_trivial_rig(native)
    nothing = np.zeros(0, dtype=np.int64)
    seen = sum(np.bincount(sparse.rows.get(name, nothing), minlength=len(sparse)) for name in trajectory.names)
    kept = np.asarray(seen) >= 2
    tracks = {row: pycolmap.Track() for row in np.flatnonzero(kept).tolist()}
    for number, view in enumerate(trajectory, start=1):
        rows, pixels = sparse.rows.get(view.name, nothing), sparse.pixels.get(view.name, np.zeros((0, 2)))
        of_kept = kept[rows]
        image = pycolmap.Image(files[view.name], pixels[of_kept], camera_ids[view.camera], number)
        out.add_image_with_trivial_frame(image, pycolmap.Rigid3d(view.cam_from_world.matrix[:3]))
        for feature, row in enumerate(rows[of_kept].tolist()):
            tracks[row].add_element(number, feature)
    for row, track in tracks.items():
        out.add_point3D(sparse.points[row], track, sparse.colors[row])
    out.update_point_3d_errors()
    return out


def largest_angles_deg(points: np.ndarray, row: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(P,) largest angle in degrees between two viewing rays of each point; 0 for points with fewer than two.

    Args:
        points: (P, 3) world.
        row: (M,) int, which point each ray belongs to.
        centres: (M, 3) world, where each ray starts.
    """
    rays = points[row] - centres
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-300)
    order = np.argsort(row, kind="stable")
    rays = rays[order]
    length = np.bincount(row, minlength=len(points))
    first = np.cumsum(length) - length
    out = np.zeros(len(points))
    for count in np.unique(length[length >= 2]):  # tracks of equal length form one block
        tracks = np.flatnonzero(length == count)
        for block in np.array_split(tracks, int(np.ceil(len(tracks) * count**2 / PAIRS_AT_ONCE))):
            of_track = rays[first[block][:, None] + np.arange(count)]
            cosine = np.einsum("nik,njk->nij", of_track, of_track).min(axis=(1, 2))
            out[block] = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return out
