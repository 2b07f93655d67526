"""A point from the pixels where several frames see it, with its covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.metric.scale import NoCue
from recon4d.scene.trajectory import View

ROUNDS = 15
CAUCHY = 2.385
MIN_ANGLE_DEG = 0.3  # below it the covariance of a linearised fit means nothing


@dataclass(frozen=True)
class Triangulated:
    """A point and how sure it is."""

    point: np.ndarray  # (3,) world frame, scene units
    covariance: np.ndarray  # (3, 3) scene units squared
    residual_px: np.ndarray  # (M,) distance of the projected point from the pixel
    angle_deg: float  # the largest between two of the rays


def triangulate(pixels: np.ndarray, views: Sequence[View], sigma_px: float) -> Triangulated:
    """The point that projects nearest to ``pixels`` (M, 2), one per view, M >= 2.

    ``sigma_px`` is the error of a pixel, one standard deviation per axis; larger residuals widen the covariance, and
    single far ones lose weight (Cauchy).

    Raises:
        NoCue: the rays are nearly parallel, or meet behind a camera.
    """
    rotation = np.stack([view.cam_from_world.rotation for view in views])
    centres = np.stack([view.cam_from_world.inverse().translation for view in views])
    rays = world_rays(pixels, views)
    angle = _largest_angle(rays)
    if angle < MIN_ANGLE_DEG:
        raise NoCue(f"align: the rays open by {angle:.2g} degrees only, {MIN_ANGLE_DEG:g} are needed")
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    point = np.linalg.solve(across.sum(axis=0), np.einsum("mij,mj->i", across, centres))
    for _ in range(ROUNDS):
        jacobian, residual = project_with_jacobian(point, rotation, centres, pixels, views)
        far = np.linalg.norm(residual, axis=1)
        scale = max(sigma_px, 1.2 * float(np.median(far)) / np.sqrt(2))
        weights = 1 / (1 + (far / (CAUCHY * scale)) ** 2)
        gram = np.einsum("m,mki,mkj->ij", weights, jacobian, jacobian)
        step = np.linalg.solve(gram, np.einsum("m,mki,mk->i", weights, jacobian, residual))
        point = point + step
    freedom = 2 * len(views) - 3
    chi2 = float(weights @ (residual**2).sum(axis=1)) / freedom
    covariance = max(sigma_px**2, chi2) * np.linalg.inv(gram)
    return Triangulated(point, covariance, far, angle)


def world_rays(pixels: np.ndarray, views: Sequence[View]) -> np.ndarray:
    """(M, 3) unit directions in the world of one pixel per view."""
    rays = []
    for (x, y), view in zip(pixels, views):
        ray = view.cam_from_world.rotation.T @ view.camera.rays_at(x, y)
        rays.append(ray / np.linalg.norm(ray))
    return np.array(rays)


def project_with_jacobian(
    points: np.ndarray, rotation: np.ndarray, centres: np.ndarray, pixels: np.ndarray, views: Sequence[View]
) -> tuple[np.ndarray, np.ndarray]:
    """Derivative (M, 2, 3) of the projections of world points (3,) or (M, 3), and what is left to the pixels (M, 2).

    Raises:
        NoCue: a point is not in front of its camera.
    """
    x, y, z = np.einsum("mij,mj->mi", rotation, points - centres).T
    if not (z > 0).all():
        raise NoCue("align: the rays meet behind a camera")
    fx, fy, cx, cy = np.array([[v.camera.fx, v.camera.fy, v.camera.cx, v.camera.cy] for v in views]).T
    zero = np.zeros_like(z)
    by_cam = np.stack([np.stack([fx / z, zero, -fx * x / z**2], 1), np.stack([zero, fy / z, -fy * y / z**2], 1)], 1)
    residual = pixels - np.stack([fx * x / z + cx, fy * y / z + cy], axis=1)
    return by_cam @ rotation, residual


def _largest_angle(rays: np.ndarray) -> float:
    cosine = np.clip(rays @ rays.T, -1, 1)
    return float(np.degrees(np.arccos(cosine.min())))
