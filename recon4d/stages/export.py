"""Stage export: the scene in the files of other programs, in metres where they are known and z-up where up is known."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from recon4d._version import __version__
from recon4d.errors import OptionsError
from recon4d.progress import Progress
from recon4d.stages.common import execute
from recon4d.stages.refine import MOVED_POINTS
from recon4d.workspace import DONE_LIST, StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.formats.glb import Up
    from recon4d.geometry.grid_surface import GridSurface
    from recon4d.scene.cloud import PointCloud
    from recon4d.scene.mesh import TriMesh
    from recon4d.scene.scene4d import Scene4D
    from recon4d.scene.trajectory import Trajectory
    from recon4d.scene.transforms import Sim3

VERSION = 2
Format = Literal["ply", "glb", "colmap", "nerfstudio", "tum"]


@dataclass(frozen=True)
class ExportOptions:
    """Which files are made for other programs, and how heavy they are."""

    to: tuple[Format, ...] = ("ply", "glb", "colmap", "nerfstudio", "tum")
    """Formats to write, each into export/FORMAT: ply (background, what moves in each frame, and meshes, for MeshLab,
    CloudCompare, Blender), glb (a scene that plays, and meshes), colmap (the model), nerfstudio (transforms.json), tum
    (the camera's path)."""
    level: bool = True
    """Turn the world so that z points up, where up is known; otherwise everything keeps the axes of the model."""
    frames: str | None = None
    """Frames whose moving points and meshes are written: names with commas between them (000012,000040), or
    START:STOP:STEP counted over the scene's frames (::5 is every fifth). Cameras are always all written."""
    mesh_stride: int = 2
    """Meshes of single frames have a vertex at every this many pixels."""
    max_points: int = 50_000
    """Upper bound of moving points per frame in the GLB that plays; a fixed random choice is kept."""
    max_static_points: int = 500_000
    """Upper bound of background points in the GLB that plays, and of the points nerfstudio starts from."""
    max_glb_frames: int = 150
    """Upper bound of frames in the GLB that plays; they are thinned evenly."""
    quantised: bool = False
    """Positions in the GLB that plays take 16 instead of 32 bits each: a fifth smaller, but readers need
    KHR_mesh_quantization."""


def run(workspace: Workspace, options: ExportOptions, progress: Progress | None = None) -> StageRecord:
    """Write the scene in the wanted formats. Raises OptionsError, ExportError."""
    check_options(options)
    reads = ("fuse", workspace.surface_unit(), "poses")
    return execute(workspace, "export", VERSION, options, reads, lambda part: _work(workspace, options, part), progress)


def check_options(options: ExportOptions) -> None:
    """Raise OptionsError for values that no scene could be exported with."""
    if not options.to:
        raise OptionsError(f"export: no format is named: give --to one or more of {' '.join(WRITERS)}")
    for field in ("mesh_stride", "max_points", "max_static_points", "max_glb_frames"):
        if getattr(options, field) < 1:
            raise OptionsError(f"export: {field} is {getattr(options, field)}, 1 or more is expected")
    if options.frames is not None:
        _read_choice(options.frames)


@dataclass(frozen=True)
class _Delivery:
    """What the writers of all formats share."""

    workspace: Workspace
    options: ExportOptions
    part: StagePart
    scene: Scene4D
    delivered_from_scene: Sim3
    names: tuple[str, ...]  # frames whose moving points and meshes are written
    up: Up
    trajectory: Trajectory  # delivered frame and unit

    def folder(self, *parts: str) -> Path:
        path = self.part.path.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def moving(self, name: str) -> PointCloud:
        return self.scene.moving(name).transformed(self.delivered_from_scene)

    def static_mesh(self) -> TriMesh:
        mesh = self.workspace.static_mesh()
        return replace(mesh, vertices=self.delivered_from_scene @ mesh.vertices.astype(np.float64))

    def surface(self, name: str) -> GridSurface:
        from recon4d.geometry.grid_surface import free_surface

        view = self.scene.trajectory[name]
        surface = free_surface(self.workspace.depth_mesh(name), view, self.options.mesh_stride)
        return replace(surface, vertices=self.delivered_from_scene @ surface.vertices)


def _work(workspace: Workspace, options: ExportOptions, part: StagePart) -> dict[str, object]:
    from recon4d.formats.glb import Up

    scene = workspace.scene()
    delivered_from_scene = scene.delivered_from_scene(options.level)
    levelled = options.level and scene.levelled_from_scene is not None
    delivery = _Delivery(
        workspace=workspace,
        options=options,
        part=part,
        scene=scene,
        delivered_from_scene=delivered_from_scene,
        names=choose_frames(scene.names, options.frames),
        up=Up.Z if levelled else Up.MINUS_Y,
        trajectory=replace(
            scene.trajectory, cam_from_world=delivered_from_scene.apply_to_pose(scene.trajectory.cam_from_world)
        ),
    )
    for name in options.to:
        WRITERS[name](delivery)
    units = "metres" if scene.metres_per_unit else "scene units (the size in metres is not known)"
    up = "z" if levelled else "as in the model, y roughly down" + (" (up is not known)" if options.level else "")
    files = _write_manifest(delivery, units, up)
    megabytes = sum((part.path / file).stat().st_size for file in files) / 1e6
    counts = {"frames": len(delivery.names), "files": len(files), "size_mb": round(megabytes, 1)}
    return {"formats": list(options.to), "units": units, "up": up, **counts}


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
        raise OptionsError(f"export: frames '{choice}' chooses none of the {len(names)} frames")
    return tuple(name for name in names if name in set(chosen))  # in the scene's order, each once


def _read_choice(choice: str) -> slice | list[str]:
    """What the option `frames` says: places in the scene, or names. Raises OptionsError."""
    if ":" not in choice:
        named = [word.strip() for word in choice.split(",") if word.strip()]
        if not named:
            raise OptionsError(
                f"export: frames is '{choice}', names with commas between them or START:STOP:STEP are expected"
            )
        return named
    try:
        places = slice(*(int(word) if word.strip() else None for word in choice.split(":")))
        places.indices(0)  # refuses a step of 0
    except (ValueError, TypeError):
        raise OptionsError(
            f"export: frames is '{choice}', START:STOP:STEP with whole numbers and a step other than 0 is expected"
        ) from None
    return places


def _write_manifest(delivery: _Delivery, units: str, up: str) -> list[str]:
    """`manifest.json`; returns the files of all formats, relative to the export folder."""
    root = delivery.part.path
    files = sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and path.name != DONE_LIST
    )
    manifest = {
        "program": f"recon4d {__version__}",
        "units": units,
        "up": up,
        "axes": "cameras: x right, y down, z forward (nerfstudio: OpenGL axes); .glb files are y-up as glTF demands",
        "metres_per_unit": delivery.scene.metres_per_unit,
        "delivered_from_scene": delivery.delivered_from_scene.matrix.tolist(),
        "names": list(delivery.scene.names),
        "timestamps_s": delivery.scene.timestamps_s.tolist(),
        "files": [file for file in files if file != "manifest.json"],
    }
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest["files"]


# -- one function per format ------------------------------------------------------------------------------------------


def _write_ply(delivery: _Delivery) -> None:
    from recon4d.formats.ply import write_cloud, write_mesh
    from recon4d.scene.mesh import TriMesh

    root, moving, meshes = delivery.folder("ply"), delivery.folder("ply", "moving"), delivery.folder("ply", "meshes")
    write_cloud(root / "static.ply", delivery.scene.static.transformed(delivery.delivered_from_scene))
    write_mesh(root / "static_mesh.ply", delivery.static_mesh())
    for item in delivery.part.pending([f"ply/{name}" for name in delivery.names], "writing PLY"):
        name = item.partition("/")[2]
        write_cloud(moving / f"{name}.ply", delivery.moving(name))
        surface = delivery.surface(name)
        columns, rows = surface.pixels.T
        colors = delivery.workspace.picture(name)[rows, columns]
        write_mesh(meshes / f"{name}.ply", TriMesh(surface.vertices, surface.faces, colors))


def _write_glb(delivery: _Delivery) -> None:
    from recon4d.formats.glb import write_mesh

    root = delivery.folder("glb")
    mesh = delivery.static_mesh()
    if len(mesh.faces):
        write_mesh(root / "static_mesh.glb", mesh, delivery.up)
    if not delivery.part.is_done("glb scene"):
        _write_playing_glb(delivery, root / "scene.glb")
        delivery.part.mark_done("glb scene")
    folder = delivery.folder("glb", "meshes")
    for item in delivery.part.pending([f"glb/{name}" for name in delivery.names], "writing GLB"):
        _write_picture_mesh(delivery, item.partition("/")[2], folder)


def _write_playing_glb(delivery: _Delivery, path: Path) -> None:
    from recon4d.formats.glb import write_cloud_sequence

    options, names = delivery.options, np.array(delivery.names)
    if len(names) > options.max_glb_frames:
        delivery.part.progress.say(f"  scene.glb plays {options.max_glb_frames} of {len(names)} frames, evenly chosen")
        names = names[np.round(np.linspace(0, len(names) - 1, options.max_glb_frames)).astype(int)]
    time_of = dict(zip(delivery.scene.names, delivery.scene.timestamps_s))
    static = _at_most(delivery.scene.static, options.max_static_points)
    with delivery.part.progress.bar("writing scene.glb", len(names)) as bar:

        def next_cloud(name: str) -> PointCloud:
            cloud = _at_most(delivery.scene.moving(name), options.max_points)
            bar.advance()
            return cloud.transformed(delivery.delivered_from_scene)

        write_cloud_sequence(
            path,
            names.tolist(),
            np.array([time_of[name] for name in names]),
            next_cloud,
            static.transformed(delivery.delivered_from_scene),
            delivery.up,
            options.quantised,
        )


def _at_most(cloud: PointCloud, count: int) -> PointCloud:
    """The cloud, or a fixed random choice of its points: any regular choice of grid points shows as a pattern."""
    if len(cloud) <= count:
        return cloud
    return cloud[np.sort(np.random.default_rng(0).permutation(len(cloud))[:count])]


def _write_picture_mesh(delivery: _Delivery, name: str, folder: Path) -> None:
    """Mesh of one frame that wears its picture; a frame without a triangle has no file."""
    from recon4d.formats.glb import write_textured_mesh

    surface, camera = delivery.surface(name), delivery.scene.trajectory[name].camera
    if len(surface.faces):
        uv = (surface.pixels + 0.5) / [camera.width, camera.height]
        picture = delivery.workspace.picture_path(name)
        write_textured_mesh(folder / f"{name}.glb", surface.vertices, surface.faces, uv, picture, delivery.up)


def _write_tum(delivery: _Delivery) -> None:
    from recon4d.formats.trajectories import write_tum

    trajectory = delivery.trajectory
    write_tum(delivery.folder("tum") / "trajectory.tum", trajectory.timestamps_s, trajectory.cam_from_world.inverse())


def _write_nerfstudio(delivery: _Delivery) -> None:
    from recon4d.formats.ply import write_cloud
    from recon4d.formats.transforms_json import write_transforms

    root, images = delivery.folder("nerfstudio"), delivery.folder("nerfstudio", "images")
    pictures = {name: delivery.workspace.picture_path(name) for name in delivery.scene.names}
    for picture in pictures.values():
        _link_or_copy(picture, images / picture.name)
    path = root / "transforms.json"
    write_transforms(path, delivery.trajectory, {name: f"images/{item.name}" for name, item in pictures.items()})
    static = _at_most(delivery.scene.static, delivery.options.max_static_points)
    write_cloud(root / "sparse_pc.ply", static.transformed(delivery.delivered_from_scene))
    content = {"ply_file_path": "sparse_pc.ply"} | json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_colmap(delivery: _Delivery) -> None:
    source = delivery.workspace.unit_dir("poses") / "sparse"
    if not source.is_dir():
        delivery.part.warn("export: there is no COLMAP model (the poses were not made from points), colmap is left out")
        return
    import pycolmap

    from recon4d.formats.arrays import read_arrays
    from recon4d.formats.colmap_model import read_reconstruction, with_cameras

    with delivery.workspace.reading("poses", "export"):
        model = read_reconstruction(source)
    moved = delivery.workspace.unit_dir(delivery.workspace.surface_unit()) / MOVED_POINTS
    if moved.exists():
        with_cameras(model, delivery.workspace.trajectory(), read_arrays(moved)["points"])
    turn = delivery.delivered_from_scene
    model.transform(pycolmap.Sim3d(turn.scale, pycolmap.Rotation3d(turn.rotation), turn.translation))
    images = delivery.folder("colmap", "images")
    for image in model.images.values():
        _link_or_copy(delivery.workspace.unit_dir("poses") / "images" / image.name, images / image.name)
    model.write(str(delivery.folder("colmap", "sparse", "0")))


def _link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name where the disk can do that (it takes no space), else a copy."""
    if target.exists():  # left by an interrupted run
        target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


WRITERS: dict[str, Callable[[_Delivery], None]] = {
    "ply": _write_ply,
    "glb": _write_glb,
    "colmap": _write_colmap,
    "nerfstudio": _write_nerfstudio,
    "tum": _write_tum,
}
