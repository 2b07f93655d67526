"""`layers/layers.png`: a few frames, each layer of theirs, and where its pixels come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon4d.scene.layered import Layer
from recon4d.workspace import Workspace

ROWS = 3  # frames
CELL = 320  # longer side of a cell, pixels
HEAD, FOOT, GAP = 26, 34, 6  # pixels
INK = (216, 216, 224)
EMPTY = (34, 34, 40)  # where a layer has no surface


def write_layers_page(path: Path, workspace: Workspace, folder: Path, names: Sequence[str]) -> None:
    """Write a PNG: per frame the picture, and under each layer its pixels' origin in colours."""
    from recon4d.formats.layer_files import read_layers
    from recon4d.formats.pictures import write_picture
    from recon4d.view.drawing import legend, paper, write
    from recon4d.view.origins import ORIGINS

    chosen = [names[row] for row in np.unique(np.linspace(0, len(names) - 1, ROWS).astype(int))]
    rows = [_row(workspace.picture(name), read_layers(folder / f"{name}.npz").layers) for name in chosen]
    height, width = rows[0].shape[:2]
    out = paper(HEAD + len(rows) * (height + GAP) + FOOT, max(width, 700))
    step = (width + GAP) // (len(read_layers(folder / f"{chosen[0]}.npz").layers) + 1)
    for column in range((width + GAP) // step):
        head = "picture" if column == 0 else f"layer {column - 1}, where its pixels come from"
        write(out, head, (column * step + 4, HEAD - 8), 0.42, INK)
    for number, row in enumerate(rows):
        out[HEAD + number * (height + GAP) :][:height, :width] = row
    words = [("measured", 0), ("fitted", 1), ("other frame", 2), ("filled", 3), ("generated", 4)]
    colors = {int(origin): color for origin, (_, color) in ORIGINS.items()}
    legend(out, [(word, colors[number]) for word, number in words], out.shape[1] - 8, out.shape[0] - 12)
    write_picture(path, out)


def _row(picture: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    """One frame: its picture in the first column; then each layer above its origins."""
    from recon4d.view.drawing import paper, resized

    height, width = layers[0].depth.shape
    scale = CELL / max(height, width)
    size = (round(width * scale), round(height * scale))
    border = np.full((height, width, 3), EMPTY, dtype=np.uint8)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    border[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    out = paper(2 * size[1] + GAP, (len(layers) + 1) * (size[0] + GAP) - GAP)
    out[: size[1], : size[0]] = resized(border, size)
    for number, layer in enumerate(layers, start=1):
        at = number * (size[0] + GAP)
        shown = layer.shown[..., None]
        out[: size[1], at : at + size[0]] = resized(np.where(shown, layer.color, np.uint8(EMPTY)), size)
        origins = np.where(shown, _origin_colors()[layer.provenance], np.uint8(EMPTY))
        out[size[1] + GAP :, at : at + size[0]] = resized(origins, size)
    return out


def _origin_colors() -> np.ndarray:
    """(256, 3) uint8."""
    from recon4d.view.origins import ORIGINS

    table = np.zeros((256, 3), dtype=np.uint8)
    for origin, (_, color) in ORIGINS.items():
        table[int(origin)] = color
    return table
