"""The verb render: a video of the scene from a camera that was not there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from recon4d.errors import OptionsError
from recon4d.fill.stereo_pair import anaglyph, half_side_by_side, side_by_side, stereo_paths
from recon4d.progress import Progress
from recon4d.stages.common import check_range, check_types
from recon4d.stages.export_options import COMMAS
from recon4d.workspace import Workspace

if TYPE_CHECKING:
    from recon4d.render.splatting import Rendered
    from recon4d.scene.camera import Camera
    from recon4d.scene.transforms import Rigid3
    from recon4d.stages.novel_video import Asides, Shown
    from recon4d.stages.render_paths import Chosen

FOLDER = "render"  # in the scene, where --out is not given
LARGEST = 8192  # pixels of a side
STEREO = {"side-by-side": side_by_side, "half-side-by-side": half_side_by_side, "anaglyph": anaglyph}
Extra = Literal["depth", "alpha", "pictures"]


@dataclass(frozen=True)
class RenderOptions:
    """Where the camera goes, which time it sees, and what is written."""

    path: str = "orbit"
    """The camera's way: orbit, dolly, spiral, line, circle, follow (the recorded camera, smoothed), autopilot, or a
    file: TUM, transforms.json or camera_path.json of nerfstudio, our own JSON, or one written in Blender."""
    time: Literal["follow", "freeze", "slowmo"] = "follow"
    """follow plays the clip along the way, freeze holds the moment of --at, slowmo plays it --slow times slower."""
    at: str | None = None
    """Name of the frame that is held, and whose camera the way starts from; without it the middle frame."""
    slow: float = 4.0
    """How many times slower than recorded slowmo is."""
    frames: int | None = None
    """Pictures of the video; without it 120, for a file as many as it has, and for slowmo as the clip needs."""
    fps: float = 30.0
    """Pictures a second."""
    size: str | None = None
    """WIDTHxHEIGHT of the pictures; without it those of the clip."""
    amplitude: float | None = None
    """How far the camera goes, as a share of the distance to what it looks at; without it as far as the scene still
    fills the picture."""
    turns: float = 1.0
    """Times a circle, a spiral or a whole orbit goes round."""
    whole_turn: bool = False
    """orbit goes all the way round instead of to and fro."""
    dolly_zoom: bool = False
    """dolly changes the focal length so that what is looked at keeps its size."""
    offset: tuple[float, float, float] | None = None
    """follow goes beside the recorded camera: so far to the right, up and back, in metres where they are known, else
    scene units."""
    between: tuple[str, str] | None = None
    """line goes from the camera of one frame to that of another, by their names."""
    there_and_back: bool = False
    """The camera goes back the way it came, so that the video can be repeated without a jump."""
    coordinates: Literal["delivered", "scene"] = "delivered"
    """What the numbers of a file mean: those of exported files (metres where known, z up), or those of the scene."""
    fill: Literal["frames", "classical"] = "classical"
    """What shows where the frames of the moment see nothing: frames (what other frames saw; the rest stays black), or
    classical (then filled layers, and the rest from its surroundings)."""
    donors: int = 4
    """So many recorded frames are drawn together."""
    stereo: Literal["none", "side-by-side", "half-side-by-side", "anaglyph"] = "none"
    """Pictures for two eyes: beside each other in full or half width, or for red-cyan glasses."""
    baseline: float | None = None
    """Distance of the two eyes, metres where they are known, else scene units; without it a thirtieth of the distance
    to what is looked at."""
    save: tuple[Extra, ...] = field(default=(), metadata=COMMAS)
    """What is written beside the video: depth and alpha (videos), pictures (PNG with alpha, and npz with depth, alpha
    and provenance of each pixel)."""
    out: Path | None = None
    """The video; without it SCENE/render/PATH.mp4."""
    overwrite: bool = True
    """Replace files that are there."""


def check_options(options: RenderOptions) -> None:
    """Refuse what cannot work. Raises OptionsError."""
    check_types("render", options, prefix="")
    for name in ("slow", "fps"):
        check_range("", name, getattr(options, name), above=0.0)
    for name in ("frames", "donors"):
        if getattr(options, name) is not None:
            check_range("", name, getattr(options, name), low=1)
    if options.amplitude is not None:
        check_range("", "amplitude", options.amplitude, low=0.0)
    if options.baseline is not None:
        check_range("", "baseline", options.baseline, above=0.0)
    if options.stereo == "half-side-by-side" and (size := read_size(options.size)) and size[0] % 2:
        raise OptionsError(f"render: --size is {options.size}, an even width is needed for half-side-by-side")
    if options.out is not None and options.out.suffix.lower() != ".mp4":
        raise OptionsError(f"render: --out is {options.out}, a name that ends in .mp4 is expected")
    read_size(options.size)


def read_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of ``WIDTHxHEIGHT``. Raises OptionsError."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text.strip())
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(16 <= side <= LARGEST for side in size):
        raise OptionsError(f"render: --size is {text}, WIDTHxHEIGHT such as 1280x720 is expected")
    return size


def run_verb(workspace: Workspace, options: RenderOptions, progress: Progress) -> list[str]:
    """Render the video; the lines that tell where it is.

    Raises:
        Recon4dError: an option cannot be used, or the scene is not fused yet.
    """
    from recon4d.stages.novel_video import write_novel_video
    from recon4d.stages.render_paths import chosen_path

    check_options(options)
    workspace.need("fuse", "render")
    out = options.out or workspace.root / FOLDER / f"{Path(options.path).stem}.mp4"
    if out.exists() and not options.overwrite:
        raise OptionsError(f"render: {out} is there already: choose another --out, or leave --no-overwrite out")
    if not out.parent.is_dir() and options.out is not None:
        raise OptionsError(f"render: the folder {out.parent} of --out is not there: make it, or choose another")
    chosen = chosen_path(workspace, options)
    for line in chosen.told:
        progress.say(f"  {line}")
    out.parent.mkdir(exist_ok=True)
    asides = _asides(out, options, workspace)
    make = _maker(workspace, options, chosen)
    write_novel_video(out, len(chosen.path), make, options.fps, asides, progress)
    written = [out, *(p for p in (asides.depth_video, asides.alpha_video, asides.pictures) if p is not None)]
    return [str(item) for item in written]


def _maker(workspace: Workspace, options: RenderOptions, chosen: Chosen) -> Callable[[int], Shown]:
    """What makes one picture of the video after the other; may be called from several threads."""
    from recon4d.fill.open_pixels import closed
    from recon4d.stages.novel_video import Shown
    from recon4d.stages.novel_view import NovelViews, filled_layers

    path, complete = chosen.path, options.fill == "classical"
    views = NovelViews(workspace, options.donors, layers=filled_layers(workspace) if complete else None)

    def one(time: float, world_from_cam: Rigid3, camera: Camera) -> Rendered:
        seen = views.render(time, world_from_cam.inverse(), camera)
        return closed(seen) if complete else seen

    eyes = (path,)
    if options.stereo != "none":
        baseline = None if options.baseline is None else options.baseline / (views.scene.metres_per_unit or 1.0)
        eyes = stereo_paths(path, chosen.focus_depth, baseline)

    def make(number: int) -> Shown:
        seen = [one(float(eye.times[number]), eye.world_from_cam[number], eye.cameras[number]) for eye in eyes]
        pictures = [each.picture() for each in seen]
        return Shown(pictures[0] if len(pictures) == 1 else STEREO[options.stereo](*pictures), seen[0])

    return make


def _asides(out: Path, options: RenderOptions, workspace: Workspace) -> Asides:
    from recon4d.stages.novel_video import Asides
    from recon4d.view.depth_colors import depth_range

    names = workspace.trajectory().names
    depths = [workspace.depth_mesh(name).surface for name in names[:: max(1, len(names) // 4)]]
    near, far = depth_range([surface.depth[surface.valid] for surface in depths])
    return Asides(
        depth_video=out.with_name(f"{out.stem}_depth.mp4") if "depth" in options.save else None,
        alpha_video=out.with_name(f"{out.stem}_alpha.mp4") if "alpha" in options.save else None,
        pictures=out.with_suffix("") if "pictures" in options.save else None,
        near=near,
        far=far,
    )
