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
LABELS = ("layer", "frame")  # extras of the nodes of a .glb
STATIC = ("layer", "static")
NUMBERS = {"confidence": ("FLOAT", np.float32), "provenance": ("INT", np.int32), "object_id": ("INT", np.int32)}
# USD files here hold a sample until just before the next: a time this much after it is safe from rounding, codes.
AFTER_SAMPLE = 0.01


class Unreadable(Exception):
    """A file that is not there or cannot be imported, or an export in which nothing is left."""


class Damaged(Unreadable):
    """A file that a new export puts right."""


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
        raise Damaged(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, IndexError) as error:
        raise Damaged(f"{path} is damaged, or no PLY of recon4d ({error})") from None


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
    if not (play(f"{clip.title} moving", keys, looks, home) or static):
        raise Unreadable(clip.without("points"))
    return static


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


def glb_objects(path, collection, looks):
    """{object: what its node says it is, see `label_of`} of a .glb: transforms applied, animation left to `play`."""
    before, objects = blocks(), imported(bpy.ops.import_scene.gltf, path, collection)
    for item in objects:
        if item.animation_data:
            item.animation_data_clear()
            item.scale = (1, 1, 1)  # of frames that are not shown at first it is 0
    bpy.data.batch_remove([item for item in blocks() if isinstance(item, bpy.types.Action) and item not in before])
    bpy.context.view_layer.update()
    world = {item: item.matrix_world.copy() for item in objects}
    found = {item: label_of(item) for item in objects if item.type == "MESH"}
    for item in found:
        item.parent, item.matrix_world = None, Matrix.Identity(4)
        item.data.transform(world[item])
        points = np.empty((len(item.data.vertices), 3), dtype=np.float32)
        item.data.vertices.foreach_get("co", points.ravel())
        if is_surface(item):
            looks.dress(item)
        else:
            set_radius(item.data, points)
    bpy.data.batch_remove([item for item in objects if item.type != "MESH"])
    return found


def label_of(item):
    """("layer", "static") or ("frame", NAME): the extras of the node that an object, or one above it, came from.

    Names do not tell: Blender changes one that is taken, and cuts long ones.
    """
    while item is not None:
        for kind in LABELS:
            if kind in item:
                return kind, item[kind]
        item = item.parent
    return None


def glb_times(path):
    """{label of a node: [(second, whether it is shown from then on)]}; without keys a node is always shown."""
    try:
        data = path.read_bytes()
        length = struct.unpack_from("<I", data, 12)[0]
        gltf, binary = json.loads(data[20 : 20 + length]), memoryview(data)[28 + length :]
    except (OSError, ValueError, struct.error) as error:
        raise Damaged(f"{path} cannot be read ({error})") from None

    def numbers(index, columns):
        accessor = gltf["accessors"][index]
        offset = gltf["bufferViews"][accessor["bufferView"]].get("byteOffset", 0) + accessor.get("byteOffset", 0)
        return np.frombuffer(binary, "<f4", accessor["count"] * columns, offset).reshape(-1, columns)[:, 0]

    labels = {
        number: (kind, node["extras"][kind])
        for number, node in enumerate(gltf["nodes"])
        for kind in LABELS
        if kind in node.get("extras", {})
    }
    times = {label: [(0.0, True)] for label in labels.values()}
    for animation in gltf.get("animations", []):
        for channel in animation["channels"]:
            sampler, target = animation["samplers"][channel["sampler"]], channel["target"]
            if target["path"] == "scale" and target["node"] in labels:
                keys = zip(numbers(sampler["input"], 1), numbers(sampler["output"], 3) > 0.5)
                times[labels[target["node"]]] = list(keys)
    return times


def glb_keys(clip, shown):
    """(Blender's frame, object or None) for `play`, from pairs of an object and what its node says of its times."""
    changes = {}
    for item, times in shown:
        for second, is_shown in times:
            frame = clip.frame_at(second)
            if is_shown:
                changes[frame] = item
            else:
                changes.setdefault(frame, None)
    return sorted(changes.items(), key=lambda change: change[0])


def from_glb(clip, looks, home, pool):
    path = clip.folder / "glb" / "scene.glb"
    times = glb_times(path)
    found = {label: item for item, label in glb_objects(path, home, looks).items()}
    if set(found) != set(times):
        lost = sorted(" ".join(label) for label in set(times) - set(found))
        if not lost:
            raise Damaged(f"{path} does not say which frames its parts are")
        raise Unreadable(f"Blender {bpy.app.version_string} does not import {lost[0]} of {path}: take another --source")
    static = found.pop(STATIC, None)
    if static is not None:
        static.name = f"{clip.title} background"
        if not is_surface(static):
            looks.dress(static)
    for (_, name), item in found.items():
        item.name = f"{clip.title} {name}"
        move(item, home, pool)
    keys = glb_keys(clip, [(item, times[label]) for label, item in found.items()])
    if not (play(f"{clip.title} moving", keys, looks, home) or static):
        raise Unreadable(clip.without("points"))
    return static


def move(item, old, new):
    old.objects.unlink(item)
    new.objects.link(item)


# -- USD --------------------------------------------------------------------------------------------------------------


def from_usd(clip, looks, home, pool):
    """The points or meshes of the stage; Blender reads those of each frame from the file while it plays."""
    looks.size *= 2**0.5  # widths in the file are the spacing, see `set_radius`
    skipped = {"import_cameras": False, "import_lights": False, "import_materials": False, "set_frame_range": False}
    before = blocks()
    objects = imported(bpy.ops.wm.usd_import, clip.folder / "usd" / "scene.usdc", home, **skipped)
    world = {item: item.matrix_world.copy() for item in objects}
    shapes = [item for item in objects if item.type in {"MESH", "POINTCLOUD"}]
    if not shapes:
        raise Unreadable(clip.without("points"))
    static = None
    for item in shapes:
        item.parent, item.matrix_world = None, world[item]
        if item.name.partition(".")[0] == "static":  # Blender adds .001 where the name is taken
            static = item
        item.name = f"{clip.title} {'background' if item is static else 'moving'}"
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
    return static


READERS = {"ply": from_ply, "glb": from_glb, "usd": from_usd}


# -- surfaces ---------------------------------------------------------------------------------------------------------


def show_background(clip, looks, home, points, wanted):
    """Show the background as points, mesh, both or not at all; its mesh is read only when it is to be shown."""
    if points is not None and wanted in {"mesh", "none"}:
        points.hide_render = points.hide_viewport = True
    if wanted in {"mesh", "both"}:
        add_static_mesh(clip, looks, home)


def add_static_mesh(clip, looks, home):
    """The background's mesh, from PLY or GLB."""
    ply, glb = clip.folder / "ply" / "static_mesh.ply", clip.folder / "glb" / "static_mesh.glb"
    title = f"{clip.title} background mesh"
    mesh = None
    if ply.is_file():
        mesh = ply_object(ply, title, clip, home)
        if mesh is not None:
            looks.dress(mesh)
    elif glb.is_file():
        mesh = next(iter(glb_objects(glb, home, looks)))
        mesh.name = title
    if mesh is None:
        raise Unreadable(no_mesh(clip, "mesh of the background", "ply"))


def frame_meshes(clip, looks, home, pool):
    """The surface of each frame: from glb/meshes with the picture on it, else from ply/meshes with colours."""
    keys = []
    for name, frame in zip(clip.names, clip.frames):
        glb, ply = (clip.folder / kind / "meshes" / f"{name}.{kind}" for kind in ("glb", "ply"))
        mesh = None
        if glb.is_file():
            mesh = next(iter(glb_objects(glb, home, looks)))
            mesh.name = f"{clip.title} {name}"
            move(mesh, home, pool)
        elif ply.is_file():
            mesh = ply_object(ply, f"{clip.title} {name}", clip, pool)
            if mesh is not None and colours_of(mesh):
                looks.dress(mesh)
        keys.append((frame, mesh))
    if not any(mesh for _, mesh in keys):
        raise Unreadable(no_mesh(clip, "meshes of single frames", "glb"))
    play(f"{clip.title} surfaces", keys, looks, home)


def no_mesh(clip, what, advised):
    """The sentence for meshes that are not there: not exported, or left out by what was chosen."""
    if {"ply", "glb"} & set(clip.formats):
        return clip.without(what)
    return f"{clip.folder} has no {what}: {clip.export_with(advised)}"
