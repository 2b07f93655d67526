"""Depth without weights: what the posed pictures of a clip say of each other (multi-view stereo).

Every frame first looks for itself: a sweep of planes through the space before it, each compared with many other views,
and one surface chosen along eight paths. Then it settles with the looks of other frames: they vote, planes carry the
votes across what is too plain to match, and depth steps move to the picture's edges. Last, the settled frames hear each
other, which steadies them, and what does not look like the rest of the clip is found to move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.depth.stereo_chances import (
    LookSigns,
    Signs,
    chance_of_look,
    chance_of_settled,
    chance_of_steadied,
    texture_share,
)
from recon4d.geometry.depth_votes import Agreement, Votes, agree, collect_votes, weigh
from recon4d.geometry.photo_cost import GreyView, Labels, photo_costs, pixel_warp
from recon4d.geometry.picture_planes import PlaneStyle, plane_surface
from recon4d.geometry.semi_global import Smoothness, semi_global
from recon4d.geometry.silhouettes import distance_to_step, snapped_to_picture
from recon4d.geometry.static_look import looks_static
from recon4d.scene.camera import Camera
from recon4d.scene.depth import DepthKind, DepthMap, Provenance
from recon4d.scene.transforms import Rigid3

PLANES = 64
WINDOWS = (1, 2)  # radii, pixels: the small one keeps edges, the large one tells textures apart
SMOOTHNESS = Smoothness(small=0.3, large=12.0, edge=6.0)
BAND_STEP, BAND_LABELS = 0.004, 9  # of the median inverse depth: about a tenth of a pixel at the usual angles
BAND_SMOOTHNESS = Smoothness(small=0.05, large=0.5, edge=8.0)
SURE_SUPPORT = 4.0  # weight of votes that is enough
CONFIRMED = 0.25  # weight of other frames' votes: one that is more likely right than not
LEAST_SHARE, SURE_SHARE = 0.3, 0.7  # of all votes: fewer tell nothing, more are certain
SAME_SURFACE = 0.03  # relative inverse depth
SAME_SIDE = 0.05  # the same, too little for another side of a step
NEAR_STEP_PX = 3.0
WITNESSES = 10  # of the frames that vote, at least, where there are as many, are asked for colours: for a median
OWN_LOOK, OWN_SETTLED = 2.0, 1.0  # weight of a frame's own vote against another one's: what is settled is shared


@dataclass(frozen=True)
class PosedPicture:
    """A picture at working resolution and the camera that took it."""

    rgb: np.ndarray  # (H, W, 3) uint8
    camera: Camera  # of this size
    cam_from_world: Rigid3

    def grey(self) -> GreyView:
        """The same in grey levels."""
        weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return GreyView(self.rgb.astype(np.float32) @ weights, self.camera, self.cam_from_world)


@dataclass(frozen=True)
class Look:
    """What one frame and its neighbours say of its depth: the first, raw answer."""

    inverse_depth: np.ndarray  # (H, W) float32, inverse scene units, > 0
    confidence: np.ndarray  # (H, W) float32: chance to lie within 5 % of the truth


@dataclass(frozen=True)
class Settled(Look):
    """The answer after the looks of other frames were heard."""

    provenance: np.ndarray  # (H, W) uint8, see Provenance
    on_plane: np.ndarray  # (H, W) bool: where it may come from a plane found elsewhere in the picture
    own_trust: np.ndarray  # (H, W) float16: confidence of the frame's own look where it is the same, else 0


def first_look(frame: GreyView, others: Sequence[GreyView], near: float, far: float) -> Look:
    """Plane sweep against the other views between two depths (scene units), smoothed along eight paths."""
    import cv2

    labels = Labels.sweep(frame.grey.shape, near, far, PLANES)
    costs = photo_costs(frame, others, labels, WINDOWS[0])
    for radius in WINDOWS[1:]:
        costs += photo_costs(frame, others, labels, radius)
    costs /= len(WINDOWS)
    # Blocks of compression look like edges in a plain wall; this takes them out and leaves the real ones.
    calm = cv2.bilateralFilter(frame.grey, 7, 25, 3)
    choice = semi_global(costs, calm, SMOOTHNESS)
    nearest = np.clip(np.round(choice.label).astype(np.intp), 0, PLANES - 1)
    cost = np.take_along_axis(costs, nearest[..., None], axis=2)[..., 0]
    return Look(labels.inverse_depth(choice.label), chance_of_look(LookSigns(choice.margin, cost, frame.grey)))


def settle(
    frame: PosedPicture, look: Look, others: Sequence[tuple[PosedPicture, Look]], matched: Sequence[GreyView]
) -> Settled | None:
    """The depth of a frame from its own look and those of other frames; None where no frame trusts what it sees.

    Votes decide where they can, planes carry them across plain walls, steps move to the picture's edges, and what has
    texture is matched once more, finely, around that surface.

    Args:
        others: frames that vote.
        matched: views to match with, as for `first_look`.
    """
    votes = _votes(frame, look, others, OWN_LOOK)
    agreed = agree(votes)
    if not (agreed.inverse_depth > 0).any():
        return None
    sure, texture, style = trust(agreed), texture_share(frame.rgb), PlaneStyle()
    flat, plane = plane_surface(agreed.inverse_depth, sure, sure * texture, frame.rgb, style)
    # A plane says where the depth is; what was measured well on it is finer than the plane.
    away = np.abs(agreed.inverse_depth / flat - 1)
    finer = sure * np.clip(2 - 2 * away / style.disagreement, 0, 1)
    surface = snapped_to_picture((flat + finer * (agreed.inverse_depth - flat)).astype(np.float32), frame.rgb)
    surface = _sharpened(frame.grey(), matched, surface, texture)
    evidence = weigh(votes, surface)
    own = np.abs(look.inverse_depth / surface - 1) < SAME_SURFACE
    own_trust = np.where(own, look.confidence, np.float32(0))
    signs = Signs(evidence, sure * texture, own_trust, plane > 0)
    told = weigh(votes.of_others, surface).agreeing
    provenance = np.full(surface.shape, Provenance.COMPLETED, dtype=np.uint8)
    provenance[told >= SURE_SUPPORT] = Provenance.OTHER_FRAME
    provenance[own & (look.confidence >= 0.5) & (told >= CONFIRMED)] = Provenance.MEASURED
    return Settled(surface, chance_of_settled(signs), provenance, plane > 0, own_trust.astype(np.float16))


def _sharpened(frame: GreyView, matched: Sequence[GreyView], surface: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Inverse depth (H, W) matched in a narrow band around ``surface``, as far as there is ``texture`` (0..1)."""
    if not matched:
        return surface
    band = Labels.band(surface, BAND_STEP * float(np.median(surface)), BAND_LABELS)
    costs = photo_costs(frame, matched, band, WINDOWS[-1])
    fine = band.inverse_depth(semi_global(costs, frame.grey, BAND_SMOOTHNESS).label)
    # The band of what is far may reach beyond infinity.
    return np.where(fine > 0, surface + texture * (fine - surface), surface)


def steadied(
    frame: PosedPicture, settled: Settled, others: Sequence[tuple[PosedPicture, Settled]], complete: bool
) -> DepthMap:
    """The final depth: frames hear each other once more, so that one surface has one depth in all of them.

    Args:
        complete: also give depth where nothing was measured, as provenance OTHER_FRAME and COMPLETED.

    Returns:
        Depth with the chance of each pixel to lie within 5 % of the truth as its confidence. Not valid is what does
        not look like the rest of the clip at its depth: it moves.
    """
    votes = _votes(frame, settled, others, OWN_SETTLED)
    agreed = agree(votes)
    away = np.abs(agreed.inverse_depth / settled.inverse_depth - 1)
    # Near a step the frame's own picture knows best which side a pixel is on.
    heard = (agreed.inverse_depth > 0) & ((distance_to_step(settled.inverse_depth) > NEAR_STEP_PX) | (away < SAME_SIDE))
    surface = np.where(heard, agreed.inverse_depth, settled.inverse_depth)
    evidence, same = weigh(votes, surface), np.abs(settled.inverse_depth / surface - 1) < SAME_SURFACE
    own = np.where(same, settled.confidence, 0)
    signs = Signs(evidence, trust(agreed) * texture_share(frame.rgb), own, settled.on_plane & same)
    provenance = np.where(same, settled.provenance, np.uint8(Provenance.OTHER_FRAME))
    witnesses = others[:: max(1, len(others) // WITNESSES)]
    static = looks_static(
        frame,
        surface,
        np.where(same, settled.own_trust, 0),
        [picture for picture, _ in witnesses],
        # What a mask takes out, or nobody measured, is no witness: it counts as hidden.
        [np.where(item.confidence > 0, item.inverse_depth, np.float32(np.inf)) for _, item in witnesses],
    )
    valid = static if complete else static & (provenance == Provenance.MEASURED)
    # A guess that nobody confirms stays one.
    chance = np.where(heard | (settled.confidence > 0), chance_of_steadied(signs), 0)
    return DepthMap(DepthKind.SCENE_Z, np.where(valid, 1 / surface, 0), valid, chance, provenance)


def _votes(frame: PosedPicture, own: Look, others: Sequence[tuple[PosedPicture, Look]], own_weight: float) -> Votes:
    seen = [(look.inverse_depth, look.confidence) for _, look in others]
    warps = [pixel_warp(picture, frame) for picture, _ in others]
    return collect_votes((own.inverse_depth, own.confidence), seen, warps, own_weight)


def trust(agreed: Agreement) -> np.ndarray:
    """(H, W) float32, 0..1: how far the votes settle the depth by themselves."""
    share = agreed.support / np.maximum(agreed.total, 1e-6)
    certain = np.clip((share - LEAST_SHARE) / (SURE_SHARE - LEAST_SHARE), 0, 1)
    return certain * np.minimum(agreed.support / SURE_SUPPORT, 1)
