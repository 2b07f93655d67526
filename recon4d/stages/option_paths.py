"""Options that name files, so that they hold wherever the next verb is typed."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path


def stage_with_absolute_paths(options: object) -> object:
    """One stage's options with absolute paths."""
    hints = typing.get_type_hints(type(options))
    paths = {}
    for option in dataclasses.fields(options):
        value = getattr(options, option.name)
        if dataclasses.is_dataclass(value):
            paths[option.name] = stage_with_absolute_paths(value)
        elif value is not None and Path in (hints[option.name], *typing.get_args(hints[option.name])):
            paths[option.name] = Path(value).resolve()  # Python users may have given a text
        elif option.metadata.get("path_after_equals") and isinstance(value, (tuple, list)):
            paths[option.name] = tuple(_absolute_after_equals(text) for text in value)
        elif option.metadata.get("path_or_hub_id"):
            paths[option.name] = (
                _absolute_model(value) if isinstance(value, str) else tuple(map(_absolute_model, value))
            )
    return dataclasses.replace(options, **paths)


def _absolute_after_equals(text: object) -> object:
    """WORDS=PATH with PATH absolute; what has another form stays for the stage to refuse."""
    words, equals, path = text.partition("=") if isinstance(text, str) else ("", "", "")
    # A shell leaves the ~ after an = alone.
    return f"{words}={Path(path).expanduser().resolve()}" if equals and path else text


def _absolute_model(text: object) -> object:
    """[SOURCE=]MODEL with an absolute path where the model lies here; the id of a hub stays as it is."""
    source, equals, model = text.rpartition("=") if isinstance(text, str) else ("", "", "")
    path = Path(model).expanduser()
    return f"{source}{equals}{path.resolve()}" if model and path.exists() else text
