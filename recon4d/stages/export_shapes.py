"""What the scenes that play are made of: the points, squares or surfaces of a delivery."""

from __future__ import annotations

import numpy as np

from recon4d.geometry.point_squares import local_spacing, squares
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh
from recon4d.scene.shapes import PictureMesh, PointSquares, SizedPoints
from recon4d.scene.trajectory import Trajectory
from recon4d.stages.export_delivery import PLAYED_POINTS, PLAYED_STATIC_POINTS, Delivery
from recon4d.stages.export_options import Layer


def static_shape(delivery: Delivery) -> PointCloud | PointSquares | TriMesh:
    """The background as the option `shape` wants it."""
    if delivery.options.shape == "meshes":
        return delivery.static_mesh()
    return _of_cloud(delivery, delivery.static(PLAYED_STATIC_POINTS), delivery.trajectory)


def moving_shape(delivery: Delivery, name: str, texture: bool) -> PointCloud | PointSquares | TriMesh | PictureMesh:
    """What moves in a frame as the option `shape` wants it; ``texture``: a mesh wears its picture."""
    if delivery.options.shape == "meshes":
        return frame_surface(delivery, name, ("moving",), texture)
    return _of_cloud(delivery, delivery.moving(name, PLAYED_POINTS), one_frame(delivery, name))


def frame_surface(
    delivery: Delivery, name: str, layers: tuple[Layer, ...] | None, texture: bool
) -> TriMesh | PictureMesh:
    """The surface of a frame, with its picture or with the colours of its pixels; ``layers`` as in `surface`."""
    surface, camera = delivery.surface(name, layers), delivery.scene.trajectory[name].camera
    if texture:
        uv = (surface.pixels + 0.5) / [camera.width, camera.height]
        return PictureMesh(surface.vertices, surface.faces, uv, delivery.workspace.picture_path(name))
    columns, rows = surface.pixels.T
    return TriMesh(surface.vertices, surface.faces, delivery.workspace.picture(name)[rows, columns])


def sized(cloud: PointCloud, seen_by: Trajectory) -> SizedPoints:
    """Points that are as wide as their spacing; a lonely one as wide as a pixel of the camera nearest to it."""
    from scipy.spatial import cKDTree

    widths, points = local_spacing(cloud.points), cloud.points.astype(np.float64)
    lonely = widths <= 0  # also of points that lie five in one place
    if lonely.any():
        distance, nearest = cKDTree(seen_by.centres).query(points[lonely])
        widths[lonely] = distance / np.array([camera.fx for camera in seen_by.cameras])[nearest]
    return SizedPoints(cloud, widths)


def one_frame(delivery: Delivery, name: str) -> Trajectory:
    """The camera of one frame, delivered frame and unit."""
    return delivery.trajectory.part([name])


def _of_cloud(delivery: Delivery, cloud: PointCloud, seen_by: Trajectory) -> PointCloud | PointSquares:
    if delivery.options.shape == "points":
        return cloud
    down = seen_by.cam_from_world.rotation[:, 1].mean(axis=0)  # rows: the cameras' axes in the world
    return squares(cloud, sized(cloud, seen_by).widths, seen_by.centres, down)
