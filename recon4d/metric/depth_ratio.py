"""Metres from depth that is metric itself: a sensor's, a stereo pair's, or a network's claim."""

from __future__ import annotations

import math

import numpy as np

from recon4d.metric.scale import Cue, student_widening

# Frames of one clip err together: every tenth counts as independent.
FRAMES_PER_SAMPLE = 10
# Relative error that all frames share, which no clip can show. Guesses: RGB-D cameras and lidar are calibrated to about
# 1 %; metric networks are 5 to 10 % off in scale on scenes they were not trained on.
SENSOR_SIGMA = 0.01
NETWORK_SIGMA = 0.07


def metric_depth_cue(log_gain: np.ndarray, name: str, sensor: bool) -> Cue:
    """Metres per unit from the gains that brought metric depth to scene units (z = gain * metres).

    Args:
        log_gain: (N,) natural logarithm of the gain of each frame that has a fit of its own. Empty: there is no
            structure (a tripod), and the depth's metre is the scene's unit.
        name: of the depth source.
        sensor: the depth was measured, not predicted.

    The standard error is that of a median, 1.2533 s / sqrt(n), with s from the median absolute deviation and n a tenth
    of the frames, widened for few n; in quadrature comes the error all frames share.
    """
    shared = SENSOR_SIGMA if sensor else NETWORK_SIGMA
    title = f"metric depth {name}"
    if not len(log_gain):
        return Cue(title, 1.0, shared, "taken as it is: there is no structure to compare it with")
    logs = -np.asarray(log_gain, dtype=np.float64)
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    samples = max(len(logs) / FRAMES_PER_SAMPLE, 1.0)
    # At least 3: within one stretch of frames the spread is a weak witness, but the widening must not run away.
    error = 1.2533 * spread / math.sqrt(samples) * student_widening(max(samples - 1, 3))
    detail = f"median over {len(logs)} frames, which spread by {100 * spread:.1f} %"
    return Cue(title, math.exp(middle), math.hypot(error, shared), detail)
