"""The options a scene was made with, for its report."""

from __future__ import annotations

from recon4d import pipeline
from recon4d.errors import Recon4dError
from recon4d.stages.common import flag, options_as_json
from recon4d.stages.depth import SOURCES
from recon4d.stages.out_of_date import completed
from recon4d.workspace import Workspace

Row = dict[str, object]


def options_used(workspace: Workspace) -> tuple[list[Row], list[Row]]:
    """Rows with stage, flag, value, default and changed (from the default), and warnings where options are unreadable.

    A stage that is done has the options of its record, whatever is typed or written since; the others those in force.
    """
    in_force, trouble = None, []
    try:
        in_force = pipeline.recorded_options(workspace)
    except Recon4dError as error:
        trouble = [{"unit": "options", "text": str(error)}]
    rows: list[Row] = []
    for stage, kind in pipeline.OPTIONS.items():
        usual = options_as_json(kind())
        wanted = usual if in_force is None else options_as_json(getattr(in_force, stage))
        units = pipeline.units_of(workspace, stage)
        if units or in_force is not None:
            rows += _rows(stage, stage, _used(workspace, stage, units, wanted, usual), usual)
    return rows, trouble


def _used(
    workspace: Workspace, stage: str, units: list[str], wanted: dict[str, object], usual: dict[str, object]
) -> dict[str, object]:
    """The options of a stage as its records have them; what they do not tell is as wanted."""
    if stage != "depth":
        return completed(workspace.record(stage).options, usual) if units else wanted
    sources = [unit for unit in units if unit.partition("/")[2] in SOURCES]  # those of --depth.more have other options
    found = dict(wanted)
    for unit in reversed(sources):  # the primary one counts
        found |= {name: value for name, value in workspace.record(unit).options.items() if name in found}
    if sources and sources != [unit for unit in pipeline.wanted_depths(workspace) if unit.partition("/")[2] in SOURCES]:
        found["source"] = ",".join(unit.partition("/")[2] for unit in sources)
    return found


def _rows(stage: str, prefix: str, values: dict[str, object], usual: dict[str, object]) -> list[Row]:
    rows: list[Row] = []
    for name, default in usual.items():
        value = values[name]
        if isinstance(default, dict):
            rows += _rows(stage, name, value, default)
            continue
        row = {"stage": stage, "flag": flag(prefix, name), "value": value, "default": default}
        rows.append(row | {"changed": value != default})
    return rows
