"""One source of depth per file; the table says which file holds which source."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol

from recon4d.scene.depth import DepthKind, DepthMap

SOURCES = {
    "precomputed": "recon4d.depth.precomputed:open_precomputed",
}


class DepthSource(Protocol):
    """Depth of the frames as they were recorded (before undistortion)."""

    kind: DepthKind
    remarks: tuple[str, ...]  # what was detected or decided, for people
    windows: tuple[tuple[str, ...], ...]  # frames of each window a video model worked in, in order; () if not known

    def depth(self, name: str) -> DepthMap:
        """Depth of one frame. Raises DepthError or InputError."""

    def overlap(self, name: str) -> tuple[DepthMap, DepthMap] | None:
        """One frame as the earlier and the later of two windows saw it, where both are known.

        Raises DepthError or InputError.
        """


def source_opener(name: str) -> Callable[..., DepthSource]:
    """The function that opens the source called ``name``, one of `SOURCES`."""
    module, _, function = SOURCES[name].partition(":")
    return getattr(importlib.import_module(module), function)
