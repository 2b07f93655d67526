"""The rows of an import: poses and lenses before they are matched to frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.peers import PartOfPicture
from recon4d.poses.lens import Lens
from recon4d.scene.transforms import Rigid3

if TYPE_CHECKING:
    import pycolmap

COLMAP_PLACES = (".", "sparse/0", "sparse", "0")  # where in a folder its model may lie


@dataclass(frozen=True)
class ImportedPoses:
    """The rows of an import, before they are matched to frames."""

    kind: str  # for people
    world_from_cam: Rigid3  # batch (N,)
    names: tuple[str, ...] | None = None  # file names or frame names of the rows
    numbers: tuple[int, ...] | None = None  # which picture each row is, as a program counted what it was given
    timestamps_s: np.ndarray | None = None  # (N,)
    lenses: tuple[Lens, ...] | None = None  # of the rows; None: the file does not say
    lens_has_size: bool = True  # False: width and height of the lenses are unknown (0), pixels of the frames are meant
    part: PartOfPicture | None = None  # what of a frame the pictures of the lenses show; None: all of it
    model: pycolmap.Reconstruction | None = None  # a COLMAP model
    missing: tuple[str, ...] = field(default=())  # pictures the file itself names but does not find
    doubt: str = ""  # what of the reading the user must check
