"""The points of structure from motion as witnesses of cameras: their errors of reprojection, the points eliminated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from recon4d.geometry.rotations import cross_matrix
from recon4d.scene.camera import Camera
from recon4d.scene.sparse import SparseModel
from recon4d.scene.transforms import Rigid3

OWN = 9  # unknowns of a camera, in the order of `camera_star`
MIN_TRACK = 3  # two views of a point hardly bear witness
CAUCHY = 2.385  # standard deviations: 95 % efficient for normal errors
LEAST_SIGMA_PX = 0.1
MEDIAN_OF_CHI2 = 1.177  # median length of a 2-vector of unit normal numbers
MOST = 300_000  # observations in the normal equations: 1.6 GB at 1000 frames, where a million took 4.3
DAMPING = 1e-6  # of a point's own precision


class Witness(NamedTuple):
    """What the points say of the cameras: a quadratic energy around them."""

    hessian: csr_matrix  # (9 N, 9 N)
    gradient: np.ndarray  # (9 N,)


@dataclass
class PointTies:
    """Observed points; their places in the world are kept up to date by `settle`."""

    points: np.ndarray  # (P, 3) world
    frame: np.ndarray  # (K,) rows of the frames of the observations
    point: np.ndarray  # (K,) rows in ``points``
    pixels: np.ndarray  # (K, 2)
    model_rows: np.ndarray  # (P,) rows in the model
    sigma_px: float = 1.0

    @classmethod
    def of(cls, model: SparseModel, names: Sequence[str]) -> PointTies:
        """Those points of the model that at least three of the frames see."""
        rows = [model.rows.get(name, np.zeros(0, dtype=int)) for name in names]
        frame = np.repeat(np.arange(len(names)), [len(r) for r in rows])
        point = np.concatenate([np.zeros(0, dtype=int), *rows])
        pixels = np.concatenate([np.zeros((0, 2)), *(model.pixels[n] for n, r in zip(names, rows) if len(r))])
        used = np.bincount(point, minlength=len(model)) >= MIN_TRACK
        kept, chosen = used[point], np.flatnonzero(used)
        place = np.cumsum(used) - 1
        return cls(model.points[chosen].astype(float), frame[kept], place[point[kept]], pixels[kept], chosen)

    def __len__(self) -> int:
        return len(self.frame)

    def residuals(self, cameras: Sequence[Camera], poses: Rigid3) -> np.ndarray:
        """(K, 2) pixels of the reprojection minus those observed; far away where a point is behind the camera."""
        calibration, in_cam, _ = self._seen(cameras, poses)
        z = np.maximum(in_cam[:, 2], 1e-9)
        found = calibration[:, :2] * in_cam[:, :2] / z[:, None] + calibration[:, 2:] - self.pixels
        return np.where((in_cam[:, 2] > 1e-9)[:, None], found, 1e3)

    def error_px(self, cameras: Sequence[Camera], poses: Rigid3) -> float:
        """Robust root mean square of the errors of reprojection, pixels per axis (Cauchy at `sigma_px`)."""
        return float(np.sqrt(self._energies(cameras, poses).mean())) * self.sigma_px

    def _energies(self, cameras: Sequence[Camera], poses: Rigid3) -> np.ndarray:
        s2 = (self.residuals(cameras, poses) ** 2).sum(axis=1) / self.sigma_px**2
        return 0.5 * CAUCHY**2 * np.log1p(s2 / CAUCHY**2)

    def measure_sigma(self, cameras: Sequence[Camera], poses: Rigid3) -> None:
        """Take the noise of the observations from what they show now."""
        away = np.linalg.norm(self.residuals(cameras, poses), axis=1)
        self.sigma_px = max(float(np.median(away)) / MEDIAN_OF_CHI2, LEAST_SIGMA_PX)

    def settle(self, cameras: Sequence[Camera], poses: Rigid3, steps: int = 4) -> None:
        """Move the points to where the cameras see them: each alone, its energy never rises."""
        energies = self._per_point(cameras, poses)
        damping = np.full(len(self.points), DAMPING)
        for _ in range(steps):
            before = self.points
            residual, weight, _, by_point = self._linear(cameras, poses)
            precision, slope = self._of_points(residual, weight, by_point)
            self.points = before - np.linalg.solve(_damped(precision, damping), slope[..., None])[..., 0]
            found = self._per_point(cameras, poses)
            better = found <= energies
            self.points = np.where(better[:, None], self.points, before)
            energies = np.where(better, found, energies)
            damping = np.where(better, DAMPING, np.maximum(100 * damping, 1e-3))

    def witness(self, cameras: Sequence[Camera], poses: Rigid3) -> Witness:
        """The energy sum rho(|error|^2 / sigma^2) / 2 around the cameras, quadratic; the points are eliminated.

        Of very many points some speak for all.
        """
        if len(self) > MOST:
            few = self._few()
            found, more = few.witness(cameras, poses), len(self) / len(few)
            return Witness(more * found.hessian, more * found.gradient)
        residual, weight, by_camera, by_point = self._linear(cameras, poses)
        precision, slope = self._of_points(residual, weight, by_point)
        inverse = np.linalg.inv(_damped(precision, DAMPING))
        scaled = weight[:, None, None] * by_camera
        size = OWN * len(poses)
        at_frame = OWN * self.frame[:, None] + np.arange(OWN)
        at_point = 3 * self.point[:, None] + np.arange(3)

        def spread(blocks: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
            i = np.broadcast_to(rows[:, :, None], blocks.shape)
            j = np.broadcast_to(columns[:, None, :], blocks.shape)
            return csr_matrix((blocks.ravel(), (i.ravel(), j.ravel())), shape=shape)

        own = spread(np.einsum("kri,krj->kij", scaled, by_camera), at_frame, at_frame, (size, size))
        mixed = np.einsum("kri,krj->kij", scaled, by_point)
        ties = spread(mixed, at_frame, at_point, (size, 3 * len(self.points)))
        through = spread(
            np.einsum("kij,kjl->kil", mixed, inverse[self.point]), at_frame, at_point, (size, 3 * len(self.points))
        )
        gradient = (
            np.bincount(at_frame.ravel(), np.einsum("kri,kr->ki", scaled, residual).ravel(), minlength=size)
            - through @ slope.ravel()
        )
        return Witness((own - through @ ties.T).tocsr(), gradient)

    # -- the parts ---------------------------------------------------------------------------------------------------

    def _few(self) -> PointTies:
        """Points chosen by chance, with no more than `MOST` observations."""
        order = np.random.default_rng(0).permutation(len(self.points))
        tracks = np.bincount(self.point, minlength=len(self.points))
        used = np.zeros(len(self.points), dtype=bool)
        used[order[np.cumsum(tracks[order]) <= MOST]] = True
        kept, place = used[self.point], np.cumsum(used) - 1
        point = place[self.point[kept]]
        return PointTies(
            self.points[used], self.frame[kept], point, self.pixels[kept], self.model_rows[used], self.sigma_px
        )

    def _seen(self, cameras: Sequence[Camera], poses: Rigid3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Calibrations (K, 4), points in the camera's frame (K, 3), rotations (K, 3, 3)."""
        calibration = np.array([(c.fx, c.fy, c.cx, c.cy) for c in cameras])[self.frame]
        rotation = poses.rotation[self.frame]
        in_cam = np.einsum("kij,kj->ki", rotation, self.points[self.point]) + poses.translation[self.frame]
        return calibration, in_cam, rotation

    def _linear(self, cameras: Sequence[Camera], poses: Rigid3):
        """Residuals (K, 2), weights (K,) that make them normal, and derivatives (K, 2, 9) and (K, 2, 3)."""
        calibration, in_cam, rotation = self._seen(cameras, poses)
        residual = self.residuals(cameras, poses)
        ok = in_cam[:, 2] > 1e-9
        z = np.where(ok, in_cam[:, 2], 1.0)
        u, v = in_cam[:, 0] / z, in_cam[:, 1] / z
        zero, one = np.zeros_like(u), np.ones_like(u)
        by_place = np.stack([np.stack([one, zero, -u], -1), np.stack([zero, one, -v], -1)], 1) / z[:, None, None]
        by_lens = np.stack([np.stack([u, one, zero], -1), np.stack([v, zero, one], -1)], 1)
        by_camera = np.concatenate([-by_place @ cross_matrix(in_cam), by_place, by_lens], axis=2)
        focal = calibration[:, :2, None]
        weight = 1 / (1 + (residual**2).sum(axis=1) / (CAUCHY * self.sigma_px) ** 2) / self.sigma_px**2
        weight = np.where(ok, weight, 0.0)
        return residual, weight, focal * by_camera, focal * (by_place @ rotation)

    def _of_points(self, residual, weight, by_point):
        """Precision (P, 3, 3) and gradient (P, 3) of each point."""
        scaled = weight[:, None, None] * by_point
        precision, slope = np.zeros((len(self.points), 3, 3)), np.zeros((len(self.points), 3))
        np.add.at(precision, self.point, np.einsum("kri,krj->kij", scaled, by_point))
        np.add.at(slope, self.point, np.einsum("kri,kr->ki", scaled, residual))
        return precision, slope

    def _per_point(self, cameras, poses):
        return np.bincount(self.point, self._energies(cameras, poses), minlength=len(self.points))


def _damped(precision, damping):
    size = np.trace(precision, axis1=1, axis2=2) + 1e-12
    return precision + (damping * size)[:, None, None] * np.eye(3)
