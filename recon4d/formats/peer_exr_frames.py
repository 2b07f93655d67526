"""Folders ``frame_0000.exr``, ``frame_0001.exr``, ... as DepthCrafter and Video-Depth-Anything write them."""

from __future__ import annotations

import re
from pathlib import Path

from recon4d.formats.depth_files import DepthFolder
from recon4d.formats.peers import PeerDepth
from recon4d.scene.depth import DepthKind

FRAME = re.compile(r"frame_([0-9]{4,9})")
VIDEO_DEPTH_ANYTHING_DIGITS = 5  # DepthCrafter writes four


def read_exr_frames(path: Path, key: str | None) -> PeerDepth | None:
    """Rows counted from 0, whatever the frames were called; disparity of these programs' usual models."""
    if not path.is_dir() or not (any(path.glob("frame_*0.exr"))):
        return None
    files = DepthFolder(path, key)
    matches = [FRAME.fullmatch(name) for name in files.names]
    if files.key != ".exr" or not all(matches) or [int(m[1]) for m in matches] != list(range(len(files))):
        return None  # named like this by somebody else
    numbers = tuple(range(len(files)))
    if len(matches[0][1]) == VIDEO_DEPTH_ANYTHING_DIGITS:
        return PeerDepth(
            files,
            program="Video-Depth-Anything",
            kind=DepthKind.AFFINE_DISPARITY,
            why="as Video-Depth-Anything writes it; its metric models give metric_z",
            otherwise=DepthKind.METRIC_Z,
            numbers=numbers,
        )
    return PeerDepth(files, program="DepthCrafter", numbers=numbers)  # 0..1 tells the kind, as in its npz
