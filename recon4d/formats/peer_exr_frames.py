"""Folders ``frame_0000.exr``, ``frame_0001.exr``, ... as DepthCrafter and Video-Depth-Anything write them."""

from __future__ import annotations

import re
from pathlib import Path

from recon4d.formats.depth_files import DepthFolder
from recon4d.formats.peer_npz import video_depth_anything
from recon4d.formats.peers import PeerDepth

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
    if len(matches[0][1]) == VIDEO_DEPTH_ANYTHING_DIGITS:
        return video_depth_anything(files)
    # 0..1 tells the kind, as in its npz.
    return PeerDepth(files, program="DepthCrafter", numbers=tuple(range(len(files))))
