"""Export of depth and normals as pictures: EXR, 16-bit PNG."""

from __future__ import annotations

import json

import numpy as np

from recon4d.stages.export_delivery import Delivery


def write_exr(delivery: Delivery) -> None:
    """`exr/depth/NAME.exr` (channels Z, sigma) and `exr/normals/NAME.exr` (channels R, G, B: x, y, z)."""
    from recon4d.formats import exr_writer

    depths, normals = delivery.folder("exr", "depth"), delivery.folder("exr", "normals")
    about_depth = f"Z: depth along the camera's axis, sigma: its standard deviation, {unit(delivery)}; 0 is not known"
    about_normals = f"R, G, B: x, y, z of the unit normal in world axes ({delivery.up.value} up); 0, 0, 0 is not known"
    for name in delivery.pending("exr", "writing EXR"):
        depth = delivery.depth(name)
        channels = {"Z": depth.depth, "sigma": depth.sigma}
        known = {key: np.where(depth.valid, values, 0) for key, values in channels.items()}
        exr_writer.write_exr(depths / f"{name}.exr", known, about_depth)
        x, y, z = np.moveaxis(delivery.normals(name), -1, 0)
        exr_writer.write_exr(normals / f"{name}.exr", {"R": x, "G": y, "B": z}, about_normals)


def write_png(delivery: Delivery) -> None:
    """`png/NAME.png`: depth in 16 bits, 0 where not known; what a step is stands in `png/depth.json`."""
    from recon4d.formats.depth_png import write_depth_png

    root, steps = delivery.folder("png"), depth_steps(delivery)
    about = {
        "unit": unit(delivery),
        "units_per_step": 1 / steps,
        "not_known": 0,
        "depth": "z, along the camera's axis",
    }
    (root / "depth.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    for name in delivery.pending("png", "writing PNG"):
        depth = delivery.depth(name)
        write_depth_png(root / f"{name}.png", depth.depth, depth.valid, steps)


def depth_steps(delivery: Delivery) -> float:
    """Steps per unit of 16-bit depth, the same for all frames: 1000 per metre where the farthest depth allows it."""
    from recon4d.formats.depth_png import PER_METRE, steps_per_unit

    steps = steps_per_unit(delivery.farthest, delivery.in_metres) if delivery.farthest > 0 else PER_METRE
    if steps != PER_METRE:
        delivery.part.progress.say(f"  16-bit depth has steps of {1 / steps:g} {unit(delivery)}")
    return steps


def unit(delivery: Delivery) -> str:
    return "metres" if delivery.in_metres else "scene units"
