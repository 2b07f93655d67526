"""Why a finished unit is not what a run would make now: other options, other inputs, other depth, another pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from recon4d.errors import Recon4dError
from recon4d.stages import first_pass as movers
from recon4d.stages.common import flag, options_as_json
from recon4d.stages.depth import units_read_by_align
from recon4d.stages.frames import made_from
from recon4d.workspace import StageRecord, Workspace


def completed(recorded: Mapping[str, object], usual: Mapping[str, object]) -> dict[str, object]:
    """Options of a record as plain values; those that an older record does not know have their default."""
    options = {}
    for name, value in usual.items():
        said = recorded.get(name, value)
        inner = isinstance(value, dict)
        options[name] = completed(said if isinstance(said, dict) else {}, value) if inner else said
    return options


def changed_options(prefix: str, options: object, recorded: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """The options that differ from those of a record, as they are typed.

    Args:
        recorded: plain values by name, all of them.

    Returns:
        Those that give another result for certain, and those that do so only if what they name is not the same: files
        and models that lie elsewhere now. Options that cannot change a result are in neither.
    """
    certain: list[str] = []
    perhaps: list[str] = []
    values = options_as_json(options)
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            inner = changed_options(field.name, value, recorded[field.name])
            certain, perhaps = certain + inner[0], perhaps + inner[1]
        elif values[field.name] == recorded[field.name]:
            continue
        elif field.metadata.get("path_or_hub_id") or (
            field.metadata.get("by_content") and None not in (value, recorded[field.name])
        ):
            perhaps.append(flag(prefix, field.name))
        elif field.metadata.get("in_key", True):
            certain.append(flag(prefix, field.name))
    return certain, perhaps


def other_inputs(workspace: Workspace, record: StageRecord) -> str | None:
    """Which of the results a unit was made from are gone, are others now, or have better ones beside them, in words."""
    now = {name: workspace.record(name) for name in record.inputs}
    gone = [name for name, found in now.items() if found is None]
    newer = [name for name, found in now.items() if found is not None and found.key != record.inputs[name]]
    parts = [f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone"] if gone else []
    parts += [f"{', '.join(newer)} changed since"] if newer else []
    surface = workspace.surface_unit()
    parts += [f"{surface} came to it"] if record.unit in ("fuse", "export") and surface not in record.inputs else []
    return " and ".join(parts) or None


def other_recording(workspace: Workspace, source: Path) -> str | None:
    """Whether the frames were made from another recording than this one, in words; files are read only where their
    path is another."""
    record = workspace.record("frames")
    if record is None or record.summary.get("recording", str(source)) == str(source):
        return None
    with suppress(Recon4dError, OSError):
        if made_from(workspace, source):
            return None
    return f"made from {record.summary['recording']}, now it is {source}"


def other_depths(record: StageRecord, sources: list[str]) -> str | None:
    """What align was made from too much or too little when these depth sources are in force, in words."""
    known = [unit for unit in record.inputs if unit.startswith("depth/")]
    if record.unit != "align" or not known:
        return None
    wanted = units_read_by_align(sources, record.options.get("primary"))
    new = [unit for unit in wanted if unit not in known]
    gone = [unit for unit in known if unit not in wanted]
    parts = ([f"{', '.join(new)} came to it"] if new else []) + (
        [f"{', '.join(gone)} no longer counts"] if gone else []
    )
    return " and ".join(parts) or None


def other_pass(workspace: Workspace, record: StageRecord, second_pass: bool) -> str | None:
    """Why these poses are not those of the pass that is wanted, in words."""
    wanted = movers.left_out(workspace, second_pass) is not None
    if wanted == (movers.UNIT in record.inputs):
        return None
    return "what moves is to be left out" if wanted else "what moves is no longer left out"
