"""Stage export: the scene in the files of other programs, in metres where known, with the wanted axis up."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
from typing import TYPE_CHECKING

from recon4d._version import __version__
from recon4d.progress import Progress
from recon4d.stages.common import execute, stage_key
from recon4d.stages.export_made import (
    MADE,
    MANIFEST,
    MadeFormat,
    format_as_made,
    hand_on,
    missing_file,
    read_made,
    write_made,
)
from recon4d.stages.export_options import OF_FORMATS, ExportOptions, check_options, choose_frames
from recon4d.workspace import DONE_LIST, StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.stages.export_delivery import Delivery

__all__ = ["VERSION", "WRITERS", "ExportOptions", "check_options", "run"]

VERSION = 4
# One function per format, imported on first use; each takes a `Delivery` and writes below its folder.
WRITERS = {
    "ply": "recon4d.stages.export_clouds:write_ply",
    "pcd": "recon4d.stages.export_clouds:write_pcd",
    "las": "recon4d.stages.export_clouds:write_las",
    "laz": "recon4d.stages.export_clouds:write_laz",
    "glb": "recon4d.stages.export_glb:write_glb",
    "usd": "recon4d.stages.export_usd:write_usd",
    "html": "recon4d.stages.export_html:write_html",
    "colmap": "recon4d.stages.export_colmap:write_colmap",
    "nerfstudio": "recon4d.stages.export_nerfstudio:write_nerfstudio",
    "exr": "recon4d.stages.export_maps:write_exr",
    "png": "recon4d.stages.export_maps:write_png",
    "tum": "recon4d.stages.export_trajectories:write_tum",
    "kitti": "recon4d.stages.export_trajectories:write_kitti",
}
FOR_BLENDER = {"ply", "glb", "usd"}  # formats beside which the import script for Blender is put


def run(workspace: Workspace, options: ExportOptions, progress: Progress | None = None) -> StageRecord:
    """Write the scene in the wanted formats. Raises OptionsError, MissingDependency, ExportError."""
    check_options(options)
    reads, damage = units_read(workspace), None
    if options.frames is not None:  # names that are not there are refused before anything is begun
        workspace.need("poses", "export")
        choose_frames(workspace.trajectory().names, options.frames)
    if workspace.record("export") is not None:
        missing = missing_file(workspace.unit_dir("export"))
        damage = missing and f"{missing} is gone from {workspace.unit_dir('export')}, what is not there is made again"

    def work(part: StagePart) -> dict[str, object]:
        return _work(workspace, options, part)

    return execute(workspace, "export", VERSION, options, reads, work, progress, damage=damage)


def units_read(workspace: Workspace) -> tuple[str, ...]:
    return "fuse", workspace.surface_unit(), "motion", "poses"


def _work(workspace: Workspace, options: ExportOptions, part: StagePart) -> dict[str, object]:
    from recon4d.scene.scene4d import UpAxis
    from recon4d.stages.export_delivery import Delivery, warn_of_nothing

    delivery = Delivery(workspace, options, part, workspace.scene(), UpAxis(options.up))
    units = "metres" if delivery.in_metres else "scene units (the size in metres is not known)"
    up = "as in the model, y roughly down" if options.up == "model" else options.up
    if options.up != "model" and delivery.scene.levelled_from_scene is None:
        up += " (up is not known: the cameras' mean stands in)"
    warn_of_nothing(delivery)
    made = _make(workspace, delivery)
    if FOR_BLENDER & set(options.to):
        writer_at("recon4d.stages.export_blender:write_import_script")(delivery)
    files = _write_manifest(delivery, units, up)
    megabytes = sum((part.path / file).stat().st_size for file in files) / 1e6
    counts = {"frames": len(delivery.names), "files": len(files), "size_mb": round(megabytes, 1)}
    return {"formats": list(made), "units": units, "up": up, **counts}


def _make(workspace: Workspace, delivery: Delivery) -> dict[str, MadeFormat]:
    """Write the formats, or take them over; what was made before a kill is not made again."""
    part, options = delivery.part, delivery.options
    made = read_made(part.path)
    for name in dict.fromkeys(options.to):
        if name in made:  # by the run that was killed
            for text in made[name].warnings:
                part.warn(text)
            continue
        key, known = format_key(workspace, options, name), len(part.warnings)
        if not _taken_over(workspace, part, name, key):
            writer(name)(delivery)
        made[name] = format_as_made(part.path, name, key, part.warnings[known:])
        write_made(part.path, made)
    return made


def format_key(workspace: Workspace, options: ExportOptions, name: str) -> str:
    """Hash of all that can change the files of one format; options of others, and which others there are, cannot."""
    of_others = {
        option.name: option.default
        for option in dataclasses.fields(options)
        if name not in option.metadata.get(OF_FORMATS, (name,))
    }
    alone = dataclasses.replace(options, to=(name,), **of_others)
    inputs = {unit: workspace.need(unit, "export").key for unit in units_read(workspace)}
    title = workspace.title if name in ("html", "usd") else None  # stands in their files
    return stage_key(f"export/{name}", VERSION, alone, inputs, title)


def _taken_over(workspace: Workspace, part: StagePart, name: str, key: str) -> bool:
    """Whether the export before this one holds the same files of a format; they are handed on, not made again."""
    folder = workspace.unit_dir("export")
    before = read_made(folder).get(name)
    if before is None or before.key != key:
        return False
    if not before.unchanged_in(folder):
        part.progress.say(f"  {name} is not as it was made (edited, deleted or copied): it is made anew")
        return False
    shutil.rmtree(part.path / name, ignore_errors=True)  # begun before a kill
    hand_on(folder, part.path, before)
    part.progress.say(f"  {name} is as it was")
    for text in before.warnings:
        part.warn(text)
    return True


def writer(name: str) -> object:
    """The function that writes a format."""
    return writer_at(WRITERS[name])


def writer_at(place: str) -> object:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)


def _write_manifest(delivery: Delivery, units: str, up: str) -> list[str]:
    """`manifest.json`; returns the files of all formats, relative to the export folder."""
    root = delivery.part.path
    files = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.name not in (DONE_LIST, MADE, MANIFEST)
    )
    manifest = {
        "program": f"recon4d {__version__}",
        "units": units,
        "up": up,
        "axes": "cameras: x right, y down, z forward (nerfstudio, usd: OpenGL axes); .glb is y-up as glTF demands",
        "metres_per_unit": delivery.scene.metres_per_unit,
        "delivered_from_scene": delivery.delivered_from_scene.matrix.tolist(),
        "fps": delivery.fps,
        "layers": list(delivery.options.layers),
        "provenance": delivery.options.provenance,
        "names": list(delivery.names),
        "timestamps_s": delivery.trajectory.timestamps_s.tolist(),
        "cameras": [_camera(view) for view in delivery.trajectory],
        "files": files,
    }
    (root / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return files


def _camera(view: object) -> dict[str, object]:
    """A frame's camera in the delivered frame, for readers that know none of our formats."""
    lens, world_from_cam = view.camera, view.cam_from_world.inverse().matrix
    sizes = {key: getattr(lens, key) for key in ("width", "height", "fx", "fy", "cx", "cy")}
    return {"name": view.name, **sizes, "world_from_cam": world_from_cam.tolist()}
