"""Quality gates: numbers of a report held against what a script asks for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recon4d.errors import OptionsError


def _bound(number: str, stage: str, missing: str, share: bool = False) -> object:
    """An option that bounds a number of the report.

    Args:
        number: its key in ``numbers`` of `report.json`.
        stage: the one that finds it.
        missing: why a scene in which that stage is done may lack it.
        share: it lies between 0 and 1.
    """
    return field(
        default=None,
        metadata={"number": number, "stage": stage, "missing": missing, "most": 1.0 if share else math.inf},
    )


@dataclass(frozen=True)
class Gates:
    """What a scene must keep; None, empty and False ask for nothing."""

    min_registered: float | None = _bound("registered_share", "poses", "it has no poses", share=True)
    """Least share of the frames that have a pose of their own, 0..1."""
    max_reprojection_px: float | None = _bound("reprojection_error_px", "poses", "its poses were given, not computed")
    """Largest mean reprojection error of the sparse points, pixels."""
    min_points: int | None = _bound("points", "poses", "its poses were given, not computed")
    """Fewest sparse points of structure from motion."""
    max_align_residual: float | None = _bound("align_residual", "align", "no sparse points lie on its depth")
    """Largest median relative error of the aligned depth at the sparse points, 0.05 for 5 %."""
    max_held_out: float | None = _bound("held_out_residual", "align", "no points were held out of the fit")
    """Largest median relative error at points that took no part in the fit, 0.05 for 5 %."""
    require_metric: bool = False
    """The size of the scene in metres must be known."""
    max_scale_interval: float | None = _bound(
        "scale_interval_relative", "align", "its size in metres is not known, or without an interval"
    )
    """Largest half width of the 95 % interval of metres per unit, relative to it: 0.1 for +-10 %."""
    min_static_points: int | None = _bound("static_points", "fuse", "its background was not counted")
    """Fewest points of the fused background."""
    min_coverage: float | None = _bound("coverage", "fuse", "its coverage was not measured", share=True)
    """Least share of the pixels that stand still which the fused background explains, 0..1."""
    max_warnings: int | None = _bound("warnings", "frames", "nothing is done")
    """Most warnings of all stages together."""
    max_seconds: float | None = _bound("seconds", "frames", "nothing is done")
    """Longest time that all stages took together, seconds."""
    max_memory_mb: float | None = _bound("peak_memory_mb", "frames", "nothing is done")
    """Highest peak of memory of any stage, MB."""
    require_stages: tuple[str, ...] = ()
    """Stages that must be done."""
    up_to_date: bool = False
    """Nothing that is done may be out of date."""

    def __post_init__(self) -> None:
        for gate in dataclasses.fields(self):
            value, most = getattr(self, gate.name), gate.metadata.get("most")
            if most is None or value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                expected = "a number from 0 to 1" if most == 1 else "a number not below 0"
                raise OptionsError(f"check: {flag_of(gate.name)} is {value!r}, {expected} is expected")

    @property
    def asks_for_nothing(self) -> bool:
        """No gate is named."""
        return self == Gates()


@dataclass(frozen=True)
class GateResult:
    """What became of one gate."""

    gate: str  # as it is typed: "--min-registered"
    wanted: str  # in words: "at least 0.8"
    found: object  # a number or text of the report; None where there is none
    holds: bool
    why: str | None = None  # there is nothing to compare


def flag_of(name: str) -> str:
    """A gate as it is typed."""
    return f"--{name.replace('_', '-')}"


def default_gates(report: Mapping[str, object]) -> Gates:
    """What is asked of a scene where nothing is named: poses, depth and background that one can work with.

    A number that this scene cannot have although its stage is done, such as the reprojection error of poses that were
    given, is not asked for.
    """
    wanted = Gates(
        min_registered=0.8,
        max_reprojection_px=2.0,
        max_align_residual=0.1,
        max_held_out=0.1,
        min_coverage=0.5,
        require_stages=("fuse",),
        up_to_date=True,
    )
    done = _done_stages(report)
    absent = {
        gate.name: None
        for gate in dataclasses.fields(Gates)
        if gate.metadata.get("stage") in done and report["numbers"].get(gate.metadata["number"]) is None
    }
    return dataclasses.replace(wanted, **absent)


def judge(report: Mapping[str, object], gates: Gates) -> tuple[GateResult, ...]:
    """Hold a report against the gates that ask for something, in the order in which `Gates` names them.

    Args:
        report: contents of `report.json`. A bound holds when the number equals it; a number that is not there does not.

    Raises:
        OptionsError: a stage is required that does not exist.
    """
    results: list[GateResult] = []
    for gate in dataclasses.fields(Gates):
        value = getattr(gates, gate.name)
        if gate.metadata and value is not None:
            results.append(_bounded(report, gate.name, value, gate.metadata))
        elif gate.name == "require_metric" and value:
            results.append(_metric(report))
        elif gate.name == "require_stages":
            results += _required_stages(report, value)
        elif gate.name == "up_to_date" and value:
            results.append(_up_to_date(report))
    return tuple(results)


def _bounded(report: Mapping[str, object], name: str, bound: float, about: Mapping[str, object]) -> GateResult:
    least = name.startswith("min_")
    wanted, found = f"{'at least' if least else 'at most'} {_number(bound)}", report["numbers"].get(about["number"])
    if found is None:
        done = about["stage"] in _done_stages(report)
        why = about["missing"] if done else f"the stage {about['stage']} is not done"
        return GateResult(flag_of(name), wanted, None, False, str(why))
    return GateResult(flag_of(name), wanted, found, found >= bound if least else found <= bound)


def _metric(report: Mapping[str, object]) -> GateResult:
    found = report["numbers"].get("metres_per_unit")
    why = None
    if found is None:
        done = "align" in _done_stages(report)
        why = "no length in metres is known" if done else "the stage align is not done"
    return GateResult(flag_of("require_metric"), "metres per unit known", found, found is not None, why)


def _required_stages(report: Mapping[str, object], wanted: Sequence[str]) -> list[GateResult]:
    known, done = list(dict.fromkeys(item["stage"] for item in report["stages"])), _done_stages(report)
    for stage in wanted:
        if stage not in known:
            raise OptionsError(f"check: there is no stage '{stage}'; known are {', '.join(known)}")
    flag = flag_of("require_stages")
    return [GateResult(flag, f"{s} done", "done" if s in done else "not done", s in done) for s in wanted]


def _up_to_date(report: Mapping[str, object]) -> GateResult:
    old = [item["unit"] for item in report["stages"] if item["state"] == "out of date"]
    flag, wanted = flag_of("up_to_date"), "nothing out of date"
    if not _done_stages(report):
        return GateResult(flag, wanted, None, False, "nothing is done")
    return GateResult(flag, wanted, f"out of date: {', '.join(old)}" if old else "up to date", not old)


def _done_stages(report: Mapping[str, object]) -> set[str]:
    """A stage that is out of date is done; `up_to_date` asks for the rest."""
    return {item["stage"] for item in report["stages"] if item["state"] in ("done", "out of date")}


def gates_table(results: Sequence[GateResult]) -> str:
    """For the terminal: gate, wanted, found, ok; and how many hold."""
    rows = [("gate", "wanted", "found", "ok")]
    for result in results:
        found = f"nothing: {result.why}" if result.found is None else _text(result)
        rows.append((result.gate, result.wanted, found, "yes" if result.holds else "NO"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    holding = sum(result.holds for result in results)
    return "\n".join([*lines, f"{holding} of {len(results)} gates hold"])


def _number(value: float) -> str:
    """With all of its digits: 0.99999999 is not 1, and 1000000 is not 1e+06."""
    return f"{value:g}" if float(f"{value:g}") == value and "e+" not in f"{value:g}" else str(value)


def _text(result: GateResult) -> str:
    """What was found, rounded, but not so much that it looks as if it were on the other side of the bound."""
    found = result.found
    if not isinstance(found, float):
        return str(found)
    bound = float(result.wanted.split()[-1]) if result.wanted.startswith(("at least ", "at most ")) else None
    least = result.wanted.startswith("at least ")
    for digits in range(4, 17):
        text = f"{found:.{digits}g}"
        if bound is None or (float(text) >= bound if least else float(text) <= bound) == result.holds:
            return text
    return repr(found)
