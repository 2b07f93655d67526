"""The depth of one frame: Gauss-Newton on all its terms, coarse to fine, every step kept only if the energy falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recon4d.geometry.photo_cost import pixel_warp
from recon4d.geometry.smooth_solver import solve
from recon4d.refine.looks import Robust, heard
from recon4d.refine.terms import Opinion, opine, springs
from recon4d.refine.view_terms import Asked, Asking, Matching, Sums, add_view
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

HALVINGS = 4
LARGEST_STEP = 0.1  # of x in one step
LEAST_GAIN = 2e-4  # of the energy: less ends a level
LOOKS_AGAIN = 3  # steps under one visibility; energies compare only within
TERMS = ("photometric", "depth", "opinions", "shape", "level")


@dataclass(frozen=True)
class RefineView:
    """One frame at one size: its picture, its surface, its camera."""

    grey: np.ndarray  # (h, w) float, grey levels 0..255, NaN where masked
    x: np.ndarray  # (h, w) float, log inverse depth, NaN where there is none
    precision: np.ndarray  # (h, w) float, 1 / variance of x, 0 where it is not to be listened to
    camera: Camera  # of this size
    cam_from_world: Rigid3


@dataclass(frozen=True)
class Style:
    """Weights of the terms; one set for all clips. Lengths are pixels of the working size."""

    photo: float = 2.0  # of a window's 1 - ZNCC
    photo_cut: float = 0.2  # of 1 - ZNCC: a window much less alike says little
    radius: int = 2  # of the window
    depth: float = 0.1  # share of a pixel's depth in another view that is its own word: neighbours err together
    noise: float = 0.01  # of x, added to the other view's sigma: poses, sampling
    cut: float = 3.0  # sigmas
    opinion: float = 0.1  # as ``depth``, of opinions
    stiffness: float = 1e4  # 1 / variance of what delta = x - prior changes from pixel to pixel
    jump: float = 0.01  # of delta, beyond which a spring gives way
    reach: float = 0.25  # of the longer side: so far delta is carried into what no data tells

    def level(self, shape: tuple[int, int]) -> float:
        """Strength of the pull towards the prior, for pictures of (h, w)."""
        return self.stiffness / (self.reach * max(shape)) ** 2


@dataclass(frozen=True)
class Problem:
    """What is known of a frame at one size."""

    own: RefineView  # its x is the prior
    static: np.ndarray  # (h, w) float 0..1: how far other views may be asked
    right: np.ndarray  # (h, w) float 0..1: how far the prior's surface goes on to the next pixel
    down: np.ndarray
    opinions: Sequence[Opinion] = ()
    views: Sequence[RefineView] = ()


@dataclass(frozen=True)
class Refined:
    """The answer for a frame at one size; all grids (h, w)."""

    x: np.ndarray
    hessian: np.ndarray  # of the data at x, without the prior
    right: np.ndarray  # strength of the springs at x
    down: np.ndarray
    agreeing: np.ndarray  # other views whose depth agrees
    alike: np.ndarray  # mean ZNCC over the views that see the pixel, 0 where none does
    energies: list[dict[str, float]] = field(default_factory=list)  # after each accepted step, by term


def refine(problem: Problem, style: Style, start: np.ndarray | None = None, steps: int = 8) -> Refined:
    """The depth of least energy near ``start``.

    Args:
        start: (h, w) log inverse depth, NaN where there is none; the prior when left out.
        steps: of Gauss-Newton, at most.

    Under one visibility, which is looked up anew every few steps, the energy never rises: a step that would raise it is
    halved, or the search ends. It is the sum over pixels of

        photo  * sum over views of rho(1 - ZNCC of warped windows), where the view sees the pixel
        depth  * sum over views of the squared difference to that view's own depth, in its sigmas (Geman-McClure)
        opinion * minus the log of a mixture: right within sigma, or a mistake      (see `terms.opine`)
        stiffness * squared change of delta from pixel to pixel, which gives way    (see `terms.springs`)
        level: a faint pull towards the prior
    """
    energy = FrameEnergy(problem, style)
    prior = problem.own.x
    dtype = prior.dtype.type
    x = prior if start is None else np.where(np.isfinite(start), start, prior).astype(prior.dtype)
    energies: list[dict[str, float]] = []
    state = energy.at(x, look_again=True)
    for count in range(steps):
        if count and count % LOOKS_AGAIN == 0:
            state = energy.at(x, look_again=True)
        energies.append(state.energies)
        step = solve(state.hessian, state.right, state.down, -state.gradient)
        step = np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        for halving in range(HALVINGS):
            tried = x + dtype(0.5**halving) * step
            found = energy.at(tried, look_again=False)
            if found.total < state.total:
                break
        else:
            break
        gain, x, state = state.total - found.total, tried, found
        assert gain > 0, "the energy rose under one visibility"
        if gain < LEAST_GAIN * state.total:
            break
    energies.append(state.energies)
    return Refined(x, state.data, state.right, state.down, state.agreeing, state.alike, energies)


@dataclass(frozen=True)
class State:
    """The energy at some x, and its derivatives; all grids (h, w)."""

    energies: dict[str, float]
    gradient: np.ndarray
    hessian: np.ndarray  # diagonal, without the springs
    data: np.ndarray  # the same without the pull towards the prior
    right: np.ndarray  # strength of the springs
    down: np.ndarray
    agreeing: np.ndarray
    alike: np.ndarray

    @property
    def total(self) -> float:
        return sum(self.energies.values())


class FrameEnergy:
    """The energy of one frame's depth."""

    def __init__(self, problem: Problem, style: Style) -> None:
        self._problem, self._style = problem, style
        dtype = problem.own.x.dtype
        shape = problem.own.x.shape
        self._visible = np.zeros((len(problem.views), *shape), dtype=np.uint8)
        self._robust = Robust(*(dtype.type(v) for v in (style.depth, style.cut, style.noise**2)))
        self._matching = Matching(style.photo, style.photo_cut, style.radius)
        self._views = []
        for view in problem.views:
            turn, shift = (warp.astype(dtype) for warp in pixel_warp(problem.own, view))
            self._views.append(Asked(view.grey, view.x, heard(view.precision, self._robust), turn, shift))
        self._right, self._down = (dtype.type(style.stiffness) * springs for springs in (problem.right, problem.down))
        self._level = dtype.type(style.level(shape))
        self._jump = dtype.type(style.jump)

    def at(self, x: np.ndarray, look_again: bool) -> State:
        """Energy and derivatives at ``x`` (h, w), with what the views see decided anew or as it was."""
        problem, style = self._problem, self._style
        delta = x - problem.own.x
        known = np.isfinite(delta)  # a start may know more than the prior
        hessian, gradient, agreeing, right, down, alike, seen = (np.zeros_like(x) for _ in range(7))
        photo = depth = said = 0.0
        asking = Asking(x, np.exp(x), problem.own.grey, problem.static)
        sums = Sums(gradient, hessian, agreeing, alike, seen)
        for view, visible in zip(self._views, self._visible):
            energies = add_view(asking, view, self._robust, self._matching, visible, not look_again, sums)
            photo += energies[0]
            depth += energies[1]
        for opinion in problem.opinions:
            share = x.dtype.type(style.opinion)
            said += opine(x, (opinion.x, opinion.sigma, opinion.chance), share, hessian, gradient)
        data = hessian.copy()
        hessian[known] += self._level
        gradient[known] += self._level * delta[known]
        level = 0.5 * float(self._level) * float((delta[known].astype(np.float64) ** 2).sum())
        shape = springs(delta, self._right, self._down, self._jump, right, down, gradient)
        energies = dict(zip(TERMS, (photo, depth, said, shape, level)))
        alike = alike / np.maximum(seen, 1)
        return State(energies, gradient, hessian, data, right, down, agreeing, alike)
