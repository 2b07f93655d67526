"""Imported poses become a solution: matched to the frames, with lenses in their pixels, and with points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import PosesError
from recon4d.formats.peers import part_seen
from recon4d.poses.import_rows import ImportedPoses
from recon4d.poses.imports import Matching
from recon4d.poses.lens import Lens
from recon4d.poses.native import load_pycolmap
from recon4d.poses.solution import Solution
from recon4d.scene.recording import Recording
from recon4d.scene.trajectory import PoseOrigin

if TYPE_CHECKING:
    import pycolmap


@dataclass(frozen=True)
class FrameSize:
    """Size of the pictures in ``frames/``, pixels, and of the recording before they were made smaller."""

    width: int
    height: int
    source_width: int
    source_height: int


def imported_solution(
    imported: ImportedPoses, matching: Matching, recording: Recording, lens: Lens | None, size: FrameSize
) -> Solution:
    """Poses and lenses of the matched frames; points only when a COLMAP model brought them.

    Args:
        lens: from ``--poses.camera``, goes before what the import says; None when not given.

    Raises:
        PosesError: nobody says what the lens is, or the import is of pictures of another shape.
    """
    if lens is None and imported.lenses is None:
        raise PosesError(
            f"poses: a {imported.kind} holds no lens: give --poses.camera fx,fy,cx,cy[,distortion...] in pixels of the "
            f"frames ({size.width}x{size.height})"
        )
    world_from_cam = imported.world_from_cam
    poses = {name: world_from_cam[row].inverse() for name, row in matching.row_of.items()}
    lenses = {name: lens or _in_frames(imported, row, size) for name, row in matching.row_of.items()}
    model = None
    # A lens given by hand moves every ray: points made with another one would not agree with it.
    if imported.model is not None and lens is None:
        model = _renamed(imported, matching, recording, size)
    return Solution(poses, lenses, PoseOrigin.IMPORTED, model)


def _in_frames(imported: ImportedPoses, row: int, size: FrameSize) -> Lens:
    """The lens of a row in pixels of the frames as they lie in ``frames/``."""
    lens = imported.lenses[row]
    if not imported.lens_has_size:
        return Lens(lens.model, size.source_width, size.source_height, lens.params).resized(size.width, size.height)
    lens = _uncut(imported, lens, size)
    if abs(lens.width * size.height - lens.height * size.width) > 0.02 * lens.width * size.height:
        raise PosesError(
            f"poses: the {imported.kind} is of pictures of {lens.width}x{lens.height}, the frames are {size.width}x"
            f"{size.height}: another shape; import poses of these pictures, uncropped and turned the same way"
        )
    return lens.resized(size.width, size.height)


def _uncut(imported: ImportedPoses, lens: Lens, size: FrameSize) -> Lens:
    """The lens of a picture before a program cut it, where the size of its pictures shows that it did so."""
    given = ((size.source_width, size.source_height), (size.width, size.height))
    part = part_seen(imported.part, (lens.width, lens.height), given)
    if part is None:
        return lens
    fx, fy, cx, cy = lens.params
    return Lens(lens.model, part.width, part.height, (fx, fy, cx + part.left, cy + part.top))


def _renamed(
    imported: ImportedPoses, matching: Matching, recording: Recording, size: FrameSize
) -> pycolmap.Reconstruction | None:
    """The imported model with only our frames, under our file names, in our pixels."""
    pycolmap = load_pycolmap()
    model = pycolmap.Reconstruction(imported.model)
    file_of = dict(zip(recording.names, (path.name for path in recording.pictures)))
    file_of_row = {row: file_of[name] for name, row in matching.row_of.items()}
    new_name = {imported.names[row]: file for row, file in file_of_row.items()}
    for image_id in list(model.reg_image_ids()):
        image = model.images[image_id]
        if image.name in new_name:
            image.name = new_name[image.name]
            scale = np.array([size.width / image.camera.width, size.height / image.camera.height])
            if np.any(scale != 1):
                for point in image.points2D:
                    point.xy = point.xy * scale
        else:
            model.deregister_frame(image.frame_id)
    for camera in model.cameras.values():
        camera.rescale(size.width, size.height)
    return model if model.num_points3D() else None


def model_for_triangulation(solution: Solution, name_of: dict[str, str], database: Path) -> pycolmap.Reconstruction:
    """An empty model with the given cameras and poses, under the ids and names of the database.

    Args:
        name_of: file name in the database -> name of the frame.
    """
    pycolmap = load_pycolmap()
    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as opened:
        images = sorted(opened.read_all_images(), key=lambda image: image.image_id)
        for camera in opened.read_all_cameras():
            model.add_camera_with_trivial_rig(camera)
        for image in images:
            keypoints = opened.read_keypoints(image.image_id)[:, :2].astype(np.float64)
            native = pycolmap.Image(image.name, keypoints, image.camera_id, image.image_id)
            pose = pycolmap.Rigid3d(solution.cam_from_world[name_of[image.name]].matrix[:3])
            model.add_image_with_trivial_frame(native, pose)
    return model
