"""PCD files, binary: clouds for PCL, ROS and CloudCompare.

Fields ``x y z`` float, ``rgb`` float (the bytes of 0x00RRGGBB, as PCL packs them), ``normal_x normal_y normal_z`` and
``confidence`` float, ``provenance`` uchar, ``object_id`` ushort. Format: "The PCD file format", pointclouds.org, v0.7.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon4d.formats.disk import write_rows
from recon4d.scene.cloud import PointCloud
from recon4d.scene.transforms import Rigid3

_ROW = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z")]
    + [("rgb", "<u4")]
    + [(name, "<f4") for name in ("normal_x", "normal_y", "normal_z", "confidence")]
    + [("provenance", "u1"), ("object_id", "<u2")]
)
_AS_FLOAT = "rgb"  # stored as an integer's bytes, declared as float: what PCL and Open3D read everywhere


def write_pcd(path: Path, cloud: PointCloud, world_from_cam: Rigid3 | None = None) -> None:
    """Write a cloud with all its attributes.

    VIEWPOINT is always the identity: pcl_viewer moves the points by it while ROS, Open3D and CloudCompare do not, and
    ours are in the world already, so any other one would put the cloud in different places in different programs.

    Args:
        path: the file to write.
        cloud: in the frame and unit of the file.
        world_from_cam: where the camera was; noted in a comment line as ``x y z qw qx qy qz``.
    """
    rows = np.empty(len(cloud), dtype=_ROW)
    for axis, (x, normal) in enumerate(zip("xyz", ("normal_x", "normal_y", "normal_z"))):
        rows[x], rows[normal] = cloud.points[:, axis], cloud.normals[:, axis]
    red, green, blue = cloud.colors.astype(np.uint32).T
    rows["rgb"] = red << 16 | green << 8 | blue
    for field in ("confidence", "provenance", "object_id"):
        rows[field] = getattr(cloud, field)
    with open(path, "wb") as file:
        file.write(_header(len(cloud), world_from_cam))
        write_rows(file, rows)


def _header(count: int, world_from_cam: Rigid3 | None) -> bytes:
    names = _ROW.names
    kinds = ["F" if name == _AS_FLOAT else {"f": "F", "u": "U"}[_ROW[name].kind] for name in names]
    lines = ["# .PCD v0.7 - Point Cloud Data file format"]
    if world_from_cam is not None:
        x, y, z, w = world_from_cam.quat_xyzw
        numbers = " ".join(f"{value:.9g}" for value in (*world_from_cam.translation, w, x, y, z))
        lines.append(f"# camera x y z qw qx qy qz: {numbers}")
    lines += [
        "VERSION 0.7",
        f"FIELDS {' '.join(names)}",
        f"SIZE {' '.join(str(_ROW[name].itemsize) for name in names)}",
        f"TYPE {' '.join(kinds)}",
        f"COUNT {' '.join('1' for _ in names)}",
        f"WIDTH {count}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {count}",
        "DATA binary",
        "",
    ]
    return "\n".join(lines).encode("ascii")
