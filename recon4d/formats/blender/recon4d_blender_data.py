"""Data-blocks, collections, keys and scenes of Blender, for import_recon4d.py."""

import bpy
import numpy as np

TAG = "recon4d"  # property of all that was made by the import; its value is the clip's id
CONSTANT, LINEAR = 0, 1  # Blender's numbers of kinds of interpolation
KINDS = ("objects", "meshes", "pointclouds", "cameras", "lights", "materials", "images", "node_groups", "actions")


def blocks():
    """All data of the file but scenes, texts, screens and the like."""
    return {item for kind in (*KINDS, "cache_files", "collections", "worlds") for item in getattr(bpy.data, kind)}


def tag(items, clip):
    for item in items:
        item[TAG] = clip.id


def collection_of(title, parent, hidden=False):
    collection = bpy.data.collections.new(title)
    collection.hide_viewport = collection.hide_render = hidden
    parent.children.link(collection)
    return collection


def object_of(title, data, collection):
    item = bpy.data.objects.new(title, data)
    collection.objects.link(item)
    return item


def fresh_scene(clip):
    """The clip's own Blender scene; what an earlier run made is removed, what the user added or set stays."""
    scene = next((item for item in bpy.data.scenes if item.get(TAG) == clip.id), None)
    bpy.data.batch_remove([item for item in blocks() if item.get(TAG) == clip.id])
    if scene is None:
        scene = bpy.data.scenes.new(f"recon4d {clip.title}")
        scene[TAG] = clip.id
        scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
        scene.sync_mode = "FRAME_DROP"  # plays as long as the clip, on slow machines too
        if hasattr(scene, "cycles"):
            scene.cycles.samples, scene.cycles.use_denoising = 16, False  # there is no light to be sampled
    bpy.context.window.scene = scene
    units, render = scene.unit_settings, scene.render
    units.system, units.scale_length = ("METRIC" if clip.in_metres else "NONE"), 1.0
    render.fps = max(1, round(clip.fps))
    render.fps_base = render.fps / clip.fps
    scene.frame_start, scene.frame_end = clip.frames[0], clip.frames[-1]
    return scene


def curves_of(block):
    """Animation curves of a data-block. From Blender 4.4 on an action has a slot for each: a camera's lens and path may
    share one, and `Action.fcurves` shows the first slot alone (or, from 5.0 on, is gone)."""
    action, slot = block.animation_data.action, getattr(block.animation_data, "action_slot", None)
    if slot is None:
        return action.fcurves
    return action.layers[0].strips[0].channelbag(slot).fcurves


def animate(owner, name, frames, values, kind):
    """Keys of a property, a row of ``values`` for each frame; of several keys in one frame the last holds."""
    rows = dict(zip(frames, np.asarray(values, dtype=float).reshape(len(frames), -1)))
    frames = np.array(sorted(rows), dtype=float)
    values = np.stack([rows[frame] for frame in frames])
    owner.keyframe_insert(name, frame=frames[0])
    path = owner.path_from_id(name)
    for curve in curves_of(owner.id_data):
        if curve.data_path == path:
            keys = curve.keyframe_points
            keys.add(len(frames) - len(keys))
            keys.foreach_set("co", np.stack([frames, values[:, curve.array_index]], axis=1).ravel())
            keys.foreach_set("interpolation", np.full(len(frames), kind, dtype=np.int32))
            curve.update()


def diagonal(collection):
    """Length of the box around the objects of a collection at the first frame, hidden ones too; 1 for none."""
    bpy.context.view_layer.update()
    corners = [item.matrix_world @ _vector(corner) for item in collection.all_objects for corner in item.bound_box]
    corners = np.array([corner for corner in corners if np.isfinite(corner).all()]).reshape(-1, 3)
    return float(np.linalg.norm(np.ptp(corners, axis=0))) or 1.0 if len(corners) else 1.0


def _vector(corner):
    from mathutils import Vector

    return Vector(corner)
