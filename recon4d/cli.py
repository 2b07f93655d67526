"""The terminal: verbs, options, one sentence for what went wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from recon4d import pipeline
from recon4d._version import __version__
from recon4d.cli_novel import VERBS, run_animate_verb, run_scene_verb
from recon4d.cli_parsing import default, joined, parse, peek, required, several_valued, without_inner_prefixes
from recon4d.errors import OptionsError, Recon4dError
from recon4d.progress import for_stream
from recon4d.stages.evaluate import EvaluateOptions
from recon4d.stages.first_pass import UNIT as FIRST_PASS
from recon4d.workspace import MARKER, Workspace

USAGE = f"""recon4d {__version__}: from an ordinary handheld video to a metric 4D scene

  recon4d run INPUT --out SCENE    reconstruct a video, pictures or an RGB-D recording; again: goes on, or does nothing
  recon4d STAGE SCENE              one stage with its options: {", ".join(pipeline.BUILT)}
  recon4d info SCENE               what is done, with the key numbers
  recon4d view SCENE               look around in all results in a browser, on this machine
  recon4d render SCENE             a video from a camera that was not there: --path orbit|dolly|spiral|line|circle|FILE
  recon4d interpolate SCENE        moments between the frames, as a slower video and as a scene
  recon4d layers SCENE             what each frame sees, and what lies behind it
  recon4d animate PICTURE          a scene of one photograph whose water, clouds or smoke drift for ever
  recon4d report SCENE             report.html, to look at, and report.json, made anew
  recon4d check SCENE              quality gates for scripts: exit code 0 when all hold, 3 when one does not
  recon4d evaluate SCENE           scores against ground truth
  recon4d demo                     the whole line on a clip made on the spot, with its scores
  recon4d doctor                   what is installed, and how to get the rest

  recon4d VERB --help              all options of a verb
"""

GATE_DOES_NOT_HOLD = 3  # exit code; 1 is an error, 2 what shells and parsers use for wrong usage
STAGE_NAMES = Literal["frames", "poses", "depth", "align", "motion", "mesh", "refine", "fuse", "export"]


@dataclasses.dataclass(frozen=True)
class DemoCommand:
    """Make a synthetic clip, run the whole line on it, and print its scores against the exact truth."""

    out: Path = Path("recon4d_demo")
    """Folder for the clip, the scene and the pictures."""
    frames: int = 60
    """Length of the clip in frames."""


@dataclasses.dataclass(frozen=True)
class InfoCommand:
    """Tell what is done in a scene, with the key numbers."""

    scene: tyro.conf.Positional[Path]
    """Scene folder."""
    json: bool = False
    """Print the stage records as JSON."""


@dataclasses.dataclass(frozen=True)
class ReportCommand:
    """Make report.html and report.json of a scene from what is done so far; a run does so by itself."""

    scene: tyro.conf.Positional[Path]
    """Scene folder."""


@dataclasses.dataclass(frozen=True)
class DoctorCommand:
    """Tell what is installed, and the exact line that installs the rest."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code: 0, or 1 with one sentence on stderr, or 3 where a gate of `check` does not hold."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=os.environ.get("RECON4D_LOG", "WARNING"), format="%(name)s: %(message)s")
    # numba names every threading layer it passes over; the next one does the same work.
    warnings.filterwarnings("ignore", message="The TBB threading layer requires TBB version")
    try:
        return _dispatch(arguments)
    except Recon4dError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("stopped; the same command goes on where this one was", code=130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left; nobody is to be told
        return 141  # as if SIGPIPE had ended it: what was asked for may not be finished
    except OSError as error:
        sentence = _disk_sentence(error)
        if sentence is None:
            raise
        return _fail(sentence)


def _fail(sentence: str, code: int = 1) -> int:
    print(f"recon4d: {' '.join(sentence.split())}", file=sys.stderr)
    return code


def _disk_sentence(error: OSError) -> str | None:
    """What the disk's refusal means to the user; None for other errors, which are bugs and keep their traceback."""
    where = f" ({error.filename})" if error.filename else ""
    kept = "; what was finished is kept, the same command goes on"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full, or a limit of space is reached{where}: free some space{kept}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write{where}: choose another --out or change its permissions{kept}"
    return None


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        print(f"recon4d {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    verbs: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        "info": _info,
        "report": _report,
        "check": _check,
        "evaluate": _evaluate,
        "demo": _demo,
        "doctor": _doctor,
        "view": _view,
        "animate": run_animate_verb,
    }
    if verb in verbs:
        return verbs[verb](rest)
    if verb in VERBS:
        return run_scene_verb(verb, rest)
    if verb in pipeline.BUILT:
        return _stage(verb, rest)
    known = [*verbs, *VERBS, *pipeline.BUILT]
    raise OptionsError(f"there is no verb '{verb}'; known are {', '.join(known)}")


# -- verbs ---------------------------------------------------------------------------------------------------------


def _run(arguments: list[str]) -> int:
    scene = peek(arguments, "--out")
    reset = "--reset" in arguments
    options = pipeline.Options()
    if scene is not None and (Path(scene) / MARKER).is_file() and not reset:
        options = pipeline.recorded_options(Workspace(scene))
    command = dataclasses.make_dataclass(
        "Run",
        [
            (
                "input",
                Annotated[Path | None, tyro.conf.Positional],
                default(
                    None,
                    "Video, folder of pictures, or RGB-D recording; not needed for a scene that knows its own.",
                ),
            ),
            ("out", Path, required("Scene folder, new or made by an earlier run.")),
            ("until", STAGE_NAMES, default("export", "Last stage to run.")),
            (
                "passes",
                Literal[1, 2],
                default(
                    2 if options.poses.second_pass else 1,
                    "2 finds what moves first, then walks the whole line with that left out of poses and background.",
                ),
            ),
            ("reset", bool, default(False, "Forget the options the scene has recorded, return to the defaults.")),
            *((name, kind, default(getattr(options, name))) for name, kind in pipeline.OPTIONS.items()),
        ],
        frozen=True,
        kw_only=True,
    )
    command.__doc__ = "Reconstruct a video, a folder of pictures, or an RGB-D recording."
    several = {}
    for stage, kind in pipeline.OPTIONS.items():
        several |= several_valued(stage, kind)
    given = parse(command, joined(arguments, several), "recon4d run")
    chosen = pipeline.Options(**{name: getattr(given, name) for name in pipeline.OPTIONS})
    with _recorded_options_count(options):
        workspace = pipeline.run(
            given.input,
            given.out,
            until=given.until,
            progress=for_stream(sys.stdout),
            options=chosen,
            passes=given.passes if chosen.poses.second_pass == options.poses.second_pass else None,
        )
    print(f"done: {workspace.root}")
    return 0


def _stage(stage: str, arguments: list[str]) -> int:
    kind = pipeline.OPTIONS[stage]
    scene = next((a for a in arguments if (Path(a) / MARKER).is_file()), None)  # wherever it stands among the options
    options = kind()
    if scene is not None and "--reset" not in arguments:
        options = getattr(pipeline.recorded_options(Workspace(scene)), stage)
    command = dataclasses.make_dataclass(
        stage.capitalize(),
        [
            ("scene", Annotated[Path, tyro.conf.Positional], required("Scene folder.")),
            ("reset", bool, default(False, "Return to the defaults of this stage.")),
            ("options", tyro.conf.OmitArgPrefixes[kind], default(options)),
        ],
        frozen=True,
    )
    command.__doc__ = f"Run the stage {stage} alone."
    short = without_inner_prefixes(arguments, kind)
    several = {f"--{name.partition('.')[2]}": commas for name, commas in several_valued(stage, kind).items()}
    given = parse(command, joined(short, several), f"recon4d {stage}")
    workspace = Workspace(given.scene)
    with _recorded_options_count(options):
        pipeline.run_one(workspace, stage, given.options, for_stream(sys.stdout))
    if stage == "align":
        _print_fits(workspace)
    later = list(pipeline.stale_units(workspace))
    if later:
        print(
            f"out of date now: {', '.join(later)}; bring them up to date with "
            f"recon4d run --out {shlex.quote(str(workspace.root))}"
        )
    return 0


def _print_fits(workspace: Workspace) -> None:
    from recon4d.view.alignment_table import alignment_table, read_fits

    with workspace.reading("align", "align") as folder:
        print(alignment_table(read_fits(folder / "fits.csv")))


@contextlib.contextmanager
def _recorded_options_count(recorded: object) -> Iterator[None]:
    """Remind of the options a scene has recorded when options contradict each other."""
    try:
        yield
    except OptionsError as error:
        if recorded == type(recorded)():
            raise
        raise OptionsError(f"{error} (what the scene has recorded counts too: --reset forgets it)") from None


def _info(arguments: list[str]) -> int:
    from recon4d.view.info import scene_info

    given = parse(InfoCommand, arguments, "recon4d info")
    workspace = Workspace(given.scene)
    if given.json:
        units = [unit for stage in pipeline.LINE for unit in pipeline.units_of(workspace, stage)]
        units += [FIRST_PASS] if pipeline.walks_twice(workspace) and workspace.record(FIRST_PASS) else []
        units += pipeline.idle_units(workspace)
        print(json.dumps([dataclasses.asdict(workspace.record(unit)) for unit in units], indent=1))
        return 0
    states, idle = {}, pipeline.idle_units(workspace)
    why_old = pipeline.stale_units(workspace) | idle
    for stage in pipeline.BUILT:
        if stage == "poses" and pipeline.walks_twice(workspace):
            states[FIRST_PASS] = (workspace.record(FIRST_PASS), None)
        for unit in [*pipeline.units_to_tell(workspace, stage), *(idle if stage == "depth" else ())]:
            states[unit] = (workspace.record(unit), why_old.get(unit))
    print(scene_info(workspace, states))
    return 0


def _report(arguments: list[str]) -> int:
    from recon4d.stages.report import write_report

    given = parse(ReportCommand, arguments, "recon4d report")
    print(write_report(Workspace(given.scene), anew=True))
    return 0


def _check(arguments: list[str]) -> int:
    from recon4d.evaluation.gates import Gates, gates_table
    from recon4d.stages.check import check

    command = dataclasses.make_dataclass(
        "Check",
        [
            ("scene", Annotated[Path, tyro.conf.Positional], required("Scene folder.")),
            ("gates", tyro.conf.OmitArgPrefixes[Gates], default(Gates())),
            ("json", bool, default(False, "Print the results as JSON.")),
        ],
        frozen=True,
    )
    command.__doc__ = (
        "Hold a scene against quality gates, for scripts: exit code 0 when all hold, 3 when one does not. Without a "
        "gate: --min-registered 0.8 --max-reprojection-px 2 --max-align-residual 0.1 --max-held-out 0.1 "
        "--min-coverage 0.5 --require-stages fuse --up-to-date, as far as the scene can have these numbers."
    )
    given = parse(command, joined(arguments, {"--require-stages": True}), "recon4d check")
    results = check(given.scene, given.gates)
    print(json.dumps([dataclasses.asdict(r) for r in results], indent=1) if given.json else gates_table(results))
    return 0 if all(result.holds for result in results) else GATE_DOES_NOT_HOLD


def _evaluate(arguments: list[str]) -> int:
    from recon4d.evaluation.report import format_scores
    from recon4d.stages.evaluate import evaluate

    command = dataclasses.make_dataclass(
        "Evaluate",
        [
            ("scene", Annotated[Path, tyro.conf.Positional], required("Scene folder.")),
            ("options", tyro.conf.OmitArgPrefixes[EvaluateOptions], default(EvaluateOptions())),
        ],
        frozen=True,
    )
    command.__doc__ = "Score a scene against ground truth."
    given = parse(command, arguments, "recon4d evaluate")
    workspace = Workspace(given.scene)
    stale = pipeline.stale_units(workspace)
    print(format_scores(evaluate(workspace, given.options, for_stream(sys.stdout), stale)))
    return 0


def _demo(arguments: list[str]) -> int:
    from recon4d.stages.demo import run_demo

    given = parse(DemoCommand, arguments, "recon4d demo")
    run_demo(given.out, given.frames, for_stream(sys.stdout))
    return 0


def _view(arguments: list[str]) -> int:
    from recon4d.stages.view import ViewOptions, run_view

    command = dataclasses.make_dataclass(
        "View",
        [
            ("scene", Annotated[Path, tyro.conf.Positional], required("Scene folder.")),
            ("options", tyro.conf.OmitArgPrefixes[ViewOptions], default(ViewOptions())),
        ],
        frozen=True,
    )
    command.__doc__ = "Look around in the results of all stages in a browser."
    given = parse(command, arguments, "recon4d view")
    workspace = Workspace(given.scene)
    run_view(workspace, given.options, pipeline.stale_units(workspace))
    return 0


def _doctor(arguments: list[str]) -> int:
    from recon4d.doctor import examine

    parse(DoctorCommand, arguments, "recon4d doctor")
    report, healthy = examine()
    print(report)
    return 0 if healthy else 1
