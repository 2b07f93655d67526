"""What all scenes of one Blender show after several imports, for tests/test_blender_import.py.

Arguments: a JSON text and the .npz to write. JSON: by_hand (a .glb that is imported first as anybody would), objects
(names of empties made first), runs (each with export and arguments).
"""

import json
import runpy
import sys
from pathlib import Path

import bpy
import numpy as np
from facts import shown


def main():
    task, target = json.loads(sys.argv[1]), sys.argv[2]
    if "by_hand" in task:
        bpy.ops.import_scene.gltf(filepath=task["by_hand"])
    for name in task.get("objects", []):
        bpy.context.scene.collection.objects.link(bpy.data.objects.new(name, None))
    before = set(bpy.context.scene.objects)
    for run in task["runs"]:
        sys.argv = ["import_recon4d.py", *run.get("arguments", [])]
        runpy.run_path(str(Path(run["export"]) / "import_recon4d.py"), run_name="__main__")
    assert set(bpy.data.scenes["Scene"].objects) == before, "objects of the user's scene have changed"
    facts = {"scenes": sorted(scene.name for scene in bpy.data.scenes if scene.name.startswith("recon4d"))}
    for name in facts["scenes"]:
        scene = bpy.context.window.scene = bpy.data.scenes[name]
        facts[f"{name}/range"] = [scene.frame_start, scene.frame_end]
        for frame in range(scene.frame_start, scene.frame_end + 1):
            scene.frame_set(frame)
            for title, (points, _, _) in shown(scene).items():
                facts[f"{name}/{title.partition('.')[0]} {frame}"] = points
    np.savez(target, **facts)


main()
