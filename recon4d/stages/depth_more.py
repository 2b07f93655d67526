"""Further precomputed depth beside the primary one, as `--depth.more` names it: NAME[:KIND][:sensor][:METRES]=PATH."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from recon4d.errors import InputError, OptionsError
from recon4d.formats.path_text import is_text, shown
from recon4d.stages.depth_files import LEAST_METRES, MOST_METRES, MoreDepth
from recon4d.stages.depth_options import KINDS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
FORM = "NAME[:KIND][:sensor][:METRES]=PATH"


def parse_more(texts: Sequence[str], taken: Sequence[str]) -> dict[str, MoreDepth]:
    """Further depth by name.

    Args:
        texts: each ``NAME[:KIND][:sensor][:METRES]=PATH``; METRES a number, the metres that a stored 1 stands for.
        taken: names of other depth sources, which none of these may have.

    Raises:
        OptionsError: a text is of another form, a word is unknown or said twice, a name cannot be used.
    """
    found: dict[str, MoreDepth] = {}
    for text in texts:
        head, equals, path = text.partition("=")
        name, *words = head.split(":")
        if not (equals and path):
            raise OptionsError(
                f"depth: --depth.more '{shown(text)}' is not of the form {FORM}: write for example "
                "rgbd:metric_z:sensor=FOLDER (and INPUT before it)"
            )
        if not NAME.fullmatch(name):
            raise OptionsError(
                f"depth: --depth.more '{shown(text)}' has the name '{shown(name)}', at most 64 letters, digits, _ and "
                "- are expected, the first no sign: it becomes the folder depth/NAME"
            )
        if name.casefold() in {other.casefold() for other in taken}:
            raise OptionsError(
                f"depth: --depth.more cannot name a depth '{name}', that is a depth source itself: choose another name"
            )
        if name.casefold() in {other.casefold() for other in found}:  # file systems may take both for one
            raise OptionsError(f"depth: --depth.more names '{name}' twice: give each depth a name of its own")
        found[name] = _entry(text, words, path)
    return found


def _entry(text: str, words: list[str], path: str) -> MoreDepth:
    said: dict[str, object] = {}
    for word in words:
        key, value = _meaning(text, word)
        if key in said:
            raise OptionsError(f"depth: --depth.more '{shown(text)}' says two things about {key}: keep one")
        said[key] = value
    return MoreDepth(Path(path), **said)


def _meaning(text: str, word: str) -> tuple[str, object]:
    if word in get_args(KINDS):
        return "kind", word
    if word == "sensor":
        return "sensor", True
    try:
        metres = float(word)
    except ValueError:
        metres = 0.0
    if LEAST_METRES <= metres <= MOST_METRES:
        return "metres_per_value", metres
    raise OptionsError(
        f"depth: --depth.more '{shown(text)}' has the word '{shown(word)}', a kind ({', '.join(get_args(KINDS))}), "
        f"sensor, or the metres that 1 stands for are expected: its form is {FORM}"
    )


def check_more(more: dict[str, MoreDepth]) -> None:
    """Refuse paths that are not there. Raises OptionsError or InputError."""
    for name, entry in more.items():
        if not is_text(entry.path):
            raise OptionsError(f"depth: the path {shown(entry.path)} is not valid UTF-8: rename the file or folder")
        if not entry.path.exists():
            raise InputError(f"depth: {entry.path} was not found: correct the path of '{name}' in --depth.more")
