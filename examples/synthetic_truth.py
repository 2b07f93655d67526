"""Make the synthetic clip and check its truth: warp a frame into the next with depth, scene flow and poses.

python examples/synthetic_truth.py warped.png
"""

import sys
from pathlib import Path

import numpy as np

from recon4d.formats.pictures import write_picture
from recon4d.synthetic.scene import synthetic_scene


def main(out: str) -> None:
    scene = synthetic_scene(count=12)
    now, later = scene.frame(0), scene.frame(8)
    points = now.cam_from_world.inverse() @ scene.camera.unproject(now.depth.astype(np.float64)).reshape(-1, 3)
    pixels = scene.camera.project(later.cam_from_world @ points)  # where static points of frame 0 are in frame 8
    warped = np.zeros_like(now.picture)
    height, width = now.depth.shape
    inside = np.isfinite(pixels).all(axis=1) & (pixels >= 0).all(axis=1) & (pixels < (width, height)).all(axis=1)
    u, v = pixels[inside].astype(int).T
    warped[v, u] = now.picture.reshape(-1, 3)[inside]
    write_picture(Path(out), np.hstack([now.picture, warped, later.picture]))
    print(f"{out}: frame 0, frame 0 moved into frame 8, frame 8; what moves is where the last two differ")


if __name__ == "__main__":
    main(*sys.argv[1:])
