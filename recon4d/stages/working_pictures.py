"""The posed pictures of a scene at the size a stage works at; those used last stay in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from recon4d.threads import usable_cores

if TYPE_CHECKING:
    from recon4d.depth.multi_view import PosedPicture
    from recon4d.geometry.photo_cost import GreyView
    from recon4d.scene.trajectory import Trajectory
    from recon4d.workspace import Workspace

Read = TypeVar("Read")


class WorkingPictures:
    """Pictures of the frames of a trajectory, named by their row in it.

    Args:
        max_size: of the longer side, pixels.
        kept: so many pictures stay in memory.
        ignored: frame name -> (H, W) bool pixels nobody wants matched, or None; without it the scene's masks.
    """

    def __init__(
        self,
        workspace: Workspace,
        trajectory: Trajectory,
        max_size: int,
        kept: int,
        ignored: Callable[[str], np.ndarray | None] | None = None,
    ) -> None:
        self._workspace, self._frames, self._max_size, self._kept = workspace, list(trajectory), max_size, kept
        self._ignored = ignored or workspace.ignored
        self.posed = self.remembered(self._posed)
        self.grey = self.remembered(self._grey)

    def remembered(self, read: Callable[[int], Read]) -> Callable[[int], Read]:
        """``read``, of which the last few results stay in memory."""
        return lru_cache(self._kept)(read)

    def ignored(self, i: int) -> np.ndarray | None:
        """(H, W) bool at working size: pixels that any ignored one of the picture touches, for they are a mixture."""
        return self._at_working_size(i, self._ignored(self._frames[i].name))

    def ignored_by_user(self, i: int) -> np.ndarray | None:
        """As `ignored`, by the user's own mask alone."""
        return self._at_working_size(i, self._workspace.ignored_by_user(self._frames[i].name))

    def _at_working_size(self, i: int, ignored: np.ndarray | None) -> np.ndarray | None:
        import cv2

        if ignored is None:
            return None
        size = self.posed(i).camera.shape[::-1]
        return cv2.resize(ignored.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0

    def _posed(self, i: int) -> PosedPicture:
        import cv2

        from recon4d.depth.multi_view import PosedPicture

        view, rgb = self._frames[i], self._workspace.picture(self._frames[i].name)
        size = working_size(rgb.shape[1::-1], self._max_size)
        if size != rgb.shape[1::-1]:
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        return PosedPicture(rgb, view.camera.resized(*size), view.cam_from_world)

    def _grey(self, i: int) -> GreyView:
        """A picture as other frames may match it: NaN where it is ignored."""
        view, ignored = self.posed(i).grey(), self.ignored(i)
        return view if ignored is None else replace(view, grey=np.where(ignored, np.float32(np.nan), view.grey))


def working_size(size: tuple[int, int], max_size: int) -> tuple[int, int]:
    """(width, height) of a picture whose longer side has at most ``max_size`` pixels."""
    scale = min(1.0, max_size / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def usual_workers(pixels: int, bytes_per_pixel: int) -> int:
    """Threads for frames of so many pixels: one per core, but no more than fit into half of the machine's memory."""
    return max(1, min(usable_cores(), machine_memory() // 2 // (bytes_per_pixel * pixels)))


def machine_memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def rimmed(mask: np.ndarray, rim: float) -> np.ndarray:
    """A mask (h, w) bool with the pixels around it up to ``rim`` of the longer side, at least one."""
    import cv2

    reach = max(1, round(rim * max(mask.shape)))
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1,) * 2, dtype=np.uint8)) > 0


def no_part_of_background(workspace: Workspace, name: str, rim: float | None = None) -> np.ndarray | None:
    """(H, W) bool: pixels of a frame that move, or that a mask takes out; None where there are none.

    Args:
        rim: so far around what moves, of the longer side, pixels are no background either.
    """
    ignored, moving = workspace.ignored(name), workspace.motion(name).mask
    if rim is not None:
        moving = rimmed(moving, rim)
    if ignored is not None:
        moving = moving | ignored
    return moving if moving.any() else None
