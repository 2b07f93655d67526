"""The demo: a clip made on the spot goes through the line like a user's, and is scored against its exact truth."""

from __future__ import annotations

import json
from pathlib import Path

from recon4d.errors import WorkspaceError
from recon4d.formats.text_files import write_text
from recon4d.progress import Progress
from recon4d.workspace import Workspace

MARKER = "demo.json"
VERSION = 1  # of the clip; raised when the same length gives another clip

SIMULATED = """
The depth of this demo is SIMULATED: it was made from the scene's exact truth by imitating the faults of a
video-depth model (unknown scale and shift, drift from window to window, flicker, bending, smeared edges).
No network has run. Poses, alignment, surfaces and fusion are computed as for any video. With your own clip:

    recon4d run clip.mp4 --out scene --depth.path depth.npz

where depth.npz holds what a real model made of the clip (DepthCrafter writes such a file).
"""


def run_demo(out: Path, frames: int, progress: Progress) -> Workspace:
    """Make the clip under ``out``/clip, the scene under ``out``/scene, print the scores, leave pictures in ``out``.

    Raises:
        WorkspaceError: ``out`` holds something that is not an earlier demo.
    """
    from recon4d.evaluation.report import format_scores
    from recon4d.pipeline import Options, run
    from recon4d.stages.depth_options import DepthOptions
    from recon4d.stages.evaluate import EvaluateOptions, evaluate
    from recon4d.view.contact_sheet import write_overview

    clip = make_clip(Path(out), frames, progress)
    options = Options(depth=DepthOptions(path=clip.simulated_depth))
    workspace = run(clip.video, Path(out) / "scene", options=options, progress=progress)
    truth = EvaluateOptions(
        depth_gt=clip.depth, trajectory_gt=clip.trajectory, mask_gt=clip.mask, json=Path(out) / "scores.json"
    )
    progress.say("\nscores against the exact truth:")
    progress.say(format_scores(evaluate(workspace, truth)))
    pictures = write_overview(workspace, Path(out))
    progress.say(SIMULATED)
    progress.say("look at:")
    export = workspace.unit_dir("export")
    pages = (workspace.root / "report.html", export / "html" / "index.html")
    for path in (*pages, *pictures, export / "glb" / "scene.glb", export / "ply" / "static.ply"):
        progress.say(f"    {path}")
    return workspace


def make_clip(out: Path, frames: int, progress: Progress) -> object:
    """The synthetic clip with its truth; the one of an earlier demo of the same length is used again."""
    from recon4d.synthetic.clip import clip_files, write_clip
    from recon4d.synthetic.scene import synthetic_scene

    wanted = {"demo": VERSION, "frames": frames}
    marker = out / MARKER
    if marker.is_file():
        if json.loads(marker.read_text(encoding="utf-8")) == wanted | {"complete": True}:
            progress.say("clip: the one of the last demo")
            return clip_files(out / "clip")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorkspaceError(f"demo: {out} holds something else: choose a new or empty folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_text(marker, json.dumps(wanted) + "\n")
    progress.say(f"clip: rendering {frames} frames of a room in which three things move")
    files = write_clip(out / "clip", synthetic_scene(count=frames), progress)
    write_text(marker, json.dumps(wanted | {"complete": True}) + "\n")
    return files
