"""Milliseconds to render a 640x480 depth mesh whose vertices change every time, next to Embree.

    python tools/bench_render.py          # under a minute
    python tools/bench_render.py --backend nvdiffrast     # on a machine with CUDA

Forward is rasterize and interpolate of one attribute (depth); backward goes to positions and attribute. Embree, which
has no backward, builds its tree over the changed mesh and casts a ray through every pixel centre. The variants take
turns, so that a busy machine slows all of them alike; the table gives medians.
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
ATTRIBUTES = 1


def depth_mesh(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float32 in the frame of a camera 10 cm aside, triangles (T, 3) int32; a wavy room, one sheet."""
    height, width = camera.shape
    rows, columns = np.mgrid[:height, :width]
    points = camera.unproject(3 + np.sin(columns / 60.0) + 0.5 * np.cos(rows / 45.0)) + np.array([0.1, 0, 0])
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    tri = np.stack([np.stack([a, c, d], axis=-1), np.stack([a, d, b], axis=-1)], axis=2)
    return points.reshape(-1, 3).astype(np.float32), tri.reshape(-1, 3)


def with_rasterizer(rasterizer: Rasterizer, camera: Camera, points: np.ndarray, tri: np.ndarray) -> list[Callable]:
    """What is timed: forward; forward and backward; the same with antialiasing of a picture."""
    device = rasterizer.device
    pos = to_clip(torch.from_numpy(points).double(), torch.from_numpy(clip_from_camera(camera, NEAR, FAR))).float()
    pos, faces = pos.to(device).requires_grad_(), torch.from_numpy(tri).to(device)
    attr = torch.from_numpy(points[None, :, 2:]).to(device).requires_grad_()
    picture = torch.rand(1, *camera.shape, 3, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    ones = torch.ones(1, *camera.shape, ATTRIBUTES, device=device)
    topology = rasterizer.topology(faces)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def forward() -> torch.Tensor:
        out = rasterizer.interpolate(attr, rasterizer.rasterize(pos, faces, camera.shape), faces)
        wait()
        return out

    def both() -> None:
        pos.grad = attr.grad = None
        forward().backward(ones)
        wait()

    rast = rasterizer.rasterize(pos, faces, camera.shape).detach()

    def antialias() -> None:
        rasterizer.antialias(picture, rast, pos, faces, topology)
        wait()

    def antialias_both() -> None:
        pos.grad = picture.grad = None
        rasterizer.antialias(picture, rast, pos, faces, topology).sum().backward()
        wait()

    return [forward, both, antialias, antialias_both]


def with_embree(camera: Camera, points: np.ndarray, tri: np.ndarray, threads: int) -> list[Callable]:
    """Build, and build and cast."""
    import open3d as o3d

    rays = np.concatenate([np.zeros((*camera.shape, 3)), camera.rays()], axis=-1).astype(np.float32)
    vertices, faces = o3d.core.Tensor(points), o3d.core.Tensor(tri.astype(np.uint32))
    rays = o3d.core.Tensor(rays)

    def build() -> o3d.t.geometry.RaycastingScene:
        scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
        scene.add_triangles(vertices, faces)
        scene.cast_rays(rays[:1, :1], nthreads=threads)  # the tree is built by the first ray
        return scene

    return [build, lambda: build().cast_rays(rays, nthreads=threads)]


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
    names = (
        "forward",
        "forward + backward",
        "antialias",
        "antialias + backward",
        "Embree build",
        "Embree build + cast",
    )
    print(f"{len(tri)} triangles, {camera.width}x{camera.height} pixels, {os.cpu_count()} cores, ms (median)\n")
    print(f"| threads | {' | '.join(names)} | Embree / forward | both / forward |")
    print("| --- " * (len(names) + 3) + "|")
    for threads in arguments.threads if arguments.backend == "cpu" else arguments.threads[-1:]:
        if arguments.backend == "cpu":
            from recon4d.render.cpu_rasterizer import CpuRasterizer

            torch.set_num_threads(threads)
            rasterizer: Rasterizer = CpuRasterizer(threads=threads)
        else:
            rasterizer = get_rasterizer(arguments.backend)
        variants = [*with_rasterizer(rasterizer, camera, points, tri), *with_embree(camera, points, tri, threads)]
        ms = medians_ms(dict(zip(names, variants)), arguments.repeats)
        ratios = ms[names[-1]] / ms[names[0]], ms[names[1]] / ms[names[0]]
        print(f"| {threads} | {' | '.join(f'{ms[name]:.1f}' for name in names)} | {ratios[0]:.1f} | {ratios[1]:.1f} |")


if __name__ == "__main__":
    main()
