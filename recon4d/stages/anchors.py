"""`align/anchors.json`: depth sources that measure, and what turns their values into scene units, frame by frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recon4d.scene.depth import DepthKind

if TYPE_CHECKING:
    from recon4d.stages.align_evidence import SourceDepth
    from recon4d.stages.align_fit import ClipAlignment

FILE = "anchors.json"
PRIMARY_SIGMA = 0.015  # relative: of depth that is the primary one and measured, where it is no mistake


@dataclass(frozen=True)
class MeasuredDepth:
    """A depth source that is no network's guess: stereo, a sensor."""

    source: str
    kind: DepthKind
    sigma: float  # relative, where it is no mistake
    lines: dict[str, tuple[float, float]]  # frame -> gain and shift, see `DepthKind`


def write_measured(folder: Path, names: Sequence[str], primary: SourceDepth, clip: ClipAlignment) -> None:
    """Write the sources of a clip that measure, in the order they were given."""
    sources = [(primary, clip.fit, PRIMARY_SIGMA), *((a.source, a.fit, a.sigma) for a in clip.anchors)]
    entries = [
        {
            "source": source.name,
            "kind": source.kind.value,
            "sigma": sigma,
            "lines": {name: [float(a), float(b)] for name, a, b in zip(names, fit.gain, fit.shift)},
        }
        for source, fit, sigma in sources
        if source.sensor or source.kind is DepthKind.SCENE_Z
    ]
    (folder / FILE).write_text(json.dumps(entries) + "\n", encoding="utf-8")


def read_measured(folder: Path) -> list[MeasuredDepth]:
    """Reverse of `write_measured`."""
    entries = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return [
        MeasuredDepth(
            entry["source"],
            DepthKind(entry["kind"]),
            entry["sigma"],
            {name: (gain, shift) for name, (gain, shift) in entry["lines"].items()},
        )
        for entry in entries
    ]
