"""Options of the stage export, and what its texts mean."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from recon4d.errors import MissingDependency, OptionsError
from recon4d.scene.depth import Provenance
from recon4d.stages.common import check_range, flag

Format = Literal["ply", "glb", "usd", "html", "colmap", "nerfstudio", "pcd", "las", "laz", "exr", "png", "tum", "kitti"]
Layer = Literal["static", "moving"]
OF_FORMATS = "of_formats"  # key of metadata of options that only these formats heed
COMMAS = {"commas": True}  # metadata of options whose values may be typed with commas between them
# Formats that need packages of an extra: modules to import, and the extra's name.
OPTIONAL: dict[str, tuple[tuple[str, ...], str]] = {
    "usd": (("pxr",), "usd"),
    "las": (("laspy",), "las"),
    "laz": (("laspy", "lazrs"), "las"),
    "exr": (("OpenEXR",), "exr"),
}
WITHOUT_POINTS = {"exr", "png", "tum", "kitti"}  # pictures and paths: bounds on points mean nothing to them
_OF_PATHS = {"tum", "kitti"}  # only the camera


def _but(*left_out: str) -> dict[str, tuple[str, ...]]:
    """Metadata of an option that all formats but these heed."""
    return {OF_FORMATS: tuple(name for name in get_args(Format) if name not in left_out)}


@dataclass(frozen=True)
class ExportOptions:
    """Which files are made for other programs, and how heavy they are."""

    GONE = ("level", "quantised")  # options of earlier versions, passed over where a scene has them recorded

    to: tuple[Format, ...] = field(default=("ply", "glb", "html", "nerfstudio", "tum"), metadata=COMMAS)
    """Formats to write, each into export/FORMAT: ply (background, what moves in each frame, and meshes), glb (a scene
    that plays, and meshes), usd (the same for USD; extra usd), html (a player in one file, for any browser), colmap
    (model, pictures, depth), nerfstudio (transforms.json with depth and masks), pcd and las, laz (clouds; extra las),
    exr (depth and normals; extra exr), png (depth in 16 bits), tum and kitti (the camera's path)."""
    up: Literal["z", "y", "model"] = field(default="z", metadata=_but("png"))
    """Axis that points up in all files but GLB, which is always y-up, and png, which has no axes: z, y, or model to
    keep the axes of the model. Where up is not known, that of the cameras stands in."""
    frames: str | None = None
    """Frames that are written: names with commas between them (000012,000040), or START:STOP:STEP counted over the
    scene's frames (::5 is every fifth)."""
    layers: tuple[Layer, ...] = field(default=("static", "moving"), metadata=COMMAS | _but(*_OF_PATHS))
    """Parts of the scene that are written: static (the background) and moving (what moves in each frame)."""
    provenance: tuple[int, ...] | None = field(default=None, metadata=COMMAS | _but(*_OF_PATHS))
    """Keep only points and depth that came about like this: 0 measured, 1 network shape fitted to structure, 2 seen in
    another frame, 3 completed, 4 generated. Without it all are kept; 0,2 leaves out what was not seen."""
    max_points: int | None = field(default=None, metadata=_but(*WITHOUT_POINTS))
    """Upper bound of the points of one cloud and the vertices of one mesh: of what moves in a frame, and of the
    background (quads have four vertices for each point). Of clouds a fixed random choice is kept, meshes become
    coarser. Without it all for ply, pcd, las, laz; for formats that play 50,000 moving and 500,000 background points;
    500,000 for nerfstudio; for colmap all, or 10,000 made from depth."""
    max_static_points: int | None = field(default=None, metadata=_but(*WITHOUT_POINTS))
    """The same for the background alone."""
    shape: Literal["points", "quads", "meshes"] = field(default="points", metadata={OF_FORMATS: ("glb", "usd")})
    """What the GLB and USD scenes that play are made of: points, quads (each point a small square, for viewers that
    draw points too thin), or meshes."""
    texture: bool = field(default=True, metadata={OF_FORMATS: ("glb", "usd")})
    """Meshes of single frames in GLB and USD wear the picture; otherwise they have a colour at each vertex."""
    mesh_stride: int = field(default=2, metadata={OF_FORMATS: ("ply", "glb", "usd")})
    """Meshes of single frames have a vertex at every this many pixels."""
    max_glb_frames: int = field(default=150, metadata={OF_FORMATS: ("glb",)})
    """Upper bound of frames in the GLB that plays; they are thinned evenly."""
    html_mb: float = field(default=60.0, metadata={OF_FORMATS: ("html",)})
    """Upper bound of the size of the player's file, megabytes; points are thinned to it, and that is said."""


def check_options(options: ExportOptions) -> None:
    """Raise OptionsError for values that no scene could be exported with, MissingDependency for a missing extra."""
    if not options.to:
        raise OptionsError(f"export: no format is named: give {_flag('to')} one or more, such as ply,glb,html")
    if not options.layers:
        raise OptionsError(f"export: no layer is named: give {_flag('layers')} static, moving, or both")
    for name in ("mesh_stride", "max_points", "max_static_points", "max_glb_frames", "html_mb"):
        value = getattr(options, name)
        if value is not None:
            check_range("export", name, value, low=1)
    known = [int(item) for item in Provenance]
    for value in options.provenance or ():
        if value not in known:
            raise OptionsError(
                f"export: {_flag('provenance')} is {value}, one or more of {known[0]} to {known[-1]} are expected"
            )
    if options.provenance == ():
        raise OptionsError(f"export: {_flag('provenance')} names nothing to keep: leave it out, or give 0,2")
    if options.frames is not None:
        _read_choice(options.frames)
    for name in options.to:
        modules, extra = OPTIONAL.get(name, ((), ""))
        for module in modules:
            if importlib.util.find_spec(module) is None:
                raise MissingDependency(
                    f"export: {name} needs {module}, which is not installed: pip install 'recon4d[{extra}]'"
                )


def _flag(name: str) -> str:
    return flag("export", name)


def choose_frames(names: Sequence[str], choice: str | None) -> tuple[str, ...]:
    """The frames that the option `frames` names. Raises OptionsError."""
    if choice is None:
        return tuple(names)
    wanted = _read_choice(choice)
    if isinstance(wanted, slice):
        chosen = list(names)[wanted]
    else:
        chosen = wanted
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise OptionsError(f"export: there is no frame {unknown[0]}, the scene has {names[0]} to {names[-1]}")
    if not chosen:
        raise OptionsError(f"export: {_flag('frames')} '{choice}' chooses none of the {len(names)} frames")
    return tuple(name for name in names if name in set(chosen))  # in the scene's order, each once


def _read_choice(choice: str) -> slice | list[str]:
    """What the option `frames` says: places in the scene, or names. Raises OptionsError."""
    if ":" not in choice:
        named = [word.strip() for word in choice.split(",") if word.strip()]
        if not named:
            raise OptionsError(
                f"export: {_flag('frames')} is '{choice}', "
                "names with commas between them or START:STOP:STEP are expected"
            )
        return named
    try:
        places = slice(*(int(word) if word.strip() else None for word in choice.split(":")))
        places.indices(0)  # refuses a step of 0
    except (ValueError, TypeError):
        raise OptionsError(
            f"export: {_flag('frames')} is '{choice}', "
            "START:STOP:STEP with whole numbers and a step other than 0 is expected"
        ) from None
    return places
