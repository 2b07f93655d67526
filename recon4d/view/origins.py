"""Where points come from, in words and colours: one table for all that shows it."""

from __future__ import annotations

from recon4d.scene.depth import Provenance

ORIGINS: dict[Provenance, tuple[str, tuple[int, int, int]]] = {  # words, sRGB
    Provenance.MEASURED: ("measured by several views or a sensor", (72, 180, 110)),
    Provenance.FITTED: ("a network's shape, fitted to structure", (78, 140, 240)),
    Provenance.OTHER_FRAME: ("seen in another frame", (240, 190, 60)),
    Provenance.COMPLETED: ("filled from its surroundings", (226, 110, 60)),
    Provenance.GENERATED: ("made up by a generative model", (200, 90, 220)),
}
