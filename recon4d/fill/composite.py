"""Pictures of the same view from several sources, laid over each other: the more trusted first, the nearer in front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon4d.render.splatting import NOTHING, Rendered

IN_FRONT = 0.03  # a less trusted source has to be nearer by more than this share of the depth to hide a trusted one
SOLID = 0.5  # and to cover at least so much of the pixel


def over(front: Rendered, back: Rendered) -> Rendered:
    """``front`` over ``back``, pixel by pixel: ``back`` shows only as far as ``front`` leaves the pixel open.

    Source: Porter and Duff, SIGGRAPH 1984. Depth and provenance are those of the part that covers more.
    """
    rest = back.alpha * (1 - front.alpha)
    alpha = front.alpha + rest
    share = np.where(alpha > 0, rest / np.maximum(alpha, 1e-12), 0)[..., None].astype(np.float32)
    of_front = front.alpha >= rest
    return Rendered(
        color=front.color * (1 - share) + back.color * share,
        alpha=alpha,
        depth=np.where(of_front, front.depth, back.depth),
        provenance=np.where(of_front & (front.alpha > 0), front.provenance, back.provenance),
    )


def laid_over(sources: Sequence[Rendered], in_front: float | None = IN_FRONT) -> Rendered:
    """Sources in the order of trust. A later one shows in holes, and where it is solid and clearly nearer.

    Args:
        in_front: relative; None where later sources may only fill holes.
    """
    result = sources[0]
    for other in sources[1:]:
        if in_front is None:
            result = over(result, other)
            continue
        hides = (other.alpha >= SOLID) & (result.depth > 0) & (other.depth * (1 + in_front) < result.depth)
        front, back = chosen(hides, other, result), chosen(hides, result, other)
        result = over(front, back)
    return result


def chosen(mask: np.ndarray, yes: Rendered, no: Rendered) -> Rendered:
    """Pixels of ``yes`` where ``mask`` (H, W), else those of ``no``."""
    return Rendered(
        color=np.where(mask[..., None], yes.color, no.color),
        alpha=np.where(mask, yes.alpha, no.alpha),
        depth=np.where(mask, yes.depth, no.depth),
        provenance=np.where(mask, yes.provenance, no.provenance),
    )


def without(rendered: Rendered, mask: np.ndarray) -> Rendered:
    """The same with nothing in the pixels of ``mask`` (H, W) bool."""
    zero = np.float32(0)
    return Rendered(
        color=np.where(mask[..., None], zero, rendered.color),
        alpha=np.where(mask, zero, rendered.alpha),
        depth=np.where(mask, zero, rendered.depth),
        provenance=np.where(mask, np.uint8(NOTHING), rendered.provenance),
    )
