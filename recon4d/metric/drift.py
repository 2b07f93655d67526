"""How sure the scale between two paths is when their errors hang together in time."""

from __future__ import annotations

import itertools
import math

import numpy as np

from recon4d.geometry.rotations import cross_matrix
from recon4d.metric.scale import student_widening

MAX_FRAMES = 200  # of longer paths an even choice is judged: one dense factorisation per kind of noise
WHITE_SHARES = (0.001, 0.03, 0.15, 0.5)  # of the variance: errors of single frames beside those that last
SHORTEST = 0.2  # frames: as good as white
# Correlation lengths up to these shares of the clip. A rough process may be as slow as a random walk; a smooth one that
# lasts as long as the clip cannot be told from another scale, and is no way poses err.
LONGEST_ROUGH, LONGEST_SMOOTH, LENGTHS = 4.0, 0.3, 10
COSINES = 4  # frequencies at which errors that grow with the motion are looked for, and the degrees of freedom


def scale_sigma(moved: np.ndarray, residual: np.ndarray) -> float:
    """Relative standard error of the scale of a least-squares similarity between two paths.

    Args:
        moved: (N, 3) the fitted positions about their mean, in the order of time; N >= 3.
        residual: (N, 3) given minus fitted positions, same unit.

    Poses drift: neighbouring errors are alike, so that N frames tell less than N times as much as one. The larger of
    two estimates is taken, since each is blind where the other sees. 1.96 times the result holds 95 % for white errors,
    and 70 to 95 % for a random walk, whose trend over the whole clip looks like another scale to any method.
    """
    return max(_sigma_of_steady_errors(moved, residual), _sigma_of_any_errors(moved, residual))


def _sigma_of_any_errors(moved: np.ndarray, residual: np.ndarray) -> float:
    """Errors may be larger where the camera moves more, but must be forgotten within a fraction of the clip.

    The error of the logarithm of the scale is sum(g_i) / sum(|a_i|^2) with g_i = residual_i . a_i; the variance of the
    sum is taken at low frequencies, from the first cosine transforms of g, with as many degrees of freedom.

    Source: Lazarus, Lewis, Stock, Watson, JBES 2018 (equal-weighted cosine estimator).
    """
    g, count = (residual * moved).sum(axis=1), len(moved)
    k = np.arange(1, min(COSINES, count - 1) + 1)[:, None]
    waves = math.sqrt(2 / count) * np.cos(np.pi * k * (np.arange(count) + 0.5) / count) @ g
    return math.sqrt(count * float((waves**2).mean())) / float((moved**2).sum()) * student_widening(len(k))


def _sigma_of_steady_errors(moved: np.ndarray, residual: np.ndarray) -> float:
    """Errors may last long, but are of the same kind all the time.

    A slow drift looks like scale, so that the fit swallows a part of it and residuals look better than they are. Each
    axis of the error is taken as a Gaussian process, rough or smooth, with some correlation length, partly white. For
    each of these the restricted likelihood tells how well it explains the residuals and what variance it has (what the
    fit swallowed is accounted for); the logarithm of the scale's variance is averaged over all by that likelihood.

    Source: Patterson and Thompson, Biometrika 1971 (restricted maximum likelihood); linear in the seven unknowns.
    """
    chosen = np.unique(np.linspace(0, len(moved) - 1, min(len(moved), MAX_FRAMES)).round().astype(int))
    moved, residual = moved[chosen] - moved[chosen].mean(axis=0), residual[chosen]
    count = len(moved)
    design = _design(moved)
    freedom = 3 * count - design.shape[2]
    flat = design.transpose(1, 0, 2).reshape(3 * count, -1)
    scale_row = np.linalg.pinv(flat, rcond=1e-6)[-1].reshape(3, count)  # what the scale makes of each error
    likelihoods, variances = [], []
    for slow, white in itertools.product(_correlations(count), WHITE_SHARES):
        covariance = (1 - white) * slow + white * np.eye(count)
        likelihood, variance = _restricted(covariance, design, residual, freedom)
        likelihoods.append(likelihood)
        variances.append(variance * float(((scale_row @ covariance) * scale_row).sum()))
    weights = np.exp(np.array(likelihoods) - max(likelihoods))
    typical = math.exp(0.5 * float(weights @ np.log(np.maximum(variances, 1e-300))) / weights.sum())
    return typical * student_widening(freedom)


def _correlations(count: int) -> list[np.ndarray]:
    """(N, N) correlations over the frames that are tried: of rough and of smooth processes, from quick to slow."""
    lag = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    rough = np.geomspace(SHORTEST, LONGEST_ROUGH * count, LENGTHS)
    smooth = np.geomspace(SHORTEST, LONGEST_SMOOTH * count, LENGTHS)
    return [np.exp(-lag / length) for length in rough] + [np.exp(-((lag / length) ** 2) / 2) for length in smooth]


def _design(moved: np.ndarray) -> np.ndarray:
    """(N, 3, 7 or 6) change of each fitted position with translation, turn, and (last) logarithm of the scale.

    The turn about the line of a straight path changes nothing and is left out.
    """
    turn = cross_matrix(-moved)
    flat = turn.reshape(-1, 3)
    _, singular, axes = np.linalg.svd(flat, full_matrices=False)
    turn = turn @ axes[singular > 1e-6 * max(float(singular[0]), 1e-300)].T
    return np.concatenate([np.broadcast_to(np.eye(3), (len(moved), 3, 3)), turn, moved[:, :, None]], axis=2)


def _restricted(covariance: np.ndarray, design: np.ndarray, residual: np.ndarray, freedom: int) -> tuple[float, float]:
    """Restricted log-likelihood and variance of residuals whose correlation over the frames is ``covariance``."""
    factor = np.linalg.cholesky(covariance)
    count, _, unknowns = design.shape
    white = np.linalg.solve(factor, np.concatenate([design, residual[:, :, None]], axis=2).reshape(count, -1))
    white = white.reshape(3 * count, unknowns + 1)
    m, e = white[:, :-1], white[:, -1]
    gram = m.T @ m
    left = max(float(e @ e - (m.T @ e) @ np.linalg.solve(gram, m.T @ e)), 1e-300)
    log_det = 2 * float(np.log(np.diag(factor)).sum())
    likelihood = -0.5 * (3 * log_det + np.linalg.slogdet(gram)[1] + freedom * math.log(left))
    return likelihood, left / freedom
