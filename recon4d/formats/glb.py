"""Binary glTF 2.0: a file that plays the clouds or meshes of a sequence, and files of one shape.

glTF is y-up; a root node carries the axis change. Memory does not depend on the length of a sequence.

Source: Khronos glTF 2.0 specification, section 3.11 (animation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from recon4d.errors import ExportError
from recon4d.formats.glb_file import Glb, Up, open_glb
from recon4d.formats.glb_shapes import Shape, is_empty, shape_node

__all__ = ["NothingToShow", "Shape", "Up", "is_empty", "write_sequence", "write_shape"]


class NothingToShow(ExportError):
    """A file would hold neither points nor triangles."""


def write_sequence(
    path: Path,
    names: Sequence[str],
    starts_s: np.ndarray,
    shape_of: Callable[[str], Shape],
    static: Shape | None = None,
    up: Up = Up.Z,
) -> None:
    """Write one file that shows each shape from its time until the next one's; ``static`` is always shown.

    A node per frame has STEP keys on its scale, 1 while it is shown and 0 otherwise: every viewer that plays glTF
    plays this, whatever the number of points. Viewers that do not play show the first frame. Time starts at 0; the last
    frame lasts as long as the median one. ``extras`` of a node say its ``frame`` or ``layer``: programs change names.

    Args:
        path: the .glb to write.
        names: (N,) names of the frames, become names of nodes.
        starts_s: (N,) increasing seconds.
        shape_of: reads the shape of a name; called once per frame, in order. Empty ones show nothing.
        static: the background.
        up: axes of all points.

    Raises:
        NothingToShow: there is no background, and all frames are empty.
        ExportError: the times do not increase, or the file would pass the 4 GiB of a GLB.
    """
    starts_s = np.asarray(starts_s, dtype=np.float64)
    starts_s = starts_s - (starts_s[0] if len(starts_s) else 0.0)
    if len(starts_s) != len(names) or (np.diff(starts_s) <= 0).any():
        raise ExportError(f"glb: the times of the {len(names)} frames do not increase: make the frames stage again")
    with open_glb(path, up) as glb:
        if static is not None and not is_empty(static):
            glb.add_to_root(shape_node(glb, "static", static) | {"extras": {"layer": "static"}})
        channels, samplers = [], []
        for i, name in enumerate(names):
            shape = shape_of(name)
            if is_empty(shape):
                continue
            shown_at_rest = 1.0 if i == 0 else 0.0
            place = {"scale": [shown_at_rest] * 3, "extras": {"frame": name}}
            node = glb.add_to_root(shape_node(glb, name, shape) | place)
            if len(names) > 1:
                channels.append({"sampler": len(samplers), "target": {"node": node, "path": "scale"}})
                samplers.append(_shown_keys(glb, starts_s, i))
        if channels:
            glb.add("animations", {"name": "sequence", "channels": channels, "samplers": samplers})
        if "meshes" not in glb.json:
            raise NothingToShow(f"glb: {path.name} would show nothing: widen --layers, --provenance or --frames")


def write_shape(path: Path, shape: Shape, up: Up = Up.Z) -> None:
    """Write a file that shows one shape. Raises ExportError when it is empty."""
    with open_glb(path, up) as glb:
        glb.add_to_root(shape_node(glb, path.stem, shape))


def _shown_keys(glb: Glb, starts_s: np.ndarray, i: int) -> dict[str, object]:
    """Animation sampler that shows frame ``i`` from its time to the next one's, and lasts as long as the clip."""
    end_s = starts_s[-1] + np.median(np.diff(starts_s))
    times, shown = ([0.0], [1.0]) if i == 0 else ([0.0, starts_s[i]], [0.0, 1.0])
    if i + 1 < len(starts_s):
        times, shown = [*times, starts_s[i + 1]], [*shown, 0.0]
    times, shown = [*times, end_s], [*shown, shown[-1]]  # the last one stays: players hold or loop at their end
    scales = np.repeat(np.array(shown, dtype=np.float32)[:, None], 3, axis=1)
    return {
        "input": glb.accessor(np.array(times, dtype=np.float32), bounds=True),
        "output": glb.accessor(scales),
        "interpolation": "STEP",
    }
