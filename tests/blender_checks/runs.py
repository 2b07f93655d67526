"""Runs of the import script one after the other in one Blender, for tests/test_blender_import.py.

Arguments: one JSON text, a list of runs; each has export, arguments, and text (the script is opened in the text editor
of a .blend, and __file__ is what Blender makes of that). Prints a JSON line per run.
"""

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path

import bpy
import numpy as np


def main():
    added = []
    for run in json.loads(sys.argv[1]):
        script = Path(run["export"]) / "import_recon4d.py"
        sys.argv = [str(script), *run.get("arguments", [])]
        said, code = io.StringIO(), 0
        with contextlib.redirect_stdout(said):
            try:
                if run.get("text"):
                    text = bpy.data.texts.load(str(script))
                    names = {"__name__": "__main__", "__file__": f"/no/such/place/clip.blend/{text.name}"}
                    exec(compile(text.as_string(), names["__file__"], "exec"), names)
                else:
                    runpy.run_path(str(script), run_name="__main__")
            except SystemExit as exit_:
                code = exit_.code
        scene = bpy.context.scene
        facts = {"code": code, "said": [line for line in said.getvalue().splitlines() if "import_recon4d" in line]}
        print(json.dumps(facts | counts(scene) | {"added": [name for name in added if bpy.data.objects.get(name)]}))
        if not code:
            name = f"of the user {len(added)}"
            scene.collection.objects.link(bpy.data.objects.new(name, None))
            added.append(name)


def counts(scene):
    kinds = ("objects", "meshes", "pointclouds", "materials", "node_groups", "images", "actions", "cameras", "scenes")
    here = {kind: len(getattr(bpy.data, kind)) for kind in (*kinds, "collections", "cache_files")}
    default = sorted(item.name for item in bpy.data.scenes["Scene"].objects)
    return {"counts": here, "scene": scene.name, "default": default, "finite": bool(np.isfinite(scene.render.fps_base))}


main()
