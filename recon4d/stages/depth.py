"""Stage depth: one or several sources, each into its own folder, on the grid of the undistorted picture."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from recon4d.errors import DepthError, InputError, OptionsError
from recon4d.progress import Progress, Silent
from recon4d.scene.depth import DepthKind
from recon4d.scene.windows import OverlapPair
from recon4d.stages.common import execute, flag, options_as_json, stage_key
from recon4d.stages.depth_files import MoreDepth
from recon4d.stages.depth_more import check_more, parse_more
from recon4d.stages.depth_options import (
    AUTO,
    DEPTHCRAFTER,
    MVS,
    NETWORKS,
    ONNX,
    PRECOMPUTED,
    SENSOR,
    TRANSFORMERS,
    DepthOptions,
    check_models,
    source_names,
)
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.view.depth_preview import DepthClip

READS = ("frames", "poses")
MADE_WITH = "made_with"  # in the summary of a record: the `extra_key` of its source
OF_THE_STAGE = ("source", "more", "preview")  # options that concern no source by itself
SOURCES = {
    PRECOMPUTED: "recon4d.stages.depth_files:FileDepth",
    MVS: "recon4d.stages.depth_mvs:StereoDepth",
    DEPTHCRAFTER: "recon4d.stages.depth_video:CrafterDepth",
    TRANSFORMERS: "recon4d.stages.depth_pictures:TransformersDepth",
    ONNX: "recon4d.stages.depth_pictures:OnnxDepth",
    SENSOR: "recon4d.stages.depth_sensor:SensorDepth",
}


class SourceDepth(Protocol):
    """What of the options concerns one source (a frozen dataclass), and how it makes depth of them."""

    version: ClassVar[int]  # raised when the same options give another result

    @classmethod
    def of(cls, options: DepthOptions) -> SourceDepth:
        """Those of the flat options that concern this source, under the same names."""

    def check(self) -> None:
        """Refuse what cannot work, before any work is done. Raises OptionsError or InputError."""

    def extra_key(self, before: Mapping[str, object] | None = None) -> object:
        """What can change the result beside the options: which weights a model has. None where nothing does.

        Args:
            before: what it was for the finished result of the same options. It counts for what this machine cannot
                tell, or would choose otherwise.
        """

    def make(self, workspace: Workspace, part: StagePart) -> dict[str, object]:
        """Write ``NAME.npz`` of every posed frame to the part, and return the summary. Raises DepthError, InputError.

        The summary has ``kind``, ``sensor``, ``frames``, ``windows`` and ``remarks``, and what else the source knows.
        """


def run(workspace: Workspace, options: DepthOptions, progress: Progress | None = None) -> list[StageRecord]:
    """Make the depth of every named source; one record each, the primary one's first.

    These sources are what later stages read from now on. Depth that the options named before stays on the disk, unread.
    """
    check_options(options)
    if progress is not None:
        _say_choice(workspace, options, progress)
    records = []
    for unit, own in unit_options(options, workspace).items():
        with _named(unit.partition("/")[2] if isinstance(own, MoreDepth) else None):
            records.append(
                execute(
                    workspace,
                    unit,
                    own.version,
                    own,
                    READS,
                    lambda part, own=own: _made(workspace, own, part),
                    progress,
                    extra_key=extra_key(workspace, unit, own),
                )
            )
    workspace.put_in_force([record.unit.partition("/")[2] for record in records])
    for record in records:
        if options.preview:
            _preview(workspace, record, progress or Silent())
        _tell(record, progress)
    return records


def _tell(record: StageRecord, progress: Progress | None) -> None:
    from recon4d.view.depth_preview import depth_summary

    for line in depth_summary(record.summary, record.seconds) if progress is not None else ():
        progress.say(f"  {line}")


def _made(workspace: Workspace, own: SourceDepth, part: StagePart) -> dict[str, object]:
    """Make the depth of one source, and find the range of its numbers."""
    from recon4d.view.depth_preview import scale_of

    summary = own.make(workspace, part)
    clip = _clip(workspace, part.path, DepthKind(summary["kind"]), "")
    return summary | scale_of(clip, part.progress).record() | {MADE_WITH: own.extra_key()}


def _preview(workspace: Workspace, record: StageRecord, progress: Progress) -> None:
    """Write what people look at, where it is missing. It lies beside a finished result and is no part of it."""
    from recon4d.view.depth_preview import write_missing_preview

    folder = workspace.unit_dir(record.unit)
    clip = _clip(workspace, folder, DepthKind(record.summary["kind"]), record.unit)
    for remark in write_missing_preview(clip, progress):
        progress.say(f"  {remark}")


def _clip(workspace: Workspace, folder: Path, kind: DepthKind, unit: str) -> DepthClip:
    from recon4d.view.depth_preview import DepthClip

    names, fps = workspace.unrefined_trajectory().names, workspace.record("frames").summary.get("fps")
    return DepthClip(folder, names, kind, workspace.picture, fps, f"{workspace.title}: {unit}")


@contextmanager
def _named(name: str | None) -> Iterator[None]:
    """Say of which further depth a message speaks."""
    try:
        yield
    except (DepthError, InputError) as error:
        if name is None:
            raise
        raise type(error)(f"depth: {name}: {str(error).removeprefix('depth: ')}") from error


def _say_choice(workspace: Workspace, options: DepthOptions, progress: Progress) -> None:
    names = source_names(options, _has_sensor(workspace))
    if MVS in names and options.path is None and AUTO in [name.strip() for name in options.source.split(",")]:
        progress.say("no depth was given (--depth.path): it is measured in the pictures by multi-view stereo (mvs)")
    if options.path is not None and PRECOMPUTED not in names:
        progress.say(f"--depth.path is not read by --depth.source {options.source}; {PRECOMPUTED},{MVS} has both")
    if SENSOR not in names and _has_sensor(workspace):
        progress.say(f"this recording has the depth of a sensor: --depth.source {SENSOR} uses it, {SENSOR},{MVS} both")
    if options.model and not set(names) & set(NETWORKS):
        progress.say(f"--depth.model is not read by --depth.source {options.source}, but by {', '.join(NETWORKS)}")
    read = {field.name for own in unit_options(options, workspace).values() for field in fields(own)}
    for field in fields(DepthOptions):
        changed = getattr(options, field.name) != field.default
        if changed and field.name not in (*OF_THE_STAGE, *read, "path", "model"):
            progress.say(f"{flag('depth', field.name)} is not read by --depth.source {options.source}")


def unit_options(options: DepthOptions, workspace: Workspace | None = None) -> dict[str, SourceDepth]:
    """The units to make, the primary one first, and what of the options concerns each: no other change redoes it.

    Args:
        workspace: whose recording says what auto stands for; without one it brings no depth of a sensor.
    """
    names = source_names(options, workspace is not None and _has_sensor(workspace))
    own = {f"depth/{name}": _source(name).of(options) for name in names}
    return own | {f"depth/{name}": entry for name, entry in parse_more(options.more, _taken()).items()}


def extra_key(workspace: Workspace, unit: str, own: SourceDepth) -> object:
    """What can change the result of a unit beside its options and inputs.

    A finished result stays what it is on a machine that lacks the model, or would compute in other numbers.
    """
    record = workspace.record(unit)
    before = record.summary.get(MADE_WITH) if record is not None else None
    if isinstance(before, dict):
        now = options_as_json(own)
        kept = own.extra_key({name: it for name, it in before.items() if now.get(name) == record.options.get(name)})
        inputs = {name: done.key for name in READS if (done := workspace.record(name)) is not None}
        if stage_key(unit, own.version, own, inputs, kept) == record.key:
            return kept
    return own.extra_key()


def units_read_by_align(sources: Sequence[str], primary: str | None) -> tuple[str, ...]:
    """The units that align reads of these sources in force: the primary one, then those that anchor it.

    Args:
        primary: the source --align.primary names; None for the first.
    """
    first = [primary] if primary is not None else list(sources[:1])
    return tuple(f"depth/{name}" for name in [*first, *(name for name in sources if name not in first)])


def check_options(options: DepthOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError or InputError."""
    names = source_names(options)
    if not names or len(set(names)) != len(names):
        raise OptionsError(f"depth: '{options.source}' names no source, or one twice: see --depth.source")
    unknown = [name for name in names if name not in SOURCES]
    if unknown:
        raise OptionsError(
            f"depth: there is no source '{unknown[0]}'; known are {', '.join((AUTO, *SOURCES))}; depth made "
            f"elsewhere is read with --depth.path, beside stereo with --depth.source {PRECOMPUTED},{MVS}"
        )
    check_models(options, names)
    more = parse_more(options.more, _taken())
    for own in unit_options(options).values():
        if not isinstance(own, MoreDepth):
            own.check()
    check_more(more)


def _has_sensor(workspace: Workspace) -> bool:
    from recon4d.formats.sensor_depth import CAMERAS, FOLDER

    return (workspace.unit_dir("frames") / FOLDER / CAMERAS).is_file()


def _source(name: str) -> type[SourceDepth]:
    module, _, kind = SOURCES[name].partition(":")
    return getattr(importlib.import_module(module), kind)


def _taken() -> list[str]:
    """Names that no further depth may have."""
    return [AUTO, *SOURCES]


def sample_overlap(pair: OverlapPair, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the earlier and the later window say at positions in the picture.

    Args:
        u, v: (K,) shares of the picture's width and height, 0..1.

    Returns:
        earlier (K,) float32, later (K,) float32, valid (K,) bool in both.
    """
    from recon4d.geometry.resample import sample_grid

    height, width = pair.valid.shape
    x, y = np.asarray(u) * width, np.asarray(v) * height
    (earlier, valid), (later, _) = (sample_grid(grid, pair.valid, x, y) for grid in (pair.earlier, pair.later))
    return earlier, later, valid
