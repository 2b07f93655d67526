"""What Blender has after an import, for tests/test_blender_import.py: arguments are a JSON text and the file to write.

JSON: export (folder), arguments (of the import script), open (a .blend to open instead), points (N, 3) to be projected,
plate (render it at each frame), render (frames to render with Cycles), places (folder for pictures).
"""

import json
import runpy
import sys
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector


def main():
    task, target = json.loads(sys.argv[1]), sys.argv[2]
    if "open" in task:
        bpy.ops.wm.open_mainfile(filepath=task["open"])
    else:
        sys.argv = ["import_recon4d.py", *task.get("arguments", [])]
        runpy.run_path(str(Path(task["export"]) / "import_recon4d.py"), run_name="__main__")
    scene = bpy.context.scene
    facts = settings(scene)
    for frame in range(scene.frame_start, scene.frame_end + 1):
        scene.frame_set(frame)
        for name, (points, colours, radii) in shown(scene).items():
            facts |= {f"{name} {frame}": points, f"{name} colours {frame}": colours, f"{name} radii {frame}": radii}
        if task.get("points"):
            facts[f"pixels {frame}"] = project(scene, task["points"])
        facts[f"turn {frame}"] = np.array(scene.camera.matrix_world)
        facts[f"quaternion {frame}"] = np.array(scene.camera.rotation_quaternion)
    for frame in task.get("render", []):
        facts[f"render {frame}"] = render(scene, frame, task["places"])
    if task.get("plate"):
        facts |= plate_pictures(scene, task["places"])
    np.savez(target, **facts)


def settings(scene):
    render, units = scene.render, scene.unit_settings
    image = scene.camera.data.background_images[0].image if scene.camera.data.background_images else None
    return {
        "fps": render.fps / render.fps_base,
        "range": [scene.frame_start, scene.frame_end],
        "current": scene.frame_current,
        "units": [units.system, f"{units.scale_length}"],
        "size": [render.resolution_x, render.resolution_y],
        "view": scene.view_settings.view_transform,
        "scene": scene.name,
        "plate file": image.filepath if image else "",
        "files": [cache.filepath for cache in bpy.data.cache_files],
        "packed": len([item for item in bpy.data.objects if item.name.split()[-1].isdigit()]),
    }


def shown(scene):
    """{last word of the name: points, 8-bit sRGB colours, radii} of what is drawn; meshes give their vertices."""
    found = {}
    graph = bpy.context.evaluated_depsgraph_get()
    for item in graph.objects:
        if item.type not in {"MESH", "POINTCLOUD"} or item.hide_render:
            continue
        geometry = item.evaluated_geometry()
        for data in (geometry.pointcloud, geometry.mesh):
            count = 0 if data is None else len(data.attributes["position"].data)
            if not count and not (data is geometry.pointcloud and data is not None):
                continue
            points = numbers(data, "position", "vector", (count, 3)) @ np.array(item.matrix_world)[:3, :3].T
            points += np.array(item.matrix_world)[:3, 3]
            name = next((name for name in ("Col", "Color", "displayColor") if name in data.attributes), None)
            rows = len(data.attributes[name].data) if name else 0
            colours = numbers(data, name, "color_srgb", (rows, 4))[:, :3] * 255 if name else np.zeros((0, 3))
            radii = numbers(data, "radius", "value", (count,)) if "radius" in data.attributes else np.zeros(count)
            found[item.name.split(" ", 1)[-1]] = points, colours, radii
    return found


def numbers(data, attribute, field, shape):
    values = np.empty(int(np.prod(shape)), dtype=np.float32)
    if values.size:
        data.attributes[attribute].data.foreach_get(field, values)
    return values.reshape(shape).astype(np.float64)


def project(scene, points):
    found = [world_to_camera_view(scene, scene.camera, Vector(point)) for point in points]
    width, height = scene.render.resolution_x, scene.render.resolution_y
    return np.array([[x * width, (1 - y) * height] for x, y, _ in found])


def render(scene, frame, places):
    scene.frame_set(frame)
    scene.render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 4, "CPU"
    scene.cycles.pixel_filter_type = "BOX"
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(Path(places) / f"render{frame}.png")
    bpy.ops.render.render(write_still=True)
    return read_picture(scene.render.filepath)


def read_picture(path):
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    pixels = np.empty(width * height * 4, dtype=np.float32)
    image.pixels.foreach_get(pixels)
    return np.round(pixels.reshape(height, width, 4)[::-1, :, :3] * 255).astype(np.uint8)


def plate_pictures(scene, places):
    """The picture behind the camera at each frame: on a plane, with the very settings of the plate."""
    plate = scene.camera.data.background_images[0]
    width, height = scene.render.resolution_x, scene.render.resolution_y
    stage = bpy.data.scenes.new("plate")
    bpy.context.window.scene = stage
    material = bpy.data.materials.new("plate")
    material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    texture, glow, end = (nodes.new(f"ShaderNode{kind}") for kind in ("TexImage", "Emission", "OutputMaterial"))
    texture.image, texture.interpolation = plate.image, "Closest"
    for name in ("frame_start", "frame_offset", "frame_duration", "use_auto_refresh", "use_cyclic"):
        setattr(texture.image_user, name, getattr(plate.image_user, name))
    material.node_tree.links.new(texture.outputs[0], glow.inputs[0])
    material.node_tree.links.new(glow.outputs[0], end.inputs[0])
    mesh = bpy.data.meshes.new("plate")
    x, y = 0.5, 0.5 * height / width
    mesh.from_pydata([(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)], [], [(0, 1, 2, 3)])
    corners = mesh.uv_layers.new().data
    for corner, uv in zip(corners, ((0, 0), (1, 0), (1, 1), (0, 1))):
        corner.uv = uv
    mesh.materials.append(material)
    stage.collection.objects.link(bpy.data.objects.new("plate", mesh))
    camera = bpy.data.objects.new("eye", bpy.data.cameras.new("eye"))
    camera.data.type, camera.data.ortho_scale, camera.location = "ORTHO", 1.0, (0, 0, 1)
    stage.collection.objects.link(camera)
    stage.camera, stage.view_settings.view_transform = camera, "Standard"
    stage.render.resolution_x, stage.render.resolution_y = width, height
    stage.cycles.use_denoising = False
    frames = range(scene.frame_start, scene.frame_end + 1)
    return {f"plate {frame}": render(stage, frame, places) for frame in frames}


if __name__ == "__main__":
    main()
