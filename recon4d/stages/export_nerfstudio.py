"""Export to nerfstudio and Instant-NGP: pictures, `transforms.json`, and the points splats start from."""

from __future__ import annotations

import json

from recon4d.stages.export_delivery import PLAYED_STATIC_POINTS, Delivery


def write_nerfstudio(delivery: Delivery) -> None:
    """`nerfstudio/`."""
    from recon4d.formats.ply import write_cloud
    from recon4d.formats.transforms_json import write_transforms

    root = delivery.folder("nerfstudio")
    pictures = delivery.link_pictures(delivery.folder("nerfstudio", "images"))
    path = root / "transforms.json"
    write_transforms(path, delivery.trajectory, {name: f"images/{item.name}" for name, item in pictures.items()})
    write_cloud(root / "sparse_pc.ply", delivery.static(PLAYED_STATIC_POINTS))
    content = {"ply_file_path": "sparse_pc.ply"} | json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
