"""Verbs that make new views and moments of a scene: a table of what each one is."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from recon4d.cli_parsing import default, joined, parse, required, several_valued
from recon4d.progress import for_stream
from recon4d.workspace import Workspace


@dataclass(frozen=True)
class SceneVerb:
    """A verb that takes a scene folder: ``module`` of `recon4d.stages` with a class of options and ``run_verb``.

    ``run_verb(workspace, options, progress)`` returns the lines that are printed at the end.
    """

    module: str
    options: str
    about: str


OF_FILL = "--fill."
VERBS: dict[str, SceneVerb] = {
    "layers": SceneVerb("layers", "LayersOptions", "Layered depth images: what each frame sees, and what lies behind."),
    "interpolate": SceneVerb("interpolate", "InterpolateOptions", "Moments between frames, as a video and as a scene."),
    "render": SceneVerb("render", "RenderOptions", "A video of the scene from a camera that was not there."),
}


def run_animate_verb(arguments: list[str]) -> int:
    """Read the words after `recon4d animate` and run it."""
    from recon4d.stages.animate import AnimateOptions, run_animate

    words = arguments
    if words and not words[0].startswith("-"):  # the photograph may stand first, as the input of run does
        words = ["--picture", *words]
    words = joined(words, several_valued("", AnimateOptions))
    for line in run_animate(parse(AnimateOptions, words, "recon4d animate"), for_stream(sys.stdout)):
        print(line)
    return 0


def run_scene_verb(verb: str, arguments: list[str]) -> int:
    """Read the words after a verb of the table and run it."""
    entry = VERBS[verb]
    module = importlib.import_module(f"recon4d.stages.{entry.module}")
    kind = getattr(module, entry.options)
    command = dataclasses.make_dataclass(
        verb.capitalize(),
        [
            ("scene", Annotated[Path, tyro.conf.Positional], required("Scene folder.")),
            ("options", tyro.conf.OmitArgPrefixes[kind], default(kind())),
        ],
        frozen=True,
    )
    command.__doc__ = entry.about
    # Options of models that fill are named with their group in messages, as those of stages are.
    words = [f"--{word[len(OF_FILL) :]}" if word.startswith(OF_FILL) else word for word in arguments]
    given = parse(command, joined(words, several_valued("", kind)), f"recon4d {verb}")
    for line in module.run_verb(Workspace(given.scene), given.options, for_stream(sys.stdout)):
        print(line)
    return 0
