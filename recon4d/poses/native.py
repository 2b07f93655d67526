"""pycolmap, loaded on first use, and quiet: what it logs is for its developers; we report in our own words."""

from __future__ import annotations

from types import ModuleType

FATAL = 3  # glog's level: below it nothing is printed
SEED = 0  # of everything random in COLMAP


def load_pycolmap() -> ModuleType:
    import pycolmap

    pycolmap.logging.minloglevel = FATAL
    return pycolmap
