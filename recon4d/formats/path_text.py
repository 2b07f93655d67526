"""Names of files as text: a file system may hold names that are no text, which no table of ours can hold."""

from __future__ import annotations

import os
from pathlib import Path


def is_text(path: Path | str) -> bool:
    """Whether the name can be written as UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shown(path: Path | str) -> str:
    """The name for a message: bytes that are no UTF-8 as ``\\xff``, everything else as it is."""
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")
