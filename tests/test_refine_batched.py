"""Many frames' depth at once in PyTorch: the same energy, derivatives and answers as for one frame alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from refine_scene import STEP, WALL, problem_of, views_of

from recon4d.geometry.smooth_solver import solve
from recon4d.refine import batched
from recon4d.refine import frame as frame_module
from recon4d.refine.batched import BatchEnergy, refine_batch
from recon4d.refine.batched_solver import solve as solve_batch
from recon4d.refine.frame import TERMS, FrameEnergy, Problem, RefineView, Style, refine
from recon4d.refine.terms import Opinion
from recon4d.scene.transforms import Rigid3

SIZE = (48, 36)
STYLE = Style()
ONLY = {
    "photometric": replace(STYLE, depth=0.0, opinion=0.0, stiffness=0.0),
    "depth": replace(STYLE, photo=0.0, opinion=0.0, stiffness=0.0),
    "opinions": replace(STYLE, photo=0.0, depth=0.0, stiffness=0.0),
    "shape": replace(STYLE, photo=0.0, depth=0.0, opinion=0.0, reach=1e9),
    "level": replace(STYLE, photo=0.0, depth=0.0, opinion=0.0, jump=1e-9),
}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("cuda: PyTorch sees no CUDA device")
    return request.param


def bumps(rng: np.random.Generator, size: float, shape: tuple[int, int]) -> np.ndarray:
    """Smooth noise of standard deviation ``size``."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = (np.sin(rows * a + columns * b + c) for a, b, c in rng.uniform(0.1, 0.5, (6, 3)))
    return size * sum(waves) / np.sqrt(3)


def holed(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With two patches and some single pixels NaN."""
    values = values.copy()
    for top, left in rng.integers((0, 0), np.array(values.shape) - 8, (2, 2)):
        values[top : top + rng.integers(3, 8), left : left + rng.integers(3, 8)] = np.nan
    values[rng.random(values.shape) < 0.005] = np.nan
    return values


def spoilt(view: RefineView, rng: np.random.Generator) -> RefineView:
    """A view with noise on its surface, holes in picture and surface, and places not to be listened to."""
    x = holed(view.x + bumps(rng, 0.02, view.x.shape), rng).astype(view.x.dtype)
    precision = view.precision * (rng.random(view.x.shape) > 0.1)
    return replace(view, grey=holed(view.grey, rng), x=x, precision=precision)


def hard_problem(seed: int, views: int, opinions: int, dtype=np.float64) -> Problem:
    """A frame with all that may happen to one; its last view looks past most of it."""
    rng = np.random.default_rng(seed)
    own, *others = views_of(STEP if seed % 2 else WALL, SIZE, views + 1, dtype)
    others = [spoilt(view, rng) for view in others]
    if others:
        pose, aside = others[-1].cam_from_world, np.array([1.3, 0.4, 0.1])
        others[-1] = replace(others[-1], cam_from_world=replace(pose, translation=pose.translation + aside))
    if views > 2:  # one looks the other way: all is behind it
        pose, around = others[1].cam_from_world, np.diag([-1.0, 1.0, -1.0])
        others[1] = replace(others[1], cam_from_world=Rigid3(around @ pose.rotation, around @ pose.translation))
    shape = own.x.shape
    prior = holed(own.x + bumps(rng, 0.02, shape), rng)
    words = [
        Opinion(
            holed(own.x + rng.normal(0, 0.03, shape), rng),
            rng.uniform(0.01, 0.05, shape).astype(dtype),
            (rng.uniform(0, 1, shape) * (rng.random(shape) > 0.3)).astype(dtype),
        )
        for _ in range(opinions)
    ]
    words = [replace(word, chance=np.where(np.isfinite(word.x), word.chance, 0).astype(dtype)) for word in words]
    problem = problem_of([replace(own, grey=holed(own.grey, rng)), *others], prior, opinions=words)
    blurred = np.clip(0.7 + bumps(rng, 0.5, shape), 0, 1).astype(dtype)
    return replace(problem, static=blurred, right=problem.right * blurred, down=problem.down * blurred[::-1])


def tries(problems: list[Problem], seed: int) -> list[np.ndarray]:
    """Places in x to ask about, with some pixels unknown that the prior knows."""
    rng = np.random.default_rng(seed)
    x = [(p.own.x + bumps(rng, 0.01, p.own.x.shape)).astype(p.own.x.dtype) for p in problems]
    for one in x:
        one[tuple(rng.integers((0, 0), one.shape, (20, 2)).T)] = np.nan
    return x


def assert_same_state(batch, frame: int, alone, rtol: float) -> None:
    """Terms relative to themselves, grids relative to their largest entry."""
    np.testing.assert_allclose(batch.energies[frame].cpu(), list(alone.energies.values()), rtol=rtol, atol=1e-12)
    for name in ("gradient", "hessian", "data", "right", "down", "alike"):
        grid = getattr(alone, name)
        np.testing.assert_allclose(
            getattr(batch, name)[frame].cpu(), grid, rtol=0, atol=rtol * max(np.abs(grid).max(), 1e-9), err_msg=name
        )
    np.testing.assert_array_equal(batch.agreeing[frame].cpu(), alone.agreeing)


@pytest.mark.parametrize("term", [*TERMS, "all"])
def test_every_term_is_that_of_the_frame_alone(term, device):
    style = STYLE if term == "all" else ONLY[term]
    problems = [hard_problem(1, 3, 2), hard_problem(2, 1, 1), hard_problem(3, 2, 0), hard_problem(5, 0, 1)]
    together = BatchEnergy(problems, style, device)
    alone = [FrameEnergy(problem, style) for problem in problems]
    everyone = torch.arange(len(problems), device=device)
    for seed, look_again in ((0, True), (1, False), (2, True)):
        x = tries(problems, seed)
        found = together.at(torch.as_tensor(np.stack(x), device=device), everyone, look_again)
        for frame, energy in enumerate(alone):
            state = energy.at(x[frame], look_again)
            assert_same_state(found, frame, state, 1e-6)
            if term != "all" and frame == 0:
                assert state.energies[term] > 1e-3, "the test would say nothing"
                assert all(
                    value <= 1e-4 * state.energies[term] for name, value in state.energies.items() if name != term
                )


def test_some_frames_of_a_batch_are_looked_at_as_all_are():
    problems = [hard_problem(seed, 2, 1) for seed in (1, 2, 3)]
    x = torch.as_tensor(np.stack(tries(problems, 0)))
    together, later = BatchEnergy(problems, STYLE, "cpu"), torch.tensor([2, 0])
    whole = together.at(x, torch.arange(3), look_again=True)
    moved = x + 0.01
    part = together.at(moved[later], later, look_again=False)
    assert torch.equal(part.energies, together.at(moved, torch.arange(3), look_again=False).energies[later])
    assert not torch.equal(part.energies, whole.energies[later])
    together.at(moved[later], later, look_again=True)
    unmoved = FrameEnergy(problems[1], STYLE)
    unmoved.at(x[1].numpy(), look_again=True)
    found = together.at(moved, torch.arange(3), look_again=False)
    assert_same_state(found, 1, unmoved.at(moved[1].numpy(), look_again=False), 1e-6)


def test_what_is_too_much_at_once_is_looked_at_in_parts(monkeypatch):
    problems = [hard_problem(seed, 2, 1) for seed in (1, 2, 3, 4, 5)]
    whole = refine_batch(problems, STYLE, steps=4, device="cpu")
    monkeypatch.setattr(batched, "AT_ONCE", 2 * 2 * SIZE[0] * SIZE[1] + 1)  # two frames
    for one, other in zip(refine_batch(problems, STYLE, steps=4, device="cpu"), whole):
        np.testing.assert_array_equal(one.x, other.x)
        assert one.energies == other.energies


def test_single_precision_errs_by_rounding_alone(device):
    problems = [hard_problem(1, 3, 2, np.float32), hard_problem(2, 1, 1, np.float32)]
    x = tries(problems, 0)
    everyone = torch.arange(2, device=device)
    found = BatchEnergy(problems, STYLE, device).at(torch.as_tensor(np.stack(x), device=device), everyone, True)
    assert found.gradient.dtype == torch.float32
    for frame, problem in enumerate(problems):
        assert_same_state(found, frame, FrameEnergy(problem, STYLE).at(x[frame], True), 1e-4)


def test_certain_opinions_far_away_stay_finite_in_single_precision():
    problem = hard_problem(1, 1, 1, np.float32)
    far = np.full_like(problem.own.x, 0.3)
    said = Opinion(problem.own.x + far, np.full_like(far, 0.01), np.ones_like(far))  # 30 sigmas, surely right
    x = torch.as_tensor(problem.own.x)[None]
    style = ONLY["opinions"]
    state = BatchEnergy([replace(problem, opinions=[said])], style, "cpu").at(x, torch.arange(1), True)
    known = np.isfinite(problem.own.x)
    np.testing.assert_allclose(state.energies[0, 2], style.opinion * 0.5 * 30**2 * known.sum(), rtol=1e-5)
    np.testing.assert_allclose(state.gradient[0][known], -style.opinion * 30 / 0.01, rtol=1e-5)


@pytest.mark.parametrize("shape", [(20, 30), (23, 37), (3, 2)])
def test_systems_are_solved_as_each_alone(shape, device):
    rng = np.random.default_rng(0)
    right, down = rng.uniform(0, 1e3, (2, 3, *shape))
    diagonal = np.stack([rng.uniform(0, 1, shape) * k for k in (0.1, 30, 1e4)])  # of very different condition
    target = rng.normal(size=(3, *shape))
    target[1] *= 1e-3
    target[:, 0, 1] = diagonal[:, 0, 1] = 0  # a pixel on its own, of which nothing is known
    right[:, 0, :2] = down[:, 0, 1] = 0
    given = [torch.as_tensor(part, device=device) for part in (diagonal, right, down, target)]
    found = solve_batch(*given).cpu().numpy()
    for k in range(3):
        alone = solve(diagonal[k], right[k], down[k], target[k])
        np.testing.assert_allclose(found[k], alone, rtol=0, atol=1e-8 * np.abs(alone).max())
        assert np.abs(alone).max() > 0
    assert (found[:, 0, 1] == 0).all()
    assert (solve_batch(*given[:3], torch.zeros_like(given[3])) == 0).all()


def test_answers_are_those_of_each_frame_alone(device):
    problems = [hard_problem(1, 3, 1, np.float32), hard_problem(2, 1, 2, np.float32), hard_problem(3, 2, 0, np.float32)]
    starts = [None, np.where(np.isfinite(problems[1].own.x), problems[1].own.x + np.float32(0.02), np.nan), None]
    found = refine_batch(problems, STYLE, starts, steps=8, device=device)
    lengths = set()
    for problem, start, one in zip(problems, starts, found):
        alone = refine(problem, STYLE, start, steps=8)
        np.testing.assert_array_equal(np.isnan(one.x), np.isnan(alone.x))
        known = np.isfinite(alone.x)
        assert np.mean(np.abs(one.x - alone.x)[known] < 1e-3) >= 0.999
        assert np.nanmax(np.abs(alone.x - problem.own.x)) > 0.005
        assert len(one.energies) == len(alone.energies)
        lengths.add(len(one.energies))
        for ours, theirs in zip(one.energies, alone.energies):
            np.testing.assert_allclose(sum(ours.values()), sum(theirs.values()), rtol=1e-3)
        for name in ("hessian", "right", "down", "alike", "agreeing"):
            a, b = getattr(one, name), getattr(alone, name)
            assert a.dtype == b.dtype == np.float32, name
            assert np.mean(np.abs(a - b) <= 1e-2 * np.abs(b).max()) > 0.995, name
    assert len(lengths) > 1, "all frames end at the same step: say nothing of those that wait"


def test_steps_that_raise_the_energy_are_halved_frame_by_frame(monkeypatch):
    """Steps longer than they should be: some frames take a half, some the whole, as they do alone."""
    monkeypatch.setattr(batched, "solve", lambda *system: 2.5 * solve_batch(*system))
    monkeypatch.setattr(frame_module, "solve", lambda *system: 2.5 * solve(*system))
    problems = [hard_problem(seed, views, 1) for seed, views in ((1, 3), (2, 1), (4, 2), (7, 1))]
    starts = [None, problems[1].own.x + 0.5, None, None]  # the second has far to go: its steps are cut off
    for problem, start, one in zip(problems, starts, refine_batch(problems, STYLE, starts, steps=5, device="cpu")):
        alone = refine(problem, STYLE, start, steps=5)
        np.testing.assert_allclose(one.x, alone.x, atol=1e-6)
        assert len(one.energies) == len(alone.energies)


def test_the_energy_of_no_frame_rises():
    problems = [hard_problem(seed, 2, 1, np.float32) for seed in (1, 2)]
    for one in refine_batch(problems, STYLE, steps=3, device="cpu"):  # under one visibility
        totals = [sum(energies.values()) for energies in one.energies]
        assert all(late < early for early, late in pairwise(totals))
        assert len(totals) > 2


def test_pictures_of_several_sizes_are_refused():
    problems = [hard_problem(1, 1, 0), problem_of(views_of(WALL, (40, 36), 2))]
    with pytest.raises(ValueError, match=r"\(36, 40\), \(36, 48\)"):
        refine_batch(problems, STYLE, device="cpu")
    with pytest.raises(ValueError, match="1 starts for 2 problems"):
        refine_batch(problems, STYLE, [None], device="cpu")
    assert refine_batch([], STYLE, device="cpu") == []
