"""Points, triangles and pictures as nodes of a GLB.

Colours are made linear here. A point takes 16 bytes: int16 positions over the cloud's extent (6 bytes, padded to 8, as
every element must start on 4 bytes) and uint16 colours (8 bytes); linear bytes would take 4 less and lose dark tones.
Clouds of more than 13 m keep float32 positions (20 bytes a point): their error would pass a tenth of a millimetre
(scene units count like metres where those are not known).
Triangles keep float32 positions: readers built on Assimp, such as Open3D's, read int16 ones as nonsense without a word
(points they pass over).

Source: Khronos glTF 2.0 specification, section 3.7.2.1 (COLOR_0 is linear); KHR_mesh_quantization; KHR_materials_unlit.
"""

from __future__ import annotations

import numpy as np

from recon4d.errors import ExportError
from recon4d.formats.glb_file import ARRAY_BUFFER, Glb
from recon4d.formats.linear_light import linear_from_srgb_uint16
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh
from recon4d.scene.shapes import PictureMesh, PointSquares, is_empty

POINTS, TRIANGLES = 0, 4
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071
MOST_ERROR = 1e-4  # delivered units (metres where known) by which quantising may move a point
MIME = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}

Shape = PointCloud | PointSquares | TriMesh | PictureMesh


def shape_node(glb: Glb, name: str, shape: Shape) -> dict[str, object]:
    """A node, not yet in the file's list, that shows a shape. Raises ExportError when the shape is empty."""
    if is_empty(shape):
        raise ExportError(f"glb: {name} has no points or triangles, glTF cannot hold an empty one")
    if isinstance(shape, PointCloud):
        return _cloud_node(glb, name, shape)
    if isinstance(shape, PointSquares):
        shape = shape.mesh()
    if isinstance(shape, PictureMesh):
        attributes = {"TEXCOORD_0": glb.accessor(shape.uv, ARRAY_BUFFER)}
        material = _plain_material(glb, _texture(glb, shape))
    else:
        attributes, material = {"COLOR_0": _vertex_colors(glb, shape.colors)}, _plain_material(glb)
    attributes["POSITION"] = glb.accessor(shape.vertices, ARRAY_BUFFER, bounds=True)
    primitive = {"attributes": attributes, "indices": glb.corners(shape.faces), "mode": TRIANGLES, "material": material}
    return {"name": name, "mesh": glb.add("meshes", {"name": name, "primitives": [primitive]})}


def _cloud_node(glb: Glb, name: str, cloud: PointCloud) -> dict[str, object]:
    """Node with points; they sit in a child, whose scale and offset bring quantised ones back."""
    low, high = cloud.points.min(axis=0).astype(np.float64), cloud.points.max(axis=0).astype(np.float64)
    positions, place = cloud.points, {}
    if (high - low).max() / 65534 / 2 <= MOST_ERROR:
        glb.require_extension("KHR_mesh_quantization")
        centre, step = (low + high) / 2, np.where(high > low, (high - low) / 65534, 1.0)
        # Plain int16, not normalised: trimesh does not apply "normalized" to positions.
        positions = np.round((cloud.points - centre) / step).astype(np.int16)
        place = {"translation": centre.tolist(), "scale": step.tolist()}
    attributes = {
        "POSITION": glb.accessor(positions, ARRAY_BUFFER, bounds=True),
        "COLOR_0": _vertex_colors(glb, cloud.colors),
    }
    primitive = {"attributes": attributes, "mode": POINTS, "material": _plain_material(glb)}
    mesh = glb.add("meshes", {"name": name, "primitives": [primitive]})
    child = {"name": f"{name} points", "mesh": mesh} | place
    return {"name": name, "children": [glb.add("nodes", child)]}


def _vertex_colors(glb: Glb, colors: np.ndarray) -> int:
    rgba = np.full((len(colors), 4), 65535, dtype=np.uint16)  # 4 channels keep every element on 4 bytes
    rgba[:, :3] = linear_from_srgb_uint16(colors)
    return glb.accessor(rgba, ARRAY_BUFFER, normalised=True)


def _texture(glb: Glb, shape: PictureMesh) -> int:
    """The picture's file embedded as it is."""
    view = glb.buffer_view(np.frombuffer(shape.picture.read_bytes(), dtype=np.uint8))
    mime = MIME[shape.picture.suffix.lower()]
    image = glb.add("images", {"name": shape.picture.stem, "bufferView": view, "mimeType": mime})
    filters = {"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR}
    sampler = filters | {"wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE}
    return glb.add("textures", {"source": image, "sampler": _once(glb, "samplers", sampler)})


def _plain_material(glb: Glb, texture: int | None = None) -> int:
    """The material that shows colours as they were recorded, from both sides; one per texture and file."""
    glb.use_extension("KHR_materials_unlit")
    surface: dict[str, object] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}  # for readers without unlit
    if texture is not None:
        surface["baseColorTexture"] = {"index": texture}
    material = {
        "name": "recorded light",
        "doubleSided": True,
        "pbrMetallicRoughness": surface,
        "extensions": {"KHR_materials_unlit": {}},
    }
    return _once(glb, "materials", material)


def _once(glb: Glb, kind: str, item: dict[str, object]) -> int:
    known = glb.json.setdefault(kind, [])
    return known.index(item) if item in known else glb.add(kind, item)
