"""The camera of the clip, its path, and the video behind it, for import_recon4d.py."""

import itertools

import bpy
import numpy as np
from mathutils import Matrix
from recon4d_blender_data import LINEAR, animate, object_of

SENSOR_MM = 36.0
# Blender's cameras look along -z with y up, the clip's along z with y down.
TURN = np.diag([1.0, -1.0, -1.0])


def add_camera(clip, scene, collection, diagonal, plate):
    """The camera with keys at each frame of the clip; it becomes the scene's."""
    data = bpy.data.cameras.new(f"{clip.title} camera")
    camera = object_of(data.name, data, collection)
    data.sensor_fit, data.sensor_width = "HORIZONTAL", SENSOR_MM
    data.clip_start, data.clip_end = 1e-4 * diagonal, 10 * diagonal
    data.display_size = 0.02 * diagonal
    scene.camera = camera
    first = clip.cameras[0]
    render, (aspect_x, aspect_y) = scene.render, pixel_aspect(first)
    render.resolution_x, render.resolution_y, render.resolution_percentage = first["width"], first["height"], 100
    render.pixel_aspect_x, render.pixel_aspect_y = aspect_x, aspect_y
    animate(camera, "location", clip.frames, [clip.z_up @ pose(item)[:3, 3] for item in clip.cameras], LINEAR)
    camera.rotation_mode = "QUATERNION"
    animate(camera, "rotation_quaternion", clip.frames, rotations(clip), LINEAR)
    lenses = np.array([lens(item, aspect_y / aspect_x) for item in clip.cameras])
    for column, name in enumerate(("lens", "shift_x", "shift_y")):
        setattr(data, name, lenses[0, column])
        if np.ptp(lenses[:, column]) > 1e-7:
            animate(data, name, clip.frames, lenses[:, column], LINEAR)
    if plate:
        add_plate(clip, data)


def pose(camera):
    return np.array(camera["world_from_cam"], dtype=float)


def rotations(clip):
    """(N, 4) quaternions w, x, y, z, each on the side of its predecessor: keys between q and -q would spin."""
    turned = [Matrix(clip.z_up @ pose(item)[:3, :3] @ TURN).to_quaternion() for item in clip.cameras]
    for before, after in itertools.pairwise(turned):
        if before.dot(after) < 0:
            after.negate()
    return np.array(turned)


def pixel_aspect(camera):
    """Width and height of a pixel, the smaller one 1 as Blender wants it."""
    ratio = camera["fx"] / camera["fy"]
    if abs(ratio - 1) < 1e-6:
        return 1.0, 1.0
    return (1.0, ratio) if ratio > 1 else (1 / ratio, 1.0)


def lens(camera, pixel_height):
    """Focal length in mm, and shift in widths of the sensor; ``pixel_height`` is that of a pixel of width 1."""
    width, height = camera["width"], camera["height"]
    shift_x, shift_y = (width / 2 - camera["cx"]) / width, (camera["cy"] - height / 2) / width * pixel_height
    return SENSOR_MM * camera["fx"] / width, shift_x, shift_y


def add_plate(clip, camera):
    """The pictures behind the camera: one file for each of Blender's frames, numbered like them."""
    path = clip.folder / clip.pictures
    if not path.is_file():
        print(f"import_recon4d: pictures of the video are missing ({path}): the camera has none behind it")
        return
    image = bpy.data.images.load(str(path))
    image.name, image.source = f"{clip.title} video", "SEQUENCE"
    if bpy.data.filepath:
        image.filepath = bpy.path.relpath(image.filepath)  # so that the folder can be moved
    plate = camera.background_images.new()
    plate.image, plate.alpha, plate.display_depth, plate.frame_method = image, 1.0, "BACK", "STRETCH"
    user = plate.image_user
    user.frame_start, user.frame_offset, user.frame_duration = clip.frames[0], clip.frames[0] - 1, clip.frames[-1]
    user.use_auto_refresh = True
    camera.show_background_images = True


def look_through(diagonal):
    """In all 3D views of the windows: through the camera, with colours, and nothing cut off far away."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                space = area.spaces.active
                space.shading.type = "MATERIAL"
                space.clip_start, space.clip_end = 1e-4 * diagonal, 10 * diagonal
                if space.region_3d:
                    space.region_3d.view_perspective = "CAMERA"
