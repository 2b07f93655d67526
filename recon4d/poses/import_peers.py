"""Cameras that came with the depth of another program, as rows of an import."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.peers import PeerCameras, read_peer_cameras
from recon4d.poses.import_rows import ImportedPoses
from recon4d.poses.lens import Lens
from recon4d.scene.transforms import Rigid3


def read_peers(path: Path) -> ImportedPoses | None:
    """Cameras of Depth Anything 3, MegaSaM, ViPE or MonST3R; None where the files are of none of them.

    Raises:
        InputError: they are damaged, or have lenses but no poses, as MoGe's.
    """
    found = read_peer_cameras(path)
    if found is None:
        return None
    if found.world_from_cam is None:
        raise InputError(f"poses: {path} is of {found.program}, which {_lens_only(found)}")
    return ImportedPoses(
        found.program,
        Rigid3.from_matrix(found.world_from_cam),
        names=found.names,
        numbers=found.numbers,
        lenses=_lenses(found),
        lens_has_size=found.size is not None,
        part=found.part,
    )


def _lenses(found: PeerCameras) -> tuple[Lens, ...] | None:
    if found.pinhole is None:
        return None
    width, height = found.size or (0, 0)
    return tuple(Lens("PINHOLE", width, height, tuple(float(value) for value in row)) for row in found.pinhole)


def _lens_only(found: PeerCameras) -> str:
    """What such a program does know, and how to use it."""
    fx, fy, cx, cy = np.median(found.pinhole, axis=0)
    width, height = found.size
    return (
        f"knows a lens but no poses: run --poses.source colmap, and where the lens is to be kept --poses.camera "
        f"{fx:.1f},{fy:.1f},{cx:.1f},{cy:.1f} (pixels of {width}x{height} pictures)"
    )
