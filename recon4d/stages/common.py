"""What every stage shares: its key, the no-op when nothing changed, resume, and publication."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import resource
import sys
import time
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from recon4d.errors import OptionsError
from recon4d.formats.pictures import PICTURE_SUFFIXES
from recon4d.progress import Progress, Silent
from recon4d.workspace import MARKER, StagePart, StageRecord, Workspace

# Put on an option's `dataclasses.field(metadata=...)`.
BY_CONTENT = {"by_content": "all"}  # names a file or folder: enters the key by its bytes, not its path
PICTURES_BY_CONTENT = {"by_content": "pictures"}  # the same; of a folder only the pictures directly in it are read
NOT_IN_KEY = {"in_key": False}  # threads, device: cannot change the result
PATH_AFTER_EQUALS = {"path_after_equals": True}  # texts WORDS=PATH
# A model, or several as SOURCE=MODEL: what is meant enters the key by its content or revision, not by what is typed.
PATH_OR_HUB_ID = {"path_or_hub_id": True, "in_key": False}


def execute(
    workspace: Workspace,
    unit: str,
    version: int,
    options: object,
    reads: Sequence[str],
    work: Callable[[StagePart], dict[str, object]],
    progress: Progress | None = None,
    extra_key: object = None,
    damage: str | None = None,
) -> StageRecord:
    """Run ``work`` in a resumable part and publish it, unless the same key is already done.

    ``work`` gets the part, writes its files under ``part.path`` and returns the summary for the record. What is done is
    made again where ``damage`` says what is wrong with it.
    """
    progress = progress or Silent()
    inputs = {name: workspace.need(name, unit).key for name in reads}
    key = stage_key(unit, version, options, inputs, extra_key)
    done = workspace.record(unit)
    if done is not None and done.key == key:
        if damage is None:
            progress.say(f"{unit}: up to date")
            return done
        progress.say(f"{unit}: {damage}")
    progress.say(f"{unit}: working")
    started = time.monotonic()
    reset_peak_memory()
    part = workspace.start(unit, key, progress)
    summary = work(part)
    record = StageRecord(
        unit=unit,
        version=version,
        key=key,
        inputs=inputs,
        options=options_as_json(options),
        summary=summary,
        warnings=part.warnings,
        seconds=round(time.monotonic() - started, 2),
        peak_memory_mb=round(peak_memory_mb(), 1),
    )
    workspace.publish(part, record)
    return record


def stage_key(unit: str, version: int, options: object, inputs: dict[str, str], extra: object = None) -> str:
    """Hash of everything that can change the result."""
    text = json.dumps([unit, version, _effective(options), inputs, extra], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _effective(options: object) -> dict[str, object]:
    """What of the options can change the result, files by their content."""
    effective = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.metadata.get("in_key", True) is False:
            continue
        if field.metadata.get("by_content") and value is not None:
            whole = field.metadata["by_content"] == "all"
            value = content_hash(Path(value)) if whole else pictures_hash(Path(value))
        effective[field.name] = _effective(value) if dataclasses.is_dataclass(value) else _plain(value)
    return effective


def options_as_json(options: object) -> dict[str, object]:
    """The options as they are written into records and `options.toml`; options within options as a table of theirs."""
    return {field.name: _plain(getattr(options, field.name)) for field in dataclasses.fields(options)}


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return options_as_json(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def flag(prefix: str, name: str) -> str:
    """An option as it is typed: ``--align.min-points``. Options within options have their own name as prefix.

    Without a prefix it is that of a verb which is no stage: ``--max-points``.
    """
    return f"--{prefix}.{name}".replace("--.", "--").replace("_", "-")


def changed_flags(prefix: str, options: object, recorded: dict[str, object]) -> list[str]:
    """The options that differ from those of a record, as they are typed; what it does not know had its default."""
    changed = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            changed += changed_flags(field.name, value, recorded.get(field.name) or {})
        elif _plain(value) != recorded.get(field.name, _plain(field.default)):
            changed.append(flag(prefix, field.name))
    return changed


def check_types(stage: str, options: object, prefix: str | None = None) -> None:
    """Insist that every option has a type and, where there is a choice, a value that its annotation allows.

    The command line's parser has done so already; options from Python or a file edited by hand come here unchecked.

    Args:
        prefix: of the options as they are typed, where it is not the stage's name; "" for none.

    Raises:
        OptionsError: an option has another type or value.
    """
    hints = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        value, hint = getattr(options, field.name), hints[field.name]
        if not _allowed(value, hint):
            choices = [str(choice) for choice in typing.get_args(hint)] if typing.get_origin(hint) is Literal else []
            expected = f"one of {', '.join(choices)}" if choices else _type_name(hint)
            raise OptionsError(
                f"{stage}: {flag(stage if prefix is None else prefix, field.name)} is {value!r}, {expected} is expected"
            )
        if dataclasses.is_dataclass(value):
            check_types(stage, value, field.name)


def _type_name(hint: object) -> str:
    return str(getattr(hint, "__name__", hint)) if not typing.get_args(hint) else str(hint)


def _allowed(value: object, hint: object) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        if arguments[-1] is Ellipsis:
            return all(_allowed(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(_allowed(item, own) for item, own in zip(value, arguments))
    if arguments:  # a union
        return any(_allowed(value, argument) for argument in arguments)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, (str, Path) if hint is Path else hint)


def check_range(
    stage: str, option: str, value: float, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> None:
    """Insist on low <= value <= high and value > above. Raises OptionsError, also for NaN and infinity.

    ``option`` is the stage's own, or ``metric.marker`` for options within options.
    """
    if math.isfinite(value) and low <= value <= high and value > above:
        return
    bounds = [] if math.isfinite(value) else ["a finite number"]
    bounds += [f"more than {above:g}"] if above > -math.inf else []
    bounds += [f"at least {low:g}"] if low > -math.inf else []
    bounds += [f"at most {high:g}"] if high < math.inf else []
    typed = flag(*option.split(".")) if "." in option else flag(stage, option)
    raise OptionsError(f"{stage}: {typed} is {value:g}, {' and '.join(bounds)} is expected")


def content_hash(path: Path) -> str:
    """Hash of a file's bytes, or of all files below a folder with their relative names; "" if nothing is there.

    A scene of ours that was written into the folder does not count.
    """
    return _hash(path, _files_below(path) if path.is_dir() else [path])


def _files_below(folder: Path) -> list[Path]:
    scenes = {marker.parent for marker in folder.rglob(MARKER)} - {folder}
    return sorted(item for item in folder.rglob("*") if item.is_file() and scenes.isdisjoint(item.parents))


def pictures_hash(path: Path) -> str:
    """As `content_hash`, but of a folder only the pictures directly in it: a scene written below it changes nothing."""
    return _hash(path, pictures_in(path) if path.is_dir() else [path])


def pictures_in(folder: Path) -> list[Path]:
    """Files directly in a folder that are pictures by their suffix, by name."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file())


def _hash(path: Path, files: Sequence[Path]) -> str:
    if not path.exists():
        return ""
    digest = hashlib.blake2b(digest_size=20)
    for file in files:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def peak_memory_mb() -> float:
    """Peak resident memory since `reset_peak_memory`, MB.

    `getrusage` would not do: its peak survives exec, so a small process started by a large one looks large.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError, ValueError):  # not Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def reset_peak_memory() -> None:
    """Let the peak start anew, so that a stage does not carry the one before it (Linux; elsewhere it does)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
