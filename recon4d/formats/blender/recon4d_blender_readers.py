"""Points and meshes of PLY, GLB and USD, made playable, for import_recon4d.py."""

import json
import struct

import bpy
import numpy as np
from mathutils import Matrix
from recon4d_blender_data import CONSTANT, animate, blocks, object_of
from recon4d_blender_looks import add_nodes, colours_of, is_surface, play, set_radius

SCALARS = {"float": "<f4", "uchar": "u1", "ushort": "<u2", "int": "<i4"}
FACE = np.dtype([("count", "u1"), ("corners", "<i4", (3,))])
NUMBERS = {"confidence": ("FLOAT", np.float32), "provenance": ("INT", np.int32), "object_id": ("INT", np.int32)}
# USD files here hold a sample until just before the next: a time this much after it is safe from rounding, codes.
AFTER_SAMPLE = 0.01


class Unreadable(Exception):
    """A file that is missing or damaged."""


# -- PLY --------------------------------------------------------------------------------------------------------------


def read_ply(path):
    """Vertices as a structured array, and (T, 3) triangles: the binary files of recon4d, nothing else."""
    try:
        head, _, body = path.read_bytes().partition(b"end_header\n")
        lines = [line.split() for line in head.decode("ascii").splitlines()]
        counts = {line[1]: int(line[2]) for line in lines if line[0] == "element"}
        fields = [(line[2], SCALARS[line[1]]) for line in lines if line[0] == "property" and line[1] != "list"]
        rows = np.frombuffer(body, np.dtype(fields), counts["vertex"])
        faces = np.frombuffer(body, FACE, counts.get("face", 0), rows.nbytes) if counts.get("face") else None
        return rows, np.zeros((0, 3), dtype=np.int32) if faces is None else faces["corners"]
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror}): export the scene again") from None
    except (ValueError, KeyError, IndexError) as error:
        raise Unreadable(f"{path} is damaged, or no PLY of recon4d ({error}): export the scene again") from None


def ply_object(path, title, clip, collection):
    """An object with the points or triangles of a file, z-up; None where it has none."""
    rows, faces = read_ply(path)
    if not len(rows):
        return None
    points = (np.stack([rows[axis] for axis in "xyz"], axis=1).astype(float) @ clip.z_up.T).astype(np.float32)
    data = bpy.data.meshes.new(title)
    data.vertices.add(len(rows))
    data.vertices.foreach_set("co", points.ravel())
    if len(faces):
        data.loops.add(faces.size)
        data.loops.foreach_set("vertex_index", faces.ravel())
        data.polygons.add(len(faces))
        data.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
        data.update(calc_edges=True)
    else:
        set_radius(data, points)
    rgba = np.ones((len(rows), 4), dtype=np.float32)
    rgba[:, :3] = np.stack([rows[name] for name in ("red", "green", "blue")], axis=1) / np.float32(255)
    data.attributes.new("Col", "BYTE_COLOR", "POINT").data.foreach_set("color_srgb", rgba.ravel())
    for name in set(NUMBERS) & set(rows.dtype.names):
        kind, number = NUMBERS[name]
        data.attributes.new(name, kind, "POINT").data.foreach_set("value", rows[name].astype(number))
    return object_of(title, data, collection)


def from_ply(clip, looks, home, pool):
    root = clip.folder / "ply"
    static = ply_object(root / "static.ply", f"{clip.title} background", clip, home)
    if static is not None:
        looks.dress(static)
    keys = [
        (frame, ply_object(root / "moving" / f"{name}.ply", f"{clip.title} {name}", clip, pool))
        for name, frame in zip(clip.names, clip.frames)
    ]
    play(f"{clip.title} moving", keys, looks, home)


# -- GLB --------------------------------------------------------------------------------------------------------------


def imported(operator, path, collection, **options):
    """The objects that one of Blender's importers makes, in a collection of ours. Raises Unreadable."""
    before = blocks()
    try:
        done = operator(filepath=str(path), **options)
    except RuntimeError as error:
        raise Unreadable(f"{path} cannot be imported: {str(error).strip()}") from None
    if "FINISHED" not in done:
        raise Unreadable(f"{path} cannot be imported: Blender's console says why")
    new = blocks() - before
    objects = [item for item in new if isinstance(item, bpy.types.Object)]
    for item in objects:
        for old in item.users_collection:
            old.objects.unlink(item)
        collection.objects.link(item)
    bpy.data.batch_remove([item for item in new if isinstance(item, bpy.types.Collection)])
    bpy.context.view_layer.update()
    return objects


def glb_objects(path, home, pool, looks):
    """{name of the node: object} of a .glb: transforms applied, animation left to `play`. ``static`` lies in home."""
    before, objects = blocks(), imported(bpy.ops.import_scene.gltf, path, home)
    for item in objects:
        if item.animation_data:
            item.animation_data_clear()
            item.scale = (1, 1, 1)  # of frames that are not shown at first it is 0
    bpy.data.batch_remove([item for item in blocks() if isinstance(item, bpy.types.Action) and item not in before])
    bpy.context.view_layer.update()
    world = {item: item.matrix_world.copy() for item in objects}
    found = {top_of(item).name: item for item in objects if item.type == "MESH"}
    for item in found.values():
        item.parent, item.matrix_world = None, Matrix.Identity(4)
        item.data.transform(world[item])
        points = np.empty((len(item.data.vertices), 3), dtype=np.float32)
        item.data.vertices.foreach_get("co", points.ravel())
        if not is_surface(item):
            set_radius(item.data, points)
    bpy.data.batch_remove([item for item in objects if item.type != "MESH"])
    for name, item in found.items():
        if name != "static":
            home.objects.unlink(item)
            pool.objects.link(item)
        if is_surface(item) or name == "static":
            looks.dress(item)
    return found


def top_of(item):
    """The node below the root, which turns the axes: quantised points lie in a child of their frame's node."""
    while item.parent is not None and item.parent.parent is not None:
        item = item.parent
    return item


def glb_times(path):
    """{name of the node: [(second, whether it is shown from then on)]}, from the keys of the nodes' scales."""
    try:
        data = path.read_bytes()
        length = struct.unpack_from("<I", data, 12)[0]
        gltf, binary = json.loads(data[20 : 20 + length]), memoryview(data)[28 + length :]
    except (OSError, ValueError, struct.error) as error:
        raise Unreadable(f"{path} cannot be read ({error}): export the scene again") from None

    def numbers(index, columns):
        accessor = gltf["accessors"][index]
        offset = gltf["bufferViews"][accessor["bufferView"]].get("byteOffset", 0) + accessor.get("byteOffset", 0)
        return np.frombuffer(binary, "<f4", accessor["count"] * columns, offset).reshape(-1, columns)[:, 0]

    times = {}
    for animation in gltf.get("animations", []):
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            if channel["target"]["path"] == "scale":
                name = gltf["nodes"][channel["target"]["node"]]["name"]
                times[name] = list(zip(numbers(sampler["input"], 1), numbers(sampler["output"], 3) > 0.5))
    return times


def glb_keys(clip, found, times):
    """(Blender's frame, object or None) for `play`: what each node says of itself; without keys it is always shown."""
    changes = {}
    for name, item in found.items():
        for second, shown in times.get(name, [(0.0, True)]):
            frame = clip.frame_at(second)
            if shown:
                changes[frame] = item
            else:
                changes.setdefault(frame, None)
    return sorted(changes.items(), key=lambda change: change[0])


def from_glb(clip, looks, home, pool):
    path = clip.folder / "glb" / "scene.glb"
    found, times = glb_objects(path, home, pool, looks), glb_times(path)
    static = found.pop("static", None)
    if static is not None:
        static.name = f"{clip.title} background"
    play(f"{clip.title} moving", glb_keys(clip, found, times), looks, home)


# -- USD --------------------------------------------------------------------------------------------------------------


def from_usd(clip, looks, home, pool):
    """The points or meshes of the stage; Blender reads those of each frame from the file while it plays."""
    looks.size *= 2**0.5  # widths in the file are the spacing, see `set_radius`
    skipped = {"import_cameras": False, "import_lights": False, "import_materials": False, "set_frame_range": False}
    before = blocks()
    objects = imported(bpy.ops.wm.usd_import, clip.folder / "usd" / "scene.usdc", home, **skipped)
    world = {item: item.matrix_world.copy() for item in objects}
    shapes = [item for item in objects if item.type in {"MESH", "POINTCLOUD"}]
    for item in shapes:
        item.parent, item.matrix_world = None, world[item]
        plays = any(modifier.type == "MESH_SEQUENCE_CACHE" for modifier in item.modifiers)
        item.name = f"{clip.title} {'moving' if plays else 'background'}"
        if item.type == "MESH":  # the one of the first frame may be empty
            item.data.materials.clear()
            item.data.materials.append(looks.material("displayColor"))
        else:
            add_nodes(item, looks.points("displayColor"))
    bpy.data.batch_remove([item for item in objects if item not in shapes])
    for cache in blocks() - before:
        if isinstance(cache, bpy.types.CacheFile):
            cache.override_frame = True
            codes = [code + AFTER_SAMPLE for code in clip.usd_codes]
            animate(cache, "frame", clip.frames, codes, CONSTANT)


READERS = {"ply": from_ply, "glb": from_glb, "usd": from_usd}


# -- surfaces ---------------------------------------------------------------------------------------------------------


def show_background(clip, looks, home, wanted):
    """Show the background as points, mesh, both or not at all; its mesh is read only when it is to be shown."""
    points = home.objects.get(f"{clip.title} background")
    if points is not None and wanted in {"mesh", "none"}:
        points.hide_render = points.hide_viewport = True
    if wanted in {"mesh", "both"}:
        add_static_mesh(clip, looks, home)


def add_static_mesh(clip, looks, home):
    """The background's mesh, from PLY or GLB."""
    ply, glb = clip.folder / "ply" / "static_mesh.ply", clip.folder / "glb" / "static_mesh.glb"
    title = f"{clip.title} background mesh"
    if ply.is_file():
        mesh = ply_object(ply, title, clip, home)
        if mesh is not None:
            looks.dress(mesh)
    elif glb.is_file():
        next(iter(glb_objects(glb, home, home, looks).values())).name = title
    else:
        raise Unreadable(f"{clip.folder} has no mesh of the background: recon4d export SCENE --to ply")


def frame_meshes(clip, looks, home, pool):
    """The surface of each frame: from glb/meshes with the picture on it, else from ply/meshes with colours."""
    keys = []
    for name, frame in zip(clip.names, clip.frames):
        glb, ply = (clip.folder / kind / "meshes" / f"{name}.{kind}" for kind in ("glb", "ply"))
        mesh = None
        if glb.is_file():
            mesh = next(iter(glb_objects(glb, home, pool, looks).values()), None)
        elif ply.is_file():
            mesh = ply_object(ply, f"{clip.title} {name}", clip, pool)
            if mesh is not None and colours_of(mesh):
                looks.dress(mesh)
        keys.append((frame, mesh))
    if not any(mesh for _, mesh in keys):
        raise Unreadable(f"{clip.folder} has no meshes of single frames: recon4d export SCENE --to glb")
    play(f"{clip.title} surfaces", keys, looks, home)
