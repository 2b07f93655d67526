"""Optical flow that another program has made: a folder with a file for each frame and direction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.flow_files import FLOW_SUFFIXES, read_flow
from recon4d.geometry.flow_check import resized_flow
from recon4d.geometry.proportions import same_proportions
from recon4d.motion.flow import Frame

DIRECTIONS = ("next", "prev")


class FlowOfFiles:
    """Flow between neighbours in time, from ``next/NAME.flo`` and ``prev/NAME.flo``, or ``NAME_next.flo`` and so on.

    ``next/NAME`` leads from frame NAME to the frame after it, ``prev/NAME`` to the one before. NAME is the frame's
    name or that of the file it came from, the files are .flo, KITTI's 16-bit .png, .npy or .npz, of the same picture at
    any size. One direction, or frames without a file, may be missing.

    Args:
        frames: rows of (name, source file name) in the order of time.

    Raises:
        InputError: two files for one flow, or no file for any frame.
    """

    on_any_pictures = False

    def __init__(self, folder: Path, frames: Sequence[tuple[str, str]]) -> None:
        found = {direction: _files(folder, direction) for direction in DIRECTIONS}
        self._paths: dict[tuple[str, str], Path] = {}
        pairs = list(pairwise(frames))
        for direction, ways in (("next", pairs), ("prev", [(b, a) for a, b in pairs])):
            for (name, source_name), (other, _) in ways:
                for key in (name, source_name, Path(source_name).stem):
                    if key in found[direction]:
                        self._paths[name, other] = found[direction][key]
                        break
        if not self._paths:
            count = sum(len(files) for files in found.values())
            raise InputError(
                f"motion: none of the {count} flow files in {folder} belongs to a frame: name them "
                f"next/{frames[0][0]}.flo and prev/{frames[-1][0]}.flo ({', '.join(FLOW_SUFFIXES)}), after the frames"
            )

    def knows(self, source: str, target: str) -> bool:
        return (source, target) in self._paths

    def flow(self, source: Frame, target: Frame) -> np.ndarray:
        path = self._paths.get((source.name, target.name))
        if path is None:
            raise InputError(f"motion: there is no file with the flow from frame {source.name} to {target.name}")
        flow, (height, width) = read_flow(path), source.rgb.shape[:2]
        if not same_proportions(flow.shape, (height, width)):
            raise InputError(
                f"motion: {path} has {flow.shape[1]}x{flow.shape[0]} pixels, its frame {width}x{height}: the sides "
                "differ in proportion, so this flow is of another or a turned or cropped picture"
            )
        return resized_flow(flow, width, height)


def _files(folder: Path, direction: str) -> dict[str, Path]:
    """Files of one direction by what they are called after. Raises InputError."""
    ending, inner = f"_{direction}", folder / direction
    named = [(path.stem, path) for path in (sorted(inner.iterdir()) if inner.is_dir() else ())]
    named += [(path.stem[: -len(ending)], path) for path in sorted(folder.iterdir()) if path.stem.endswith(ending)]
    found: dict[str, Path] = {}
    for name, path in named:
        if path.suffix.lower() not in FLOW_SUFFIXES or path.name.startswith("."):
            continue
        if name in found:
            raise InputError(f"motion: {found[name]} and {path} are flow of the same frame: take one away")
        found[name] = path
    return found
