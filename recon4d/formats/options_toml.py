"""`SCENE/options.toml`: the options in force, by stage, for people to read and the next verb to start from."""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import TypeVar

from recon4d.errors import WorkspaceError
from recon4d.formats.text_files import write_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Options = TypeVar("Options")


def write_options_toml(path: Path, tables: dict[str, dict[str, object]]) -> None:
    """Write tables of plain values and of tables; None, which TOML lacks, is left out."""
    lines = [line for name, table in tables.items() for line in _table_lines(name, table)]
    write_text(path, "\n".join(lines))


def _table_lines(name: str, table: dict[str, object]) -> list[str]:
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    values = {key: value for key, value in table.items() if value is not None and key not in inner}
    lines = [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items()), ""]
    for key, value in inner.items():
        lines += _table_lines(f"{name}.{key}", value)
    return lines


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
    """An options dataclass from its table; what the table does not name keeps its default.

    Raises:
        WorkspaceError: the table names an option that does not exist, or a value where a table is expected.
    """
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    values = {}
    for key, value in table.items():
        if key in getattr(kind, "GONE", ()):
            continue  # recorded by an earlier version that still had it
        if key not in known:
            raise WorkspaceError(
                f"{where} names the option '{key}', which {kind.__name__} does not have: delete that line"
            )
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, dict):
                raise WorkspaceError(
                    f"{where} has the value '{value}' for '{key}', a table is expected: delete that line"
                )
            value = options_from_table(hints[key], value, where)
        elif isinstance(value, str) and Path in (hints[key], *typing.get_args(hints[key])):
            value = Path(value)
        values[key] = _tuples(value)
    return kind(**values)


def _tuples(value: object) -> object:
    """Lists, which TOML knows, as tuples, which frozen options hold."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)  # JSON strings are TOML basic strings
