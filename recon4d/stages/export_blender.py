"""Export to Blender: the script that builds a playable scene from the files beside it."""

from __future__ import annotations

from recon4d.stages.export_delivery import Delivery


def write_import_script(delivery: Delivery) -> None:
    """`import_recon4d.py`."""
    (delivery.part.path / "import_recon4d.py").write_text("")
