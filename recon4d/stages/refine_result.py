"""From the answer at working size to what the stage writes: surfaces of the picture's size, cut anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon4d.scene.depth import Provenance, SceneDepth
from recon4d.scene.mesh import DepthMesh

if TYPE_CHECKING:
    from recon4d.depth.multi_view import PosedPicture
    from recon4d.scene.trajectory import View
    from recon4d.stages.refine_walks import Answer, Prior

CONFIRMING, ALIKE = 2, 0.6  # other views whose depth agrees, and how alike they look, to call a pixel measured
MOVED = 0.03  # of x: depth so far from a prior that was shape alone is the shape no more
JUMP_SIGMAS = 3.0  # a step no larger than that is no silhouette where the prior had none
LARGEST_SIGMA = 0.02  # relative: what is less sure is cut by its step alone


def refined_mesh(
    mesh: DepthMesh,
    view: View,
    pictures: tuple[np.ndarray, PosedPicture],
    prior: Prior,
    answer: Answer,
    sigma: np.ndarray,
    cuts: tuple[float, float],
) -> DepthMesh:
    """The surface of a frame after refinement.

    Args:
        mesh: before it.
        pictures: of the frame, as it is and at working size.
        sigma: (h, w) relative standard deviation at working size.
        cuts: the largest ratio and least angle of the stage mesh.
    """
    from recon4d.geometry.meshing import cut_silhouettes
    from recon4d.refine.upsample import upsample

    before = mesh.surface
    fine_x = np.where(before.valid, -np.log(np.where(before.valid, before.depth, 1)), np.nan).astype(np.float32)
    rgb, working = pictures
    x, relative = upsample(answer.found.x, sigma, (prior.x, working.rgb), (fine_x, rgb))
    valid = before.valid & np.isfinite(x)
    depth = np.where(valid, np.exp(-np.where(valid, x, 0)), 0).astype(np.float32)
    provenance = _provenance(before.provenance, np.abs(x - fine_x), answer)
    surface = SceneDepth(depth, valid, np.where(valid, depth * relative, 0), provenance)
    return _rejoined(cut_silhouettes(surface, view.camera, *cuts), mesh, relative)


def nearer(mesh: DepthMesh, depth_ratio: float) -> DepthMesh:
    """The same surface with its depth multiplied."""
    if depth_ratio == 1.0:
        return mesh
    surface, ratio = mesh.surface, np.float32(depth_ratio)
    return replace(mesh, surface=replace(surface, depth=ratio * surface.depth, sigma=ratio * surface.sigma))


def _provenance(before: np.ndarray, moved: np.ndarray, answer: Answer) -> np.ndarray:
    """Where depth comes from now: measured where other views confirm it, else as before."""
    height, width = answer.found.x.shape
    confirmed = (answer.refined.agreeing >= CONFIRMING) & (answer.found.alike >= ALIKE) & (answer.problem.static > 0)
    row = np.arange(before.shape[0]) * height // before.shape[0]
    column = np.arange(before.shape[1]) * width // before.shape[1]
    confirmed = confirmed[np.ix_(row, column)]
    after = np.where(confirmed, np.uint8(Provenance.MEASURED), before)
    # What was its own word and is far from it now, unconfirmed, came from its surroundings.
    gone = ~confirmed & (moved > MOVED) & (before <= Provenance.FITTED)
    return np.where(gone, np.uint8(Provenance.COMPLETED), after)


def _rejoined(cut: DepthMesh, before: DepthMesh, sigma: np.ndarray) -> DepthMesh:
    """Neighbours that were joined, and are apart by no more than their errors explain, stay joined."""
    x = np.log(np.where(cut.surface.valid, cut.surface.depth, np.nan))
    sigma = np.minimum(np.nan_to_num(sigma), LARGEST_SIGMA)

    def near(axis: int) -> np.ndarray:
        step, error = np.abs(np.roll(x, -1, axis) - x), np.hypot(sigma, np.roll(sigma, -1, axis))
        with np.errstate(invalid="ignore"):
            return step < JUMP_SIGMAS * error

    right = cut.join_right | (before.join_right & near(1))
    down = cut.join_down | (before.join_down & near(0))
    right[:, -1], down[-1] = False, False
    return replace(cut, join_right=right, join_down=down)
