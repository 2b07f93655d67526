"""Milliseconds to render a 640x480 depth mesh whose vertices change every time, next to Embree.

    python tools/bench_render.py          # under a minute
    python tools/bench_render.py --backend nvdiffrast     # on a machine with CUDA

Depth is rasterize and interpolate of one attribute; its backward goes to positions and attribute. Picture is rasterize,
interpolate of uv, texture and antialias; its backward goes to positions. Embree, which has no backward, builds its tree
over the changed mesh and casts a ray through every pixel centre. The variants take turns, so that a busy machine slows
all of them alike; the table gives medians. With more threads than free cores, threads wait for each other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from recon4d.render.rasterizer import Rasterizer, clip_from_camera, get_rasterizer, to_clip
from recon4d.scene.camera import Camera

NEAR, FAR = 0.1, 100.0
ASIDE = np.array([0.1, 0, 0])  # of the camera, scene units
FORWARD, BOTH, EMBREE = "depth, forward", "depth, forward + backward", "Embree, build + cast"


def depth_mesh(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float32 in the frame of a camera 10 cm aside, triangles (T, 3) int32; a wavy room, one sheet."""
    height, width = camera.shape
    rows, columns = np.mgrid[:height, :width]
    points = camera.unproject(3 + np.sin(columns / 60.0) + 0.5 * np.cos(rows / 45.0)) + ASIDE
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    tri = np.stack([np.stack([a, c, d], axis=-1), np.stack([a, d, b], axis=-1)], axis=2)
    return points.reshape(-1, 3).astype(np.float32), tri.reshape(-1, 3)


def with_rasterizer(
    rasterizer: Rasterizer, camera: Camera, points: np.ndarray, tri: np.ndarray
) -> dict[str, Callable[[], object]]:
    """What is timed: depth, and a picture with texture and smooth silhouettes; each without and with backward."""
    device = rasterizer.device
    pos = to_clip(torch.from_numpy(points).double(), torch.from_numpy(clip_from_camera(camera, NEAR, FAR))).float()
    pos, faces = pos.to(device).requires_grad_(), torch.from_numpy(tri).to(device)
    depth = torch.from_numpy(points[None, :, 2:]).to(device).requires_grad_()
    uv = camera.project(points - ASIDE) / [camera.width, camera.height]
    uv = torch.from_numpy(uv[None].astype(np.float32)).to(device)
    picture = torch.rand(1, *camera.shape, 3, generator=torch.Generator().manual_seed(0)).to(device)
    ones = [torch.ones(1, *camera.shape, channels, device=device) for channels in (1, 3)]
    topology = rasterizer.topology(faces)

    def forward(textured: bool) -> torch.Tensor:
        rast = rasterizer.rasterize(pos, faces, camera.shape)
        if textured:
            color = rasterizer.texture(picture, rasterizer.interpolate(uv, rast, faces))
            out = rasterizer.antialias(color, rast, pos, faces, topology)
        else:
            out = rasterizer.interpolate(depth, rast, faces)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return out

    def both(textured: bool) -> None:
        pos.grad = depth.grad = None
        forward(textured).backward(ones[textured])
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return {
        FORWARD: lambda: forward(False),
        BOTH: lambda: both(False),
        "picture, forward": lambda: forward(True),
        "picture, forward + backward": lambda: both(True),
    }


def with_embree(camera: Camera, points: np.ndarray, tri: np.ndarray, threads: int) -> dict[str, Callable[[], object]]:
    """Building its tree, and building it and casting all rays."""
    import open3d as o3d

    rays = np.concatenate([np.zeros((*camera.shape, 3)), camera.rays()], axis=-1).astype(np.float32)
    vertices, faces = o3d.core.Tensor(points), o3d.core.Tensor(tri.astype(np.uint32))
    rays = o3d.core.Tensor(rays)

    def build() -> o3d.t.geometry.RaycastingScene:
        scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
        scene.add_triangles(vertices, faces)
        scene.cast_rays(rays[:1, :1], nthreads=threads)  # the tree is built by the first ray
        return scene

    return {"Embree, build": build, EMBREE: lambda: build().cast_rays(rays, nthreads=threads)}


def medians_ms(variants: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Median time of each, which take turns; the first turn warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, variant in variants.items():
            started = time.perf_counter()
            variant()
            if turn:
                times[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="cpu", choices=("cpu", "nvdiffrast"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    camera = Camera(640, 480, 512.0, 512.0, 320.0, 240.0)
    points, tri = depth_mesh(camera)
    columns: dict[str, dict[str, float]] = {}
    for threads in arguments.threads if arguments.backend == "cpu" else arguments.threads[-1:]:
        if arguments.backend == "cpu":
            from recon4d.render.cpu_rasterizer import CpuRasterizer

            torch.set_num_threads(threads)
            rasterizer: Rasterizer = CpuRasterizer(threads=threads)
        else:
            rasterizer = get_rasterizer(arguments.backend)
        variants = with_rasterizer(rasterizer, camera, points, tri) | with_embree(camera, points, tri, threads)
        columns[f"threads: {threads}"] = medians_ms(variants, arguments.repeats)
    print(f"{len(tri)} triangles, {camera.width}x{camera.height} pixels, {os.cpu_count()} cores\n")
    print(f"| ms, median of {arguments.repeats} | {' | '.join(columns)} |")
    print("| --- " * (len(columns) + 1) + "|")
    for name in next(iter(columns.values())):
        print(f"| {name} | {' | '.join(f'{ms[name]:.1f}' for ms in columns.values())} |")
    for name, above, below in (("Embree / forward", EMBREE, FORWARD), ("forward + backward / forward", BOTH, FORWARD)):
        print(f"| {name} | {' | '.join(f'{ms[above] / ms[below]:.1f} x' for ms in columns.values())} |")


if __name__ == "__main__":
    main()
