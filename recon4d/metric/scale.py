"""One scale from many cues: weighted by precision, with contradictions said and an interval that covers them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recon4d.errors import AlignmentError

NORMAL_95 = 1.96
# Relative: self-calibrated structure from motion was 1.8 to 3 % off where truth is known. It bends, so a cue that sees
# a part of the scene is off by this much for the rest, however good it is.
STRUCTURE_SIGMA = 0.02
# Relative, a guess: what a length is good to that somebody states without a tolerance.
LENGTH_SIGMA = 0.01
CONTRADICTION = 3.0  # joint standard deviations between two cues: by chance 1 pair in 370
USELESS_SIGMA = 0.3  # relative: beyond it a cue's interval spans a factor of three
HOW = (
    "no length of this scene is known in metres: measure one and give it with --metric.distance, film a printed marker "
    "(--metric.marker), state the camera's height above the ground (--metric.camera-height) or the distance of a "
    "stereo pair (--metric.baseline), bring a metric path (--metric.trajectory, or photos with GPS) or metric depth"
)


class NoCue(AlignmentError):
    """A cue was asked for, the request is in order, but this clip does not show it; other cues still can be used."""


@dataclass(frozen=True)
class Cue:
    """What one piece of evidence says about the length of a scene unit."""

    name: str  # for people: "marker 0.1 m"
    metres_per_unit: float
    sigma: float  # one standard deviation of the logarithm of metres_per_unit, without the structure's own error
    detail: str = ""  # for people: what it was measured on

    def __post_init__(self) -> None:
        if not (math.isfinite(self.metres_per_unit) and self.metres_per_unit > 0):
            raise ValueError(f"Cue {self.name}: {self.metres_per_unit} metres per unit is not a positive number")
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise ValueError(f"Cue {self.name}: sigma {self.sigma} is not a number of at least 0")

    @property
    def interval_95(self) -> tuple[float, float]:
        """Metres per scene unit in the part of the scene that the cue saw."""
        return _interval(self.metres_per_unit, self.sigma)


@dataclass(frozen=True)
class Contribution:
    """A cue's part in the scale."""

    cue: Cue
    weight: float  # 0..1, all together 1; 0 where others contradict the cue
    deviation_sigmas: (
        float  # from the scale, in the cue's sigma and the structure's; positive: the cue says more metres
    )


@dataclass(frozen=True)
class MetricScale:
    """Metres per scene unit, or None where there is no cue."""

    metres_per_unit: float | None = None
    sigma: float | None = None  # one standard deviation of the logarithm, the structure's own error included
    contributions: tuple[Contribution, ...] = ()
    contradictions: tuple[str, ...] = field(default=())  # sentences for people

    @property
    def interval_95(self) -> tuple[float, float] | None:
        return None if self.metres_per_unit is None else _interval(self.metres_per_unit, self.sigma)

    def as_json(self) -> dict[str, object]:
        """Content of `scale.json`."""
        cues = [
            {
                "name": c.cue.name,
                "metres_per_unit": c.cue.metres_per_unit,
                "interval_95": list(c.cue.interval_95),
                "weight": round(c.weight, 4),
                "deviation_sigmas": round(c.deviation_sigmas, 2),
                "detail": c.cue.detail,
            }
            for c in self.contributions
        ]
        used = [c for c in self.contributions if c.weight > 0]
        content: dict[str, object] = {
            "metres_per_unit": self.metres_per_unit,
            "interval_95": None if self.interval_95 is None else list(self.interval_95),
            "source": ", ".join(c.cue.name for c in sorted(used, key=lambda c: -c.weight)) or None,
            "cues": cues,
            "contradictions": list(self.contradictions),
        }
        return content if self.metres_per_unit is not None else content | {"how": HOW}


def _interval(value: float, sigma: float) -> tuple[float, float]:
    return value * math.exp(-NORMAL_95 * sigma), value * math.exp(NORMAL_95 * sigma)


@dataclass(frozen=True)
class Consensus:
    """What several measurements of one number say together."""

    value: float
    sigma: float  # one standard deviation, ``shared_sigma`` included
    weights: np.ndarray  # (N,) 0..1, sum 1
    decided: bool  # False: measurements contradict each other and no group of them has the majority
    pairs: tuple[tuple[int, int], ...]  # (outvoted, by) for each outvoted one; undecided: all that contradict


def consensus(values: np.ndarray, sigmas: np.ndarray, shared_sigma: float) -> Consensus:
    """Precision-weighted mean of the largest group that agrees, with an interval that is honest about disagreement.

    Args:
        values: (N,) measurements of one number, N >= 1.
        sigmas: (N,) one standard deviation each.
        shared_sigma: what each measurement is off besides, because it sees only a part of the thing. It limits the
            weight of very precise ones, widens what still counts as agreement, and does not average out.

    Two measurements contradict each other when they differ by more than `CONTRADICTION` of their joint standard
    deviations. Of the groups without contradiction the one with the highest precision (sum of 1 / variance) decides if
    at least two of its members contradict those outside and are more precise than they: a measurement too vague to
    contradict anybody does not vote. Otherwise all are averaged and the interval reaches the outermost of those that
    contradict.

    What spreads more than its sigmas say widens the interval. Source: Birge, Phys. Rev. 40 (1932), 207, whose ratio
    multiplies the error; here its excess over 1 is added in quadrature, so that agreement leaves the error as it is.
    """
    x, s = np.asarray(values, dtype=np.float64), np.asarray(sigmas, dtype=np.float64)
    variance = np.maximum(s**2 + shared_sigma**2, 1e-12)
    against = np.abs(x[:, None] - x) > CONTRADICTION * np.sqrt(variance[:, None] + variance)
    members, decided = _majority(against, 1 / variance)
    weights = np.where(members, 1 / variance, 0.0)
    total = weights.sum()
    weights = weights / total
    value = float(weights @ x)
    count = int(members.sum())
    birge2 = float(((x - value) ** 2 / variance)[members].sum()) / (count - 1) if count > 1 else 0.0
    spread = max(birge2 - 1, 0.0) / total
    sigma = math.sqrt(float(weights**2 @ s**2) + shared_sigma**2 + spread)
    if decided:
        outvoted = [i for i in range(len(x)) if not members[i]]
        most = {i: np.where(against[i] & members, weights, 0) for i in outvoted}
        return Consensus(value, sigma, weights, True, tuple((i, int(np.argmax(most[i]))) for i in outvoted))
    pairs = tuple((int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(against))))
    reach = max(abs(x[i] - value) for pair in pairs for i in pair)
    return Consensus(value, max(sigma, reach / NORMAL_95), weights, False, pairs)


def _majority(against: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, bool]:
    """Members (N,) of the group that decides and True, or all and False."""
    everyone = np.ones(len(against), dtype=bool)
    if not against.any():
        return everyone, True
    groups = _groups(~against, frozenset(), frozenset(range(len(against))), frozenset())
    members = np.zeros(len(against), dtype=bool)
    members[list(max(groups, key=lambda group: precision[list(group)].sum()))] = True
    voters = members & against[:, ~members].any(axis=1)
    if voters.sum() >= 2 and precision[voters].sum() > precision[~members].sum():
        return members, True
    return everyone, False


def _groups(agree: np.ndarray, chosen: frozenset, open_: frozenset, closed: frozenset) -> list[frozenset]:
    """Maximal groups in which everybody agrees with everybody. Source: Bron and Kerbosch, CACM 1973, algorithm 1."""
    if not open_ and not closed:
        return [chosen]
    found = []
    for i in sorted(open_):
        friends = frozenset(int(j) for j in np.flatnonzero(agree[i]) if j != i)
        found += _groups(agree, chosen | {i}, open_ & friends, closed & friends)
        open_, closed = open_ - {i}, closed | {i}
    return found


def combine(cues: Sequence[Cue], structure_sigma: float = STRUCTURE_SIGMA) -> MetricScale:
    """The scale that the cues say together, by `consensus` of their logarithms; no cue, no scale.

    Args:
        cues: any number.
        structure_sigma: relative error of the structure itself; 0 where the cues are the structure.
    """
    if not cues:
        return MetricScale()
    logs = np.log([cue.metres_per_unit for cue in cues])
    sigmas = np.array([cue.sigma for cue in cues])
    found = consensus(logs, sigmas, structure_sigma)
    own = np.sqrt(np.maximum(sigmas**2 + structure_sigma**2, 1e-12))
    contributions = tuple(
        Contribution(cue, float(weight), float(deviation))
        for cue, weight, deviation in zip(cues, found.weights, (logs - found.value) / own)
    )
    sentences = tuple(_contradiction(cues[i], cues[j], own[i], own[j], found.decided) for i, j in found.pairs)
    return MetricScale(math.exp(found.value), found.sigma, contributions, sentences)


def _contradiction(one: Cue, other: Cue, sigma_one: float, sigma_other: float, decided: bool) -> str:
    apart = abs(math.log(one.metres_per_unit / other.metres_per_unit)) / math.hypot(sigma_one, sigma_other)
    end = (
        f"the {one.name} is not used, since the other cues outweigh it"
        if decided
        else "the interval covers both; leave out the wrong one"
    )
    return (
        f"align: the {one.name} says {one.metres_per_unit:.3g} m per unit, the {other.name} "
        f"{other.metres_per_unit:.3g}: they contradict each other ({apart:.0f} sigmas); {end}"
    )


def student_widening(freedom: float) -> float:
    """Factor on a standard error that was itself estimated with ``freedom`` degrees of freedom (at least 1).

    With it 1.96 standard errors hold 95 % as they do where the error is known: the quantile of Student's t over that
    of the normal distribution.
    """
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1.0), 0.975)) / NORMAL_95
