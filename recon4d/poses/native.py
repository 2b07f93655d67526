"""pycolmap, loaded on first use, and quiet; and what it says when it gives up, in our own words."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from types import ModuleType

from recon4d.errors import PosesError

FATAL = 3  # glog's level: below it nothing is printed
SEED = 0  # of everything random in COLMAP
LEAST_FREE = 1 << 20  # bytes; with less on the disk it counts as full, whatever COLMAP says

_LOCKED = "another program has the database open, perhaps a second recon4d on the same scene: end it"
# Part of COLMAP's words -> what the user can do.
_NEXT_STEP = {
    "database is locked": _LOCKED,
    "No registered database factory": _LOCKED,  # it cannot be opened at all
    "disk I/O error": "look for a failing disk or a limit on the size of files",
    "bad_alloc": "the memory has run out: lower --poses.max-features or --frames.max-size, or end other programs",
    "signal 9": "the memory may have run out: lower --poses.max-features or --frames.max-size, or end other programs",
}
_IN_GENERAL = "if it happens again, try other frames (--frames.stride) or another --poses.mapper"


def load_pycolmap() -> ModuleType:
    import pycolmap

    pycolmap.logging.minloglevel = FATAL
    return pycolmap


def refusal(step: str, words: str, folder: Path) -> Exception:
    """The exception for a step in which COLMAP gave up.

    Args:
        step: its name, for people.
        words: message of its exception, or all it wrote before it died.
        folder: where it wrote.

    Returns:
        OSError (ENOSPC) when the disk is full, else a PosesError with COLMAP's reason and the next step.
    """
    reason = native_reason(words)
    if "disk is full" in reason or shutil.disk_usage(folder).free < LEAST_FREE:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    hint = next((hint for part, hint in _NEXT_STEP.items() if part in reason), _IN_GENERAL)
    return PosesError(f"poses: COLMAP gave up at the step '{step}' ({reason}): {hint}; the same command goes on")


def native_reason(words: str) -> str:
    """The line that says why, without file and line of the C++ source; "unknown reason" when there is none."""
    lines = [line.strip() for line in words.splitlines()]
    # Lists of calls begin with @, their headings with *** or PC:.
    lines = [line for line in lines if line and not line.startswith(("@", "***", "PC:"))]
    why = [line.partition("what():")[2].strip() for line in lines if "what():" in line]
    reason = (why or lines or ["unknown reason"])[-1]
    return re.sub(r"^\[?[\w .:]*\.(?:cc|h|cpp):\d+\]\s*", "", reason)
