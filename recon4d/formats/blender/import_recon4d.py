"""Builds a playable Blender scene from the files that recon4d exported beside this script.

From a terminal, in the folder of this script:
    blender --python import_recon4d.py
    blender --python import_recon4d.py -- --source usd --background mesh
    blender -b --python import_recon4d.py -- --save scene.blend
or open it in Blender's text editor, change the settings below if need be, and press Run.

It makes a Blender scene of its own and leaves the others alone: metres, z up, the clip's frame rate and length, the
background, what moves in each frame, the camera with its lens and path, and the video behind it. Run again for the same
clip, it replaces what it made before and keeps objects you added to that scene; other clips stay. Colours are those of
the video: the materials give off light, and the scene's view transform is Standard. Blender 4.2 or later (usd: 4.4);
tested with 4.5.
"""

import argparse
import json
import sys
from pathlib import Path

import bpy
import numpy as np

FOLDER = None  # the export folder, where this script cannot find it by itself: r"C:\clips\export"
SOURCE = None  # "ply", "usd" or "glb"; None: the first of these that was exported
BACKGROUND = "points"  # "points", "mesh", "both" or "none": what is shown of the background
MESHES = False  # True: the surface of each frame, from glb/meshes or ply/meshes, instead of points
PLATE = True  # False: no video behind the camera
POINT_SIZE = 1.0  # 1: points just cover the gaps between them
SAVE = None  # a .blend to save at the end

OLDEST = {"ply": (4, 2, 0), "glb": (4, 2, 0), "usd": (4, 4, 0)}
FILES = {"ply": "ply/static.ply", "usd": "usd/scene.usdc", "glb": "glb/scene.glb"}  # by preference: see Clip.source
AGAIN = "delete it if it is there, then export the scene again"
# Turns the delivered axes z-up; those of the model are a camera's: y down, z forward.
Z_UP = {"z": np.eye(3), "y": [[1, 0, 0], [0, 0, -1], [0, 1, 0]], "model": [[1, 0, 0], [0, 0, 1], [0, -1, 0]]}


class Problem(Exception):
    """Something the user can put right."""


def say(text):
    print(f"import_recon4d: {text}")


class Clip:
    """What `manifest.json` and `blender/clip.json` say about an export folder."""

    def __init__(self, folder):
        self.folder = folder
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            clip = json.loads((folder / "blender" / "clip.json").read_text(encoding="utf-8"))
            self.names, self.cameras, self.fps = manifest["names"], manifest["cameras"], float(manifest["fps"])
            times_s = np.array(manifest["timestamps_s"], dtype=float)
            # Of each frame of the clip the first of Blender's frames that shows it, counted from 1.
            self.frames, self.usd_codes = clip["frames"], clip["usd_codes"]
            # Two clips may have the same title; the id is the same whenever the same scene is exported again.
            self.pictures, self.title, self.id = clip["pictures"], clip["scene"], clip["id"]
            self.formats, self.files = clip["formats"], set(manifest["files"])
            self.layers, self.provenance = manifest["layers"], manifest["provenance"]
            self.z_up, self.in_metres = np.array(Z_UP[clip["up"]], dtype=float), clip["in_metres"]
        except OSError as error:
            raise Problem(f"{error.filename} cannot be read ({error.strerror}): {AGAIN}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise Problem(f"{folder}: manifest.json or blender/clip.json is damaged ({error!r}): {AGAIN}") from None
        self.starts_s = times_s - times_s[0]

    def source(self, wanted):
        """The wanted format, or the first that is there: PLY loses nothing and needs no files once it is imported."""
        there = [name for name, file in FILES.items() if (self.folder / file).is_file()]
        source = wanted or next(iter(there or [name for name in FILES if name in self.formats]))
        if source not in there:
            file = self.folder / FILES[source]
            if source not in self.formats:
                raise Problem(f"{file} was not exported: {self.export_with(source)}")
            raise Problem(f"{file} is missing: {AGAIN}" if FILES[source] in self.files else self.without("points"))
        if bpy.app.version < OLDEST[source]:
            oldest = ".".join(map(str, OLDEST[source][:2]))
            raise Problem(f"this is Blender {bpy.app.version_string}, {source} needs Blender {oldest} or later")
        return source

    def export_with(self, source):
        """The command that exports a format beside those that are there."""
        return f"recon4d export SCENE --to {' '.join([*self.formats, source])}"

    def without(self, what):
        """The sentence for an export in which nothing of a kind is left."""
        chosen = f"--layers {','.join(self.layers)}"
        if self.provenance is not None:
            chosen += f" --provenance {','.join(map(str, self.provenance))}"
        return f"no {what} in this export, made with {chosen}: export the scene with more layers, provenance or frames"

    def frame_at(self, time_s):
        """Blender's frame of the clip's frame that is nearest to a time, seconds from the first."""
        return self.frames[int(np.abs(self.starts_s - time_s).argmin())]


def find_folder():
    """Where the manifest is: beside this script, beside the file of this text block, or beside the .blend."""
    script = Path(globals().get("__file__", "import_recon4d.py"))
    places = [Path(FOLDER).expanduser()] if FOLDER else [script.parent]
    text = bpy.data.texts.get(script.name)  # in the text editor __file__ is FILE.blend/NAME OF THE TEXT
    if text is not None and text.filepath:
        places.append(Path(bpy.path.abspath(text.filepath)).parent)
    if bpy.data.filepath:
        places.append(Path(bpy.data.filepath).parent)
    for place in places:
        if (place / "manifest.json").is_file():
            return place.resolve()
    looked = ", ".join(dict.fromkeys(str(place.absolute()) for place in places))
    raise Problem(f"no manifest.json in {looked}: set FOLDER at the top of the script to the export folder")


def read_options():
    """The settings above, or what follows `--` in the terminal."""
    parser = argparse.ArgumentParser("import_recon4d.py", description="Builds a Blender scene from a recon4d export.")
    parser.add_argument("--source", choices=tuple(FILES), default=SOURCE)
    parser.add_argument("--background", choices=("points", "mesh", "both", "none"), default=BACKGROUND)
    parser.add_argument("--meshes", action="store_true", default=MESHES, help="surfaces of the frames, no points")
    parser.add_argument("--no-plate", dest="plate", action="store_false", default=PLATE)
    parser.add_argument("--point-size", type=float, default=POINT_SIZE, help="1: points just cover the gaps")
    parser.add_argument("--save", default=SAVE, metavar="FILE.blend")
    if not bpy.app.binary_path:  # Blender as a Python module: python import_recon4d.py --source usd
        return parser.parse_args(sys.argv[1:])
    called = bool({"--python", "-P"} & set(sys.argv)) and "--" in sys.argv
    return parser.parse_args(sys.argv[sys.argv.index("--") + 1 :] if called else [])


def helpers_of(folder):
    """The modules beside the manifest, read afresh: those of another export may be loaded."""
    for name in [name for name in sys.modules if name.startswith("recon4d_blender_")]:
        del sys.modules[name]
    path, cached = str(folder / "blender"), sys.dont_write_bytecode
    sys.path.insert(0, path)
    sys.dont_write_bytecode = True
    try:
        import recon4d_blender_camera as camera
        import recon4d_blender_data as data
        import recon4d_blender_looks as looks
        import recon4d_blender_readers as readers
    except ModuleNotFoundError as error:
        raise Problem(f"{error.name}.py is missing in {path}: {AGAIN}") from None
    finally:
        sys.dont_write_bytecode = cached
        sys.path.remove(path)
    return camera, data, looks, readers


def build(options):
    """The Blender scene; returns it. Raises Problem."""
    clip = Clip(find_folder())
    source = None if options.meshes else clip.source(options.source)
    camera, data, looks, readers = helpers_of(clip.folder)
    scene = data.fresh_scene(clip)
    before = data.blocks()
    try:
        home = data.collection_of(clip.title, scene.collection)
        pool = data.collection_of(f"{clip.title} frames", home, hidden=True)
        look = looks.Looks(clip.title, options.point_size)
        if options.meshes:
            readers.frame_meshes(clip, look, home, pool)
        else:
            points = readers.READERS[source](clip, look, home, pool)
            readers.show_background(clip, look, home, points, options.background)
        diagonal = data.diagonal(home)
        camera.add_camera(clip, scene, home, diagonal, options.plate)
        camera.look_through(diagonal)
    except readers.Damaged as error:
        raise Problem(f"{error}: {AGAIN}") from None
    except readers.Unreadable as error:
        raise Problem(str(error)) from None
    finally:
        data.tag(data.blocks() - before, clip)
    scene.frame_set(scene.frame_start)
    rate = f"{clip.fps:.4g} frames a second"
    say(f"scene '{scene.name}': {len(clip.names)} frames at {rate}, from {source or 'meshes of single frames'}")
    if not clip.in_metres:
        say("the size in metres is not known: the scene has no unit")
    return scene


def save(path):
    """Save the .blend with paths relative to it: the export folder can then be moved with it."""
    path = Path(path).expanduser().resolve()
    if not path.parent.is_dir():
        raise Problem(f"{path.parent} is not there: make the folder, or save to another one")
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.file.make_paths_relative()
    bpy.ops.wm.save_mainfile()


def main():
    try:
        options = read_options()
        # While Blender starts (--python) there is a window, though none is the current one.
        with bpy.context.temp_override(window=bpy.context.window or bpy.context.window_manager.windows[0]):
            build(options)
            if options.save:
                save(options.save)
    except Problem as problem:
        say(problem)
        message = str(problem)
        if bpy.app.background:
            sys.exit(1)
        bpy.context.window_manager.popup_menu(lambda menu, _: menu.layout.label(text=message), title="import_recon4d")


if __name__ == "__main__":
    main()
