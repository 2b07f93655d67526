"""The depth of many frames at once, in PyTorch: for a GPU, which one frame alone would not keep busy.

The energy and the steps are those of `recon4d.refine.frame`, which is the reference and what runs without a GPU. Tested
beside it on the CPU alone: no GPU was at hand, so nothing is known of its speed on one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from recon4d.geometry.photo_cost import pixel_warp
from recon4d.refine.batched_solver import solve, sums
from recon4d.refine.batched_terms import Table, Warps, likeness, look, opine, springs
from recon4d.refine.frame import HALVINGS, LARGEST_STEP, LEAST_GAIN, LOOKS_AGAIN, TERMS, Problem, Refined, Style
from recon4d.refine.looks import Robust, heard

AT_ONCE = 1 << 24  # pixels times views under work together: some 270 bytes each, see `BatchEnergy.at`


def refine_batch(
    problems: Sequence[Problem],
    style: Style,
    starts: Sequence[np.ndarray | None] | None = None,
    steps: int = 8,
    device: torch.device | str = "cuda",
) -> list[Refined]:
    """What `frame.refine` answers for each of the problems, to within rounding.

    Rounding also decides where a view only just sees a pixel, which springs give way, and whether a step gains just
    enough for another one. In float32, 8 steps on frames of five clips (320 pixels wide, up to 8 views) ended with 99.9
    to 100 % of x within 1e-3 of the reference's; its energy was the same to 3e-5.
    What several frames look at is held once if they share its arrays.

    Args:
        problems: their pictures and those of their views are all of one size (h, w).
        starts: of each problem, as in `frame.refine`; the priors when left out.
        steps: of Gauss-Newton, at most.
        device: of PyTorch, such as "cuda" or "cpu".

    Raises:
        ValueError: pictures of several sizes, or not one start for each problem.
    """
    starts = [None] * len(problems) if starts is None else starts
    if len(starts) != len(problems):
        raise ValueError(f"refine_batch: {len(starts)} starts for {len(problems)} problems")
    if not problems:
        return []
    priors = [problem.own.x for problem in problems]
    x = [p if s is None else np.where(np.isfinite(s), s, p).astype(p.dtype) for s, p in zip(starts, priors)]
    with torch.no_grad():
        energy = BatchEnergy(problems, style, device)
        return _descend(energy, torch.as_tensor(np.stack(x, dtype=priors[0].dtype), device=device), steps)


def _descend(energy: BatchEnergy, x: Tensor, steps: int) -> list[Refined]:
    """`frame.refine`, all frames abreast. One that has come to its end is not looked at again."""
    going = everyone = torch.arange(len(x), device=x.device)
    state = energy.at(x, everyone, look_again=True)
    told: list[list[dict[str, float]]] = [[] for _ in x]
    for count in range(steps):
        if count and count % LOOKS_AGAIN == 0:
            state.put(going, energy.at(x[going], going, look_again=True))
        _tell(told, state, going)
        now = state.of(going)
        step = solve(now.hessian, now.right, now.down, -now.gradient).clamp_(-LARGEST_STEP, LARGEST_STEP)
        gain = torch.zeros_like(now.total)
        waiting = torch.arange(len(going), device=x.device)  # rows of `going` without a step that lowers the energy
        for halving in range(HALVINGS):
            frames = going[waiting]
            tried = x[frames] + 0.5**halving * step[waiting]
            found = energy.at(tried, frames, look_again=False)
            fallen = now.total[waiting] - found.total
            lower = fallen > 0
            x[frames[lower]] = tried[lower]
            state.put(frames[lower], found.of(lower))
            gain[waiting[lower]] = fallen[lower]
            waiting = waiting[~lower]
            if not len(waiting):
                break
        going = going[(gain > 0) & (gain >= LEAST_GAIN * state.total[going])]
        if not len(going):
            break
    _tell(told, state, everyone)
    grids = [grid.cpu().numpy() for grid in (x, state.data, state.right, state.down, state.agreeing, state.alike)]
    return [Refined(*(grid[k] for grid in grids), told[k]) for k in range(len(x))]


def _tell(told: list[list[dict[str, float]]], state: BatchState, frames: Tensor) -> None:
    for frame, energies in zip(frames.tolist(), state.energies[frames].tolist()):
        told[frame].append(dict(zip(TERMS, energies)))


@dataclass(frozen=True)
class BatchState:
    """`frame.State` of F frames: grids (F, h, w) and energies (F, terms) float64."""

    energies: Tensor
    gradient: Tensor
    hessian: Tensor
    data: Tensor
    right: Tensor
    down: Tensor
    agreeing: Tensor
    alike: Tensor

    @property
    def total(self) -> Tensor:
        return self.energies.sum(1)

    def of(self, frames: Tensor) -> BatchState:
        """Only some of the frames, by number or by a mask."""
        return BatchState(*(getattr(self, field.name)[frames] for field in fields(self)))

    def put(self, frames: Tensor, state: BatchState) -> None:
        """Replace what is known of some of the frames."""
        for field in fields(self):
            getattr(self, field.name)[frames] = getattr(state, field.name)


class BatchEnergy:
    """`frame.FrameEnergy` of F frames, in the precision of the first one's prior."""

    def __init__(self, problems: Sequence[Problem], style: Style, device: torch.device | str) -> None:
        _check_sizes(problems)
        self._style = style
        self._dtype, self._device = problems[0].own.x.dtype, device

        def stacked(pick: Callable[[Problem], np.ndarray]) -> Tensor:
            return self._tensor(np.stack([pick(problem) for problem in problems]))

        self._own, self._prior = stacked(lambda p: p.own.grey), stacked(lambda p: p.own.x)
        self._static = stacked(lambda p: p.static)
        self._right, self._down = (style.stiffness * stacked(lambda p, n=n: getattr(p, n)) for n in ("right", "down"))
        self._opinions = self._gather_opinions(problems)
        self._table, self._warps = self._gather_views(problems, Robust(style.depth, style.cut, style.noise**2))
        shape = self._prior.shape[1:]
        self._level = style.level(shape)
        self._visible = torch.zeros((*self._warps.first.shape[:2], *shape), dtype=torch.uint8, device=device)

    def at(self, x: Tensor, frames: Tensor, look_again: bool) -> BatchState:
        """Energies and derivatives at ``x`` (f, h, w) of those of the frames that ``frames`` (f,) numbers."""
        count = max(1, AT_ONCE // self._visible[0].numel())
        parts = [self._at(*part, look_again) for part in zip(x.split(count), frames.split(count))]
        if len(parts) == 1:
            return parts[0]
        return BatchState(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(BatchState)))

    def _at(self, x: Tensor, frames: Tensor, look_again: bool) -> BatchState:
        style = self._style
        static, own = self._static[frames], self._own[frames]
        visible = self._visible[frames]
        warps = Warps(*(part[frames] for part in self._warps))
        seen = look(x, static, self._table, warps, style.cut, visible, keep=not look_again)
        if look_again:
            self._visible[frames] = visible
        found = likeness(own, seen.warped, seen.slope, static, style.radius, style.photo_cut)
        said = opine(x, *(part[frames] for part in self._opinions), style.opinion)
        gradient = seen.gradient + style.photo * found.gradient + said.gradient
        data = seen.hessian + style.photo * found.hessian + said.hessian
        delta = x - self._prior[frames]
        held = springs(delta, self._right[frames], self._down[frames], style.jump)
        known = torch.isfinite(delta)
        delta = torch.where(known, delta, 0)
        gradient += self._level * delta + held.gradient
        hessian = data + self._level * known
        level = 0.5 * self._level * sums(delta.double() ** 2)
        energies = torch.stack([style.photo * found.energy, seen.energy, said.energy, held.energy, level], dim=1)
        alike = found.zncc / found.seen.clamp(min=1)
        return BatchState(energies, gradient, hessian, data, held.right, held.down, seen.agreeing, alike)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values.astype(self._dtype, copy=False), device=self._device)

    def _gather_opinions(self, problems: Sequence[Problem]) -> list[Tensor]:
        """x, sigma and chance, (F, K, h, w) each; frames with fewer opinions get some that say nothing."""
        shape = (len(problems), max(len(p.opinions) for p in problems), *problems[0].own.x.shape)
        said, sigma, chance = (np.full(shape, v, dtype=self._dtype) for v in (0, 1, 0))
        for frame, problem in enumerate(problems):
            for k, opinion in enumerate(problem.opinions):
                said[frame, k], sigma[frame, k], chance[frame, k] = opinion.x, opinion.sigma, opinion.chance
        return [self._tensor(part) for part in (said, sigma, chance)]

    def _gather_views(self, problems: Sequence[Problem], robust: Robust) -> tuple[Table, Warps]:
        pixels = problems[0].own.x.size
        shape = (len(problems), max(1, *(len(p.views) for p in problems)))
        places: dict[tuple[int, ...], int] = {}
        grids: list[tuple[np.ndarray, ...]] = []
        first, turns, shifts = np.zeros((*shape, 1, 1), dtype=np.int64), np.zeros((*shape, 3, 3)), np.zeros((*shape, 3))
        for frame, problem in enumerate(problems):
            for k, view in enumerate(problem.views):
                arrays = view.grey, view.x, view.precision
                place = places.setdefault(tuple(id(array) for array in arrays), len(grids))
                if place == len(grids):
                    grids.append((view.grey, view.x, heard(view.precision, robust)))
                first[frame, k] = place * pixels
                turns[frame, k], shifts[frame, k] = pixel_warp(problem.own, view)
        grids = grids or [(problems[0].own.grey, problems[0].own.x, problems[0].own.precision)]  # nobody looks at it
        table = Table(*(self._tensor(np.stack(part).ravel()) for part in zip(*grids)))
        start = torch.as_tensor(first, device=self._device)
        return table, Warps(start, self._tensor(turns), self._tensor(shifts))


def _check_sizes(problems: Sequence[Problem]) -> None:
    """Raise ValueError unless all pictures are of one size."""
    sizes = {view.x.shape for problem in problems for view in (problem.own, *problem.views)}
    if len(sizes) > 1:
        raise ValueError(f"refine_batch: pictures of sizes {sorted(sizes)}; one size a batch is needed")
