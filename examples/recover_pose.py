"""Find out from one picture how a textured box lies before the camera, by differentiable rendering.

python examples/recover_pose.py pose.png
"""

import sys
from pathlib import Path

import numpy as np
import torch

from recon4d.formats.pictures import write_picture
from recon4d.render.rasterizer import clip_from_camera, get_rasterizer, to_clip
from recon4d.scene.camera import Camera

CAMERA = Camera(160, 120, 150.0, 150.0, 80.0, 60.0)
STEPS = 150


def box() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Corners (1, 8, 3) in scene units, their colours (1, 8, 3), and twelve triangles (12, 3) int32."""
    unit = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
    sides = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
    tri = [corners for a, b, c, d in sides for corners in ((a, b, c), (a, c, d))]
    return (unit - 0.5)[None] * torch.tensor([1.4, 0.9, 0.6]), unit[None], torch.tensor(tri, dtype=torch.int32)


def main(out: str) -> None:
    rasterizer = get_rasterizer()
    corners, colors, tri = (x.to(rasterizer.device) for x in box())
    clip_from_cam = torch.tensor(clip_from_camera(CAMERA, 0.1, 10.0), dtype=torch.float32, device=rasterizer.device)
    topology = rasterizer.topology(tri)

    def render(pose: torch.Tensor) -> torch.Tensor:
        """(1, H, W, 3) of a pose: axis times angle, then position in the camera frame."""
        x, y, z = pose[:3]
        o = torch.zeros_like(x)
        rotation = torch.stack([o, -z, y, z, o, -x, -y, x, o]).reshape(3, 3).matrix_exp()
        pos = to_clip(corners @ rotation.T + pose[3:], clip_from_cam)
        rast = rasterizer.rasterize(pos, tri, CAMERA.shape)
        return rasterizer.antialias(rasterizer.interpolate(colors, rast, tri), rast, pos, tri, topology)

    truth = torch.tensor([0.5, -0.7, 0.3, 0.1, -0.1, 3.0], device=rasterizer.device)
    target = render(truth)
    pose = torch.tensor([0.2, -0.3, 0.0, -0.1, 0.1, 3.3], device=rasterizer.device, requires_grad=True)
    start = render(pose).detach()
    optimizer = torch.optim.Adam([pose], lr=0.03)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (render(pose) - target).square().mean().backward()
        optimizer.step()
        decay.step()
    turned, moved = (pose - truth).detach().reshape(2, 3).norm(dim=1).tolist()
    pictures = torch.cat([start, render(pose).detach(), target], dim=2)[0].cpu().numpy()
    write_picture(Path(out), (255 * pictures).round().astype(np.uint8))
    print(f"{out}: first guess, found, wanted; off by {np.degrees(turned):.2f} degrees and {moved:.4f} scene units")


if __name__ == "__main__":
    main(*sys.argv[1:])
