"""Pictures, masks and the sparse model, brought from the lens to the undistorted pinhole once and for all."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.disk import link_or_copy
from recon4d.formats.pictures import read_grey, read_rgb, write_picture
from recon4d.poses.lens import Lens, undistort_pixels, undistortion_map
from recon4d.poses.native import load_pycolmap
from recon4d.scene.camera import Camera
from recon4d.scene.trajectory import PoseOrigin, Trajectory

if TYPE_CHECKING:
    import pycolmap

_maps = lru_cache(maxsize=2)(
    undistortion_map
)  # all frames of a clip share one lens; the maps of one are 16 bytes a pixel


def write_undistorted(picture: Path, mask: Path | None, lens: Lens, camera: Camera, images: Path, masks: Path) -> None:
    """Write ``images/NAME.*`` and, where there is a mask, ``masks/NAME.png``; links when nothing has to change."""
    same = lens.is_pinhole_like(camera)
    if same:
        link_or_copy(picture, images / picture.name)
    else:
        write_picture(images / picture.name, _resampled(read_rgb(picture), lens, camera, smooth=True))
    if mask is not None:
        write_undistorted_mask(mask, lens, camera, masks)


def write_undistorted_mask(mask: Path, lens: Lens, camera: Camera, masks: Path) -> None:
    """Write ``masks/NAME.png`` of a mask in the frame's pixels; a link when nothing has to change."""
    masks.mkdir(exist_ok=True)
    if lens.is_pinhole_like(camera):
        link_or_copy(mask, masks / mask.name)
    else:
        write_picture(masks / mask.name, _resampled(read_grey(mask), lens, camera, smooth=False))


def recorded_mask(mask: np.ndarray, lens: Lens, camera: Camera) -> np.ndarray:
    """A mask (H, W) of the undistorted picture in the pixels of the frame as it was recorded, by the nearest pixel.

    The frame shows a little more than the undistorted picture: there the mask goes on as it is at the border. What the
    lens cannot have seen is 0.
    """
    import cv2

    if lens.is_pinhole_like(camera):
        return mask
    x, y = _maps_back(lens, camera)
    recorded = cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.where(np.isfinite(x), recorded, 0).astype(mask.dtype)


@lru_cache(maxsize=2)
def _maps_back(lens: Lens, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 positions in the undistorted picture of each pixel of the frame, OpenCV's; NaN where none."""
    columns, rows = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
    pixels = undistort_pixels(lens, camera, np.stack([columns.ravel(), rows.ravel()], axis=1))
    pixels = pixels.astype(np.float32).reshape(lens.height, lens.width, 2) - np.float32(0.5)
    return np.ascontiguousarray(pixels[..., 0]), np.ascontiguousarray(pixels[..., 1])


def _resampled(picture: np.ndarray, lens: Lens, camera: Camera, smooth: bool) -> np.ndarray:
    import cv2

    map_x, map_y = _maps(lens, camera)
    kind = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    # OpenCV's first pixel centre is (0, 0), ours (0.5, 0.5).
    return cv2.remap(picture, map_x - 0.5, map_y - 0.5, kind, borderMode=cv2.BORDER_REPLICATE)


def pinhole_model(
    model: pycolmap.Reconstruction | None, trajectory: Trajectory, lenses: dict[str, Lens], files: dict[str, str]
) -> pycolmap.Reconstruction:
    """The same structure with undistorted cameras, and pixels where the undistorted pictures show them.

    Args:
        model: with the original lenses and image names = file names; None for poses without points.
        trajectory: the undistorted cameras; frames whose pose is interpolated do not enter the result.
        lenses: by name.
        files: name -> file name of its picture.
    """
    pycolmap = load_pycolmap()
    out = pycolmap.Reconstruction()
    camera_ids: dict[Camera, int] = {}
    for camera in dict.fromkeys(trajectory.cameras):
        camera_ids[camera] = len(camera_ids) + 1
        params = [camera.fx, camera.fy, camera.cx, camera.cy]
        native = pycolmap.Camera.create_from_model_name(camera_ids[camera], "PINHOLE", 1.0, camera.width, camera.height)
        native.params = params
        out.add_camera_with_trivial_rig(native)
    solved = {} if model is None else {model.images[i].name: model.images[i] for i in model.reg_image_ids()}
    places: dict[int, tuple[int, dict[int, int]]] = {}  # old image id -> new id, old feature -> new feature
    for view in trajectory:
        old = solved.get(files[view.name])
        if view.origin is PoseOrigin.INTERPOLATED or (model is not None and old is None):
            continue
        image_id = len(out.images) + 1
        pixels, features = _observations(old, lenses[view.name], view.camera)
        image = pycolmap.Image(files[view.name], pixels, camera_ids[view.camera], image_id)
        out.add_image_with_trivial_frame(image, pycolmap.Rigid3d(view.cam_from_world.matrix[:3]))
        if old is not None:
            places[old.image_id] = (image_id, {feature: row for row, feature in enumerate(features)})
    if model is not None:
        _copy_points(model, out, places)
    return out


def _observations(image: pycolmap.Image | None, lens: Lens, camera: Camera) -> tuple[np.ndarray, list[int]]:
    """Undistorted pixels (K, 2) of the features of an image that see a point, and which features they are.

    Features that fall outside the undistorted picture are left out: nobody could look at them there.
    """
    if image is None:
        return np.zeros((0, 2)), []
    observed = np.array([point.xy for point in image.get_observation_points2D()]).reshape(-1, 2)
    pixels = undistort_pixels(lens, camera, observed)
    with np.errstate(invalid="ignore"):
        inside = np.all((pixels >= 0) & (pixels <= [camera.width, camera.height]), axis=1)
    features = image.get_observation_point2D_idxs()
    return pixels[inside], [feature for feature, kept in zip(features, inside) if kept]


def _copy_points(
    model: pycolmap.Reconstruction, out: pycolmap.Reconstruction, places: dict[int, tuple[int, dict[int, int]]]
) -> None:
    """Points with the part of their track that lies in the images of ``out``; less than two views is no point."""
    pycolmap = load_pycolmap()
    for point_id in sorted(model.points3D):
        point = model.points3D[point_id]
        track = pycolmap.Track()
        for element in point.track.elements:
            image_id, row_of = places.get(element.image_id, (0, {}))
            if element.point2D_idx in row_of:
                track.add_element(image_id, row_of[element.point2D_idx])
        if track.length() >= 2:
            out.add_point3D(point.xyz, track, point.color)
    out.update_point_3d_errors()
