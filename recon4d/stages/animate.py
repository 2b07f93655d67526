"""`recon4d animate PICTURE --out SCENE`: one photograph whose water and sky drift in an endless loop, as a 4D scene."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import DepthError, InputError, OptionsError, WorkspaceError
from recon4d.progress import Progress, Silent
from recon4d.stages.common import BY_CONTENT, NOT_IN_KEY, check_range, check_types, execute
from recon4d.stages.depth_options import AUTO, NETWORKS, ONNX, PRECOMPUTED, TRANSFORMERS, DepthOptions
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.fill.eulerian import Still
    from recon4d.scene.camera import Camera
    from recon4d.scene.depth import DepthMap, SceneDepth

UNIT, VERSION = "animate", 1
SURE = 0.6  # of a region that was found by itself, to be moved
CUT_RATIO, CUT_ANGLE_DEG = 1.1, 3.0  # where the surface of a photograph is cut
SIGMA = 0.1  # of depth that nobody could check, relative
PHOTOGRAPH, SURFACE, FLOW, CHOSEN, LOOP = "photograph.png", "surface.npz", "motion.flo", "chosen.png", "loop.mp4"
HAND = "--mask MASK.png --direction DX,DY says by hand what flows, and where to"
_ANGLE = re.compile(r"\s*([-+]?[\d.]+)\s*deg\s*,\s*([-+]?[\d.]+)\s*")


@dataclass(frozen=True)
class AnimateOptions:
    """One photograph becomes a scene in which water, clouds or smoke drift in an endless loop."""

    picture: Path | None = field(default=None, metadata=BY_CONTENT)
    """The photograph."""
    out: Path | None = field(default=None, metadata=NOT_IN_KEY)
    """Scene folder, new or made by this verb."""
    frames: int = 60
    """Frames of the loop."""
    fps: float = 30.0
    """Frames a second."""
    motion: str = field(default="auto", metadata=BY_CONTENT)
    """What flows: auto looks for sky and water, or a file with the motion of each pixel in pixels per frame (.flo,
    .npy, .npz, .png as KITTI has it), of the photograph or of the same picture at another size."""
    mask: Path | None = field(default=None, metadata=BY_CONTENT)
    """Picture of the photograph's proportions, white where it flows; with --direction, or with a file of --motion."""
    direction: str | None = None
    """Motion within the mask: DX,DY in pixels per frame (right, down), or ANGLEdeg,SPEED (0deg right, 90deg up)."""
    fade: float = 1.2
    """Width over which motion fades at the edge of what flows, percent of the picture's longer side."""
    speed: float | None = None
    """Pixels per frame of what auto finds; without it a 1600th of the picture's width."""
    fov: float = 55.0
    """Angle of view across the picture, degrees, where its EXIF does not tell the focal length."""
    range: float = 100.0
    """For depth that leaves the distance of the farthest open: how many times as far as the nearest it is taken."""
    max_size: int = 1280
    """Longest side of the pictures, pixels; larger photographs are made smaller."""
    depth: DepthOptions = field(default_factory=DepthOptions)


def run_animate(options: AnimateOptions, progress: Progress | None = None) -> list[str]:
    """Make the scene and the loop as a video; returns the lines to print.

    Raises:
        OptionsError, InputError, DepthError: an option, the photograph, its depth or the mask cannot be used.
        WorkspaceError: the folder holds a scene that another verb made.
    """
    from recon4d.stages.animate_scene import write_units
    from recon4d.stages.depth import unit_options

    check_options(options)
    progress = progress or Silent()
    workspace = Workspace.create(options.out)
    if workspace.record("poses") is not None and workspace.record(UNIT) is None:
        raise WorkspaceError(f"animate: {options.out} holds the scene of a recording: choose another --out")
    with workspace.lock():
        made_with = [own.extra_key() for own in unit_options(depth_source(options.depth)).values()]  # which weights
        record = execute(workspace, UNIT, VERSION, options, (), lambda part: _work(options, part), progress, made_with)
        write_units(workspace, options, progress)
        _record_input(workspace, options)
    return _told(workspace, record)


def _record_input(workspace: Workspace, options: AnimateOptions) -> None:
    """Name the photograph in `options.toml` where nothing is named yet: verbs such as export ask for it."""
    from recon4d.formats.options_toml import read_options_toml, write_options_toml

    path, named = workspace.root / "options.toml", str(Path(options.picture).resolve())
    tables = read_options_toml(path) if path.exists() else {}
    if tables.get("input", {}).get("path") != named:
        write_options_toml(path, tables | {"input": {"path": named}})


def check_options(options: AnimateOptions) -> None:
    """Refuse what cannot work before any work is done. Raises OptionsError, InputError."""
    check_types("animate", options, prefix="")
    if options.picture is None or options.out is None:
        raise OptionsError("animate: a picture and --out are needed: recon4d animate PICTURE --out SCENE")
    for name, bounds in (
        ("frames", {"low": 2, "high": 100_000}),
        ("fps", {"above": 0}),
        ("fade", {"low": 0, "high": 50}),
        ("fov", {"low": 1, "high": 170}),
        ("range", {"above": 1}),
        ("max_size", {"low": 16}),
        ("speed", {"above": 0}),
    ):
        if getattr(options, name) is not None:
            check_range("", name, getattr(options, name), **bounds)
    if not Path(options.picture).is_file():
        raise InputError(f"animate: there is no picture {options.picture}: correct the path")
    by_hand = options.motion == "auto" and (options.mask is not None or options.direction is not None)
    if by_hand and (options.mask is None or options.direction is None):
        missing = "--mask" if options.mask is None else "--direction"
        raise OptionsError(f"animate: {missing} is missing: {HAND}")
    if options.motion != "auto" and options.direction is not None:
        raise OptionsError("animate: --motion FILE and --direction both say where it flows to: give one of them")
    if options.direction is not None:
        parse_direction(options.direction)
    depth_source(options.depth)


def parse_direction(text: str) -> np.ndarray:
    """(2,) pixels per frame, right and down, of ``DX,DY`` or ``ANGLEdeg,SPEED``. Raises OptionsError."""
    angle = _ANGLE.fullmatch(text)
    try:
        if angle:
            turn, speed = np.radians(float(angle[1])), float(angle[2])
            found = np.array([np.cos(turn), -np.sin(turn)]) * speed  # y points down in the picture
        else:
            across, down = text.split(",")
            found = np.array([float(across), float(down)])
    except ValueError:
        found = np.full(2, np.nan)
    if not np.isfinite(found).all() or not found.any():
        raise OptionsError(
            f"animate: --direction is '{text}', DX,DY in pixels per frame (0.4,0) or ANGLEdeg,SPEED (90deg,0.5) is "
            "expected, and not 0"
        )
    return found


def depth_source(depth: DepthOptions) -> DepthOptions:
    """The depth options with the source that they mean for one picture. Raises OptionsError."""
    source = depth.source
    if source == AUTO and depth.path is not None:
        source = PRECOMPUTED
    elif source == AUTO and depth.model:
        source = ONNX if depth.model[0].lower().endswith(".onnx") else TRANSFORMERS
    if source not in (PRECOMPUTED, *NETWORKS):
        raise OptionsError(
            "animate: no depth of the picture is given, and one picture has no second view to measure it: give "
            "--depth.path FILE, or --depth.model with the folder or hub id of a depth network"
        )
    return replace(depth, source=source, preview=False)


def _work(options: AnimateOptions, part: StagePart) -> dict[str, object]:
    """Depth, motion, pictures and the video."""
    from recon4d.fill.eulerian import Loop, Still
    from recon4d.fill.fluid_cues import chosen_picture
    from recon4d.formats.arrays import write_depth_mesh
    from recon4d.formats.flow_files import write_flo
    from recon4d.formats.pictures import write_picture
    from recon4d.geometry.meshing import cut_silhouettes

    picture, camera, depth, focal = _walked(options, part)
    surface = surface_of(depth, camera, options.range)
    motion, found = motion_of(options, picture, surface.depth)
    for line in found:
        part.progress.say(f"  {line}")
    mesh = cut_silhouettes(surface, camera, CUT_RATIO, CUT_ANGLE_DEG)
    still = Still(picture, mesh, camera, motion)
    if not still.moving.any():
        raise InputError(f"animate: nothing moves by this motion or mask: {HAND}")
    write_picture(part.path / PHOTOGRAPH, picture)
    write_picture(part.path / CHOSEN, chosen_picture(picture, motion))
    write_depth_mesh(part.path / SURFACE, mesh)
    write_flo(part.path / FLOW, motion)
    write_pictures(Loop(still, options.frames), options.fps, part)
    shutil.rmtree(part.path / "picture")
    metric = depth.kind.value == "metric_z"
    return {
        "frames": options.frames,
        "camera": [camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy],
        "focal": focal,
        "kind": depth.kind.value,
        "metres_per_unit": 1.0 if metric else None,
        "moving_share": round(float(still.moving.mean()), 4),
        "fastest_px": round(float(np.hypot(motion[..., 0], motion[..., 1]).max()), 3),
        "found": found,
    }


def _walked(options: AnimateOptions, part: StagePart) -> tuple[np.ndarray, Camera, DepthMap, str]:
    """The photograph at its working size, its camera and its depth, by the stages every recording goes through."""
    from recon4d.formats.photos import fitted_size, read_photo_header
    from recon4d.pipeline import Options, run
    from recon4d.stages.frames import FramesOptions
    from recon4d.stages.poses import PosesOptions

    photo = read_photo_header(Path(options.picture))
    width, height = fitted_size(photo.width, photo.height, options.max_size)
    if photo.focal_px:
        focal, how = photo.focal_px * width / photo.width, "EXIF"
    else:
        focal, how = float(width / 2 / np.tan(np.radians(options.fov) / 2)), f"--fov {options.fov:g}"
    line = Options(
        frames=FramesOptions(max_size=options.max_size),
        poses=PosesOptions(source="none", camera=f"{focal},{focal},{width / 2},{height / 2}"),
        depth=depth_source(options.depth),
    )
    workspace = run(Path(options.picture), part.path / "picture", until="depth", options=line)
    name = workspace.unrefined_trajectory().names[0]
    camera = workspace.unrefined_trajectory()[name].camera
    return workspace.picture(name), camera, workspace.depth_map(name, workspace.depth_sources()[0]), how


def surface_of(depth: DepthMap, camera: Camera, ratio: float) -> SceneDepth:
    """z of every pixel of the picture. Raises DepthError."""
    from recon4d.fill.fluid_cues import scene_z
    from recon4d.geometry.resample import resize_grid
    from recon4d.scene.depth import Provenance, SceneDepth

    values, valid = resize_grid(depth.values, depth.valid, camera.width, camera.height)
    try:
        z = scene_z(values, valid, depth.kind, ratio)
    except ValueError as error:
        raise DepthError(f"animate: the depth of the picture cannot be used ({error}): make it again") from None
    of_source = np.bincount(depth.provenance[depth.valid]).argmax()
    provenance = np.where(valid, of_source, np.uint8(Provenance.COMPLETED))
    return SceneDepth(z, np.ones(z.shape, dtype=bool), SIGMA * z, provenance)


def motion_of(options: AnimateOptions, picture: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(H, W, 2) pixels per frame, and what was chosen in words. Raises InputError."""
    from recon4d.fill.fluid_cues import find_fluids, soft_edge, steady

    fade = options.fade / 100 * max(depth.shape)
    mask = None if options.mask is None else _mask(Path(options.mask), depth.shape)
    if options.motion != "auto":
        motion = _of_file(Path(options.motion), depth.shape)
        share = 1.0 if mask is None else soft_edge(mask, fade)[..., None]
        return (motion * share).astype(np.float32), [f"motion of {Path(options.motion).name}"]
    if mask is not None:
        way = parse_direction(options.direction)
        return steady(mask, way, fade), [f"{100 * mask.mean():.1f} % of the picture by hand, {way[0]:g},{way[1]:g} px"]
    motion, found = np.zeros((*depth.shape, 2), dtype=np.float32), []
    for fluid in find_fluids(picture, depth, options.speed):
        taken = fluid.confidence >= SURE
        if taken:
            motion = np.where((fluid.mask & ~motion.any(axis=-1))[..., None], fluid.motion, motion)
        found.append(
            f"{fluid.kind}{'' if taken else ' (left still)'}: {100 * fluid.mask.mean():.1f} % of the picture, "
            f"confidence {fluid.confidence:.2f}: {fluid.reason}"
        )
    if not motion.any():
        almost = f"; not sure enough: {'; '.join(found)}" if found else ""
        raise InputError(f"animate: no sky or water was found in {Path(options.picture).name}{almost}: {HAND}")
    return motion, found


def _mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of a mask file at the size of the pictures. Raises InputError."""
    import cv2

    from recon4d.formats.pictures import read_rgb

    stored = read_rgb(path).max(axis=2)
    _check_proportions("--mask", path, stored.shape, shape)
    mask = cv2.resize(stored, shape[::-1], interpolation=cv2.INTER_AREA) > 127
    if not mask.any():
        raise InputError(f"animate: --mask {path} is black everywhere: paint white what flows")
    return mask


def _of_file(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """(H, W, 2) flow of a file in pixels of the pictures, 0 where it is not known. Raises InputError."""
    from recon4d.formats.flow_files import read_flow
    from recon4d.geometry.resample import resize_grid

    flow = read_flow(path)
    _check_proportions("--motion", path, flow.shape[:2], shape)
    known = np.isfinite(flow).all(axis=-1)
    scale = (shape[1] / flow.shape[1], shape[0] / flow.shape[0])
    parts = [resize_grid(np.where(known, flow[..., k], 0), known, *shape[::-1])[0] * scale[k] for k in (0, 1)]
    return np.stack(parts, axis=-1).astype(np.float32)


def _check_proportions(option: str, path: Path, found: tuple[int, int], shape: tuple[int, int]) -> None:
    from recon4d.geometry.proportions import same_proportions

    if not same_proportions(found, shape):
        raise InputError(
            f"animate: {option} {path} has {found[1]}x{found[0]} pixels, the picture {shape[1]}x{shape[0]}: the sides "
            "differ in proportion, so it is of another or a cropped picture"
        )


def write_pictures(loop: object, fps: float, part: StagePart) -> None:
    """`images/NAME.jpg` of all frames, and the video; the first is the photograph."""
    from recon4d.formats.pictures import read_rgb, write_picture
    from recon4d.formats.video_writer import VideoWriter

    folder = part.path / "images"
    folder.mkdir(exist_ok=True)
    names = names_of(loop.frames)
    part.each(
        names,
        "drawing the loop",
        lambda name: loop.picture(int(name)),
        lambda name, picture: write_picture(folder / f"{name}.jpg", picture),
        workers=None,
    )
    height, width = loop.still.camera.shape
    with VideoWriter(part.path / LOOP, width, height, fps) as video:
        for name in names:
            video.add(read_rgb(folder / f"{name}.jpg"))
    for remark in video.remarks:
        part.warn(remark)


def names_of(frames: int) -> tuple[str, ...]:
    return tuple(f"{k:06d}" for k in range(frames))


def load_still(workspace: Workspace) -> Still:
    """What the unit animate holds."""
    from recon4d.fill.eulerian import Still
    from recon4d.formats.arrays import read_depth_mesh
    from recon4d.formats.flow_files import read_flo
    from recon4d.formats.pictures import read_rgb
    from recon4d.scene.camera import Camera

    width, height, *lens = workspace.need(UNIT, "animate").summary["camera"]
    with workspace.reading(UNIT, "animate") as folder:
        return Still(
            read_rgb(folder / PHOTOGRAPH),
            read_depth_mesh(folder / SURFACE),
            Camera(width, height, *lens),
            read_flo(folder / FLOW),
        )


def _told(workspace: Workspace, record: StageRecord) -> list[str]:
    summary, folder = record.summary, workspace.unit_dir(UNIT)
    size = (
        "depth in metres" if summary["metres_per_unit"] else f"depth of kind {summary['kind']}, its size is not known"
    )
    return [
        *summary["found"],
        f"{summary['frames']} frames, {100 * summary['moving_share']:.1f} % of the picture drifts, up to "
        f"{summary['fastest_px']:g} px a frame; {size}; focal length by {summary['focal']}",
        f"look at {folder / LOOP} and, for what was chosen, {folder / CHOSEN}",
    ]
