"""Our drawings as nodes of viser's scene; the only module that knows how viser draws."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.glb import Up, write_shape
from recon4d.scene.mesh import TriMesh
from recon4d.view.live_drawings import Arrows, Drawing, Frusta, Frustum, Grid, Lines, Points, Surface

if TYPE_CHECKING:
    import viser

WIRE = (120, 200, 255)
CELL, SECTION = (70, 72, 80), (104, 107, 118)


class Nodes:
    """One node per layer; what has not changed is not sent again."""

    def __init__(self, server: viser.ViserServer) -> None:
        self.server = server
        self._drawn: dict[str, Drawing] = {}
        self._handles: dict[str, list[viser.SceneNodeHandle]] = {}
        self._shown: set[str] = set()
        self._eyes: list[np.ndarray] = []

    def show(self, key: str, drawing: Drawing, point_scale: float) -> None:
        """Show a drawing under a layer's key, instead of what was there."""
        handles, before = self._handles.get(key, []), self._drawn.get(key)
        if before is not drawing:
            if isinstance(drawing, Points) and isinstance(before, Points) and handles and len(drawing.points):
                # Two properties of one node: together, or the browser would see points without their colours.
                with self.server.atomic():
                    handles[0].points, handles[0].colors = drawing.points, drawing.colors
            else:
                for handle in handles:
                    handle.remove()
                handles = self._handles[key] = self._add(f"/{key.replace('/', ' ')}", drawing)
            self._drawn[key] = drawing
        for handle in handles:
            if isinstance(drawing, Points):
                handle.point_size = drawing.size * point_scale
        self._shown.add(key)
        self._set_visible(key)

    def make_way(self, eyes: Iterable[np.ndarray]) -> None:
        """Hide cameras that an eye is in, as their picture would fill its view, and show again those it has left.

        Args:
            eyes: (3,) each, shown frame.
        """
        self._eyes = list(eyes)
        for key in self._shown:
            self._set_visible(key)

    def _set_visible(self, key: str) -> None:
        drawing, handles = self._drawn[key], self._handles[key]
        wanted = self._clear(drawing) if isinstance(drawing, Frusta) else [True] * len(handles)
        for handle, visible in zip(handles, wanted, strict=True):
            if handle.visible != visible:
                handle.visible = visible

    def _clear(self, drawing: Frusta) -> list[bool]:
        """Of each camera, whether no eye is in it."""
        return [
            all(np.linalg.norm(eye - one.position) > picture_distance(one, drawing.size) for eye in self._eyes)
            for one in drawing.frusta
        ]

    def handles(self, key: str) -> list[viser.SceneNodeHandle]:
        """Viser's nodes of a layer; none where it has not been shown, or is empty."""
        return list(self._handles.get(key, ()))

    def hide(self, key: str) -> None:
        self._shown.discard(key)
        for handle in self._handles.get(key, ()):
            if handle.visible:
                handle.visible = False

    def _add(self, path: str, drawing: Drawing) -> list[viser.SceneNodeHandle]:
        """New nodes; none for what is empty, of which the browser would complain."""
        add = self.server.scene
        if isinstance(drawing, Points):
            looks = {"point_size": drawing.size, "point_shape": "circle", "point_shading": "flat"}
            looks["precision"] = "float32"  # the other choice is good to 4 mm at 8 m
            some = len(drawing.points)
            return [add.add_point_cloud(path, drawing.points, drawing.colors, **looks)] if some else []
        if isinstance(drawing, Surface):
            return self._add_surface(path, drawing)
        if isinstance(drawing, Lines):
            width = {"thickness": drawing.width_px, "thickness_units": "screen"}
            return [add.add_line_segments(path, drawing.ends, drawing.color, **width)] if len(drawing.ends) else []
        if isinstance(drawing, Arrows):
            w = drawing.width
            sizes = {"shaft_radius": w, "head_radius": 2.5 * w, "head_length": 6 * w}
            return [add.add_arrows(path, drawing.ends, drawing.color, **sizes)] if len(drawing.ends) else []
        if isinstance(drawing, Grid):
            return [self._add_grid(path, drawing)]
        return self._add_frusta(path, drawing)

    def _add_surface(self, path: str, drawing: Surface) -> list[viser.SceneNodeHandle]:
        if not len(drawing.faces):
            return []
        if drawing.wire:
            mesh = {"vertices": drawing.vertices, "faces": drawing.faces, "color": WIRE, "wireframe": True}
            return [self.server.scene.add_mesh_simple(path, **mesh)]
        # Only a GLB carries a colour per corner; unlit, so that colours are those of the pictures.
        return [self.server.scene.add_glb(path, surface_glb(drawing), cast_shadow=False, receive_shadow=False)]

    def _add_grid(self, path: str, drawing: Grid) -> viser.SceneNodeHandle:
        return self.server.scene.add_grid(
            path,
            drawing.extent,
            drawing.extent,
            plane="xy",
            cell_size=drawing.square,
            section_size=5 * drawing.square,
            cell_color=CELL,
            section_color=SECTION,
            position=drawing.centre,
            shadow_opacity=0.0,
        )

    def _add_frusta(self, path: str, drawing: Frusta) -> list[viser.SceneNodeHandle]:
        return [
            self.server.scene.add_camera_frustum(
                f"{path}/{one.name}",
                one.fov_rad,
                one.aspect,
                scale=drawing.size,
                thickness=drawing.width_px,
                thickness_units="screen",
                color=drawing.color,
                image=one.picture,
                format="jpeg",
                jpeg_quality=80,
                wxyz=one.quat_wxyz,
                position=one.position,
                cast_shadow=False,
                receive_shadow=False,
                visible=visible,
            )
            for one, visible in zip(drawing.frusta, self._clear(drawing), strict=True)
        ]


def picture_distance(one: Frustum, size: float) -> float:
    """How far before the camera viser draws its picture: ``size`` cubed is a quarter of the pyramid's volume."""
    half_height = np.tan(one.fov_rad / 2)
    return float(size / np.cbrt(half_height * half_height * one.aspect / 3))


def surface_glb(drawing: Surface) -> bytes:
    """A GLB with linear colours in the axes of the drawing: viser takes it as it is, without glTF's y-up."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "surface.glb"
        write_shape(path, TriMesh(drawing.vertices, drawing.faces, drawing.colors), Up.Y)
        return path.read_bytes()


def look_through(client: viser.ClientHandle, position: np.ndarray, quat_wxyz: np.ndarray, fov_rad: float) -> None:
    """Put a browser's eye where a camera is; fov_rad is vertical, for a window at least as wide as the picture."""
    with client.atomic():
        client.camera.position = position
        client.camera.wxyz = quat_wxyz
        client.camera.fov = fov_rad


def look_from(client: viser.ClientHandle, position: np.ndarray, look_at: np.ndarray, fov_rad: float) -> None:
    """Put a browser's eye at a place, upright."""
    with client.atomic():
        client.camera.up_direction = (0.0, 0.0, 1.0)
        client.camera.position = position
        client.camera.look_at = look_at
        client.camera.fov = fov_rad
