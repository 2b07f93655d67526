"""What `align/fit.png` shows, gathered from the fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon4d.stages.align_report import FARTHEST, FitRow, HeldOutErrors, residuals
from recon4d.view.alignment_evidence import (
    AlignmentEvidence,
    CueScale,
    FitPoints,
    FrameErrors,
    FrameFits,
    SigmaShares,
    SpaceErrors,
)

if TYPE_CHECKING:
    from recon4d.geometry.clip_fit import WindowJoint
    from recon4d.metric.scale import MetricScale
    from recon4d.stages.align_evidence import FrameEvidence
    from recon4d.stages.align_fit import ClipAlignment
    from recon4d.workspace import Workspace

SCATTERED = 6000  # points shown
MAP_COLUMNS = 32  # of the residual maps
LEAST_IN_CELL = 5
SEED = 0


def page_evidence(
    workspace: Workspace,
    frames: Sequence[FrameEvidence],
    clip: ClipAlignment,
    rows: Sequence[FitRow],
    joints: Sequence[WindowJoint],
    held: HeldOutErrors | None,
    scale: MetricScale,
    warned: Sequence[tuple[int, int]],
) -> AlignmentEvidence:
    """Everything the page of a clip shows."""
    return AlignmentEvidence(
        clip=workspace.title,
        names=tuple(row.name for row in rows),
        key_numbers=_key_numbers(clip, rows, held),
        fits=_fits(clip),
        errors=_errors(frames, clip, rows),
        points=_points(frames, clip),
        space=_space(workspace, frames, clip),
        sigma=None if held is None else SigmaShares(held.within_one_sigma, held.within_two_sigma, held.points),
        scale=None if scale.metres_per_unit is None else _cue("all", scale.metres_per_unit, scale.interval_95),
        cues=tuple(_cue(cue["name"], cue["metres_per_unit"], cue["interval_95"]) for cue in scale.as_json()["cues"]),
        seams=(*(joint.row for joint in joints), *clip.fit.jumps),
        warned=tuple(warned),
    )


def _cue(name: str, metres_per_unit: float, interval: Sequence[float]) -> CueScale:
    return CueScale(name, metres_per_unit, *interval)


def _key_numbers(clip: ClipAlignment, rows: Sequence[FitRow], held: HeldOutErrors | None) -> tuple[str, ...]:
    numbers = [clip.kind.value, f"{len(rows)} frames", f"{np.median([row.points for row in rows]):.0f} points a frame"]
    if held is not None:
        numbers.append(f"held-out points: {100 * held.median:.1f} % median, {100 * held.percentile_95:.0f} % at 95 %")
    if clip.style is not None:
        numbers.append(f"correction over the picture, strength {clip.style.strength:g}")
    return tuple(numbers)


def _fits(clip: ClipAlignment) -> FrameFits:
    own = [(np.nan, np.nan) if fit is None else (fit.gain, fit.shift) for fit in clip.own]
    own_gain, own_shift = np.array(own).T
    shift, free_shift = (clip.fit.shift, own_shift) if clip.kind.has_shift else (None, None)
    return FrameFits(clip.fit.gain, own_gain, np.isnan(own_gain), shift, free_shift)


def _errors(frames: Sequence[FrameEvidence], clip: ClipAlignment, rows: Sequence[FitRow]) -> FrameErrors:
    """Median errors per frame under one line for the clip, under each frame's own, and under the final fit."""
    from recon4d.geometry.alignment import z_from_values

    def medians(gain: np.ndarray, shift: np.ndarray) -> np.ndarray:
        out = np.full(len(frames), np.nan)
        for i, f in enumerate(frames):
            own = f.seen.own
            if own.any() and np.isfinite(gain[i]):
                z = np.minimum(z_from_values(f.d[own], gain[i], shift[i], clip.kind), FARTHEST)
                out[i] = np.median(np.abs(z / f.seen.z[own] - 1))
        return out

    fits = _fits(clip)
    zero = np.zeros(len(frames))
    own_shift = zero if fits.own_shift is None else fits.own_shift
    one_gain = np.full(len(frames), np.median(clip.fit.gain))
    one_shift = np.full(len(frames), np.median(clip.fit.shift))
    return FrameErrors(
        one_scale=medians(one_gain, one_shift),
        own_fit=medians(fits.own_gain, own_shift),
        final=np.array([row.residual_median if row.points else np.nan for row in rows]),
        held_out_median=np.array([row.held_out_median for row in rows]),
        held_out_95=np.array([row.held_out_95 for row in rows]),
    )


def _points(frames: Sequence[FrameEvidence], clip: ClipAlignment) -> FitPoints | None:
    from recon4d.geometry.alignment import to_domain

    d = np.concatenate([f.d[f.seen.own] for f in frames])
    if not len(d):
        return None
    z = np.concatenate([f.seen.z[f.seen.own] for f in frames])
    frame = np.repeat(np.arange(len(frames)), [int(f.seen.own.sum()) for f in frames])
    chosen = np.random.default_rng(SEED).permutation(len(d))[:SCATTERED]
    disparity = clip.kind.is_disparity
    return FitPoints(
        d=d[chosen],
        y=to_domain(z[chosen], clip.kind),
        frame=frame[chosen],
        x_label=f"depth source ({clip.kind.value})",
        y_label="1 / depth of the structure (1/units)" if disparity else "depth of the structure (units)",
    )


def _space(workspace: Workspace, frames: Sequence[FrameEvidence], clip: ClipAlignment) -> SpaceErrors | None:
    """Mean log error over the picture, before and after the correction, and the correction of the middle frame."""
    x, y, before, after = [], [], [], []
    for i, f in enumerate(frames):
        own = f.seen.own
        camera = f.view.camera
        x.append(f.seen.x[own] / camera.width)
        y.append(f.seen.y[own] / camera.height)
        after.append(np.log1p(np.maximum(residuals(clip, i, f.d, f.seen)[own], -0.99)))
        correction = np.zeros(int(own.sum()))
        if clip.fields is not None:
            correction = clip.fields[i].grid.read(clip.fields[i].field, f.seen.x[own], f.seen.y[own])
        before.append(after[-1] + correction)
    x, y, before, after = (np.concatenate(v) for v in (x, y, before, after))
    if not len(x):
        return None
    camera = frames[0].view.camera
    shape = max(2, round(MAP_COLUMNS * camera.height / camera.width)), MAP_COLUMNS
    if clip.fields is None:
        return SpaceErrors(_mean_map(x, y, before, shape))
    middle = len(frames) // 2
    fitted = clip.fields[middle]
    return SpaceErrors(
        _mean_map(x, y, before, shape),
        _mean_map(x, y, after, shape),
        -fitted.grid.spread(fitted.field, *clip.priors[middle].log_disparity.shape[::-1]),
        workspace.picture(frames[middle].view.name),
        frames[middle].view.name,
    )


def _mean_map(x: np.ndarray, y: np.ndarray, value: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) means of values at shares x, y of the picture; wild ones are cut; NaN where there are few."""
    cell = np.minimum((y * shape[0]).astype(int), shape[0] - 1) * shape[1]
    cell += np.minimum((x * shape[1]).astype(int), shape[1] - 1)
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    total = np.bincount(cell, np.clip(value, -0.5, 0.5), minlength=shape[0] * shape[1])
    mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count >= LEAST_IN_CELL)
    return mean.reshape(shape)
