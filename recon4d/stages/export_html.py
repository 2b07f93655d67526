"""Export to one self-contained page that plays the scene in any browser."""

from __future__ import annotations

from recon4d.stages.export_delivery import Delivery


def write_html(delivery: Delivery) -> None:
    """`html/index.html`."""
    delivery.folder("html")
