"""Rigid motions and similarities, named ``target_from_source``; ``@`` composes or applies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rigid3:
    """Motion ``b_from_a``:  x_in_b = rotation @ x_in_a + translation."""

    rotation: np.ndarray  # (..., 3, 3), orthonormal, det +1
    translation: np.ndarray  # (..., 3), scene units

    def __post_init__(self) -> None:
        rotation = np.asarray(self.rotation, dtype=np.float64)
        translation = np.asarray(self.translation, dtype=np.float64)
        if rotation.shape[-2:] != (3, 3) or translation.shape != (*rotation.shape[:-2], 3):
            raise ValueError(f"Rigid3: rotation {rotation.shape} and translation {translation.shape} do not match")
        gram = rotation @ np.swapaxes(rotation, -1, -2)
        if not (np.allclose(gram, np.eye(3), atol=1e-5) and np.all(np.linalg.det(rotation) > 0)):
            raise ValueError("Rigid3: rotation is not orthonormal with determinant +1")
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation", translation)

    @classmethod
    def identity(cls, *batch: int) -> Rigid3:
        """The motion that changes nothing, with leading batch axes ``batch``."""
        return cls(np.broadcast_to(np.eye(3), (*batch, 3, 3)).copy(), np.zeros((*batch, 3)))

    @classmethod
    def from_matrix(cls, matrix: np.ndarray) -> Rigid3:
        """From (..., 3, 4) or (..., 4, 4) matrices; the rotation part is made orthonormal (nearest by SVD)."""
        matrix = np.asarray(matrix, dtype=np.float64)
        u, _, vt = np.linalg.svd(matrix[..., :3, :3])
        return cls(u @ vt, matrix[..., :3, 3])

    @classmethod
    def from_quat_xyzw(cls, quat_xyzw: np.ndarray, translation: np.ndarray) -> Rigid3:
        """From quaternions (..., 4) in the order x, y, z, w (any length but 0) and translations (..., 3)."""
        return cls(rotation_from_quat_xyzw(quat_xyzw), translation)

    def __getitem__(self, index: int | slice | np.ndarray) -> Rigid3:
        return Rigid3(self.rotation[index], self.translation[index])

    def __len__(self) -> int:
        return len(self.rotation)

    def __matmul__(self, other: Rigid3 | np.ndarray) -> Rigid3 | np.ndarray:
        """Compose with a motion of the same batch shape, or apply to points (..., N, 3) or one point (3,)."""
        if isinstance(other, Rigid3):
            rotated = np.einsum("...ij,...j->...i", self.rotation, other.translation)
            return Rigid3(self.rotation @ other.rotation, rotated + self.translation)
        points = np.asarray(other)
        rotation, translation = self.rotation, self.translation
        if points.ndim > 1:
            rotation, translation = rotation[..., None, :, :], translation[..., None, :]
        # Column by column: a product with a 3x3 matrix goes through BLAS, whose threads stall on a busy machine.
        turned = sum(points[..., k, None] * rotation[..., :, k] for k in range(3))
        return turned + translation

    def inverse(self) -> Rigid3:
        """``a_from_b``."""
        transposed = np.swapaxes(self.rotation, -1, -2)
        return Rigid3(transposed, -np.einsum("...ij,...j->...i", transposed, self.translation))

    @property
    def matrix(self) -> np.ndarray:
        """(..., 4, 4) float64."""
        out = np.zeros((*self.rotation.shape[:-2], 4, 4))
        out[..., :3, :3], out[..., :3, 3], out[..., 3, 3] = self.rotation, self.translation, 1.0
        return out

    @property
    def quat_xyzw(self) -> np.ndarray:
        """(..., 4) unit quaternions, order x, y, z, w, with w >= 0."""
        return quat_xyzw_from_rotation(self.rotation)


@dataclass(frozen=True)
class Sim3:
    """Similarity ``b_from_a``:  x_in_b = scale * rotation @ x_in_a + translation."""

    scale: float
    rotation: np.ndarray  # (3, 3), orthonormal, det +1
    translation: np.ndarray  # (3,), units of b

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"Sim3: scale {self.scale} is not positive")
        rigid = Rigid3(self.rotation, self.translation)
        object.__setattr__(self, "rotation", rigid.rotation)
        object.__setattr__(self, "translation", rigid.translation)

    @classmethod
    def identity(cls) -> Sim3:
        return cls(1.0, np.eye(3), np.zeros(3))

    def __matmul__(self, other: Sim3 | np.ndarray) -> Sim3 | np.ndarray:
        """Compose with a similarity, or apply to points (..., 3)."""
        if isinstance(other, Sim3):
            return Sim3(self.scale * other.scale, self.rotation @ other.rotation, self @ other.translation)
        return self.scale * (np.asarray(other) @ self.rotation.T) + self.translation

    def inverse(self) -> Sim3:
        """``a_from_b``."""
        return Sim3(1.0 / self.scale, self.rotation.T, -(self.rotation.T @ self.translation) / self.scale)

    def apply_to_pose(self, cam_from_a: Rigid3) -> Rigid3:
        """The same cameras seen from frame b: ``cam_from_b``, camera coordinates in units of b."""
        rotation = cam_from_a.rotation @ self.rotation.T
        translation = self.scale * cam_from_a.translation - np.einsum("...ij,j->...i", rotation, self.translation)
        return Rigid3(rotation, translation)

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) float64."""
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = self.scale * self.rotation, self.translation
        return out


def rotation_from_quat_xyzw(quat_xyzw: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) from quaternions (..., 4) in the order x, y, z, w, of any length but 0."""
    quat = np.asarray(quat_xyzw, dtype=np.float64)
    length = np.linalg.norm(quat, axis=-1, keepdims=True)
    if not np.all(length > 1e-12):
        raise ValueError("quaternion of length 0")
    x, y, z, w = np.moveaxis(quat / length, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quat_xyzw_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4), order x, y, z, w, w >= 0, from rotation matrices (..., 3, 3).

    Source: Bar-Itzhack, JGCD 2000 (version 1): the quaternion is the leading eigenvector of a symmetric 4x4 matrix,
    which has no special cases near half turns.
    """
    r = np.asarray(rotation, dtype=np.float64)
    k = np.zeros((*r.shape[:-2], 4, 4))
    k[..., 0, 0] = r[..., 0, 0] - r[..., 1, 1] - r[..., 2, 2]
    k[..., 1, 1] = r[..., 1, 1] - r[..., 0, 0] - r[..., 2, 2]
    k[..., 2, 2] = r[..., 2, 2] - r[..., 0, 0] - r[..., 1, 1]
    k[..., 3, 3] = r[..., 0, 0] + r[..., 1, 1] + r[..., 2, 2]
    k[..., 1, 0] = r[..., 1, 0] + r[..., 0, 1]
    k[..., 2, 0] = r[..., 2, 0] + r[..., 0, 2]
    k[..., 2, 1] = r[..., 2, 1] + r[..., 1, 2]
    k[..., 3, 0] = r[..., 2, 1] - r[..., 1, 2]
    k[..., 3, 1] = r[..., 0, 2] - r[..., 2, 0]
    k[..., 3, 2] = r[..., 1, 0] - r[..., 0, 1]
    _, vectors = np.linalg.eigh(k)  # reads the lower triangle
    quat = vectors[..., :, -1]
    return np.where(quat[..., 3:] < 0, -quat, quat)
