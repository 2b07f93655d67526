"""What surfaces and pictures can be coloured by: one entry of a table each, with the words that explain it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recon4d.formats.colormap import inferno_u8
from recon4d.scene.cloud import PointCloud
from recon4d.view.depth_colors import NO_DEPTH, colorize_depth, depth_range
from recon4d.view.live_drawings import Color
from recon4d.view.live_scene import RAW, LiveScene, nearest_grid
from recon4d.view.motion_page import object_color, overlay
from recon4d.view.origins import ORIGINS

NEARER, SAME, FARTHER = (66, 130, 255), (226, 226, 226), (240, 70, 50)
MARKS = (1.0, 2.0, 5.0)  # a range of colours ends at one of these times a power of ten
LOG_RANGE = 50.0  # of uncertainties: the smallest colour is of a fiftieth of the largest
DARKEST = 0.3  # of inferno, that is used
COMMON = 0.9  # share of the numbers that a range of colours shows

Missing = Callable[[LiveScene], str | None]


@dataclass(frozen=True)
class ColorMode:
    """One way to colour."""

    key: str
    label: str  # in the menu
    missing: Missing  # why it cannot be had, None where it can
    grid: Callable[[LiveScene, str, str], np.ndarray]  # (scene, depth stage, frame) -> (H, W, 3) uint8
    legend: Callable[[LiveScene], str]  # HTML
    cloud: Callable[[PointCloud], np.ndarray] | None = None  # of fused points; None: their own colours


def colors_of(cloud: PointCloud, mode: ColorMode) -> np.ndarray:
    """(N, 3) uint8 colours of fused points: by the mode where they know what it asks for, else their own."""
    return cloud.colors if mode.cloud is None else mode.cloud(cloud)


# -- numbers to colours ------------------------------------------------------------------------------------------------


def provenance_colors(provenance: np.ndarray) -> np.ndarray:
    """(..., 3) uint8."""
    table = np.full((256, 3), NO_DEPTH, dtype=np.uint8)
    for kind, (_, color) in ORIGINS.items():
        table[kind] = color
    return table[provenance]


def bright(share: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 of numbers 0..1 by inferno without its darkest part, which is lost on a dark ground."""
    return inferno_u8(DARKEST + (1 - DARKEST) * np.clip(share, 0, 1))


def log_share(numbers: np.ndarray, limit: float) -> np.ndarray:
    """0..1 of positive numbers on a logarithmic scale that ends at ``limit``: uncertainties differ by factors."""
    return np.clip(1 + np.log(np.maximum(numbers, 1e-12) / limit) / np.log(LOG_RANGE), 0, 1)


def signed_colors(share: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 of numbers -1 (nearer) to 1 (farther); 0 is a light grey."""
    share = np.clip(share, -1, 1)[..., None]
    ends = np.where(share < 0, np.array(NEARER, dtype=np.float64), np.array(FARTHER, dtype=np.float64))
    return np.round(np.array(SAME) + np.abs(share) * (ends - np.array(SAME))).astype(np.uint8)


def object_colors(numbers: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """(N, 3) uint8: the colour of each object (N,), and ``otherwise`` (N, 3) where nothing moves."""
    out = otherwise.copy()
    for number in np.unique(numbers[numbers > 0]):
        out[numbers == number] = object_color(int(number))
    return out


def nice_limit(number: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not less than a positive number; 1 for others."""
    if not (np.isfinite(number) and number > 0):
        return 1.0
    power = 10.0 ** np.floor(np.log10(number))
    return float(next((mark * power for mark in MARKS if mark * power >= number * (1 - 1e-9)), 10 * power))


# -- the modes ---------------------------------------------------------------------------------------------------------


def _picture(scene: LiveScene, stage: str, name: str) -> np.ndarray:
    return scene.picture(name)


def _where(valid: np.ndarray, colors: np.ndarray) -> np.ndarray:
    return np.where(valid[..., None], colors, np.array(NO_DEPTH, dtype=np.uint8))


def _range(scene: LiveScene) -> tuple[float, float]:
    """Near and far of the clip's depth, scene units."""
    stage = "align" if scene.done("align") else RAW + scene.sources[0]

    def look() -> tuple[float, float]:
        depths = (scene.depth(stage, name) for name in scene.sample_names())
        samples = [found.depth[found.valid] for found in depths]
        return depth_range(samples) if any(map(len, samples)) else (1.0, 2.0)

    return scene.cache.get(("range", stage), look)


def _depth(scene: LiveScene, stage: str, name: str) -> np.ndarray:
    found = scene.depth(stage, name)
    return colorize_depth(found.depth, found.valid, *_range(scene))


def _limit(scene: LiveScene, what: str, number: Callable[[str], np.ndarray]) -> float:
    """A round number that most of some quantity (name -> (K,)) is below, over the clip."""

    def look() -> float:
        seen = np.concatenate([number(name) for name in scene.sample_names()])
        return nice_limit(float(np.quantile(np.abs(seen), COMMON))) if len(seen) else 1.0

    return scene.cache.get(("limit", what), look)


def _relative_sigma(scene: LiveScene, stage: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    found = scene.depth(stage, name)
    if found.sigma is None:
        return np.zeros_like(found.depth), np.zeros_like(found.valid)
    return found.sigma / np.where(found.valid, found.depth, 1), found.valid


def _sigma_limit(scene: LiveScene) -> float:
    def of_frame(name: str) -> np.ndarray:
        sigma, valid = _relative_sigma(scene, "align", name)
        return sigma[valid]

    return _limit(scene, "sigma", of_frame)


def _sigma(scene: LiveScene, stage: str, name: str) -> np.ndarray:
    sigma, valid = _relative_sigma(scene, stage, name)
    return _where(valid, bright(log_share(sigma, _sigma_limit(scene))))


def _change(scene: LiveScene, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) relative change of depth by refine, and where both know a depth."""
    before, after = scene.depth("align", name), scene.depth("refine", name)
    both = before.valid & after.valid
    return after.depth / np.where(both, before.depth, 1) - 1, both


def _change_limit(scene: LiveScene) -> float:
    def of_frame(name: str) -> np.ndarray:
        change, both = _change(scene, name)
        return change[both]

    return _limit(scene, "change", of_frame)


def _difference(scene: LiveScene, stage: str, name: str) -> np.ndarray:
    change, both = _change(scene, name)
    return _where(both, signed_colors(change / _change_limit(scene)))


def _provenance(scene: LiveScene, stage: str, name: str) -> np.ndarray:
    found = scene.depth(stage, name)
    return _where(found.valid, provenance_colors(found.provenance))


def _confidence(scene: LiveScene, stage: str, name: str) -> np.ndarray:
    source = stage.removeprefix(RAW) if stage.startswith(RAW) else scene.sources[0]
    raw = scene.raw(source, name)
    shape = scene.trajectory[name].camera.shape
    return _where(nearest_grid(raw.valid, shape), bright(nearest_grid(raw.confidence, shape)))


def _moving(scene: LiveScene, stage: str, name: str) -> np.ndarray:
    return bright(scene.motion(name).moving)


def _objects(scene: LiveScene, stage: str, name: str) -> np.ndarray:
    return overlay(scene.picture(name), scene.motion(name).object_id)


# -- why not -----------------------------------------------------------------------------------------------------------


def needs(*units: str) -> Missing:
    """Missing until all these units are done; ``depth`` is any source, ``refine`` must be of what is there now."""

    def missing(scene: LiveScene) -> str | None:
        for unit in units:
            if unit == "refine" and scene.done("refine") and not scene.refined:
                return "the stage refine is of older results: run the line again"
            if not (scene.sources if unit == "depth" else scene.done(unit)):
                return f"the stage {unit} is not done"
        return None

    return missing


def _needs_any_depth(scene: LiveScene) -> str | None:
    return None if scene.done("align") or scene.sources else "the stage depth is not done"


# -- legends -----------------------------------------------------------------------------------------------------------


def swatch(color: Color, text: str) -> str:
    """A coloured square and what it means."""
    box = f"display:inline-block;width:.8em;height:.8em;margin-right:.5em;background:rgb{color}"
    return f'<div><span style="{box}"></span>{text}</div>'


def bar(colors: np.ndarray, left: str, right: str) -> str:
    """A bar of colours (K, 3) with the meaning of its ends."""
    stops = ",".join(f"rgb({r},{g},{b})" for r, g, b in colors)
    ends = f'<div style="display:flex;justify-content:space-between"><span>{left}</span><span>{right}</span></div>'
    return f'<div style="height:.7em;border-radius:3px;background:linear-gradient(to right,{stops})"></div>{ends}'


def _inferno_bar(left: str, right: str) -> str:
    return bar(bright(np.linspace(0, 1, 9)), left, right)


def _depth_legend(scene: LiveScene) -> str:
    near, far = _range(scene)
    depths = 1 / np.linspace(1 / near, 1 / far, 9)
    colors = colorize_depth(depths[None], np.ones((1, 9), dtype=bool), near, far)[0]
    scale = scene.shown_from_scene.scale
    return bar(colors, f"{near * scale:.3g} {scene.unit}", f"{far * scale:.3g} {scene.unit}")


def _sigma_legend(scene: LiveScene) -> str:
    limit = 100 * _sigma_limit(scene)
    return _inferno_bar(f"{limit / LOG_RANGE:g} %", f"{limit:g} % of the depth or more") + (
        "<div>One standard deviation, on a logarithmic scale. Raw depth has none.</div>"
    )


def _change_legend(scene: LiveScene) -> str:
    limit = f"{100 * _change_limit(scene):g} %"
    return bar(signed_colors(np.linspace(-1, 1, 9)), f"{limit} nearer", f"{limit} farther") + (
        "<div>What refine did to the aligned depth.</div>"
    )


def _object_legend(scene: LiveScene) -> str:
    return "<div>Each object keeps its colour over the clip; what stands still is darkened.</div>"


MODES: tuple[ColorMode, ...] = (
    ColorMode("picture", "picture", lambda scene: None, _picture, lambda scene: ""),
    ColorMode("depth", "depth", _needs_any_depth, _depth, _depth_legend),
    ColorMode("sigma", "uncertainty of depth", needs("align"), _sigma, _sigma_legend),
    ColorMode("difference", "refined against aligned", needs("align", "refine"), _difference, _change_legend),
    ColorMode(
        "provenance",
        "where depth comes from",
        _needs_any_depth,
        _provenance,
        lambda scene: "".join(swatch(color, text) for text, color in ORIGINS.values()),
        lambda cloud: provenance_colors(cloud.provenance),
    ),
    ColorMode(
        "confidence",
        "confidence",
        needs("depth"),
        _confidence,
        lambda scene: _inferno_bar("0 unsure", "1 sure") + "<div>Of the depth source; of fused points their own.</div>",
        lambda cloud: bright(cloud.confidence),
    ),
    ColorMode(
        "moving",
        "probability of motion",
        needs("motion"),
        _moving,
        lambda scene: _inferno_bar("0 stands still", "1 moves"),
    ),
    ColorMode(
        "objects",
        "objects that move",
        needs("motion"),
        _objects,
        _object_legend,
        lambda cloud: object_colors(cloud.object_id, cloud.colors),
    ),
)


def modes_of(scene: LiveScene) -> dict[str, ColorMode]:
    """The modes a scene has, by key."""
    return {mode.key: mode for mode in MODES if mode.missing(scene) is None}


def mode_of(key: str) -> ColorMode:
    """The mode called ``key``. Raises KeyError."""
    return _BY_KEY[key]


_BY_KEY = {mode.key: mode for mode in MODES}
