"""What a scene was made with that is not ours: models with their licences, and programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from recon4d.workspace import StageRecord

Records = Mapping[str, StageRecord]  # by unit


def models_used(records: Records) -> list[dict[str, object]]:
    """One entry per network: unit, role, model, licence, commercial_use and terms (where to read them).

    ``commercial_use`` is None where it is allowed under conditions, or not known.
    """
    found = []
    for unit, record in records.items():
        if unit.startswith("depth/"):
            found += _depth_models(unit, record.summary)
            from_file = unit == "depth/precomputed" or "path" in record.options  # --depth.path, --depth.more
            if from_file and not record.summary.get("sensor"):
                file = Path(str(record.options.get("path") or "depth")).name
                found.append(_entry(unit, "depth made elsewhere", {"model": file, "licence": "that of what made it"}))
        elif unit == "motion":
            for role in ("flow", "segmentation"):
                path = record.options.get(role)
                if isinstance(path, str) and Path(path).suffix in (".onnx", ".pt"):
                    found.append(_entry(unit, role, {"model": Path(path).name} | _terms(Path(path).name, Path(path))))
    return found


def _depth_models(unit: str, summary: Mapping[str, object]) -> list[dict[str, object]]:
    found = []
    for role, prefix in (("depth", ""), ("base model", "base_")):
        model = summary.get(f"{prefix}model")
        if not isinstance(model, str) or not model:
            continue
        told = {key: summary.get(f"{prefix}{key}") for key in ("licence", "commercial_use", "terms")}
        if not told["licence"] or (prefix and not told["terms"]):
            told = _terms(model) | {key: value for key, value in told.items() if value is not None}
        found.append(_entry(unit, role, {"model": model} | told))
    return found


def _terms(model: str, place: Path | None = None) -> dict[str, object]:
    from recon4d.depth.model_terms import terms_of

    return {key: value for key, value in terms_of(model, place).record().items() if key != "model"}


def _entry(unit: str, role: str, told: Mapping[str, object]) -> dict[str, object]:
    return {"unit": unit, "role": role} | {
        key: told.get(key) for key in ("model", "licence", "commercial_use", "terms")
    }


# Distribution, what people call it, its licence; who uses it is told by `_used`.
PROGRAMS = (
    ("pycolmap", "COLMAP through pycolmap", "BSD-3-Clause"),
    ("opencv-python-headless", "OpenCV", "Apache-2.0"),
    ("av", "PyAV, with FFmpeg inside", "BSD-3-Clause; the FFmpeg in its wheel is GPL"),
    ("pillow", "Pillow", "MIT-CMU"),
    ("numpy", "NumPy", "BSD-3-Clause"),
    ("scipy", "SciPy", "BSD-3-Clause"),
    ("numba", "Numba", "BSD-2-Clause"),
    ("open3d", "Open3D", "MIT"),
    ("torch", "PyTorch", "BSD-3-Clause"),
    ("diffusers", "diffusers", "Apache-2.0"),
    ("transformers", "transformers", "Apache-2.0"),
    ("onnxruntime", "ONNX Runtime", "MIT"),
    ("usd-core", "OpenUSD", "Tomorrow Open Source Technology License 1.0"),
    ("laspy", "laspy", "BSD-2-Clause"),
    ("lazrs", "lazrs", "MIT"),
    ("OpenEXR", "OpenEXR", "BSD-3-Clause"),
)
# By format.
EXPORTED_WITH = {
    "usd": ("usd-core",),
    "colmap": ("pycolmap",),
    "las": ("laspy",),
    "laz": ("laspy", "lazrs"),
    "exr": ("OpenEXR",),
}


def programs_used(records: Records) -> list[dict[str, object]]:
    """One entry per program that did part of the work: program, licence, version installed now (or None), units."""
    users = _used(records)
    return [
        {"program": title, "licence": licence, "version": _version(name), "units": users[name]}
        for name, title, licence in PROGRAMS
        if users.get(name)
    ]


def _used(records: Records) -> dict[str, list[str]]:
    """Distribution -> units that used it."""
    numbers = [unit for unit in records if unit not in ("frames", "first_pass")]
    users = {"numpy": list(records), "opencv-python-headless": list(records), "scipy": numbers, "numba": numbers}

    def add(unit: str, names: Iterable[str]) -> None:
        for name in names:
            users.setdefault(name, []).append(unit)

    for unit, record in records.items():
        if unit == "frames":
            add(unit, ["av" if record.summary.get("kind") == "video" else "pillow"])
        elif unit == "poses":  # lenses and the model are COLMAP's, wherever the poses come from
            add(unit, ["pycolmap"])
        elif unit == "depth/depthcrafter":
            add(unit, ["torch", "diffusers", "transformers"])
        elif unit == "depth/transformers":
            add(unit, ["torch", "transformers"])
        elif unit == "depth/onnx":
            add(unit, ["onnxruntime"])
        elif unit == "motion":
            kinds = {Path(str(record.options.get(role) or "")).suffix for role in ("flow", "segmentation")}
            add(unit, (["onnxruntime"] if ".onnx" in kinds else []) + (["torch"] if ".pt" in kinds else []))
        elif unit == "fuse":
            add(unit, ["open3d"])
        elif unit == "export":
            formats = record.summary.get("formats") or []
            add(unit, dict.fromkeys(name for written in formats for name in EXPORTED_WITH.get(written, ())))
    return users


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
