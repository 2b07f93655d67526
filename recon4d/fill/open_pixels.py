"""What is still open in a rendered picture, closed from its surroundings."""

from __future__ import annotations

import numpy as np

from recon4d.fill.push_pull import push_pull
from recon4d.render.splatting import Rendered
from recon4d.scene.depth import Provenance


def closed(rendered: Rendered) -> Rendered:
    """The same picture without holes: colours and depth of open pixels hang smoothly between those of others.

    What is partly covered keeps its part. Depth goes in inverse depth. A picture without anything stays so.
    """
    solid = rendered.alpha >= 1
    if solid.all() or not solid.any():
        return rendered
    known = rendered.alpha > 0.5
    color = np.stack([push_pull(rendered.color[..., k], solid) for k in range(3)], axis=-1)
    nearness = push_pull(1 / np.where(known, rendered.depth, 1), known) if known.any() else None
    depth = rendered.depth if nearness is None else np.where(known, rendered.depth, 1 / np.maximum(nearness, 1e-12))
    share = rendered.alpha[..., None]
    return Rendered(
        color=np.where(solid[..., None], rendered.color, rendered.color * share + color * (1 - share)),
        alpha=np.ones_like(rendered.alpha),
        depth=depth.astype(np.float32),
        provenance=np.where(known, rendered.provenance, np.uint8(Provenance.COMPLETED)),
    )
