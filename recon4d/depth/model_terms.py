"""Under which terms the weights of depth models may be used.

Licences are those of the models' cards and repositories as of 2026; they bind whoever runs a model, and this table is
no legal advice. A model that is not listed is looked up in the files that came with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from recon4d.scene.depth import DepthKind

HUB = "https://huggingface.co/"
LONGEST_TEXT = 65536  # characters of a README or licence that are looked at
NOT_KNOWN = "licence not known"


@dataclass(frozen=True)
class ModelTerms:
    """What may be done with a model."""

    model: str
    licence: str  # SPDX name where there is one, else words
    commercial_use: bool | None  # None: under conditions, or not known
    link: str | None = None
    kind: DepthKind | None = None  # what its numbers mean
    note: str = ""

    def record(self) -> dict[str, object]:
        """For the summary of a run."""
        return {
            "model": self.model,
            "licence": self.licence,
            "commercial_use": self.commercial_use,
            "terms": self.link,
        }

    def sentence(self) -> str:
        """For people."""
        allowed = {True: "commercial use is allowed", False: "not for commercial use", None: ""}[self.commercial_use]
        where = f"see {self.link}" if self.link else ""
        said = [f"terms of {self.model}: {self.licence}", allowed, self.note, where]
        return ", ".join(part for part in said if part)


def _known(pattern: str, licence: str, commercial: bool | None, kind: DepthKind | None, **more: str) -> ModelTerms:
    return ModelTerms(pattern, licence, commercial, more.get("link"), kind, more.get("note", ""))


Z, DISPARITY = DepthKind.METRIC_Z, DepthKind.AFFINE_DISPARITY
NC, APACHE, MIT = "CC-BY-NC-4.0", "Apache-2.0", "MIT"
DA2 = "https://github.com/DepthAnything/Depth-Anything-V2#license"
VDA = "https://github.com/DepthAnything/Video-Depth-Anything#license"
# Patterns of hub ids, the first that fits counts.
KNOWN = (
    _known(
        "tencent/DepthCrafter", "academic and research use only", False, DISPARITY, link=f"{HUB}tencent/DepthCrafter"
    ),
    _known(
        "stabilityai/stable-video-diffusion-img2vid*",
        "Stability AI Community License",
        None,
        None,
        link="https://stability.ai/license",
        note="commercial use up to a yearly revenue of one million dollars, after registration",
    ),
    _known("depth-anything/Depth-Anything-V2-*Small*", APACHE, True, DISPARITY, link=DA2),
    _known("depth-anything/Depth-Anything-V2-*", NC, False, DISPARITY, link=DA2),
    _known("depth-anything/*Video-Depth-Anything-Small*", APACHE, True, DISPARITY, link=VDA),
    _known("depth-anything/*Video-Depth-Anything-*", NC, False, DISPARITY, link=VDA),
    _known("LiheYoung/depth-anything-*", APACHE, True, DISPARITY, link="https://github.com/LiheYoung/Depth-Anything"),
    _known("Intel/zoedepth-*", MIT, True, Z, link="https://github.com/isl-org/ZoeDepth"),
    _known("Intel/dpt-*", APACHE, True, DISPARITY, link=f"{HUB}Intel/dpt-large"),
    _known("facebook/dpt-dinov2-*", APACHE, True, Z, link=f"{HUB}facebook/dpt-dinov2-small-kitti"),
    _known("vinvino02/glpn-*", APACHE, True, Z, link=f"{HUB}vinvino02/glpn-nyu"),
    _known(
        "apple/DepthPro*",
        "Apple Machine Learning Research Model License (apple-amlr)",
        False,
        Z,
        link=f"{HUB}apple/DepthPro-hf",
        note="research only",
    ),
    _known("yu-li/TCMonoDepth", MIT, True, DISPARITY, link="https://github.com/yu-li/TCMonoDepth"),
    _known("isl-org/MiDaS", MIT, True, DISPARITY, link="https://github.com/isl-org/MiDaS"),
)
# Those that doctor looks for.
USUAL = (
    "tencent/DepthCrafter",
    "stabilityai/stable-video-diffusion-img2vid-xt",
    "depth-anything/Depth-Anything-V2-Small-hf",
    "depth-anything/Depth-Anything-V2-Base-hf",
    "depth-anything/Depth-Anything-V2-Large-hf",
    "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf",
    "depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf",
    "Intel/zoedepth-nyu-kitti",
    "Intel/dpt-large",
    "apple/DepthPro-hf",
)
# Of a card's licence: nothing of a LICENSE file, which may be that of the code alone, is taken for an allowance.
FREE = ("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "isc", "unlicense")
# What the texts of licences say. What restricts comes first: a file may hold the licences of the code and the weights.
RESTRICTED = (
    (r"Attribution-NonCommercial|CC[- ]BY-NC", "CC-BY-NC"),
    (r"\bnon-?commercial\b|academic purposes|research purposes|research only", "for research only"),
)
TEXTS = (
    *RESTRICTED,
    (r"\bMIT License\b|Permission is hereby granted, free of charge", MIT),
    (r"Apache License\s+Version 2\.0", APACHE),
)


def terms_of(identity: str, place: Path | None = None) -> ModelTerms:
    """The terms of a model.

    Args:
        identity: id on the hub, ``ID`` or ``ID@REVISION``, or a name for a model that lies here.
        place: its folder, or its file, for an id that is not in the table. The model's card there (README.md) is read,
            and LICENSE in a folder: beside a file, that may be of anything.
    """
    name = identity.partition("@")[0]
    for terms in KNOWN:
        if fnmatch(name.lower(), terms.model.lower()):
            metric = "-metric-" in name.lower()
            return replace(terms, model=identity, kind=Z if metric else terms.kind)
    if place is None:
        return ModelTerms(identity, NOT_KNOWN, None)
    found = _of_card(identity, place if place.is_dir() else place.parent)
    if found is None and place.is_dir():
        found = _of_licence_file(identity, place)
    return found or ModelTerms(identity, NOT_KNOWN, None)


def _of_card(identity: str, folder: Path) -> ModelTerms | None:
    """What the head of a model's card tells; None where it tells nothing."""
    card = _front_matter(_text(folder / "README.md"))
    licence = card.get("license")
    if licence in (None, "", "other"):
        licence = card.get("license_name")
    return ModelTerms(identity, licence, _commercial(licence), card.get("license_link")) if licence else None


def _of_licence_file(identity: str, folder: Path) -> ModelTerms | None:
    """What the texts of licences in a model's folder say; None where there are none."""
    files = sorted(folder.glob("LICENSE*"))
    if not files:
        return None
    text = "\n".join(_text(file) for file in files)
    found = next((name for pattern, name in TEXTS if re.search(pattern, text, flags=re.IGNORECASE)), None)
    licence = f"{found}, as its LICENSE file says" if found else f"see {files[0].name} beside the model"
    restricted = any(found == name for _, name in RESTRICTED)
    return ModelTerms(identity, licence, False if restricted else None, files[0].name)


def _front_matter(text: str) -> dict[str, str]:
    """Plain ``key: value`` lines between the two ``---`` at the head of a model's card."""
    found = re.match(r"\s*---\s*\n(.*?)\n---", text, flags=re.DOTALL)
    lines = found[1].splitlines() if found else []
    pairs = (line.partition(":") for line in lines if re.match(r"[A-Za-z_]+:", line))
    return {key: value.strip().strip("'\"") for key, _, value in pairs}


def _text(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(LONGEST_TEXT)
    except OSError:
        return ""


def _commercial(licence: str) -> bool | None:
    """Whether a licence allows commercial use; None where its name does not tell."""
    name = licence.lower()
    if name in FREE:
        return True
    if re.search(r"\bnc\b|-nc-|-nc$|non-?commercial|research only|amlr", name):
        return False
    return None
