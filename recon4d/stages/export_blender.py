"""Export to Blender: the script that builds a playable scene from the files beside it, and what it needs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

import recon4d
from recon4d.formats.disk import link_or_copy
from recon4d.formats.usd_camera import time_codes
from recon4d.stages.export_delivery import Delivery
from recon4d.workspace import Workspace

SCRIPT = "import_recon4d.py"


def write_import_script(delivery: Delivery) -> None:
    """`import_recon4d.py`, and in `blender/` its parts, `clip.json`, and the pictures that stand behind the camera."""
    root, folder = delivery.part.path, delivery.folder("blender")
    for source in sorted((Path(recon4d.__file__).parent / "formats" / "blender").glob("*.py")):
        shutil.copyfile(source, (root if source.name == SCRIPT else folder) / source.name)
    frames = blender_frames(delivery.starts_s, delivery.fps)
    clip = {
        "id": clip_id(delivery.workspace),
        "scene": delivery.workspace.title,
        "formats": list(delivery.options.to),
        "up": delivery.up.value,
        "in_metres": delivery.in_metres,
        "frames": frames,
        "pictures": _link_plate(delivery, frames).relative_to(root).as_posix(),
        "usd_codes": time_codes(delivery.starts_s, round(delivery.fps, 6)).tolist(),
    }
    (folder / "clip.json").write_text(json.dumps(clip, indent=1) + "\n", encoding="utf-8")


def clip_id(workspace: Workspace) -> str:
    """What tells this scene's exports from all others in one .blend: a hash of where it lies and which frames it has.

    It is written down at export: an export folder that is moved or copied keeps it. The frames are in it as well
    because scenes in containers often have the same path.
    """
    frames = workspace.record("frames")
    text = f"{workspace.root.resolve()}\n{frames.key if frames else ''}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def blender_frames(starts_s: np.ndarray, fps: float) -> list[int]:
    """Blender's frame, counted from 1, from which each frame is shown: the nearest to its time."""
    return [int(frame) for frame in np.floor(np.asarray(starts_s) * fps + 0.5) + 1]


def _link_plate(delivery: Delivery, frames: list[int]) -> Path:
    """One picture for each of Blender's frames, numbered like them; the first one's path.

    Links take no space, show the very pixels of the video, and Blender steps through them faster than through a video
    file; where times are uneven a picture has several names.
    """
    folder, first = delivery.folder("blender", "plate"), None
    for number in range(frames[0], frames[-1] + 1):
        name = delivery.names[int(np.searchsorted(frames, number, side="right")) - 1]
        source = delivery.workspace.picture_path(name)
        target = folder / f"{number:06d}{source.suffix.lower()}"
        link_or_copy(source, target)
        first = first or target
    return first
