"""`SCENE/options.toml`: the options in force, by stage, for people to read and the next verb to start from."""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import TypeVar

from recon4d.errors import WorkspaceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Options = TypeVar("Options")


def write_options_toml(path: Path, tables: dict[str, dict[str, object]]) -> None:
    """Write tables of plain values; None, which TOML lacks, is left out."""
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items() if value is not None), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def read_options_toml(path: Path) -> dict[str, dict[str, object]]:
    """Reverse of `write_options_toml`; no file, no tables. Raises WorkspaceError."""
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WorkspaceError(
            f"{path} is not valid TOML ({error}): mend it, or delete it to return to defaults"
        ) from error


def options_from_table(kind: type[Options], table: dict[str, object], where: Path) -> Options:
    """An options dataclass from its table; what the table does not name keeps its default. Raises WorkspaceError."""
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    values = {}
    for key, value in table.items():
        if key not in known:
            raise WorkspaceError(
                f"{where} names the option '{key}', which {kind.__name__} does not have: delete that line"
            )
        if isinstance(value, str) and Path in (hints[key], *typing.get_args(hints[key])):
            value = Path(value)
        values[key] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)  # JSON strings are TOML basic strings
