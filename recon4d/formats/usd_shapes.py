"""Points, squares and meshes as prims of a USD stage, still or with a sample per frame; the materials they wear.

Colours (`primvars:displayColor`) are linear, as USD has them; a material shows them as recorded light, without lamps.
Widths and confidences are rounded to so few values that the binary format stores them in about a byte each.

Source: OpenUSD documentation of UsdGeomPoints, UsdGeomMesh, UsdGeomPrimvarsAPI; UsdPreviewSurface specification.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import ExportError
from recon4d.formats.linear_light import linear_from_srgb
from recon4d.scene.mesh import TriMesh
from recon4d.scene.shapes import PictureMesh, PointSquares, SizedPoints, is_empty

if TYPE_CHECKING:
    from pxr import Usd, UsdGeom, UsdShade, Vt

Shape = SizedPoints | PointSquares | TriMesh
HOLD = 1e-3  # time codes before the next sample at which the last one is repeated
PRIMVARS = {
    "displayColor": "Color3fArray",
    "confidence": "FloatArray",
    "provenance": "IntArray",
    "object_id": "IntArray",
}


@dataclass
class ShapePrim:
    """A prim that shows shapes of one type: one for all times, or one per time code in increasing order."""

    stage: Usd.Stage
    path: str
    material: UsdShade.Material
    low: np.ndarray = field(default_factory=lambda: np.full(3, np.inf))  # bounds of all that was shown
    high: np.ndarray = field(default_factory=lambda: np.full(3, -np.inf))
    _last: tuple[int, dict[str, object]] = (0, {})
    _nothing_yet: tuple[Shape, float] | None = None  # first empty sample, written once there is something to show

    def show(self, shape: Shape, code: float | None = None) -> None:
        """Show a shape from a time code on; None: at all times. Raises ExportError for positions that are not finite.

        Where all shapes are empty there is no prim.

        USD blends arrays of equal length between two samples, and a file cannot say that it must not. Where two
        neighbours have the same count the earlier is repeated just before the later: unrelated points are never
        blended.
        """
        if is_empty(shape) and not self.stage.GetPrimAtPath(self.path):
            self._nothing_yet = self._nothing_yet or (shape, code)
            return
        if self._nothing_yet is not None:  # without it the first sample would be shown before its time too
            self._write(*self._nothing_yet)
            self._nothing_yet = None
        self._write(shape, code)

    def _write(self, shape: Shape, code: float | None) -> None:
        from pxr import Usd

        count, values = _values(shape, with_normals=code is not None)
        bounds = _bounds(shape)
        if count:
            if not np.isfinite(bounds).all():
                raise ExportError("usd: a position is not finite: make the stage that wrote the points again")
            self.low, self.high = np.minimum(self.low, bounds[0]), np.maximum(self.high, bounds[1])
        prim = self._prim(shape, values)
        if code is not None and count and self._last[0] == count:
            for name, value in self._last[1].items():
                prim.GetAttribute(name).Set(value, code - HOLD)
        values["extent"] = _vec3(bounds)
        for name, value in values.items():
            prim.GetAttribute(name).Set(value, Usd.TimeCode.Default() if code is None else float(code))
        self._last = count, values

    def _prim(self, shape: Shape, values: dict[str, object]) -> Usd.Prim:
        """The prim with its attributes; made at the first call."""
        from pxr import Sdf, UsdGeom

        prim = self.stage.GetPrimAtPath(self.path)
        if prim:
            return prim
        if isinstance(shape, SizedPoints):
            geometry, domain = UsdGeom.Points.Define(self.stage, self.path), UsdGeom.Tokens.vertex
            geometry.CreateWidthsAttr()
            if "normals" in values:
                geometry.CreateNormalsAttr()
        else:
            geometry = define_mesh(self.stage, self.path)
            domain = UsdGeom.Tokens.uniform if isinstance(shape, PointSquares) else UsdGeom.Tokens.vertex
        geometry.CreatePointsAttr()
        geometry.CreateExtentAttr()
        primvars = UsdGeom.PrimvarsAPI(geometry)
        for name, kind in PRIMVARS.items():
            if f"primvars:{name}" in values:
                primvars.CreatePrimvar(name, getattr(Sdf.ValueTypeNames, kind), domain)
        bind(geometry.GetPrim(), self.material)
        return geometry.GetPrim()


def write_picture_mesh(stage: Usd.Stage, path: str, mesh: PictureMesh, picture: str) -> None:
    """A still mesh with its material; ``picture`` is the file's name as the stage finds it."""
    from pxr import Sdf, UsdGeom, Vt

    geometry = define_mesh(stage, path)
    for name, value in (_mesh_values(mesh.vertices, mesh.faces) | {"extent": _vec3(_range(mesh.vertices))}).items():
        geometry.GetPrim().GetAttribute(name).Set(value)
    st = UsdGeom.PrimvarsAPI(geometry).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
    # USD counts from the bottom left corner, ours from the top left.
    st.Set(Vt.Vec2fArray.FromNumpy(np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], axis=-1)))
    bind(geometry.GetPrim(), picture_material(stage, f"{path}_material", picture))


def define_mesh(stage: Usd.Stage, path: str) -> UsdGeom.Mesh:
    """A prim of triangles or squares as they are: not smoothed, seen from both sides."""
    from pxr import UsdGeom

    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(True)
    mesh.CreateFaceVertexCountsAttr()
    mesh.CreateFaceVertexIndicesAttr()
    mesh.CreatePointsAttr()
    mesh.CreateExtentAttr()
    return mesh


def bind(prim: Usd.Prim, material: UsdShade.Material) -> None:
    """Let a prim wear a material."""
    from pxr import UsdShade

    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material)


def color_material(stage: Usd.Stage, path: str) -> UsdShade.Material:
    """The material that shows `displayColor` as recorded light."""
    from pxr import Sdf, UsdShade

    material, surface = _recorded_light(stage, path)
    reader = UsdShade.Shader.Define(stage, f"{path}/colors")
    reader.CreateIdAttr("UsdPrimvarReader_float3")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
    output = reader.CreateOutput("result", Sdf.ValueTypeNames.Float3)
    surface.CreateInput("emissiveColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(output)
    return material


def picture_material(stage: Usd.Stage, path: str, picture: str) -> UsdShade.Material:
    """The material that shows a picture as recorded light, laid out by the primvar `st`."""
    from pxr import Sdf, UsdShade

    material, surface = _recorded_light(stage, path)
    reader = UsdShade.Shader.Define(stage, f"{path}/st")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    texture = UsdShade.Shader.Define(stage, f"{path}/picture")
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(picture)
    texture.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    for wrap in ("wrapS", "wrapT"):
        texture.CreateInput(wrap, Sdf.ValueTypeNames.Token).Set("clamp")
    uv = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(uv)
    rgb = texture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    surface.CreateInput("emissiveColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(rgb)
    return material


def _recorded_light(stage: Usd.Stage, path: str) -> tuple[UsdShade.Material, UsdShade.Shader]:
    """A material that only glows: the light is in the colours already, and lamps must not be added to it."""
    from pxr import Gf, Sdf, UsdShade

    material = UsdShade.Material.Define(stage, path)
    surface = UsdShade.Shader.Define(stage, f"{path}/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    black = Gf.Vec3f(0, 0, 0)
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(black)
    surface.CreateInput("useSpecularWorkflow", Sdf.ValueTypeNames.Int).Set(1)
    surface.CreateInput("specularColor", Sdf.ValueTypeNames.Color3f).Set(black)
    surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(1.0)
    output = surface.CreateOutput("surface", Sdf.ValueTypeNames.Token)
    material.CreateSurfaceOutput().ConnectToSource(output)
    return material, surface


def _values(shape: Shape, with_normals: bool) -> tuple[int, dict[str, object]]:
    """Number of points, and values of the attributes; without ``with_normals`` normals only where one is known."""
    from pxr import Vt

    if isinstance(shape, TriMesh):
        return len(shape.vertices), _mesh_values(shape.vertices, shape.faces) | _colors(shape.colors)
    cloud = shape.cloud
    values = _colors(cloud.colors) | {
        "primvars:confidence": Vt.FloatArray.FromNumpy(np.round(cloud.confidence * 255) / np.float32(255)),
        "primvars:provenance": Vt.IntArray.FromNumpy(cloud.provenance.astype(np.int32)),
        "primvars:object_id": Vt.IntArray.FromNumpy(cloud.object_id.astype(np.int32)),
    }
    if isinstance(shape, PointSquares):
        corners = shape.corners.reshape(-1, 3)
        return len(corners), values | _mesh_values(corners, np.arange(len(corners)).reshape(-1, 4))
    values |= {"points": _vec3(cloud.points), "widths": Vt.FloatArray.FromNumpy(_rounded(shape.widths))}
    if with_normals or cloud.normals.any():
        values["normals"] = _vec3(cloud.normals)
    return len(cloud), values


def _mesh_values(vertices: np.ndarray, faces: np.ndarray) -> dict[str, object]:
    from pxr import Vt

    return {
        "points": _vec3(vertices),
        "faceVertexCounts": Vt.IntArray.FromNumpy(np.full(len(faces), faces.shape[1], dtype=np.int32)),
        "faceVertexIndices": Vt.IntArray.FromNumpy(np.ascontiguousarray(faces, dtype=np.int32).reshape(-1)),
    }


def _colors(colors: np.ndarray) -> dict[str, object]:
    return {"primvars:displayColor": _vec3(linear_from_srgb(colors))}


def _vec3(rows: np.ndarray) -> Vt.Vec3fArray:
    from pxr import Vt

    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(rows, dtype=np.float32).reshape(-1, 3))


def _bounds(shape: Shape) -> np.ndarray:
    """(2, 3) bounds of what is drawn."""
    if isinstance(shape, SizedPoints):
        return _range(shape.cloud.points, _rounded(shape.widths)[:, None] / 2)
    return _range(shape.vertices if isinstance(shape, TriMesh) else shape.corners.reshape(-1, 3))


def _range(points: np.ndarray, radii: np.ndarray | float = 0.0) -> np.ndarray:
    """(2, 3) float32 least and largest coordinates; of no points USD's empty range."""
    if not len(points):
        return np.array([[1.0], [-1.0]], dtype=np.float32) * np.full(3, np.finfo(np.float32).max)
    return np.stack([(points - radii).min(axis=0), (points + radii).max(axis=0)])


def _rounded(widths: np.ndarray) -> np.ndarray:
    """Widths in steps of two hundredths, float32."""
    return np.exp2(np.round(np.log2(np.maximum(widths, 1e-9)) * 32) / 32).astype(np.float32)
