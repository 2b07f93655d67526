"""COLMAP models written for sure."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pycolmap


def write_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write a binary model into a folder, which is made when it does not exist.

    COLMAP does not notice when its writing fails, and reading half a model can take all memory; so the files are held
    against the size they must have.

    Raises:
        OSError: a file is too short (ENOSPC).
    """
    folder.mkdir(exist_ok=True)
    model.write_binary(str(folder))
    for name, least in (("images.bin", _size_of_images(model)), ("points3D.bin", _size_of_points(model))):
        if (folder / name).stat().st_size < least:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / name))


def _size_of_images(model: pycolmap.Reconstruction) -> int:
    """Bytes: a count; per image id, quaternion, translation, camera, name and end, a count; x, y, point per feature."""
    images = [model.images[i] for i in model.reg_image_ids()]
    return 8 + sum(73 + len(image.name.encode()) + 24 * len(image.points2D) for image in images)


def _size_of_points(model: pycolmap.Reconstruction) -> int:
    """Bytes: a count; per point id, x, y, z, colour, error, a count; image and feature per element of its track."""
    return 8 + sum(51 + 8 * point.track.length() for point in model.points3D.values())
