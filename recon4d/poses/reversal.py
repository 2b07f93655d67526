"""Is a model inside out? A verdict from a few windows, and where to begin again when it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from recon4d.poses.native import load_pycolmap
from recon4d.poses.readings import Comparison, compare, windows

if TYPE_CHECKING:
    import pycolmap

# Cost of the other reading over that of the model's. A lawn read as a wall gave 0.41 to 0.83 in its five windows;
# clips that are the right way round 1.5 and more.
BETTER, EQUAL = 0.9, 1.1
LEAST_SHARE = 0.5  # of the windows must have another reading: with fewer, the rest of the model settles it


class Reading(str, Enum):
    """What the windows say about the model's reading of the matches."""

    SETTLED = "settled"  # no other comes near
    UNDECIDED = "undecided"  # another fits as well
    REVERSED = "reversed"  # another fits better


@dataclass(frozen=True)
class Verdict:
    """The reading, and the comparisons it comes from."""

    reading: Reading
    ratio: float | None  # cost of the other reading over that of the model's; None: no other comes near
    comparisons: tuple[Comparison, ...]


def judge(model: pycolmap.Reconstruction, fixed_lens: bool) -> Verdict:
    """Compare the model's reading with others; the model stays as it is."""
    looked_at = windows(model)
    comparisons = tuple(found for window in looked_at if (found := compare(window, fixed_lens)) is not None)
    if not comparisons or len(comparisons) < LEAST_SHARE * len(looked_at):
        return Verdict(Reading.SETTLED, None, comparisons)
    kept, other = (
        np.sum([(one.cost, one.good) for one in ones], axis=0)
        for ones in ([c.kept for c in comparisons], [c.other for c in comparisons])
    )
    ratio = float(other[0] / max(kept[0], 1e-12))
    if ratio < BETTER and other[1] > kept[1]:
        reading = Reading.REVERSED
    else:
        reading = Reading.UNDECIDED if ratio < EQUAL else Reading.SETTLED
    return Verdict(reading, ratio, comparisons)


def seed(model: pycolmap.Reconstruction, verdict: Verdict) -> pycolmap.Reconstruction:
    """The other reading of the window where it gains most, under the ids of the model, for a mapper to go on from."""
    pycolmap = load_pycolmap()
    best = min(verdict.comparisons, key=lambda c: c.other.cost - c.kept.cost)
    window, small = best.window, best.other.model
    out = pycolmap.Reconstruction(model)
    for point_id in list(out.points3D):
        out.delete_point3D(point_id)
    for image_id in list(out.reg_image_ids()):
        if image_id not in window.image_ids:
            out.deregister_frame(out.images[image_id].frame_id)
    for k, image_id in enumerate(window.image_ids):
        image, adjusted = out.images[image_id], small.images[k + 1]
        out.frames[image.frame_id].rig_from_world = adjusted.cam_from_world()
        out.cameras[image.camera_id].params = adjusted.camera.params
    for row, point in small.points3D.items():
        track = pycolmap.Track()
        for observation in np.flatnonzero(window.point == row - 1):
            track.add_element(window.image_ids[window.frame[observation]], int(window.feature[observation]))
        out.add_point3D(point.xyz, track, np.zeros(3, dtype=np.uint8))
    return out
