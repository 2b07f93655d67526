"""What a report says of a scene, as plain values: the contents of `report.json`.

The keys that are told in `report_facts` stay; ``format`` is raised when one changes its meaning. What is not known is
None, never NaN or infinite. Records of earlier versions may lack numbers or have others: these are None too.
"""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

from recon4d import pipeline
from recon4d._version import __version__
from recon4d.errors import Recon4dError
from recon4d.stages.export_blender import SCRIPT
from recon4d.stages.first_pass import UNIT as FIRST_PASS
from recon4d.stages.first_pass import cost_of_replaced
from recon4d.stages.report_options import options_used
from recon4d.stages.report_scene import scene_extent, walked_length
from recon4d.stages.report_terms import Records, models_used, programs_used
from recon4d.workspace import StageRecord, Workspace

FORMAT = 1
OF_SCRIPT = "blender"  # in export, the folder with what `SCRIPT` needs


def report_facts(workspace: Workspace) -> dict[str, object]:
    """All of `report.json` but ``key`` and ``written`` (`stages.report` adds these).

    Returns:
        - ``format``: 1; ``program``; ``scene``: name of the folder; ``complete``: all is done and up to date;
          ``next``: the command that goes on, or None.
        - ``input``: path, kind, source_frames, source_fps, width, height, fps, duration_s, shots, shot, stride.
        - ``numbers``: see `_numbers`, and ``scale_how``: how the size in metres was found, or can be.
        - ``stages``: a list in the order of the line with stage, unit (``depth/mvs``), state (``done``,
          ``out of date``, ``not done``, ``not used``: done, but nothing reads it), why, key, version, inputs
          (unit -> key), program, seconds, peak_memory_mb, warnings, summary (as the stage recorded it).
        - ``warnings``: a list with unit and text.
        - ``options``: a list with stage, flag, value, default, changed (from the default); those that a finished stage
          was made with, and those in force for the others.
        - ``models``, ``programs``: see `report_terms`.
        - ``exports``: a list with format (or ``Blender script``), folder, files, size_mb, open (files to begin with).
    """
    stages = _stages(workspace)
    records = {item["unit"]: workspace.record(item["unit"]) for item in stages if item["key"] is not None}
    read = {unit for record in records.values() for unit in record.inputs}
    idle = {item["unit"] for item in stages if item["state"] == "not used"} - read
    counted = {unit: record for unit, record in records.items() if unit not in idle}
    missing = [item["unit"] for item in stages if item["state"] in ("not done", "out of date")]
    options, trouble = options_used(workspace)
    scale = _scale(workspace)
    facts = {
        "format": FORMAT,
        "program": f"recon4d {__version__}",
        "scene": workspace.title,
        "complete": not missing,
        "next": _next(workspace) if missing else None,
        "input": _input(workspace, records),
        "numbers": _numbers(workspace, stages, records, scale),
        "scale_how": scale.get("how"),
        "stages": stages,
        "warnings": [{"unit": item["unit"], "text": text} for item in stages for text in item["warnings"]] + trouble,
        "options": options,
        "models": models_used(counted),
        "programs": programs_used(counted),
        "exports": _exports(workspace),
    }
    return finite(facts)


def finite(value: object) -> object:
    """The same with None for numbers that are not finite, and texts for what JSON does not know."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


# -- stages ----------------------------------------------------------------------------------------------------------


def _stages(workspace: Workspace) -> list[dict[str, object]]:
    idle = pipeline.idle_units(workspace)
    stale = pipeline.stale_units(workspace)
    items = []
    for stage in pipeline.BUILT:
        if stage == "poses" and workspace.record(FIRST_PASS) is not None and pipeline.walks_twice(workspace):
            items.append(_first_pass(workspace, workspace.record(FIRST_PASS)))
        for unit in pipeline.units_to_tell(workspace, stage):
            record = workspace.record(unit)
            state = "not done" if record is None else "out of date" if unit in stale else "done"
            items.append(_stage(unit, record, state, stale.get(unit)))
        if stage == "depth":
            items += [_stage(unit, workspace.record(unit), "not used", why) for unit, why in idle.items()]
    return items


def _stage(unit: str, record: StageRecord | None, state: str, why: str | None) -> dict[str, object]:
    item = {"stage": unit.partition("/")[0], "unit": unit, "state": state, "why": why}
    told = ("key", "version", "inputs", "program", "seconds", "peak_memory_mb", "warnings", "summary")
    values = {key: getattr(record, key) if record else None for key in told}
    return item | values | {"warnings": list(record.warnings) if record else []}


def _first_pass(workspace: Workspace, record: StageRecord) -> dict[str, object]:
    """With the time and memory of its stages that the second pass has made anew."""
    seconds, memory = cost_of_replaced(workspace, record)
    whole = {
        "seconds": round((number(record.seconds) or 0) + seconds, 2),
        "peak_memory_mb": max(number(record.peak_memory_mb) or 0, memory),
    }
    return _stage(FIRST_PASS, record, "done", None) | whole


def _next(workspace: Workspace) -> str:
    scene = shlex.quote(str(workspace.root))
    try:
        pipeline.resolve_source(workspace, None)
    except Recon4dError:
        return f"recon4d run INPUT --out {scene}"
    return f"recon4d run --out {scene}"


def _input(workspace: Workspace, records: Records) -> dict[str, object]:
    try:
        path = str(pipeline.resolve_source(workspace, None))
    except Recon4dError:
        path = None
    told = ("kind", "source_frames", "source_fps", "width", "height", "fps", "duration_s", "shots", "shot", "stride")
    return {"path": path} | {key: _pick(records, "frames", key) for key in told}


# -- numbers ---------------------------------------------------------------------------------------------------------


def _numbers(
    workspace: Workspace, stages: list[dict[str, object]], records: Records, scale: dict[str, object]
) -> dict[str, object]:
    """The key numbers, None where they are not known.

    Shares and relative errors are of one (0.05 is 5 %); lengths are in the unit that ``length_unit`` names.
    """
    interval = scale.get("interval_95")
    low, high = interval if isinstance(interval, list) and len(interval) == 2 else (None, None)
    metres = number(scale.get("metres_per_unit"))
    known = None not in (number(low), number(high), metres)
    frames, registered = (number(_pick(records, "poses", key)) for key in ("frames", "registered"))
    seconds, memory = ([number(item[key]) or 0 for item in stages] for key in ("seconds", "peak_memory_mb"))
    refined = ("refine", "energy_left"), ("refine", "alike", "before"), ("refine", "alike", "after")
    energy_left, before, after = (number(_pick(records, *path)) for path in refined)
    return {
        "frames": number(_pick(records, "frames", "frames")),
        "registered": registered,
        "registered_share": registered / frames if frames and registered is not None else None,
        "reprojection_error_px": number(_pick(records, "poses", "reprojection_error_px")),
        "points": number(_pick(records, "poses", "points")),
        "focal_px": number(_pick(records, "poses", "focal_px")),
        "align_residual": number(_pick(records, "align", "residual_median")),
        "held_out_residual": number(_pick(records, "align", "held_out", "median")),
        "held_out_residual_95": number(_pick(records, "align", "held_out", "percentile_95")),
        "metres_per_unit": metres,
        "interval_95": [low, high] if known else None,
        "scale_interval_relative": (high - low) / (2 * metres) if known and metres else None,
        "scale_source": scale.get("source"),
        "moving_share": number(_pick(records, "motion", "moving_share")),
        "objects": number(_pick(records, "motion", "objects")),
        "refined": number(_pick(records, "refine", "refined")),
        "energy_left": energy_left,
        "energy_gain": None if energy_left is None else 1 - energy_left,
        "zncc_before": before,
        "zncc_after": after,
        "zncc_gain": None if None in (before, after) else after - before,
        "static_points": number(_pick(records, "fuse", "static_points")),
        "static_triangles": number(_pick(records, "fuse", "static_triangles")),
        "moving_points": number(_pick(records, "fuse", "moving_points")),
        "coverage": number(_pick(records, "fuse", "coverage")),
        "length_unit": "m" if metres else "units",
        "extent": scene_extent(workspace, metres),
        "path_length": walked_length(workspace, metres),
        "warnings": sum(len(record.warnings) for record in records.values()) if records else None,
        "seconds": round(sum(seconds), 2) if records else None,
        "peak_memory_mb": max(memory) if records else None,
        "export_mb": number(_pick(records, "export", "size_mb")),
    }


def number(value: object) -> float | int | None:
    """A finite number, or None for anything else."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def _pick(records: Records, unit: str, *keys: str) -> object:
    """What the summary of a unit has under these keys, or None."""
    value: object = records[unit].summary if unit in records else None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _scale(workspace: Workspace) -> dict[str, object]:
    """`align/scale.json`; empty where there is none that can be read."""
    try:
        found = json.loads((workspace.unit_dir("align") / "scale.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# -- exports ---------------------------------------------------------------------------------------------------------


def _exports(workspace: Workspace) -> list[dict[str, object]]:
    record = workspace.record("export")
    if record is None:
        return []
    root = workspace.unit_dir("export")
    formats = record.summary.get("formats")
    folders = [root / str(name) for name in formats] if isinstance(formats, list) else sorted(root.iterdir())
    items = [_export(workspace.root, folder) for folder in folders if folder.is_dir() and folder != root / OF_SCRIPT]
    if (root / SCRIPT).is_file():
        items.append(
            _export(workspace.root, root / OF_SCRIPT) | {"format": "Blender script", "open": [f"export/{SCRIPT}"]}
        )
    return items


def _export(root: Path, folder: Path) -> dict[str, object]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    first = [path.relative_to(root).as_posix() for path in files if path.parent == folder]
    return {
        "format": folder.name,
        "folder": folder.relative_to(root).as_posix(),
        "files": len(files),
        "size_mb": round(sum(path.stat().st_size for path in files) / 1e6, 2),
        "open": first[:4],
    }
