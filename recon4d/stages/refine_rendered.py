"""Refinement by rendering, frame by frame: the last polish of ours, all of it by rendering, or as published."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon4d.refine.frame import FrameEnergy, Problem, Refined, Style

if TYPE_CHECKING:
    from recon4d.depth.multi_view import PosedPicture
    from recon4d.refine.terms import Opinion
    from recon4d.render.cpu_rasterizer import CpuRasterizer

_OWN = threading.local()


def polished(problem: Problem, pictures: tuple[PosedPicture, list[PosedPicture]], refined: Refined) -> Refined:
    """The answer after a last look by rendering, where views that did not take part like that better."""
    from recon4d.refine.polish import Pictures, PolishSettings, polish

    colors = Pictures(pictures[0].rgb, [view.rgb for view in pictures[1]])
    found = polish(problem, colors, refined.x, PolishSettings(), _rasterizer())
    return replace(refined, x=found.x)


def by_rendering(problem: Problem, pictures: tuple[PosedPicture, list[PosedPicture]], style: Style) -> Refined:
    """All of a frame's refinement by rendering, with our terms."""
    from recon4d.refine.polish import RENDER, Pictures, polish

    colors = Pictures(pictures[0].rgb, [view.rgb for view in pictures[1]])
    return told_by_energy(problem, style, polish(problem, colors, None, RENDER, _rasterizer()).x)


def by_reference(
    problem: Problem,
    pictures: tuple[PosedPicture, list[PosedPicture]],
    points: Opinion | None,
    style: Style,
    seed: int,
) -> Refined:
    """A frame's refinement as published.

    Args:
        points: the sparse points as an opinion.
    """
    from recon4d.refine.reference import ReferenceSettings, refine_by_reference

    prior = problem.own.x
    row, column = np.nonzero(points.chance > 0) if points is not None else (np.zeros(0, dtype=int),) * 2
    z = np.exp(-points.x[row, column]) if points is not None else np.zeros(0)
    pixels = np.stack([column + 0.5, row + 0.5], axis=-1)
    settings = replace(ReferenceSettings(), seed=seed)
    frame, views = pictures
    found = refine_by_reference(frame, np.exp(-prior), views, (pixels, z), settings, _rasterizer())
    x = np.where(np.isfinite(prior), -np.log(found.z), prior).astype(prior.dtype)
    return told_by_energy(problem, style, x)


def told_by_energy(
    problem: Problem, style: Style, x: np.ndarray, energies: list[dict[str, float]] | None = None
) -> Refined:
    """An answer that did not come from the energy alone, with what that has to say of it."""
    state = FrameEnergy(problem, style).at(x, look_again=True)
    steps = [*(energies or []), state.energies]
    return Refined(x, state.data, state.right, state.down, state.agreeing, state.alike, steps)


def _rasterizer() -> CpuRasterizer:
    """One for each thread, for it keeps its work arrays; frames are many, so each uses one core."""
    from recon4d.render.cpu_rasterizer import CpuRasterizer

    if not hasattr(_OWN, "rasterizer"):
        _OWN.rasterizer = CpuRasterizer(threads=1)
    return _OWN.rasterizer
