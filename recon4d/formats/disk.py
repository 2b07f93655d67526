"""Files on the disk: rows of numbers as bytes, and a second name for a file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

import numpy as np


def write_rows(file: BinaryIO, rows: np.ndarray) -> None:
    """Write an array's bytes without a copy of them; ``rows`` is contiguous, structured or plain.

    Unlike `ndarray.tofile`, whose error for a full disk says neither why nor where, this raises OSError with its errno.
    """
    file.write(rows.reshape(-1).view(np.uint8))


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name where the disk can do that (it takes no space), else a copy.

    What stands at ``target`` is replaced. A link is for files that nobody changes in place, such as pictures.
    """
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
