"""What an export has made, written down beside its files: by this they are known again, as they were or changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from recon4d.formats.disk import link_or_copy
from recon4d.formats.pictures import PICTURE_SUFFIXES
from recon4d.formats.text_files import write_text

MADE, MANIFEST = "made.json", "manifest.json"


@dataclass(frozen=True)
class MadeFormat:
    """The files of one format."""

    key: str  # hash of all that can change them
    warnings: list[str]  # that were given while they were made
    files: dict[str, list[int]]  # path below the export folder -> bytes, and time of the last change in ns

    def unchanged_in(self, root: Path) -> bool:
        """Whether all files are there and nobody has written to them since."""
        return all(_stamp(root / file) == stamp for file, stamp in self.files.items())


def format_as_made(root: Path, name: str, key: str, warnings: list[str]) -> MadeFormat:
    """The files of a format as they lie in an export folder now."""
    files = sorted(path for path in (root / name).rglob("*") if path.is_file())
    return MadeFormat(key, warnings, {path.relative_to(root).as_posix(): _stamp(path) for path in files})


def read_made(root: Path) -> dict[str, MadeFormat]:
    """The formats of an export folder by name; none where the list is missing or damaged."""
    try:
        made = json.loads((root / MADE).read_text(encoding="utf-8"))
        return {name: MadeFormat(**values) for name, values in made.items() if isinstance(values["files"], dict)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_made(root: Path, made: dict[str, MadeFormat]) -> None:
    """Write `made.json`."""
    write_text(root / MADE, json.dumps({name: asdict(each) for name, each in made.items()}, indent=1) + "\n")


def hand_on(before: Path, after: Path, made: MadeFormat) -> None:
    """Bring the files of a format from one export folder to another.

    They are copied, so that a program that edits one in place changes no other export; only pictures, which are
    links to those of the scene, stay links.
    """
    for file in made.files:
        source, target = before / file, after / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix.lower() in PICTURE_SUFFIXES and source.stat().st_nlink > 1:
            link_or_copy(source, target)
        else:
            shutil.copy2(source, target)


def missing_file(root: Path) -> str | None:
    """The first file that an export's manifest lists and that is gone; None where all are there."""
    try:
        files = json.loads((root / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return MANIFEST
    if not isinstance(files, list):
        return MANIFEST
    return next((file for file in files if not (root / str(file)).is_file()), None)


def _stamp(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
