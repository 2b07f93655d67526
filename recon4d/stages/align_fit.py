"""From evidence to fits: one line per frame, the field of gain, how stiff it is, and how sure the result is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import AlignmentError
from recon4d.scene.depth import DepthKind
from recon4d.stages.align_evidence import AnchorSamples, FrameEvidence, SourceDepth

if TYPE_CHECKING:
    from recon4d.geometry.alignment import FrameFit
    from recon4d.geometry.clip_field import FrameField, FramePrior
    from recon4d.geometry.clip_fit import ClipFit, FitSamples, WindowJoint
    from recon4d.geometry.depth_sigma import SigmaCurve
    from recon4d.geometry.field_choice import StyleTrial
    from recon4d.geometry.gain_field import FieldStyle
    from recon4d.progress import Progress

# Of a frame's middle disparity: nearer to 0 a relative prior says nothing but "far", and its logarithm nothing at all.
DISPARITY_FLOOR = 0.02
POINT_SIGMA = 0.02  # relative: what an anchor is weighed against
MIN_ANCHOR_SIGMA = 0.005
INTERPOLATED_WEIGHT = 0.25  # of points seen from a pose that is only interpolated


@dataclass(frozen=True)
class ClipAlignment:
    """How the depth of a clip becomes z-depth, frame by frame."""

    kind: DepthKind
    own: tuple[FrameFit | None, ...]  # each frame's own robust line
    fit: ClipFit
    priors: tuple[FramePrior, ...]
    fields: tuple[FrameField, ...] | None  # None: no correction over the picture
    style: FieldStyle | None
    trials: tuple[StyleTrial, ...]
    curve: SigmaCurve | None  # None: sigma is the residual of each frame
    anchors: tuple[AnchorFit, ...]

    def z_at(self, i: int, d: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """z-depth (K,), scene units, of source values at pixels of frame ``i``; inf where they mean no depth."""
        from recon4d.geometry.alignment import z_from_values

        z = z_from_values(d, self.fit.gain[i], self.fit.shift[i], self.kind)
        if self.fields is not None:
            z = z * np.exp(-self.fields[i].grid.read(self.fields[i].field, x, y))
        return z


@dataclass(frozen=True)
class AnchorFit:
    """How another source was brought to scene units."""

    source: SourceDepth
    fit: ClipFit
    sigma: float  # relative, robust, at the sparse points
    log_gain: np.ndarray  # (M,) of the frames with a fit of their own

    def z(self, i: int, d: np.ndarray) -> np.ndarray:
        """z-depth, scene units, of the source's values in frame ``i``; inf or not positive where they mean none."""
        from recon4d.geometry.alignment import z_from_values

        return z_from_values(d, self.fit.gain[i], self.fit.shift[i], self.source.kind)


def align_clip(
    frames: list[FrameEvidence],
    primary: SourceDepth,
    others: Sequence[SourceDepth],
    joints: Sequence[WindowJoint],
    settings: FitSettings,
    progress: Progress,
) -> ClipAlignment:
    """Fit a clip; of ``frames`` only what is needed after the fit is kept.

    Raises:
        AlignmentError: the depth cannot be brought to the structure.
    """
    from recon4d.geometry.clip_fit import FitSamples

    anchors = tuple(
        fitted
        for k, source in enumerate(others)
        if (fitted := _anchor_fit(source, [f.anchors[k] for f in frames], frames, settings)) is not None
    )
    placed = {anchor.source.name: anchor for anchor in anchors}
    heard = [
        [(f.anchors[k], placed[source.name]) for k, source in enumerate(others) if source.name in placed]
        for f in frames
    ]
    samples = []
    for i, f in enumerate(frames):
        own = f.seen.own
        if own.sum() >= settings.min_points or not heard[i]:
            samples.append(FitSamples(f.d[own], f.seen.z[own]))
        else:
            samples.append(_from_anchors(f, i, heard[i]))
    own_fits, fit = _lines(samples, primary.kind, joints, settings)
    priors = []
    for i in range(len(frames)):
        priors.append(_prior(i, frames[i], fit, primary.kind, heard[i]))
        frames[i] = frames[i].after_fit()
    wanted = settings.correction == "on" or (
        settings.correction == "auto" and primary.kind.has_gain and not primary.sensor
    )
    fields, style, trials, curve = _fields(priors, wanted, settings, progress)
    return ClipAlignment(primary.kind, tuple(own_fits), fit, tuple(priors), fields, style, trials, curve, anchors)


@dataclass(frozen=True)
class FitSettings:
    """The options that steer the fit; see `AlignOptions`."""

    min_points: int
    step: float | None
    correction: str


def _lines(
    samples: Sequence[FitSamples], kind: DepthKind, joints: Sequence[WindowJoint], settings: FitSettings
) -> tuple[list[FrameFit | None], ClipFit]:
    """Own line of every frame, and the joint ones."""
    from recon4d.geometry.alignment import fit_frame
    from recon4d.geometry.clip_fit import ClipFit, fit_clip

    count = len(samples)
    if not kind.has_gain or not any(len(s) for s in samples):
        if kind.has_shift:
            raise AlignmentError(
                f"align: there are no sparse points, and depth of kind {kind.value} has an unknown shift that only "
                "they can fix: move the camera sideways so that structure from motion works, or use metric depth"
            )
        return [None] * count, ClipFit(np.ones(count), np.zeros(count))  # the depth's own unit is the scene's
    fits: list[FrameFit | None] = []
    for s in samples:
        try:
            fits.append(fit_frame(s.d, s.z, kind) if len(s) >= settings.min_points else None)
        except AlignmentError:
            fits.append(None)  # falls where it should rise: the neighbours decide
    if all(fit is None for fit in fits):
        most = max(len(s) for s in samples)
        raise AlignmentError(
            f"align: no frame has {settings.min_points} sparse points on valid depth that a fit follows (the best has "
            f"{most}): lower --align.min-points or give the poses stage more overlapping frames"
        )
    return fits, fit_clip(samples, fits, kind, joints, settings.step)


def _anchor_fit(
    source: SourceDepth, given: Sequence[AnchorSamples], frames: Sequence[FrameEvidence], settings: FitSettings
) -> AnchorFit | None:
    """Another source brought to scene units by the sparse points; None where they cannot do that."""
    from recon4d.geometry.alignment import z_from_values
    from recon4d.geometry.clip_fit import ClipFit, FitSamples

    samples = []
    for f, anchor in zip(frames, given):
        known = f.seen.own & np.isfinite(anchor.at_points)
        samples.append(FitSamples(anchor.at_points[known], f.seen.z[known]))
    try:
        own, fit = _lines(samples, source.kind, (), settings)
    except AlignmentError:
        return None
    residuals = [
        z_from_values(s.d, fit.gain[i], fit.shift[i], source.kind) / s.z - 1 for i, s in enumerate(samples) if len(s)
    ]
    if residuals:
        sigma = 1.4826 * float(np.median(np.abs(np.minimum(np.concatenate(residuals), 1.0))))
    elif source.kind in (DepthKind.METRIC_Z, DepthKind.SCENE_Z):
        sigma, fit = POINT_SIGMA, ClipFit(np.ones(len(frames)), np.zeros(len(frames)))
    else:
        return None
    gains = [fitted.gain for fitted in own if fitted is not None]
    return AnchorFit(source, fit, max(sigma, MIN_ANCHOR_SIGMA), np.log(np.array(gains)))


def _from_anchors(f: FrameEvidence, i: int, heard: Sequence[tuple[AnchorSamples, AnchorFit]]) -> FitSamples:
    """Fit samples of a frame without structure: the depth of the other sources."""
    from recon4d.geometry.clip_fit import FitSamples

    d, z = [f.d[f.seen.own]], [f.seen.z[f.seen.own]]
    for anchor, fitted in heard:
        at = _small_values_at(f, anchor.x, anchor.y)
        found = fitted.z(i, anchor.d)
        good = np.isfinite(at) & np.isfinite(found) & (found > 0)
        d.append(at[good])
        z.append(found[good])
    return FitSamples(np.concatenate(d), np.concatenate(z))


def _small_values_at(f: FrameEvidence, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Source values at pixels, from the small grid; NaN where not valid."""
    from recon4d.geometry.resample import sample_grid

    height, width = f.values.shape
    camera = f.view.camera
    values, valid = sample_grid(
        np.nan_to_num(f.values), np.isfinite(f.values), x * (width / camera.width), y * (height / camera.height)
    )
    return np.where(valid, values.astype(np.float64), np.nan)


def _prior(
    i: int,
    f: FrameEvidence,
    fit: ClipFit,
    kind: DepthKind,
    heard: Sequence[tuple[AnchorSamples, AnchorFit]],
) -> FramePrior:
    """The frame under its line, as the fit of the field sees it."""
    from recon4d.geometry.alignment import z_from_values
    from recon4d.geometry.clip_field import FramePrior
    from recon4d.geometry.gain_field import FieldSamples

    def log_disparity(d: np.ndarray) -> np.ndarray:
        z = z_from_values(d, fit.gain[i], fit.shift[i], kind)
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = np.where(z > 0, 1.0 / z, np.where(np.isnan(d), np.nan, 0.0 if kind.is_disparity else np.nan))
        return np.log(np.maximum(inverse, floor))

    floor = DISPARITY_FLOOR * _middle_disparity(f, fit.gain[i], fit.shift[i], kind)
    prior_at_points = log_disparity(f.d)
    placed = f.view.origin.is_evidence
    good = np.isfinite(prior_at_points)
    seen, prior_at_points = f.seen[good], prior_at_points[good]
    samples = FieldSamples(
        seen.x,
        seen.y,
        -np.log(seen.z) - prior_at_points,
        seen.weight * (1.0 if placed else INTERPOLATED_WEIGHT),
    )
    for anchor, fitted in heard:
        z = fitted.z(i, anchor.d)
        prior = log_disparity(_small_values_at(f, anchor.x, anchor.y))
        known = np.isfinite(z) & (z > 0) & np.isfinite(prior)
        weight = min(1.0, (POINT_SIGMA / fitted.sigma) ** 2)
        x, y = anchor.x[known], anchor.y[known]
        samples = samples.joined(
            FieldSamples(x, y, -np.log(z[known]) - prior[known], np.full(int(known.sum()), weight))
        )
    return FramePrior(
        camera=f.view.camera,
        cam_from_world=f.view.cam_from_world,
        log_disparity=log_disparity(f.values.astype(np.float64)).astype(np.float32),
        contrast=f.contrast,
        samples=samples,
        sparse=len(seen),
        lends=placed,
    )


def _middle_disparity(f: FrameEvidence, gain: float, shift: float, kind: DepthKind) -> float:
    """A typical 1/z of the frame: of its points, else of its depth."""
    from recon4d.geometry.alignment import z_from_values

    z = f.seen.z if len(f.seen) else z_from_values(f.values[np.isfinite(f.values)], gain, shift, kind)
    z = z[(z > 0) & np.isfinite(z)]
    return 1.0 / float(np.median(z)) if len(z) else 1.0


def _fields(
    priors: Sequence[FramePrior], wanted: bool, settings: FitSettings, progress: Progress
) -> tuple[tuple[FrameField, ...] | None, FieldStyle | None, tuple[StyleTrial, ...], SigmaCurve | None]:
    from recon4d.geometry.clip_field import PASSES, ClipField
    from recon4d.geometry.depth_sigma import measure_sigma
    from recon4d.geometry.field_choice import STYLES, choose_style

    field = ClipField(priors)
    style, trials = (None, [])
    if wanted:
        style, trials = choose_style(field, priors, settings.min_points)
        if style is None and settings.correction == "on":
            style = min((t for t in trials if t.style), key=lambda t: t.error).style if trials else STYLES[0]
    fields = None
    if style is not None:
        with progress.bar("fitting the correction over the picture", (1 + PASSES) * len(priors)) as bar:
            fields = tuple(field.fit(style, bar.advance))
    return fields, style, tuple(trials), measure_sigma(field, priors, style, settings.min_points)
