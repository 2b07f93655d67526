"""The line of work: the stages in order, their options, and `run`, which walks them."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from recon4d.errors import InputError, OptionsError, Recon4dError, WorkspaceError
from recon4d.formats.options_toml import options_from_table, read_options_toml, write_options_toml
from recon4d.formats.text_files import write_text
from recon4d.progress import Progress, Silent
from recon4d.stages import first_pass as movers
from recon4d.stages import out_of_date
from recon4d.stages.align import AlignOptions
from recon4d.stages.common import changed_flags, check_types, options_as_json, stage_key
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.export_options import ExportOptions
from recon4d.stages.frames import FramesOptions, check_source, source_key
from recon4d.stages.fuse import FuseOptions
from recon4d.stages.mesh import MeshOptions
from recon4d.stages.motion import MotionOptions
from recon4d.stages.option_paths import stage_with_absolute_paths
from recon4d.stages.poses import PosesOptions
from recon4d.stages.refine import RefineOptions
from recon4d.view.summary import summary_line
from recon4d.workspace import MARKER, StageRecord, Workspace

# The whole line as designed. A stage without options below is not built yet: the line runs past its place.
LINE = ("frames", "poses", "depth", "align", "motion", "mesh", "refine", "fuse", "export")
FIRST_PASS = LINE[: LINE.index("motion") + 1]
OPTIONS_FILE = "options.toml"


@dataclass(frozen=True)
class Options:
    """The options of all stages; their defaults are the only defaults there are."""

    frames: FramesOptions = field(default_factory=FramesOptions)
    poses: PosesOptions = field(default_factory=PosesOptions)
    depth: DepthOptions = field(default_factory=DepthOptions)
    align: AlignOptions = field(default_factory=AlignOptions)
    motion: MotionOptions = field(default_factory=MotionOptions)
    mesh: MeshOptions = field(default_factory=MeshOptions)
    refine: RefineOptions = field(default_factory=RefineOptions)
    fuse: FuseOptions = field(default_factory=FuseOptions)
    export: ExportOptions = field(default_factory=ExportOptions)


OPTIONS = {option.name: option.default_factory for option in dataclasses.fields(Options)}
BUILT = tuple(stage for stage in LINE if stage in OPTIONS)


def run(
    source: Path | str | None,
    out: Path | str,
    *,
    until: str = "export",
    progress: Progress | None = None,
    options: Options | None = None,
    passes: int | None = None,
) -> Workspace:
    """Reconstruct a video or a folder of pictures into a scene folder; what is up to date is kept.

    Args:
        source: the recording; None for the one the scene already knows.
        out: the scene folder, new or made by an earlier run.
        until: last stage to run.
        options: for all stages; None for those recorded in the scene, else the defaults.
        passes: 2 walks the line up to motion, then all of it again with what moves left out of poses; None for as many
            as are recorded, else 1.

    Raises:
        Recon4dError: the input, an option or the machine does not allow it; nothing finished is lost.
    """
    progress = progress or Silent()
    if until not in BUILT:
        raise OptionsError(f"there is no stage '{until}'; known are {', '.join(BUILT)}")
    if source is not None:
        check_source(Path(source))
    stages = BUILT[: BUILT.index(until) + 1]
    known = (Path(out) / MARKER).is_file()
    if source is None and not known:
        raise WorkspaceError(
            f"{out} is no recon4d scene and no recording was given: recon4d run INPUT --out {shlex.quote(str(out))}"
        )
    options = absolute_paths(options or (recorded_options(Workspace(out)) if known else Options()))
    options = with_passes(options, passes)
    twice = options.poses.second_pass and "poses" in stages
    check_options(options, tuple(stage for stage in BUILT if stage in stages or (twice and stage in FIRST_PASS)))
    workspace = Workspace.create(out)
    with workspace.lock():
        recording = resolve_source(workspace, source)
        with reported(workspace, progress), recorded(workspace, options, recording):
            if twice:
                first_pass(workspace, options, recording, progress)
            _walk(workspace, stages, options, recording, progress)
    return workspace


def with_passes(options: Options, passes: int | None) -> Options:
    """The options of a line that is walked once or twice; None leaves them as they are. Raises OptionsError."""
    if passes not in (None, 1, 2):
        raise OptionsError(f"run: --passes is {passes}, 1 or 2 is expected")
    if passes is None:
        return options
    return dataclasses.replace(options, poses=dataclasses.replace(options.poses, second_pass=passes == 2))


def first_pass(workspace: Workspace, options: Options, source: Path, progress: Progress) -> None:
    """Walk the line as far as motion with nothing left out, and keep what moves; nothing to do when that is there."""
    once = with_passes(options, 1)
    if not movers.is_kept(workspace, _made_with(workspace, once, source)):
        progress.say("the first of two passes finds what moves")
        _walk(workspace, FIRST_PASS, once, source, progress)
    # Only now the frames are there, which say what some options stand for.
    made_with = _made_with(workspace, once, source)
    walked = [unit for stage in FIRST_PASS[1:] for unit in units_of(workspace, stage)]  # frames are made once
    progress.say(f"  {summary_line(movers.keep(workspace, made_with, walked, progress))}")


def _made_with(workspace: Workspace, once: Options, source: Path) -> list[str]:
    """Keys of what the first pass is made with."""
    made_with = []
    for stage in FIRST_PASS:
        for unit, own in _wanted_units(workspace, stage, getattr(once, stage)).items():
            # What align's key holds besides are the sources of depth, which are counted here themselves.
            extra = None if stage == "align" else _extra_key(workspace, unit, own, source)
            made_with.append(stage_key(unit, _version(stage, own), own, {}, extra))
    return made_with


def _walk(workspace: Workspace, stages: tuple[str, ...], options: Options, source: Path, progress: Progress) -> None:
    announce(workspace, stages, options, source, progress)
    for stage in stages:
        run_stage(workspace, stage, getattr(options, stage), source, progress)


def run_one(workspace: Workspace, stage: str, options: object, progress: Progress | None = None) -> None:
    """Run one stage alone with these options and record them; the other stages keep theirs. Raises Recon4dError."""
    progress = progress or Silent()
    options = stage_with_absolute_paths(options)
    chosen = dataclasses.replace(recorded_options(workspace), **{stage: options})
    check_options(chosen, (stage,))
    with workspace.lock():
        source = resolve_source(workspace, None)
        with reported(workspace, progress), recorded(workspace, chosen, source, forget_on=Recon4dError):
            announce(workspace, (stage,), chosen, source, progress)
            run_stage(workspace, stage, options, source, progress)


def check_options(options: Options, stages: tuple[str, ...]) -> None:
    """Refuse what cannot work before hours of work: every stage that has something to check is asked."""
    for stage in stages:
        check_types(stage, getattr(options, stage))
        check = getattr(_module(stage), "check_options", None)
        if check is not None:
            check(getattr(options, stage))


def run_stage(
    workspace: Workspace, stage: str, options: object, source: Path, progress: Progress | None = None
) -> list[StageRecord]:
    """Run one stage of the line and tell its key numbers."""
    progress = progress or Silent()
    if stage == "frames":
        done = _module(stage).run(workspace, options, source, progress)
    else:
        done = _module(stage).run(workspace, options, progress)
    records = done if isinstance(done, list) else [done]
    for record in records:
        progress.say(f"  {summary_line(record)}")
    return records


def announce(workspace: Workspace, stages: tuple[str, ...], options: Options, source: Path, progress: Progress) -> None:
    """Say which finished units will be redone, and why, before any work starts."""
    for stage in stages:
        stale = {}
        for unit, own in _wanted_units(workspace, stage, getattr(options, stage)).items():
            record = workspace.record(unit)
            why = _why_stale(workspace, record, own, source) if record else None
            if record and not why:
                why = out_of_date.other_inputs(workspace, record)
            if record and not why and stage == "align":
                units = _wanted_units(workspace, "depth", options.depth)
                why = out_of_date.other_depths(record, [unit.partition("/")[2] for unit in units])
            if record and not why and stage == "poses":
                why = out_of_date.other_pass(workspace, record, options.poses.second_pass)
            if why:
                stale[unit] = why
        if stale:
            follow = [s for s in stages[stages.index(stage) + 1 :] if units_of(workspace, s)]
            and_then = f", then {', '.join(follow)}" if follow else ""
            progress.say(f"redoing {', '.join(stale)}{and_then}: {'; '.join(dict.fromkeys(stale.values()))}")
            return


def _wanted_units(workspace: Workspace, stage: str, options: object) -> dict[str, object]:
    """The units that a stage's options ask for, each with the options of its own."""
    split = getattr(_module(stage), "unit_options", None)
    return split(options, workspace) if split else {stage: options}


def _why_stale(workspace: Workspace, record: StageRecord, options: object, source: Path) -> str | None:
    """Why a finished unit has another key than its options ask for; None when it has that."""
    stage = record.unit.partition("/")[0]
    extra = _extra_key(workspace, record.unit, options, source)
    if stage_key(record.unit, _version(stage, options), options, record.inputs, extra) != record.key:
        changed = changed_flags(stage, options, record.options)
        if changed:
            # Options of a unit that are typed as one text, as those of --depth.more, are named by that text's flag.
            return f"changed: {getattr(options, 'typed_as', None) or ', '.join(changed)}"
        return "its input or the program changed"
    return None


def _version(stage: str, options: object) -> int:
    """That of the stage's code; a unit may have one of its own."""
    return options.version if hasattr(options, "version") else _module(stage).VERSION


def _extra_key(workspace: Workspace, unit: str, options: object, source: Path) -> object:
    """What of the world can change the result of a unit, beside its options and inputs."""
    if unit == "frames":
        return source_key(source)
    module = _module(unit.partition("/")[0])
    return module.extra_key(workspace, unit, options) if hasattr(module, "extra_key") else None


def stale_units(workspace: Workspace, options: Options | None = None) -> dict[str, str]:
    """Finished units that are not what the options make of the results before them, and why, in the order of the line.

    Args:
        options: None for those recorded in the scene; where it records none, they are not compared.
    """
    in_force = _recorded_tables(workspace) if options is None else {name: getattr(options, name) for name in OPTIONS}
    stale: dict[str, str] = {}
    changed = _changed_options(workspace, in_force)
    with suppress(WorkspaceError):  # a scene that names no recording
        if why := out_of_date.other_recording(workspace, resolve_source(workspace, None)):
            changed["frames"] = why
    sources = [unit.partition("/")[2] for unit in wanted_depths(workspace, in_force)]
    for stage in BUILT:
        for unit in units_of(workspace, stage):
            record = workspace.record(unit)
            other = out_of_date.other_depths(record, sources)
            if stage == "poses" and workspace.record(movers.UNIT) is not None:
                other = out_of_date.other_pass(workspace, record, walks_twice(workspace))
            older = [name for name in record.inputs if name in stale]
            follows = f"made from {', '.join(older)}, out of date too" if older else None
            why = changed.get(unit) or out_of_date.other_inputs(workspace, record) or other or follows
            stale |= {unit: why} if why else {}
    return stale


def _recorded_tables(workspace: Workspace) -> dict[str, object]:
    """The recorded options by stage, without stages of which none are recorded; empty where they are damaged."""
    with suppress(WorkspaceError):
        tables, options = read_options_toml(workspace.root / OPTIONS_FILE), recorded_options(workspace)
        return {stage: getattr(options, stage) for stage in OPTIONS if stage in tables}
    return {}


def _changed_options(workspace: Workspace, in_force: dict[str, object]) -> dict[str, str]:
    """Finished units that these options, by stage, would make otherwise, and why."""
    changed: dict[str, str] = {}
    for stage, options in in_force.items():
        units = units_of(workspace, stage)
        try:
            wanted = _checked_units(workspace, stage, options)
        except (OptionsError, InputError) as error:
            changed |= dict.fromkeys(units, str(error))
            continue
        for unit in units:
            why = _changed(workspace, unit, wanted[unit]) if unit in wanted else "the options no longer name it"
            changed |= {unit: why} if why else {}
    return changed


def _checked_units(workspace: Workspace, stage: str, options: object) -> dict[str, object]:
    check_types(stage, options)
    return _wanted_units(workspace, stage, stage_with_absolute_paths(options))


def _changed(workspace: Workspace, unit: str, options: object) -> str | None:
    """The options in force that give another result than those a unit was made with, in words."""
    stage, record = unit.partition("/")[0], workspace.record(unit)
    made_with = out_of_date.completed(record.options, options_as_json(OPTIONS[stage]()))
    certain, perhaps = out_of_date.changed_options(stage, options, made_with)
    if perhaps and not certain:
        try:
            extra = _extra_key(workspace, unit, options, resolve_source(workspace, None))
            perhaps = [] if stage_key(unit, record.version, options, record.inputs, extra) == record.key else perhaps
        except (Recon4dError, OSError):  # what is named cannot be read now
            pass
    flags = certain + perhaps
    return f"changed: {getattr(options, 'typed_as', None) or ', '.join(flags)}" if flags else None


def units_to_tell(workspace: Workspace, stage: str) -> list[str]:
    """The finished units of a stage and those that are still to be made; the stage itself where it has no units yet."""
    done = units_of(workspace, stage)
    wanted = wanted_depths(workspace) if stage == "depth" else []
    return done + [unit for unit in wanted if workspace.record(unit) is None] if done else [stage]


def wanted_depths(workspace: Workspace, in_force: dict[str, object] | None = None) -> list[str]:
    """The units of depth that the options name; the finished ones where there are no usable options.

    Args:
        in_force: options by stage; None for the recorded ones.
    """
    in_force = _recorded_tables(workspace) if in_force is None else in_force
    if "depth" in in_force:
        with suppress(OptionsError, InputError):
            return list(_checked_units(workspace, "depth", in_force["depth"]))
    return units_of(workspace, "depth")


def idle_units(workspace: Workspace) -> dict[str, str]:
    """Finished units that no option names any more, and what that means."""
    why = "the depth options no longer name it, nothing reads it"
    return {f"depth/{name}": why for name in workspace.idle_depth_sources()}


def units_of(workspace: Workspace, stage: str) -> list[str]:
    """The finished units of a stage: one, but for depth one per source in force."""
    units = [f"depth/{name}" for name in workspace.depth_sources()] if stage == "depth" else [stage]
    return [unit for unit in units if workspace.record(unit) is not None]


def walks_twice(workspace: Workspace) -> bool:
    """Whether a scene is recorded to be made in two passes, whatever else its options say."""
    return read_options_toml(workspace.root / OPTIONS_FILE).get("poses", {}).get("second_pass", False)


def recorded_options(workspace: Workspace) -> Options:
    """The options in force in a scene; defaults where it records none."""
    path = workspace.root / OPTIONS_FILE
    tables = read_options_toml(path)
    return Options(**{name: options_from_table(kind, tables.get(name, {}), path) for name, kind in OPTIONS.items()})


def absolute_paths(options: Options) -> Options:
    """The same options with paths that hold wherever the next verb is typed."""
    return Options(**{name: stage_with_absolute_paths(getattr(options, name)) for name in OPTIONS})


@contextmanager
def reported(workspace: Workspace, progress: Progress) -> Iterator[None]:
    """Leave `report.html` and `report.json` behind; see `stages.report.reported`, which reads this module's tables."""
    from recon4d.stages.report import reported as leave_report

    with leave_report(workspace, progress):
        yield


@contextmanager
def recorded(
    workspace: Workspace, options: Options, source: Path, forget_on: type[Recon4dError] = OptionsError
) -> Iterator[None]:
    """Write `options.toml` for a run; options it refuses are forgotten again, so that the next run can work."""
    path = workspace.root / OPTIONS_FILE
    before = path.read_text(encoding="utf-8") if path.exists() else None
    record_options(workspace, options, source)
    try:
        yield
    except forget_on:
        if before is not None:
            write_text(path, before)
        raise


def record_options(workspace: Workspace, options: Options, source: Path) -> None:
    """Write `options.toml`."""
    tables = {"input": {"path": str(source)}}
    tables |= {name: options_as_json(getattr(options, name)) for name in OPTIONS}
    write_options_toml(workspace.root / OPTIONS_FILE, tables)


def resolve_source(workspace: Workspace, source: Path | str | None) -> Path:
    """The recording as an absolute path: the given one, else the scene's own. Raises WorkspaceError."""
    if source is not None:
        return Path(source).resolve()
    known = read_options_toml(workspace.root / OPTIONS_FILE).get("input", {}).get("path")
    if known is None:
        raise WorkspaceError(
            f"{workspace.root} knows no recording yet: recon4d run INPUT --out {shlex.quote(str(workspace.root))}"
        )
    return Path(known)


def _module(stage: str) -> ModuleType:
    return importlib.import_module(f"recon4d.stages.{stage}")
