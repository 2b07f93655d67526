"""What the verbs share in reading their words: options as dataclasses, flags with several values, one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import typing

import tyro

from recon4d.errors import OptionsError
from recon4d.stages.common import flag


def default(value: object, text: str | None = None) -> object:
    """A dataclass field with a default (dataclass values are frozen, so one object may serve) and its help."""
    metadata = {"help": text} if text else {}
    return dataclasses.field(default_factory=lambda: value, metadata=metadata)


def required(text: str) -> object:
    return dataclasses.field(metadata={"help": text})


def peek(arguments: list[str], flag: str) -> str | None:
    """The value of a flag before parsing: the recorded options of that scene are the parser's defaults."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def several_valued(prefix: str, kind: type) -> dict[str, bool]:
    """Flags that take several values, as `recon4d run` knows them, and whether commas may stand between these."""
    found, hints = {}, typing.get_type_hints(kind)
    for option in dataclasses.fields(kind):
        hint = hints[option.name]
        if dataclasses.is_dataclass(hint):
            found |= several_valued(option.name, hint)
        elif any(typing.get_origin(each) is tuple for each in (hint, *typing.get_args(hint))):
            found[flag(prefix, option.name)] = bool(option.metadata.get("commas"))
    return found


def joined(arguments: list[str], several: dict[str, bool]) -> list[str]:
    """Arguments in which a flag that takes several values stands once, with all of them; the parser takes the last."""
    values: dict[str, list[str]] = {}
    others: list[str] = []
    into, commas = others, False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        if argument.startswith("-") and name in several:
            into, commas = values.setdefault(name, []), several[name]
            words = [value] if equals else []
        else:
            into, commas = (others, False) if argument.startswith("--") or argument == "-h" else (into, commas)
            words = [argument]
        into += [part for word in words for part in word.split(",") if part] if commas else words
    return others + [word for name, found in values.items() for word in (name, *found)]


def without_inner_prefixes(arguments: list[str], kind: type) -> list[str]:
    """``--metric.marker`` as ``--marker``, the form in which the verb of one stage knows options within options."""
    inner = [f"--{name}." for name, hint in typing.get_type_hints(kind).items() if dataclasses.is_dataclass(hint)]
    return [
        next((f"--{argument[len(start) :]}" for start in inner if argument.startswith(start)), argument)
        for argument in arguments
    ]


def parse(command: type, arguments: list[str], program: str) -> object:
    """Arguments as the command's dataclass. Raises OptionsError with one sentence; prints help where asked."""
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(command, args=arguments, prog=program)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise OptionsError(_parser_sentence(captured.getvalue(), program)) from None


def _parser_sentence(box: str, program: str) -> str:
    """The parser's boxed message (drawn with lines or, on plain terminals, dashes) as one sentence."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:  # the first is the box's title
        text = line.strip(" │╭╮╰╯")
        if not text.strip("─-"):
            sections.append([])
        else:
            sections[-1].append(text)
    said, *rest = [section for section in sections if section] or [["the options cannot be understood"]]
    near = list(dict.fromkeys(line.split()[0] for section in rest for line in section if line.startswith("--")))
    hint = f" (perhaps {' or '.join(near[:3])})" if near and "Unrecognized" in said[0] else ""
    return f"{' '.join(said).rstrip('.')}{hint}: {program} --help lists all options"
