"""The layers of a frame: what it sees, cut into slabs of depth, and behind each slab the world without what is nearer.

What the frame does not show is filled, in this order, by what other frames saw, by a generative model if one is given,
and from the surroundings, from the far side only. Every pixel keeps where it comes from.
Source of the order of work and of the guard that keeps layers apart: Make-It-4D (ACM MM 2023) and 3D Photo Inpainting
(CVPR 2020); here other frames come first, and edges are those of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from recon4d.fill.other_frames import Donor, Target, agreement, grown, seen_by, silhouettes
from recon4d.fill.push_pull import push_pull
from recon4d.scene.camera import Camera
from recon4d.scene.depth import Provenance
from recon4d.scene.layered import Layer, LayeredDepth
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.trajectory import View

# (color (H, W, 3) uint8, mask (H, W) bool True = make up) -> color (H, W, 3) uint8; only the mask's pixels are taken.
Filler = Callable[[np.ndarray, np.ndarray], np.ndarray]

BEHIND = np.float32(1.01)  # what is filled lies at least so much further than what hides it
RADIUS_PX = 5  # of Telea's inpainting
TELEA_PX = 8  # from the rim of a hole; further inside colours are coarse
COVERED = 0.5  # share of a pixel that another frame has to cover
SKY_SHARE = 0.01  # of the picture: a larger region without depth is sky, a smaller one a gap
SKY_DEPTH = 4.0  # so many times as far as the farthest surface of the frame sky is put
RIM_PX = 2  # around nearer surfaces colours are mixed


@dataclass(frozen=True)
class OwnView:
    """A frame's own word."""

    view: View
    picture: np.ndarray  # (H, W, 3) uint8
    mesh: DepthMesh
    moving: np.ndarray  # (H, W) bool: no part of the background


@dataclass(frozen=True)
class Shares:
    """Of the canvas, how much has no colour yet when a layer's world is filled."""

    hole: float  # at the start: nearer slabs, the border, pixels without depth
    after_frames: float
    after_filler: float
    after_classical: float


@dataclass(frozen=True)
class Built:
    """Layers of a frame and what is known about them."""

    layered: LayeredDepth
    shares: tuple[Shares, ...]  # per layer
    donors: int  # that fitted


@dataclass(frozen=True)
class _Canvas:
    """Pixels on the layers' camera."""

    camera: Camera
    color: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32, 0 where there is none
    provenance: np.ndarray  # (H, W) uint8
    moving: np.ndarray  # (H, W) bool
    rim: np.ndarray  # (H, W) bool: beside a jump of depth
    sky: np.ndarray  # (H, W) bool: without depth and put far away


def extended(camera: Camera, border: float) -> tuple[Camera, int, int]:
    """The camera with ``border`` of its width and height more on each side, and that in pixels (right, down)."""
    x, y = round(border * camera.width), round(border * camera.height)
    grown = replace(
        camera, width=camera.width + 2 * x, height=camera.height + 2 * y, cx=camera.cx + x, cy=camera.cy + y
    )
    return grown, x, y


def build_layers(
    own: OwnView,
    edges: Sequence[float],
    donors: Sequence[Donor] = (),
    border: float = 0.1,
    filler: Filler | None = None,
    classical: bool = True,
) -> Built:
    """The layers of one frame.

    Args:
        edges: where slabs meet, z in scene units, rising.
        donors: others that may have seen what this frame does not, the most trusted first. Each is asked only if it
            agrees with the frame where both see a surface.
        border: of each side that is added around the picture, 0 for none.
        filler: a generative model; None to do without.
        classical: fill the rest from its surroundings.
    """
    canvas = _canvas(own, border)
    still = np.where(canvas.moving | canvas.sky, 0, canvas.depth)
    target = Target(own.view.cam_from_world, canvas.camera, canvas.color, still)
    fitting = [(donor, found.gain) for donor in donors if (found := agreement(donor, target)).good]
    bounds = [np.float32(0), *np.float32(edges), np.float32(np.inf)]
    front = np.zeros(canvas.depth.shape, dtype=np.float32)
    carried = _Found.nothing(canvas.depth.shape)
    layers, shares = [], []
    for near, far in pairwise(bounds):
        world = _World(canvas, near, far, np.maximum(near, front * BEHIND), carried)
        steps = [world.open_share]
        world.ask_frames(fitting, target)
        steps.append(world.open_share)
        if filler is not None:
            world.ask_filler(filler)
        steps.append(world.open_share)
        if classical:
            world.fill_colors()
        steps.append(world.open_share)
        layers.append(world.layer())
        shares.append(Shares(*steps))
        front = np.where(layers[-1].shown, layers[-1].depth, front)
        carried = world.found.behind(far)
    return Built(LayeredDepth(canvas.camera, tuple(layers)), tuple(shares), len(fitting))


@dataclass
class _Found:
    """What other frames gave, per pixel."""

    color: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32, 0 where nothing

    @classmethod
    def nothing(cls, shape: tuple[int, int]) -> _Found:
        return cls(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.float32))

    def behind(self, far: np.float32) -> _Found:
        """What belongs to slabs further back: the first surface behind an edge is that behind later ones, too."""
        return _Found(self.color.copy(), np.where(self.depth >= far, self.depth, np.float32(0)))


class _World:
    """The world as one frame sees it once everything nearer than a slab is taken away."""

    def __init__(self, canvas: _Canvas, near: np.float32, far: np.float32, bound: np.ndarray, found: _Found) -> None:
        self.canvas, self.near, self.far, self.bound, self.found = canvas, near, far, bound, found
        has_depth = canvas.depth > 0
        # What moves is in the first layer whatever its depth, so that the world behind it can be filled.
        self.moving = canvas.moving & (near == 0)
        self.own = has_depth & (canvas.depth >= near) & (self.moving | ~canvas.moving)
        # What moves is no surrounding of the background; neither are colours mixed with those of what is taken away.
        mixed = canvas.rim & grown(has_depth & ~self.own, RIM_PX)
        self.context = self.own & ~grown(canvas.moving, RIM_PX) & ~mixed
        self.color = np.where(self.context[..., None], canvas.color, np.uint8(0))
        self.provenance = np.where(self.own, canvas.provenance, np.uint8(Provenance.COMPLETED))
        self.open = ~self.own
        found.depth[self.open & (found.depth < bound)] = 0
        self._take(self.open & (found.depth > 0))

    @property
    def open_share(self) -> float:
        """Of the canvas, what has no colour yet."""
        return float(self.open.mean())

    def _take(self, given: np.ndarray, place: tuple[slice, slice] = (slice(None), slice(None))) -> None:
        """What was found in the pixels of ``given``, of a part of the canvas, belongs to the world."""
        self.color[place][given] = self.found.color[place][given]
        self.provenance[place][given] = Provenance.OTHER_FRAME
        self.context[place][given] = True
        self.open[place][given] = False

    def ask_frames(self, donors: Sequence[tuple[Donor, np.ndarray]], target: Target) -> None:
        """Take the first surface not nearer than the bound, from the first donor that shows one."""
        for donor, gain in donors:
            if not self.open.any():
                return
            seen = seen_by(donor, target, self.open, self.bound)
            if seen is None:
                continue
            place, shown = seen
            bound, is_open = self.bound[place], self.open[place]
            given = is_open & (shown.alpha >= COVERED) & (shown.depth >= bound) & (shown.depth > 0)
            self.found.depth[place][given] = shown.depth[given]
            self.found.color[place][given] = np.clip(np.round(shown.color[given] * gain), 0, 255).astype(np.uint8)
            self._take(given, place)

    def ask_filler(self, filler: Filler) -> None:
        """Colours by a generative model; it does not see what is mixed with nearer things."""
        if not self.open.any() or not self.context.any():
            return
        made = filler(self.color.copy(), ~self.context)
        self.color[self.open] = made[self.open]
        self.provenance[self.open] = Provenance.GENERATED
        self.open = np.zeros_like(self.open)

    def fill_colors(self) -> None:
        """Colours from the surroundings. Source: Telea, An image inpainting technique, JGT 2004, by OpenCV."""
        import cv2

        if not self.open.any() or not self.context.any():
            return
        # Coarse colours first: deep inside a wide hole Telea's march only draws streaks, and takes long.
        made = _coarse_colors(self.color, self.context)
        wide = cv2.distanceTransform((~self.context).astype(np.uint8), cv2.DIST_L2, 3) > TELEA_PX
        mask = (~self.context & ~wide).astype(np.uint8)
        made = np.where(wide[..., None], made, self.color)
        made = cv2.inpaint(made, mask, RADIUS_PX, cv2.INPAINT_TELEA)
        self.color[self.open] = made[self.open]
        self.open = np.zeros_like(self.open)

    def layer(self) -> Layer:
        """What of this world lies in the slab: the frame's own pixels unchanged, and the holes that belong to it."""
        canvas = self.canvas
        own = self.own & ((canvas.depth < self.far) | self.moving)
        found = ~self.own & (self.found.depth > 0) & (self.found.depth < self.far)
        filled, filled_depth = self._filled_depth()
        depth = np.where(own, canvas.depth, np.where(found, self.found.depth, filled_depth))
        shown = own | found | filled
        color = np.where(own[..., None], canvas.color, self.color)
        return Layer(
            color=np.where(shown[..., None], color, np.uint8(0)),
            depth=np.where(shown, depth, np.float32(0)),
            alpha=shown,
            provenance=np.where(shown, self.provenance, np.uint8(0)),
        )

    def _filled_depth(self) -> tuple[np.ndarray, np.ndarray]:
        """Where colours without depth were filled within this slab, and a depth there.

        A hole goes with the nearest pixel around it: where that lies in this slab the surfaces of the slab go on, as
        ramps of disparity (planes stay planes), behind what hides them. No membrane hangs between slabs.
        """
        canvas, nothing = self.canvas, np.zeros(self.canvas.depth.shape, dtype=np.float32)
        filled = ~self.own & ~self.open & (self.found.depth == 0)
        if not filled.any() or not self.context.any():
            return np.zeros_like(filled), nothing
        z = np.where(self.own, canvas.depth, self.found.depth)
        here = self.context & (z < self.far) & ~canvas.sky
        of_slab = _nearest(self.context, np.where(here, 1, np.where(canvas.sky, 2, 0)).astype(np.uint8))
        if here.any():
            with np.errstate(divide="ignore"):
                filled_depth = 1 / push_pull(np.where(here, 1 / np.where(here, z, 1), 0), here)
        else:
            filled_depth = nothing
        if np.isinf(self.far):
            far = z[canvas.sky].max(initial=0)
            filled_depth = np.where(of_slab == 2, far, filled_depth)
            filled &= filled_depth > 0
        else:
            filled &= of_slab == 1
        filled_depth = np.maximum(filled_depth, self.bound).astype(np.float32)
        return filled & (filled_depth < self.far), filled_depth


def _canvas(own: OwnView, border: float) -> _Canvas:
    import cv2

    camera, x, y = extended(own.view.camera, border)
    surface = own.mesh.surface
    depth = np.where(surface.valid, surface.depth, np.float32(0))
    sky = np.zeros_like(surface.valid)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats((~surface.valid).astype(np.uint8), connectivity=4)
    for number in range(1, count):
        if stats[number, cv2.CC_STAT_AREA] >= SKY_SHARE * depth.size:
            sky |= numbers == number
    if sky.any() and not sky.all():
        depth = np.where(sky, np.float32(SKY_DEPTH * depth.max()), depth)
    provenance = np.where(sky, np.uint8(Provenance.COMPLETED), surface.provenance)

    def placed(array: np.ndarray) -> np.ndarray:
        return np.pad(array, ((y, y), (x, x), *((0, 0),) * (array.ndim - 2)))

    fields = (own.picture, depth, provenance, own.moving, silhouettes(own.mesh), sky & (depth > 0))
    return _Canvas(camera, *(placed(field) for field in fields))


def _nearest(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each pixel the value of the nearest known one."""
    import cv2

    _, numbers = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(numbers.max() + 1, dtype=values.dtype)
    table[numbers[known]] = values[known]
    return table[numbers]


def _coarse_colors(color: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: smooth colours everywhere, from means over 4x4 pixels."""
    import cv2

    height, width = known.shape
    rows, columns = -(-height // 4), -(-width // 4)
    share = known.astype(np.float32)
    pad = ((0, 4 * rows - height), (0, 4 * columns - width))

    def total(values: np.ndarray) -> np.ndarray:
        return np.pad(values * share, pad).reshape(rows, 4, columns, 4).sum(axis=(1, 3))

    weight = total(np.float32(1))
    coarse = [push_pull(total(color[..., c]) / np.maximum(weight, 1), weight > 0) for c in range(3)]
    wide = cv2.resize(np.stack(coarse, axis=-1), (4 * columns, 4 * rows), interpolation=cv2.INTER_LINEAR)
    return np.clip(np.round(wide[:height, :width]), 0, 255).astype(np.uint8)
