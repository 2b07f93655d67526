"""Moments between two frames: each frame's surface carried along its scene flow, both pictures blended.

Source: symmetric splatting of Shen et al., Make-It-4D, ACM Multimedia 2023 (there along a made-up loop); here frame i
goes forward by t of its flow to the next frame and frame i + 1 backward by 1 - t of its flow to the frame before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recon4d.render.splatting import NOTHING, Rendered, Splats
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.trajectory import View

# Of disparity over its mean, in the exponent: of two surfaces in one pixel the nearer counts more. 0 to 1 gave the best
# PSNR on held-back frames; 5 lost 0.2 dB where something moves, 20 a whole dB.
NEARNESS = 1.0
RIM_PX = 1  # colours of a silhouette are mixed so far beside it; more costs what both frames show there
SOLID = 0.5  # pixels that are covered less are filled from the picture around them
TELEA_PX = 4.0  # radius of that fill
GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, fall evenly into 0..1: neighbours in a cloud thin evenly


def known_motion(flow: np.ndarray, object_id: np.ndarray) -> np.ndarray:
    """Displacement of every pixel (H, W, 3), world axes, scene units, all finite.

    Args:
        flow: (H, W, 3) scene flow, NaN where it is not known.
        object_id: (H, W), 0 = background.

    What is not known is the median of its object's known displacements, axis by axis; an object of which nothing is
    known, and the background, stay where they are: between the frames they fade.
    """
    unknown = ~np.isfinite(flow).all(axis=-1)
    if not unknown.any():
        return flow
    filled = np.where(unknown[..., None], np.float32(0), flow)
    for label in np.unique(object_id[unknown & (object_id > 0)]):
        own = object_id == label
        if (own & ~unknown).any():
            filled[own & unknown] = np.median(flow[own & ~unknown], axis=0)
    return filled


def without_rims(object_id: np.ndarray, rim_px: int = RIM_PX) -> np.ndarray:
    """(H, W) bool: pixels but those of the background right beside what moves.

    Their colours are mixed with the object's: they would stay behind as its outline. The other frame or the fused
    background shows what is there.
    """
    import cv2

    moving = (object_id > 0).astype(np.uint8)
    return (moving > 0) | (cv2.dilate(moving, np.ones((2 * rim_px + 1,) * 2, np.uint8)) == 0)


def moved_splats(
    splats: Splats, mesh: DepthMesh, displacement: np.ndarray, seen_from: np.ndarray, keep: np.ndarray | None = None
) -> Splats:
    """The surface of a frame, every pixel shifted by its displacement (H, W, 3), world axes, scene units.

    Args:
        splats: of the frame's grid (`grid_splats`), with the same ``keep``.
        seen_from: (3,) centre of the camera of the moment: what has turned its back to it is left out.
        keep: (H, W) bool, pixels that are wanted; None for all valid ones.
    """
    wanted = mesh.surface.valid if keep is None else mesh.surface.valid & keep
    way = displacement[wanted]
    moves = way.any(axis=1)
    if not moves.any():
        return splats
    change = [
        _change(displacement, joined, axis)[wanted][moves]
        for joined, axis in ((mesh.join_right, 1), (mesh.join_down, 0))
    ]
    points, tangents = splats.points.copy(), splats.tangents.copy()
    points[moves] += way[moves]
    tangents[moves] += np.stack(change, axis=1)
    # Right cross down points away from the camera; of pixels that stay the frame itself has seen the front.
    facing = np.einsum("ij,ij->i", np.cross(tangents[moves, 0], tangents[moves, 1]), points[moves] - seen_from) > 0
    shown = np.ones(len(splats), dtype=bool)
    shown[moves] = facing
    return replace(splats, points=points, tangents=tangents)[shown]


def _change(displacement: np.ndarray, joined: np.ndarray, axis: int) -> np.ndarray:
    """(H, W, 3) what the displacement adds to the tangents along an axis: its mean step to the joined neighbours."""
    step = np.where(joined[..., None], np.roll(displacement, -1, axis=axis) - displacement, 0)
    count = joined.astype(np.int8) + np.roll(joined, 1, axis=axis)
    return (step + np.roll(step, 1, axis=axis)) / np.maximum(count, 1)[..., None]


def blended(forward: Rendered, backward: Rendered, share: float, nearness: float = NEARNESS) -> Rendered:
    """Both pictures of a moment in one: w0 = (1 - share) * alpha0 * exp(nearness * disparity0 / mean), w1 alike.

    Args:
        share: of the time between the frames, 0..1; at 0 only ``forward`` counts, at 1 only ``backward``.
        nearness: 0 blends by time and coverage alone.

    Where one sees nothing the other counts alone. The mean disparity is over what both pictures show.
    """
    weights, exponents = [], []
    seen = np.concatenate([r.depth[r.depth > 0] for r in (forward, backward)])
    mean = np.mean(1 / seen.astype(np.float64)) if len(seen) else 1.0
    for rendered in (forward, backward):
        shown = rendered.depth > 0
        exponents.append(np.where(shown, nearness / (np.where(shown, rendered.depth, 1) * mean), -np.inf))
    largest = np.maximum(*exponents)
    for rendered, own, time in zip((forward, backward), exponents, (1 - share, share)):
        relative = np.where(np.isfinite(own), np.exp(own - np.where(np.isfinite(largest), largest, 0)), 0)
        # Far behind the other surface a weight may vanish, but not what a pixel shows that only this picture sees.
        weights.append(time * rendered.alpha * np.maximum(relative, 1e-12))
    total = weights[0] + weights[1]
    first = (weights[0] / np.where(total > 0, total, 1)).astype(np.float32)
    second = np.where(total > 0, 1 - first, 0).astype(np.float32)
    alphas = [np.where(w > 0, r.alpha, 0) for w, r in zip(weights, (forward, backward))]
    return Rendered(
        color=forward.color * first[..., None] + backward.color * second[..., None],
        # A thin veil of one picture does not make the other's solid surface transparent.
        alpha=np.maximum(*alphas).astype(np.float32),
        depth=forward.depth * first + backward.depth * second,
        provenance=np.where(total > 0, np.where(first >= second, forward.provenance, backward.provenance), NOTHING),
    )


def finished(rendered: Rendered) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W, 3) uint8 without holes, and where it was made up, (H, W) bool.

    Pixels covered by less than half are filled from those around them (Telea, Journal of Graphics Tools 2004).
    A picture that shows nothing at all stays black.
    """
    import cv2

    picture = np.clip(np.round(rendered.color), 0, 255).astype(np.uint8)
    hole = rendered.alpha < SOLID
    if hole.any() and not hole.all():
        picture = np.where(
            hole[..., None], cv2.inpaint(picture, hole.astype(np.uint8), TELEA_PX, cv2.INPAINT_TELEA), picture
        )
    return picture, hole


def moved_cloud(cloud: PointCloud, view: View, displacement: np.ndarray) -> PointCloud:
    """The moving points of a frame, each shifted as the pixel (H, W, 3) of that frame in which it lies."""
    if not len(cloud):
        return cloud
    height, width = displacement.shape[:2]
    pixels = view.camera.project(view.cam_from_world @ cloud.points.astype(np.float64))
    column, row = np.nan_to_num(np.floor(pixels)).astype(int).T
    shift = displacement[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    return replace(cloud, points=cloud.points + shift)


def cloud_between(forward: PointCloud, backward: PointCloud, share: float) -> PointCloud:
    """Moving points of a moment: of objects that both frames have, 1 - share of the one and share of the other.

    So the density stays that of a frame. Objects that only one frame has are kept whole. Which points stay does not
    jump: with growing ``share`` forward points only leave and backward points only come.
    """
    both = np.intersect1d(forward.object_id, backward.object_id)
    parts = []
    for cloud, low, high in ((forward, share, 1.0), (backward, 0.0, share)):
        place = np.arange(len(cloud)) * GOLDEN % 1.0
        parts.append(cloud[((place >= low) & (place < high)) | ~np.isin(cloud.object_id, both)])
    return PointCloud.concatenate(parts)
