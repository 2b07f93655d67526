"""Runs in Blender: opens a GLB or USD file as anybody would, and says what is shown at some frames.

Arguments: the file, the .npz to write, and a JSON object: `frames` (fractional ones are allowed), `fps` (set before the
file is opened), `pixels` [width, height] and `points` [[x, y, z], ...] that the camera is asked about.
"""

import json
import sys

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector


def read(collection, name, width):
    values = np.empty(len(collection) * width, dtype=np.float32)
    collection.foreach_get(name, values)
    return values.reshape(-1, width)


def srgb(linear):
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def facts_of(item):
    data, matrix = item.data, np.array(item.matrix_world)
    at = (
        read(data.attributes["position"].data, "vector", 3)
        if len(data.attributes["position"].data)
        else np.zeros((0, 3))
    )
    facts = {"points": at @ matrix[:3, :3].T + matrix[:3, 3], "scale": np.array(matrix[:3, :3]).any()}
    for name in ("Color", "displayColor"):
        if name in data.attributes and len(data.attributes[name].data):
            facts["colors"] = srgb(read(data.attributes[name].data, "color", 4)[:, :3]) * 255
            facts["domain"] = data.attributes[name].domain
    for name in ("radius", "confidence"):
        if name in data.attributes and len(data.attributes[name].data):
            facts[name] = read(data.attributes[name].data, "value", 1)[:, 0]
    if item.type == "MESH":
        facts["corners"] = (
            read(data.loops, "vertex_index", 1)[:, 0].astype(int) if len(data.loops) else np.zeros(0, int)
        )
        if data.uv_layers:
            facts["uv"] = read(data.uv_layers[0].uv, "vector", 2)
    return facts


path, target, task = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.fps = task.get("fps", 24)
if path.endswith(".glb"):
    bpy.ops.import_scene.gltf(filepath=path)
else:
    bpy.ops.wm.usd_import(filepath=path)
found = {"range": [scene.frame_start, scene.frame_end]}
for image in bpy.data.images:
    if image.size[0]:
        found["image"] = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)
for material in bpy.data.materials:
    links = [f"{link.from_node.bl_idname} > {link.to_socket.name}" for link in material.node_tree.links]
    found[f"material/{material.name}"] = sorted(links)
for frame in task["frames"]:
    scene.frame_set(int(frame), subframe=frame - int(frame))
    graph = bpy.context.evaluated_depsgraph_get()
    for item in scene.objects:
        shown = item.evaluated_get(graph)
        if item.type == "CAMERA":
            scene.render.resolution_x, scene.render.resolution_y = task["pixels"]
            seen = [world_to_camera_view(scene, shown, Vector(point)) for point in task["points"]]
            found[f"{frame}/camera/seen"] = np.array(seen)
            found[f"{frame}/camera/lens"] = [shown.data.lens, shown.data.sensor_width]
        elif item.type in ("MESH", "POINTCLOUD"):
            for key, value in facts_of(shown).items():
                found[f"{frame}/{item.name}/{key}"] = value
np.savez(target, **found)
