"""Errors a user can act on, and the import of optional packages.

A message names the stage, what was found against what was expected, and the next step, in one sentence. The command
line prints it and exits with 1; everything that is not a `Recon4dError` is a bug and keeps its traceback.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class Recon4dError(Exception):
    """Base of every error that is the input's or the machine's, not the program's."""


class InputError(Recon4dError):
    """A file or folder given by the user cannot be used."""


class OptionsError(Recon4dError):
    """An option or its value is not known."""


class WorkspaceError(Recon4dError):
    """The scene folder is not ours, is of another version, or cannot be written."""


class PosesError(Recon4dError):
    """No trustworthy cameras can be had from these pictures."""


class DepthError(Recon4dError):
    """The depth of a source cannot be used with these frames."""


class AlignmentError(Recon4dError):
    """Depth cannot be brought to scene units."""


class FuseError(Recon4dError):
    """Nothing is left to fuse."""


class ExportError(Recon4dError):
    """A result cannot be written in the wanted format."""


class EvaluationError(Recon4dError):
    """Truth and estimate cannot be compared."""


class MissingDependency(Recon4dError):
    """An optional package is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:  # installed but broken: show the true cause
            raise
        raise MissingDependency(f"{module} is not installed: pip install 'recon4d[{extra}]'") from error


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line of at most 300 characters: theirs go on for pages."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= 300 else f"{line[:297]}..."
