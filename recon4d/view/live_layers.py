"""What the live viewer can show: a table of layers. To add one is to add an entry.

A layer says why it is missing, or builds what is drawn from the scene and what the person asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from recon4d.scene.depth import DepthKind
from recon4d.view import live_builds as builds
from recon4d.view.live_colors import Missing, needs
from recon4d.view.live_drawings import Drawing
from recon4d.view.live_placed import how_placed, needs_fit
from recon4d.view.live_scene import RAW, LiveScene
from recon4d.view.live_wish import Wish

CAMERAS, DEPTH, WHOLE = "Cameras and structure", "Depth of this frame", "Fused scene"
STAGES = (RAW, "align", "refine")  # that layers of a frame's depth are called by
SAME_POSE = 1e-9


@dataclass(frozen=True)
class Layer:
    """One thing that can be shown."""

    key: str
    group: str
    label: str
    tip: str
    missing: Missing  # why it cannot be shown, None where it can
    build: Callable[[LiveScene, Wish], Drawing]
    depends: tuple[str, ...] = ()  # fields of Wish that change what is drawn

    def token(self, wish: Wish) -> Hashable:
        """Equal for wishes that draw the same."""
        return ("layer", self.key, *(getattr(wish, name) for name in self.depends))


def layers_of(scene: LiveScene) -> tuple[Layer, ...]:
    """All layers, also those that are missing, in the order they are listed in."""
    return (*(_raw_layer(scene, source) for source in scene.sources or ["?"]), *DEPTH_LAYERS, *FUSED, *CAMERA_LAYERS)


def shown_at_first(available: Iterable[str]) -> set[str]:
    """Of the layers that can be shown, those to begin with: the camera, and the best result there is."""
    available = list(available)
    raw = [key for key in available if key.startswith(RAW)]
    best = next((keys for keys in (["static"], ["refine"], ["align"], raw[:1]) if keys and keys[0] in available), [])
    wanted = {"path", "camera", "grid", *(best or ["sparse"]), *(["moving"] if best == ["static"] else [])}
    return wanted & set(available)


def alternatives(available: Iterable[Layer]) -> dict[str, frozenset[str]]:
    """What can be shown by itself to compare it: label -> keys; each depth of the frame, and the fused scene."""
    available = list(available)
    depths = {layer.label: frozenset([layer.key]) for layer in available if layer.key.startswith(STAGES)}
    fused = frozenset(layer.key for layer in available if layer.key in ("static", "moving"))
    return depths | ({"Fused": fused} if fused else {})


def is_surface(layer: Layer) -> bool:
    """Whether the layer shows what the cameras saw, so that it hides or resembles others that do."""
    return layer.group in (DEPTH, WHOLE) and layer.key != "flow"


# -- why not -----------------------------------------------------------------------------------------------------------


def _needs_sparse(scene: LiveScene) -> str | None:
    return None if scene.has_sparse else "these poses came without points"


def _needs_other_cameras(scene: LiveScene) -> str | None:
    why = needs("refine")(scene)
    if why is not None:
        return why
    now, before = scene.trajectory.cam_from_world.matrix, scene.before.cam_from_world.matrix
    same = now.shape == before.shape and np.abs(now - before).max(initial=0.0) < SAME_POSE
    return "refine changed no camera" if same else None


def _needs_path(scene: LiveScene) -> str | None:
    return None if len(scene.names) > 1 else "there is one frame"


def _needs_flow(scene: LiveScene) -> str | None:
    why = needs("motion", "fuse")(scene)
    if why is None and not (scene.workspace.unit_dir("fuse") / "scene_flow").is_dir():
        return "the stage fuse left no scene flow"
    return why


def _needs_place(source: str) -> Missing:
    def missing(scene: LiveScene) -> str | None:
        if source not in scene.sources:
            return "the stage depth is not done"
        if needs_fit(kind_of(scene, source), scene.metres_per_unit) and not scene.done("align"):
            return f"{kind_of(scene, source).value} has no place in the scene before the stage align is done"
        return None

    return missing


def kind_of(scene: LiveScene, source: str) -> DepthKind:
    """What the numbers of a depth source mean."""
    return DepthKind(scene.workspace.record(f"depth/{source}").summary["kind"])


# -- the table ---------------------------------------------------------------------------------------------------------

CAMERA_LAYERS = (
    Layer(
        "sparse",
        CAMERAS,
        "Sparse points",
        "The points of structure from motion, in the colours of the pictures.",
        _needs_sparse,
        builds.sparse_points,
    ),
    Layer(
        "path",
        CAMERAS,
        "Camera path",
        "The way of the camera, from frame to frame.",
        _needs_path,
        builds.camera_path,
    ),
    Layer(
        "cameras",
        CAMERAS,
        "Cameras",
        f"Up to {builds.MOST_FRUSTA} cameras, evenly spread, with their pictures.",
        _needs_path,
        builds.cameras,
    ),
    Layer(
        "camera",
        CAMERAS,
        "This camera",
        "Where this frame was taken from, with its picture.",
        lambda scene: None,
        builds.camera_now,
        ("frame",),
    ),
    Layer(
        "before",
        CAMERAS,
        "Before refine",
        "In blue, the cameras as the stage poses has them.",
        _needs_other_cameras,
        builds.cameras_before,
    ),
    Layer(
        "grid",
        CAMERAS,
        "Floor grid",
        "A level grid on the floor; below nearly all points where no floor was found.",
        lambda scene: None,
        builds.floor_grid,
    ),
)

_CLOUD = ("frame", "colors", "together")


def _raw_layer(scene: LiveScene, source: str) -> Layer:
    known = source in scene.sources
    tip = f"{source}. {how_placed(kind_of(scene, source), scene.metres_per_unit)}" if known else ""
    return Layer(
        RAW + source,
        DEPTH,
        f"Raw: {source}" if len(scene.sources) > 1 else "Raw",
        tip,
        _needs_place(source),
        builds.depth_cloud(RAW + source),
        _CLOUD,
    )


DEPTH_LAYERS = (
    Layer(
        "align",
        DEPTH,
        "Aligned",
        "Depth of the frame after the stage align.",
        needs("align"),
        builds.depth_cloud("align"),
        _CLOUD,
    ),
    Layer(
        "refine",
        DEPTH,
        "Refined",
        "Depth of the frame after the stage refine: the same pixels as before it.",
        needs("align", "refine"),
        builds.depth_cloud("refine"),
        _CLOUD,
    ),
    Layer(
        "mesh",
        DEPTH,
        "Mesh",
        "The best surface of the frame, cut at silhouettes.",
        needs("align", "mesh"),
        builds.frame_mesh,
        ("frame", "colors", "wire"),
    ),
    Layer(
        "flow",
        DEPTH,
        "Motion arrows",
        "Where some of the points that move are in the next frame.",
        _needs_flow,
        builds.scene_flow,
        ("frame",),
    ),
)

FUSED = (
    Layer(
        "static",
        WHOLE,
        "Background",
        "What stands still, fused from all frames.",
        needs("fuse"),
        builds.static_cloud,
        ("colors",),
    ),
    Layer(
        "static mesh",
        WHOLE,
        "Background mesh",
        "The background as triangles, in its own colours.",
        needs("fuse"),
        builds.static_mesh,
        ("wire",),
    ),
    Layer(
        "moving",
        WHOLE,
        "What moves",
        "The moving points of this frame.",
        needs("fuse"),
        builds.moving_cloud,
        ("frame", "colors"),
    ),
)
