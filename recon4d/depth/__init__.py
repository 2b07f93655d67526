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

    def depth(self, name: str) -> DepthMap:
        """Depth of one frame. Raises DepthError or InputError."""


def source_opener(name: str) -> Callable[..., DepthSource]:
    """The function that opens the source called ``name``, one of `SOURCES`."""
    module, _, function = SOURCES[name].partition(":")
    return getattr(importlib.import_module(module), function)
