"""Writing and reading a cloud of a million points: recon4d against open3d and trimesh, in one run.

python tools/bench_formats.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROUNDS = 5


def best_seconds(work: Callable[[], object]) -> float:
    """The fastest of a few rounds: the others were disturbed."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    import open3d as o3d
    import trimesh

    from recon4d.formats.interop import to_open3d_cloud
    from recon4d.formats.ply import read_cloud, write_cloud
    from recon4d.scene.cloud import PointCloud

    rng = np.random.default_rng(0)
    points = rng.normal(size=(1_000_000, 3))
    cloud = PointCloud(points, rng.integers(0, 255, (len(points), 3)), rng.normal(size=(len(points), 3)))
    in_open3d = to_open3d_cloud(cloud)
    in_trimesh = trimesh.PointCloud(cloud.points, colors=cloud.colors)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, third = (Path(folder) / f"{name}.ply" for name in ("recon4d", "open3d", "trimesh"))
        rows = [
            ("recon4d", best_seconds(lambda: write_cloud(ours, cloud)), best_seconds(lambda: read_cloud(ours)), ours),
            (
                "open3d",
                best_seconds(lambda: o3d.io.write_point_cloud(str(theirs), in_open3d)),
                best_seconds(lambda: o3d.io.read_point_cloud(str(theirs))),
                theirs,
            ),
            (
                "trimesh",
                best_seconds(lambda: in_trimesh.export(third)),
                best_seconds(lambda: trimesh.load(third)),
                third,
            ),
        ]
        print("| writer | write, against recon4d | read, against recon4d | bytes per point |")
        print("| --- | --- | --- | --- |")
        for name, write_s, read_s, path in rows:
            size = path.stat().st_size / len(points)
            print(
                f"| {name} | {write_s / rows[0][1]:.1f} ({1000 * write_s:.0f} ms) | "
                f"{read_s / rows[0][2]:.1f} ({1000 * read_s:.0f} ms) | {size:.0f} |"
            )


if __name__ == "__main__":
    main()
