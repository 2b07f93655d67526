"""Export to nerfstudio and Instant-NGP: pictures, depth, masks, `transforms.json`, and points splats start from."""

from __future__ import annotations

import numpy as np

from recon4d.scene.scene4d import UpAxis
from recon4d.scene.trajectory import Trajectory
from recon4d.stages.export_delivery import PLAYED_STATIC_POINTS, Delivery
from recon4d.stages.export_maps import depth_steps, unit

MARGIN = 1.1  # room around the cameras in Instant-NGP's unit cube
FAR = 0.99  # share of the background that its large cube holds
DYNAMIC_MASK = "dynamic_mask_{name}.png"  # beside the picture: what Instant-NGP hides where it is not black


def write_nerfstudio(delivery: Delivery) -> None:
    """`nerfstudio/`: images, depth (16 bits, 0 not known), masks (white: use), sparse_pc.ply, transforms.json.

    Frames with an interpolated pose are left out: trainers take every camera for true.
    """
    from recon4d.formats.depth_png import PER_METRE
    from recon4d.formats.ply import write_cloud
    from recon4d.formats.transforms_json import write_transforms

    trajectory = delivery.trajectory.without_interpolated()
    if not len(trajectory):
        delivery.part.warn("export: none of the written frames has a pose of its own, nerfstudio is left out")
        return
    root, steps = delivery.folder("nerfstudio"), depth_steps(delivery)
    pictures = delivery.link_pictures(delivery.folder("nerfstudio", "images"), trajectory.names)
    background = delivery.static(PLAYED_STATIC_POINTS)
    head: dict[str, object] = {"depth_unit_scale_factor": 1 / steps, "integer_depth_scale": 1 / steps}
    if len(background):
        write_cloud(root / "sparse_pc.ply", background)
        head["ply_file_path"] = "sparse_pc.ply"
    if delivery.up is UpAxis.Z and delivery.scene.levelled_from_scene is not None:
        head["orientation_override"] = "none"  # the cameras' mean up would be a worse guess than the one we have
    head |= ngp_cube(trajectory.centres, background.points)
    if steps != PER_METRE:
        delivery.part.progress.say(
            f"  nerfstudio takes depth for millimetres, here it has steps of {1 / steps:g} {unit(delivery)}: "
            f"give ns-train nerfstudio-data --depth-unit-scale-factor {1 / steps:g}"
        )
    files = {name: f"images/{path.name}" for name, path in pictures.items()}
    write_transforms(root / "transforms.json", trajectory, files, _frames(trajectory), head)
    _write_maps(delivery, trajectory, steps)


def _frames(trajectory: Trajectory) -> dict[str, dict[str, object]]:
    """What the file says of each frame beside its camera; ``time`` runs from 0 to 1, as dynamic trainers read it."""
    starts_s = trajectory.timestamps_s - trajectory.timestamps_s[0]
    frames = {}
    for name, start_s in zip(trajectory.names, starts_s):
        depth = f"depth/{name}.png"  # under the names that nerfstudio and Instant-NGP have for it
        time = float(start_s / starts_s[-1]) if starts_s[-1] > 0 else 0.0
        frames[name] = {
            "depth_file_path": depth,
            "depth_path": depth,
            "mask_path": f"masks/{name}.png",
            "time": time,
        }
    return frames


def _write_maps(delivery: Delivery, trajectory: Trajectory, steps: float) -> None:
    from recon4d.formats.depth_png import write_depth_png
    from recon4d.formats.pictures import write_picture

    depths, masks = delivery.folder("nerfstudio", "depth"), delivery.folder("nerfstudio", "masks")
    for name in delivery.pending("nerfstudio", "writing nerfstudio"):
        if name not in trajectory:
            continue
        depth, usable = delivery.depth(name), delivery.usable(name)
        write_depth_png(depths / f"{name}.png", depth.depth, depth.valid, steps)
        write_picture(masks / f"{name}.png", np.where(usable, 255, 0).astype(np.uint8))
        if not usable.all():
            hidden = delivery.folder("nerfstudio", "images") / DYNAMIC_MASK.format(name=name)
            write_picture(hidden, np.where(usable, 0, 255).astype(np.uint8))


def ngp_cube(centres: np.ndarray, points: np.ndarray) -> dict[str, object]:
    """Where Instant-NGP puts the scene, ``x * scale + offset``: cameras in the unit cube, background in the large one.

    Args:
        centres: (N, 3) of the cameras.
        points: (P, 3) of the background, maybe none.

    Returns:
        ``scale``, ``offset`` (3 numbers) and ``aabb_scale``, the side of the large cube: a power of two.
    """
    middle = (centres.min(axis=0) + centres.max(axis=0)) / 2
    near = MARGIN * float(np.abs(centres - middle).max())
    far = float(np.quantile(np.abs(points - middle).max(axis=1), FAR)) if len(points) else near
    # A camera that hardly moves would make the cube so small that the scene does not fit in a large one (up to 128).
    half = max(near, far / 16, 1e-6)
    side = 2 ** int(np.ceil(np.log2(max(far / half, 1.0))))
    scale = 0.5 / half
    offset = (0.5 - scale * middle).tolist()
    return {"scale": scale, "offset": offset, "aabb_scale": side}
