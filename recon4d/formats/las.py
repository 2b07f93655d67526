"""LAS 1.4 and LAZ files: clouds for surveying programs.

Point format 7: 16-bit colours and a time per point. Extra bytes hold ``confidence`` float, ``provenance`` uchar and
``object_id`` ushort. Source: ASPRS, "LAS Specification 1.4 - R15", 2019.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from recon4d._version import __version__
from recon4d.errors import ExportError, require
from recon4d.scene.cloud import PointCloud

POINT_FORMAT = 7
STEP_M = 1e-4  # metres between two coordinates: rounding below a tenth of a millimetre
STEPS_ACROSS = 1e6  # at least as many over the extent of a cloud whose unit is not known
MOST_STEPS = 2e9  # of a signed 32-bit number, with room
_WHOLE = {"x": 0, "y": 1, "z": 2}


def write_las(path: Path, cloud: PointCloud, time_s: float, in_metres: bool) -> None:
    """Write a cloud; the suffix ``.laz`` packs it.

    Args:
        path: the file to write.
        cloud: in the frame and unit of the file.
        time_s: of all its points, seconds; written as GPS time of the week.
        in_metres: its unit is the metre; otherwise steps are chosen from its extent.

    Raises:
        MissingDependency: laspy, or for LAZ lazrs, is not installed.
        ExportError: a LAZ cannot be written.
    """
    laspy = require("laspy", "las")
    if path.suffix.lower() == ".laz":
        lazrs = require("lazrs", "las")
    points = cloud.points.astype(np.float64)
    low, high = (points.min(axis=0), points.max(axis=0)) if len(cloud) else (np.zeros(3), np.zeros(3))
    step = coordinate_step(float((high - low).max()), in_metres)
    header = laspy.LasHeader(point_format=POINT_FORMAT, version="1.4")
    header.scales = np.full(3, step)
    header.offsets = np.round((low + high) / 2 / step) * step
    header.system_identifier, header.generating_software = "camera", f"recon4d {__version__}"
    header.global_encoding.wkt = True  # demanded of point formats 6 and up, even where there is no coordinate system
    header.add_extra_dims(
        [
            laspy.ExtraBytesParams("confidence", np.float32, "0 to 1"),
            laspy.ExtraBytesParams("provenance", np.uint8, "0 measured to 4 generated"),
            laspy.ExtraBytesParams("object_id", np.uint16, "0 is the background"),
        ]
    )
    out = laspy.LasData(header, points=laspy.ScaleAwarePointRecord.zeros(len(cloud), header=header))
    for axis, column in _WHOLE.items():
        out[axis.upper()] = np.round((points[:, column] - header.offsets[column]) / step).astype(np.int32)
    # 8-bit colours fill the 16 bits: 255 becomes 65535, as the specification asks.
    out.red, out.green, out.blue = (cloud.colors[:, k].astype(np.uint16) * 257 for k in range(3))
    out.gps_time = np.full(len(cloud), time_s)
    out.return_number = out.number_of_returns = np.ones(len(cloud), dtype=np.uint8)
    for field in ("confidence", "provenance", "object_id"):
        out[field] = getattr(cloud, field)
    if path.suffix.lower() != ".laz":
        out.write(str(path))
        return
    try:
        out.write(str(path))
    except lazrs.LazrsError as error:
        raise ExportError(f"laz: {path.name} cannot be written ({error}): is there space left on the disk?") from error


def coordinate_step(extent: float, in_metres: bool) -> float:
    """The unit of the stored whole numbers, a power of ten.

    Args:
        extent: of the cloud along its longest axis, its unit.
    """
    least = 10.0 ** math.ceil(math.log10(max(extent, 1e-300) / MOST_STEPS))
    if in_metres:
        return max(STEP_M, least)
    return 10.0 ** math.floor(math.log10(extent / STEPS_ACROSS)) if extent > 0 else STEP_M
