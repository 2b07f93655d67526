"""From evidence to one label per pixel: it spreads along the picture's surfaces and, with the flow, through time.

The label m of a frame, 0 (still) to 1 (moves), minimises

    sum_p c_p (m_p - u_p)^2  +  sum over neighbouring pixels p, q of  s_pq (m_p - m_q)^2
                             +  mu sum_p (m_p - m'_p')^2

with c and u from the evidence, springs s that are soft across colour edges, and m' the labels of the frames before and
after where the flow leads. Frames are solved one after the other, with the labels of the others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from recon4d.geometry.flow_check import flow_map
from recon4d.geometry.smooth_solver import solve
from recon4d.motion.evidence import FrameEvidence

MOVED, STILL, ANYWAY = 2.5, 0.7, 0.005  # how much evidence counts; what nothing tells stands still
STIFFNESS, SOFTEST, EDGE = 4.0, 0.01, 8.0  # of springs; their share across strong edges; grey levels of an edge
HINTED_SHARE, HINTED_REACH = 0.2, 1.0  # of a segment that must move; of the root of that area, around it
IN_TIME = 0.5  # strength of the tie to the frame before and after


def data_term(evidence: FrameEvidence) -> tuple[np.ndarray, np.ndarray]:
    """c and c * u of every pixel, (H, W) float32."""
    moved = MOVED * evidence.moved**2
    return (moved + STILL * evidence.still**2 + ANYWAY).astype(np.float32), moved.astype(np.float32)


def colour_springs(
    rgb: np.ndarray, stiffness: float = STIFFNESS, softest: float = SOFTEST, edge: float = EDGE
) -> tuple[np.ndarray, np.ndarray]:
    """Springs (H, W) to the right and lower neighbour: weak where the colour (H, W, 3) changes."""
    smooth = cv2.GaussianBlur(rgb, (0, 0), 0.7).astype(np.float32)
    right = np.abs(np.diff(smooth, axis=1, append=smooth[:, -1:])).max(axis=2)
    down = np.abs(np.diff(smooth, axis=0, append=smooth[-1:])).max(axis=2)
    return tuple((stiffness * (np.exp(-step / edge) + softest)).astype(np.float32) for step in (right, down))


def frame_label(
    evidence: FrameEvidence,
    springs: tuple[np.ndarray, np.ndarray],
    in_time: Sequence[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """(H, W) float32, 0 (still) to 1 (moves).

    Args:
        springs: of `colour_springs`.
        in_time: labels (H, W) of frames beside it in time, and the flow (H, W, 2) to each, NaN where it is not known.
    """
    weight, target = data_term(evidence)
    for label, flow in in_time:
        there, known = along_flow(label, flow)
        weight += np.float32(IN_TIME) * known
        target += np.float32(IN_TIME) * there
    return solve(weight, *springs, target)


def along_flow(grid: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (H, W) float32 where the flow leads, and 1 where it leads somewhere; else both are 0."""
    x, y = flow_map(flow)
    inside = (x >= 0) & (y >= 0) & (x <= grid.shape[1] - 1) & (y <= grid.shape[0] - 1)
    read = cv2.remap(grid.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.where(inside, read, np.float32(0)), inside.astype(np.float32)


def hinted_parts(segment: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """(H, W) bool: parts of a segmentation that move as a whole, as far as that can be said.

    Where a fifth of a connected part moves, the rest of it does, too, but not further from what moves than the root of
    that area: networks run things that touch into one.

    Args:
        segment: (H, W) bool, what a network sets apart.
        moves: (H, W) bool, what was found to move.
    """
    _, parts = cv2.connectedComponents(segment.astype(np.uint8))
    raised = np.zeros(segment.shape, dtype=bool)
    sizes = np.bincount(parts.ravel())
    moving = np.bincount(parts.ravel(), moves.ravel(), len(sizes))
    for part in np.flatnonzero(moving >= HINTED_SHARE * sizes):
        if part > 0:
            own = parts == part
            away = cv2.distanceTransform((~(own & moves)).astype(np.uint8), cv2.DIST_L2, 3)
            raised |= own & (away <= HINTED_REACH * np.sqrt(moving[part]))
    return raised
