"""OpenUSD: a stage that plays a scene with its camera, and packages of one textured mesh.

A stage is metric, with y or z up; model axes (y down) are turned upright by the root prim. Crate files (`.usdc`) are
saved every few frames, which lets go of the samples in memory.

Source: OpenUSD documentation of UsdStage metadata, UsdGeomMetrics and the usdz package format.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d._version import __version__
from recon4d.errors import ExportError, first_line, require
from recon4d.formats.axes import Up
from recon4d.formats.usd_camera import add_camera, time_codes
from recon4d.formats.usd_shapes import Shape, ShapePrim, color_material, is_empty, write_picture_mesh
from recon4d.scene.depth import Provenance
from recon4d.scene.mesh import TriMesh
from recon4d.scene.shapes import PictureMesh
from recon4d.scene.trajectory import Trajectory

if TYPE_CHECKING:
    from pxr import Usd

SAVED_EVERY = 16  # frames
ALIGNED = 64  # bytes, in packages
PADDING = 0x1986  # USD's number of an extra field of a zip that only pads


# The stage's up axis, and the turn about x that brings the data there, degrees.
AXES = {Up.Z: ("Z", 0.0), Up.Y: ("Y", 0.0), Up.MINUS_Y: ("Y", 180.0)}


@dataclass(frozen=True)
class Head:
    """What a stage says about itself."""

    name: str  # of the scene: becomes the root prim's name
    up: Up
    in_metres: bool  # otherwise the stage says metres too (it must say something) and tells so in its custom data
    fps: float = 24.0


def write_scene(
    path: Path, head: Head, trajectory: Trajectory, shape_of: Callable[[str], Shape], static: Shape | None = None
) -> None:
    """Write a stage: the background, what moves with a sample per frame, and the camera.

    Prims: `/NAME/static`, `/NAME/moving`, `/NAME/NAME_camera`, `/NAME/recorded_light` (material). Time codes: see
    `time_codes`; the stage's range goes from the first frame to the whole code that shows the last.

    Args:
        path: the .usdc to write.
        trajectory: cameras and times of the frames, frame and unit of the points.
        shape_of: reads the shape of a name, of the same type for all; called once per frame, in order.
        static: the background.

    Raises:
        ExportError: the times do not increase, or a position is not finite.
        MissingDependency: usd-core is not installed.
    """
    if (np.diff(trajectory.timestamps_s) <= 0).any():
        raise ExportError(
            f"usd: the times of the {len(trajectory)} frames do not increase: make the frames stage again"
        )
    fps = round(head.fps, 6)
    codes = time_codes(trajectory.timestamps_s, fps)
    with _stage(path, head) as (stage, root):
        stage.SetTimeCodesPerSecond(fps)
        stage.SetFramesPerSecond(fps)
        stage.SetStartTimeCode(float(codes[0]))
        stage.SetEndTimeCode(float(np.ceil(codes[-1])))  # Blender stops at the whole code before
        material = color_material(stage, f"{root}/recorded_light")
        background = ShapePrim(stage, f"{root}/static", material)
        if static is not None:
            background.show(static)
        moving = ShapePrim(stage, f"{root}/moving", material)
        for i, (name, code) in enumerate(zip(trajectory.names, codes, strict=True)):
            moving.show(shape_of(name), code)
            if i % SAVED_EVERY == SAVED_EVERY - 1:
                stage.Save()
        low, high = np.minimum(background.low, moving.low), np.maximum(background.high, moving.high)
        camera = f"{root}/{root[1:]}_camera"
        add_camera(stage, camera, trajectory, codes, _far(trajectory.centres, low, high))


def write_mesh_package(path: Path, head: Head, mesh: TriMesh | PictureMesh) -> None:
    """Write a .usdz that holds one mesh and, where it wears one, its picture as it is.

    Raises:
        ExportError: the mesh has no triangles, or a position is not finite.
        MissingDependency: usd-core is not installed.
    """
    if is_empty(mesh):
        raise ExportError(f"usd: the mesh {path.stem} has no triangles")
    if not np.isfinite(mesh.vertices).all():
        raise ExportError("usd: a position is not finite: make the stage that wrote the points again")
    layer = path.with_name(f".{path.stem}.usdc")  # always the same: what a kill leaves is replaced by the next run
    try:
        with _stage(layer, head) as (stage, root):
            if isinstance(mesh, PictureMesh):
                write_picture_mesh(stage, f"{root}/mesh", mesh, f"./{mesh.picture.name}")
            else:
                ShapePrim(stage, f"{root}/mesh", color_material(stage, f"{root}/recorded_light")).show(mesh)
        parts = {f"{path.stem}.usdc": layer.read_bytes()}  # the first file is the one that is opened
        if isinstance(mesh, PictureMesh):
            parts[mesh.picture.name] = mesh.picture.read_bytes()
        _write_package(path, parts)
    finally:
        layer.unlink(missing_ok=True)


def _write_package(path: Path, parts: dict[str, bytes]) -> None:
    """A zip of stored files whose bytes begin on multiples of 64, as usdz has it; without times: same parts, same file.

    Source: "Usdz File Format Specification", OpenUSD documentation.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as package:
        for name, data in parts.items():
            item = zipfile.ZipInfo(name)  # of 1980, the first year a zip knows
            begins = package.fp.tell() + 30 + len(name.encode()) + 4  # the header of a file, and of the padding
            pad = -begins % ALIGNED
            item.extra = struct.pack("<HH", PADDING, pad) + bytes(pad)
            package.writestr(item, data)


@contextmanager
def _stage(path: Path, head: Head) -> Iterator[tuple[Usd.Stage, str]]:
    """A stage and the path of its root prim; saved when the block ends without an error, else removed."""
    require("pxr", "usd")
    from pxr import Tf, Usd, UsdGeom

    axis, turn = AXES[head.up]
    root = "/" + Tf.MakeValidIdentifier(f"_{head.name}" if head.name[:1].isdigit() else head.name)
    path.unlink(missing_ok=True)
    stage, done = None, False
    try:
        stage = Usd.Stage.CreateNew(str(path))
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        UsdGeom.SetStageUpAxis(stage, axis)
        prim = UsdGeom.Xform.Define(stage, root)
        stage.SetDefaultPrim(prim.GetPrim())
        if turn:
            prim.AddRotateXOp().Set(turn)
        units = "metres" if head.in_metres else "scene units (the size in metres is not known)"
        axes = "of the model, y roughly down" if turn else f"{axis} up"
        legend = ", ".join(f"{int(item)} {item.name.lower()}" for item in Provenance)
        stage.GetRootLayer().customLayerData = {
            "creator": f"recon4d {__version__}",
            "recon4d": {"units": units, "axes": axes, "provenance": legend},
        }
        yield stage, root
        stage.Save()
        done = True
    except Tf.ErrorException as error:
        # Its text names lines of the C++ source; what went wrong first stands in it as ... : 'Failed to write bytes'
        reason = str(error).partition(": '")[2].partition("'")[0] or "unknown reason"
        raise ExportError(
            f"usd: {path.name} cannot be written ({first_line(ValueError(reason))}): is there space left on the disk?"
        ) from error
    finally:
        del stage
        if not done:
            path.unlink(missing_ok=True)


def _far(centres: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Twice the largest distance of a camera to what is shown, so that nothing is clipped."""
    if not (low <= high).all():
        return 1000.0  # nothing is shown
    reach = np.maximum(np.abs(centres - low), np.abs(centres - high))
    return float(2 * np.linalg.norm(reach, axis=1).max())
