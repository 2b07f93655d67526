"""OpenEXR pictures of float numbers, written by the package OpenEXR. Read by `formats.exr_files`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon4d.errors import ExportError, require


def write_exr(path: Path, channels: dict[str, np.ndarray], comments: str) -> None:
    """Write channels (H, W) as float32, packed with ZIP.

    Args:
        path: the file to write.
        channels: name -> numbers; all of one size.
        comments: what the numbers mean; the standard attribute of that name.

    Raises:
        MissingDependency: OpenEXR is not installed.
        ExportError: the file cannot be written.
    """
    exr = require("OpenEXR", "exr")
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage, "comments": comments}
    stored = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in channels.items()}
    try:
        with exr.File(header, stored) as file:
            file.write(str(path))
    except RuntimeError as error:
        raise ExportError(f"export: {path} cannot be written ({error}): is there space left on the disk?") from error
