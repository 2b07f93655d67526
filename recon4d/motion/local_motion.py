"""The motion of something that bends: a grid of rigid motions over the picture, each near those around it.

Every pixel moves by the blend of the four motions about it. Where neighbours have one motion the patch is rigid, and
its growth in the picture tells how it nears the camera; what the pictures leave open is taken from neighbours and,
weakly, from depth, one measurement a patch. Links across steps of depth hardly hold, nor do those that strain much.

Source: Sumner et al., Embedded deformation for shape manipulation, SIGGRAPH 2007, on the pixel grid; patches share an
error of flow and depth as in `rigid_fit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.motion.followed import Followed
from recon4d.motion.patches import Patches, laplacian
from recon4d.motion.rigid_fit import SAME_FLOW_PX, log_depth_rows, reprojection, residual_spread
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

PATCHES = 7  # along the side of a square as large as the object
SPACING_PX = 8.0, 64.0  # least and largest distance from one motion to the next
TURN_STRAIN, SHIFT_STRAIN = 0.05, 0.1  # radians, and share of the distance between them, by which neighbours differ
STEP_OF_DEPTH = 0.04  # log; links across it lose most of their strength
LOOSE = 1e-3  # share of a link's strength that is always left
MEAN_DEPTH_SIGMA = 0.001  # log, of how far the object as a whole goes along the ray
ROUNDS = 6
TAIL = 4.0  # Student's t, as in `rigid_track`


@dataclass(frozen=True)
class LocalMotion:
    """Where points of an object go from one camera's frame to another's, by their pixel."""

    start: Rigid3  # what all patches have in common
    middle: np.ndarray  # (3,) about which patches turn, the other camera's frame
    patches: Patches
    twists: np.ndarray  # (rows, columns, 6) turn, radians, and shift of each patch beyond the common motion
    residual_px: float  # median distance of the moved points from where the flow finds them

    def __call__(self, x_in_cam: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """(N, 3) in the other camera of points (N, 3) in this one, seen at pixels (N, 2)."""
        return _moved(self.start @ x_in_cam, self.middle, self.patches.read(self.twists, pixels))


def fit_local(points: Followed, camera: Camera, start: Rigid3, depth_sigma: float) -> LocalMotion:
    """Robust Gauss-Newton on the twists of all patches.

    Args:
        points: of the object, at least one.
        camera: of the other frame.
        start: other_from_cam of the object as a whole; how far it goes along the ray on average is taken from this.
        depth_sigma: standard deviation (log) of how depth changes from frame to frame where nothing does.
    """
    patches = Patches.over(points.pixels, len(points) * points.pixels_each, PATCHES, SPACING_PX)
    problem = _Problem(points, camera, start @ points.x_in_cam, patches)
    links = _Links.between(problem)
    twists = np.zeros((len(patches), 6))
    for _ in range(ROUNDS):
        hessian, gradient = problem.flow(twists)
        for block, vector in (links.terms(twists), problem.patch_depths(twists, depth_sigma)):
            hessian, gradient = hessian + block, gradient + vector
        twists = twists - _solve(hessian, gradient, *problem.mean_depth(twists)).reshape(-1, 6)
    length = np.linalg.norm(problem.residual(twists), axis=1)
    return LocalMotion(start, problem.middle, patches, patches.on_grid(twists), float(np.median(length)))


def _solve(hessian: np.ndarray, gradient: np.ndarray, row: np.ndarray, off: float) -> np.ndarray:
    """Solution of the equations with one more measurement, ``row @ step = off`` within MEAN_DEPTH_SIGMA.

    Sparse, with the one full row added by the formula of Sherman and Morrison; dense solvers wake threads that stall on
    a busy machine.
    """
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    solved = splu(csc_matrix(hessian)).solve(np.column_stack([gradient, row]))
    step, response = solved.T
    return step + response * ((off - row @ step) / (MEAN_DEPTH_SIGMA**2 + row @ response))


class _Problem:
    """What pictures and depth say of the twists (K, 6) of the patches."""

    def __init__(self, points: Followed, camera: Camera, begun: np.ndarray, patches: Patches) -> None:
        self.points, self.camera, self.begun, self.patches = points, camera, begun, patches
        self.middle, self.known = np.median(begun, axis=0), np.isfinite(points.depth)
        self.rows, self.weights = patches.blend(points.pixels)
        self.share = min(1.0, points.pixels_each / SAME_FLOW_PX)

    def moved(self, twists: np.ndarray) -> np.ndarray:
        return _moved(self.begun, self.middle, np.einsum("nk,nkj->nj", self.weights, twists[self.rows]))

    def residual(self, twists: np.ndarray) -> np.ndarray:
        return reprojection(self.moved(twists), self.middle, self.points.found, self.camera)[0]

    def summed(self, values: np.ndarray) -> np.ndarray:
        """(K, ...) sum over the points of values (N, ...) times the patches' weights."""
        out = np.zeros((len(self.patches), *values.shape[1:]))
        for k in range(4):
            np.add.at(out, self.rows[:, k], self.weights[:, k].reshape(-1, *[1] * (values.ndim - 1)) * values)
        return out

    def flow(self, twists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hessian (6K, 6K) and gradient (6K,) of where the flow finds the points."""
        residual, jacobian = reprojection(self.moved(twists), self.middle, self.points.found, self.camera)
        length, count = np.linalg.norm(residual, axis=1), len(self.patches)
        spread = residual_spread(length)
        weight = self.share / spread**2 * (9 / (9 + (length / spread) ** 2)) ** 2
        pairs = np.einsum("n,nri,nrj->nij", weight, jacobian, jacobian)
        right = np.einsum("n,nri,nr->ni", weight, jacobian, residual)
        hessian = np.zeros((count, count, 6, 6))
        for a in range(4):
            for b in range(4):
                both = (self.weights[:, a] * self.weights[:, b])[:, None, None] * pairs
                np.add.at(hessian, (self.rows[:, a], self.rows[:, b]), both)
        return hessian.transpose(0, 2, 1, 3).reshape(6 * count, -1), self.summed(right).ravel()

    def patch_depths(self, twists: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        """How the depth of each patch differs from the other frame's own, a patch's points being one measurement."""
        from scipy.sparse import csr_matrix

        moved, count = self.moved(twists), len(self.patches)
        off = np.where(self.known, np.log(moved[:, 2] / np.where(self.known, self.points.depth, 1.0)), 0.0)
        total = self.summed(self.known.astype(np.float64))
        here = total > 0.05 * total.max(initial=0.0)
        total = np.where(here, total, np.inf)
        by_point = log_depth_rows(moved, self.middle) * self.known[:, None]
        jacobian = np.zeros((count, count, 6))  # of the mean of a patch, by the twist of each
        for a in range(4):
            for b in range(4):
                share = self.weights[:, a] / total[self.rows[:, a]] * self.weights[:, b]
                np.add.at(jacobian, (self.rows[:, a], self.rows[:, b]), share[:, None] * by_point)
        jacobian, off = jacobian.reshape(count, -1), self.summed(off) / total
        weight = 1 / sigma**2 / (1 + (off / sigma) ** 2 / TAIL)
        rows = csr_matrix(jacobian)
        return (rows.T @ rows.multiply(weight[:, None])).toarray(), rows.T @ (weight * off)

    def mean_depth(self, twists: np.ndarray) -> tuple[np.ndarray, float]:
        """Derivative (6K,) of the mean log depth of the moved points, and how far it is off what it began with."""
        moved = self.moved(twists)
        off = float(np.mean(np.log(moved[:, 2] / self.begun[:, 2])))
        return self.summed(log_depth_rows(moved, self.middle) / len(moved)).ravel(), off


@dataclass(frozen=True)
class _Links:
    """Neighbouring patches (L,), how strongly they hold together, and the strain each unknown may have."""

    first: np.ndarray
    second: np.ndarray
    strength: np.ndarray
    sigma: np.ndarray  # (6,)

    @classmethod
    def between(cls, problem: _Problem) -> _Links:
        first, second = problem.patches.links()
        log_depth = np.log(problem.points.x_in_cam[:, 2])
        mean = problem.summed(log_depth) / np.maximum(problem.summed(np.ones_like(log_depth)), 1e-9)
        strength = LOOSE + np.exp(-(((mean[first] - mean[second]) / STEP_OF_DEPTH) ** 2))
        distance = problem.patches.spacing / problem.camera.fx * float(np.exp(np.median(log_depth)))  # scene units
        return cls(first, second, strength, np.repeat([TURN_STRAIN, SHIFT_STRAIN * distance], 3))

    def terms(self, twists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hessian (6K, 6K) and gradient (6K,); a little of each patch is held at the common motion."""
        strain = (twists[self.second] - twists[self.first]) / self.sigma
        weight = self.strength / (1 + (strain**2).mean(axis=1) / TAIL)
        hold = laplacian(self.first, self.second, weight, len(twists)) + LOOSE * np.eye(len(twists))
        gradient = (hold @ twists) / self.sigma**2
        return np.kron(hold, np.diag(self.sigma**-2.0)), gradient.ravel()


def _moved(points: np.ndarray, middle: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """Points (N, 3) turned about ``middle`` and shifted, each by its own twist (N, 6)."""
    from scipy.spatial.transform import Rotation

    return middle + Rotation.from_rotvec(twist[:, :3]).apply(points - middle) + twist[:, 3:]
