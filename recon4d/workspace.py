"""The scene folder: every path on disk, stage records, and how a finished stage is published. No maths.

A stage works in ``.part/UNIT-KEY/``. When it is done its record is written there, the old result is renamed to
``.old/UNIT`` and the new one takes its place; `Workspace.open` repairs whatever a kill left between these steps. A
folder without ``stage.json`` is never taken for a result. What lies in ``.old`` is for people and never comes back by
itself.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from recon4d._version import __version__
from recon4d.errors import InputError, WorkspaceError
from recon4d.formats.text_files import write_text
from recon4d.progress import Progress, Silent
from recon4d.stage_part import DONE_LIST, STATE, StagePart

if TYPE_CHECKING:
    import numpy as np

    from recon4d.scene.cloud import PointCloud
    from recon4d.scene.depth import DepthMap, SceneDepth
    from recon4d.scene.mesh import DepthMesh, TriMesh
    from recon4d.scene.motion import FrameMotion
    from recon4d.scene.recording import Recording
    from recon4d.scene.scene4d import Scene4D
    from recon4d.scene.scene_flow import SceneFlow
    from recon4d.scene.sparse import SparseModel
    from recon4d.scene.trajectory import Trajectory
    from recon4d.scene.transforms import Rigid3
    from recon4d.scene.windows import DepthWindows, OverlapPair

FORMAT = 1  # of the folder's layout; raised when an old folder can no longer be read
MARKER = "recon4d.json"
RECORD = "stage.json"
USERS_MASKS = "user_masks"  # in poses, where its masks are the user's and more
DEPTH_SOURCES = "depth/sources.json"  # names of the depth sources in force, the primary one first


@dataclass(frozen=True)
class StageRecord:
    """What `stage.json` holds: the proof that a unit is done, and how it came about."""

    unit: str  # "frames", "depth/precomputed", ...
    version: int  # of the stage's code; raised when the same options give another result
    key: str
    inputs: dict[str, str]  # unit -> key
    options: dict[str, object]
    summary: dict[str, object] = field(default_factory=dict)  # key numbers for people, by name
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    program: str = f"recon4d {__version__}"


class Workspace:
    """A scene folder that is ours and of this version."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._check_marker()
        with (
            suppress(WorkspaceError, OSError),
            self.lock(),
        ):  # not while another run is at work, nor on a read-only disk
            self._repair()

    @classmethod
    def create(cls, root: Path | str) -> Workspace:
        """Open the scene folder, or make it where nothing, or an empty folder, is. Raises WorkspaceError."""
        root = Path(root)
        if (root / MARKER).exists():
            return cls(root)
        if root.is_file():
            raise WorkspaceError(f"{root} is a file, a folder for the scene is expected: choose another --out")
        if root.is_dir() and any(root.iterdir()):
            raise WorkspaceError(
                f"{root} has files in it and is no recon4d scene: choose an empty or new folder (nothing was touched)"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
            write_text(root / MARKER, json.dumps({"format": FORMAT, "program": f"recon4d {__version__}"}) + "\n")
        except OSError as error:
            raise WorkspaceError(f"{root} cannot be written ({error.strerror}): choose another --out") from error
        return cls(root)

    def _check_marker(self) -> None:
        marker = self.root / MARKER
        if not marker.is_file():
            raise WorkspaceError(
                f"{self.root} is no recon4d scene ({MARKER} is missing): make one with recon4d run INPUT --out FOLDER"
            )
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))["format"]
        except (ValueError, KeyError, TypeError):
            raise WorkspaceError(f"{marker} is damaged: write a new scene with another --out") from None
        if found != FORMAT:
            raise WorkspaceError(
                f"{self.root} is a scene of layout {found}, this recon4d reads layout {FORMAT}: "
                "use the recon4d that wrote it, or make the scene anew with another --out"
            )

    # -- records and publication ---------------------------------------------------------------------------------

    def unit_dir(self, unit: str) -> Path:
        """Folder of a published unit, such as ``align`` or ``depth/precomputed``."""
        return self.root / unit

    def record(self, unit: str) -> StageRecord | None:
        """The record of a finished unit, or None when it is not done."""
        path = self.unit_dir(unit) / RECORD
        if not path.is_file():
            return None
        try:
            return StageRecord(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            return None  # damaged: the unit counts as not done and is made again

    def need(self, unit: str, by: str) -> StageRecord:
        """The record of a unit that ``by`` reads. Raises WorkspaceError."""
        record = self.record(unit)
        if record is None:
            stage = unit.partition("/")[0]
            raise WorkspaceError(
                f"{by}: the stage {stage} is not done yet: run recon4d {stage} {shlex.quote(str(self.root))} first"
            )
        return record

    def depth_sources(self) -> list[str]:
        """Names of the depth sources in force that are done, the primary one first."""
        done = sorted(path.parent.name for path in self.root.glob(f"depth/*/{RECORD}"))
        try:
            in_force = json.loads((self.root / DEPTH_SOURCES).read_text(encoding="utf-8"))["sources"]
            return [name for name in in_force if name in done]
        except (OSError, ValueError, KeyError, TypeError):  # made before there was a list, or damaged: all count
            return done

    def idle_depth_sources(self) -> list[str]:
        """Names of the depth sources that are done but no longer named in the options: nothing reads them, sorted."""
        in_force = self.depth_sources()
        done = (path.parent.name for path in self.root.glob(f"depth/*/{RECORD}"))
        return sorted(name for name in done if name not in in_force)

    def put_in_force(self, sources: Sequence[str]) -> None:
        """Make these the depth sources that later stages read, the primary one first; others stay on the disk."""
        write_text(self.root / DEPTH_SOURCES, json.dumps({"sources": list(sources)}) + "\n")

    def _part_path(self, unit: str, key: str) -> Path:
        return self.root / ".part" / f"{unit.replace('/', '.')}-{key[:16]}"

    def start(self, unit: str, key: str, progress: Progress | None = None) -> StagePart:
        """The working folder for ``unit`` under ``key``; work under another key is dropped, under the same resumed."""
        path = self._part_path(unit, key)
        for other in path.parent.glob(f"{unit.replace('/', '.')}-*"):
            if other != path:
                shutil.rmtree(other)
        return StagePart(path, progress or Silent())

    def publish(self, part: StagePart, record: StageRecord) -> None:
        """Make the finished work the result of its unit; the result before it is kept in ``.old``."""
        write_text(part.path / RECORD, json.dumps(asdict(record), indent=1) + "\n")
        self._swap_in(part.path, record.unit)

    def _swap_in(self, part: Path, unit: str) -> None:
        target, old = self.unit_dir(unit), self.root / ".old" / unit
        if target.exists():
            if old.exists():
                shutil.rmtree(old)
            old.parent.mkdir(parents=True, exist_ok=True)
            os.rename(target, old)
        target.parent.mkdir(parents=True, exist_ok=True)
        for unfinished in (DONE_LIST, STATE):
            (part / unfinished).unlink(missing_ok=True)
        os.rename(part, target)

    def _repair(self) -> None:
        for record in list(self.root.glob(f".part/*/{RECORD}")):  # finished, but killed before or amid the swap
            try:
                unit = json.loads(record.read_text(encoding="utf-8"))["unit"]
            except (ValueError, KeyError):
                continue
            self._swap_in(record.parent, unit)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of this scene while the block lasts. Raises WorkspaceError when one is at work."""
        import fcntl

        with open(self.root / ".lock", "w", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkspaceError(f"another recon4d is at work on {self.root}: wait for it, or stop it") from None
            yield

    @contextmanager
    def reading(self, unit: str, by: str) -> Iterator[Path]:
        """The folder of a finished unit; what is missing or damaged in it becomes one sentence with the way out."""
        self.need(unit, by)
        try:
            yield self.unit_dir(unit)
        except (InputError, FileNotFoundError, KeyError, ValueError) as error:
            raise WorkspaceError(
                f"{self.unit_dir(unit)} is damaged ({error}): delete that folder and run "
                f"recon4d run --out {shlex.quote(str(self.root))}"
            ) from error

    @property
    def title(self) -> str:
        """What people call this scene: the folder's name, or the recording's where the folder is just called scene."""
        from recon4d.formats.options_toml import read_options_toml

        root = self.root.resolve()
        if root.name.lower() not in ("scene", ""):
            return root.name
        recording = read_options_toml(root / "options.toml").get("input", {}).get("path", "")
        return Path(recording).stem or root.parent.name or "scene"

    # -- lazy readers: one item at a time, as our nouns ----------------------------------------------------------

    def recording(self) -> Recording:
        """The chosen frames and where their pictures lie."""
        from recon4d.formats.frames_table import read_recording

        with self.reading("frames", "recording") as folder:
            return read_recording(folder)

    def trajectory(self) -> Trajectory:
        """Cameras of the frames: the refined ones once `refine` is done with these poses, else those of `poses`."""
        from recon4d.formats.cameras_json import read_trajectory

        with self.reading("refine" if self._refine_counts() else "poses", "trajectory") as folder:
            return read_trajectory(folder / "cameras.json")

    def unrefined_trajectory(self) -> Trajectory:
        """Cameras of the frames as `poses` has them, for the stages before `refine` and for itself."""
        from recon4d.formats.cameras_json import read_trajectory

        with self.reading("poses", "trajectory") as folder:
            return read_trajectory(folder / "cameras.json")

    def sparse_model(self) -> SparseModel:
        """The sparse points of structure from motion and where each frame saw them."""
        from recon4d.formats.colmap_model import read_sparse_model

        with self.reading("poses", "sparse_model") as folder:
            return read_sparse_model(folder / "sparse")

    def picture_path(self, name: str) -> Path:
        """Undistorted picture of a frame. Raises WorkspaceError."""
        with self.reading("poses", "picture") as folder:
            for suffix in (".jpg", ".png"):
                path = folder / "images" / f"{name}{suffix}"
                if path.exists():
                    return path
            raise FileNotFoundError(f"images/{name} is missing")

    def picture(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB undistorted picture of a frame."""
        from recon4d.formats.pictures import read_rgb

        path = self.picture_path(name)
        with self.reading("poses", "picture"):
            return read_rgb(path)

    def ignored(self, name: str) -> np.ndarray | None:
        """(H, W) bool: undistorted pixels taken out of poses and background; None where there are none.

        By the user's mask, and in a second pass also by what the first one found to move.
        """
        return self._mask("masks", name)

    def ignored_by_user(self, name: str) -> np.ndarray | None:
        """(H, W) bool: those of `ignored` that the user's own mask takes out; None where there is none."""
        record = self.need("poses", "ignored_by_user")
        return self._mask(USERS_MASKS if record.summary.get("left_out_share") is not None else "masks", name)

    def _mask(self, kind: str, name: str) -> np.ndarray | None:
        from recon4d.formats.pictures import read_grey

        with self.reading("poses", "ignored") as folder:
            path = folder / kind / f"{name}.png"
            return read_grey(path) > 127 if path.exists() else None

    def depth_map(self, name: str, source: str) -> DepthMap:
        """Depth of one frame as the source gave it."""
        from recon4d.formats.arrays import read_depth_map
        from recon4d.scene.depth import DepthKind

        unit = f"depth/{source}"
        with self.reading(unit, "depth_map") as folder:
            return read_depth_map(folder / f"{name}.npz", DepthKind(self.record(unit).summary["kind"]))

    def depth_windows(self, source: str) -> DepthWindows | None:
        """The windows in which a video model made this depth; None where they are not known."""
        from recon4d.formats.windows_json import read_windows

        names = self.unrefined_trajectory().names
        with self.reading(f"depth/{source}", "depth_windows") as folder:
            found = read_windows(folder, names)
        return None if found is None else replace(found, overlap=lambda name: self._overlap(source, name))

    def _overlap(self, source: str, name: str) -> OverlapPair | None:
        from recon4d.formats.windows_json import read_overlap

        with self.reading(f"depth/{source}", "depth_windows") as folder:
            return read_overlap(folder, name)

    def scene_depth(self, name: str, unit: str = "align") -> SceneDepth:
        """Depth of one frame in scene units, from ``align``, ``mesh`` or ``refine``."""
        from recon4d.formats.arrays import read_scene_depth

        with self.reading(unit, "scene_depth") as folder:
            return read_scene_depth(folder / f"{name}.npz")

    def metres_per_unit(self) -> float | None:
        """Size of the world; None where it is not known."""
        with self.reading("align", "metres_per_unit") as folder:
            return json.loads((folder / "scale.json").read_text(encoding="utf-8"))["metres_per_unit"]

    def levelled_from_scene(self) -> Rigid3 | None:
        """The world turned so that z is up; None where up is not known."""
        from recon4d.scene.transforms import Rigid3

        with self.reading("align", "levelled_from_scene") as folder:
            matrix = json.loads((folder / "world_up.json").read_text(encoding="utf-8"))["levelled_from_scene"]
            return None if matrix is None else Rigid3.from_matrix(matrix)

    def motion(self, name: str) -> FrameMotion:
        """What moves in a frame."""
        from recon4d.formats.arrays import read_motion

        with self.reading("motion", "motion") as folder:
            return read_motion(folder / f"{name}.npz")

    def surface_unit(self) -> str:
        """The unit with the best surfaces so far: ``refine`` if done, else ``mesh``."""
        return "refine" if self._refine_counts() else "mesh"

    def _refine_counts(self) -> bool:
        """Whether refine is done, and of the poses and surfaces that are there now."""
        record = self.record("refine")
        if record is None:
            return False
        current = {unit: self.record(unit) for unit in ("poses", "mesh")}
        return all(found is None or record.inputs.get(unit) == found.key for unit, found in current.items())

    def depth_mesh(self, name: str, unit: str | None = None) -> DepthMesh:
        """Surface of one frame, from ``mesh`` or ``refine``; without a unit the refined one once `refine` is done."""
        from recon4d.formats.arrays import read_depth_mesh

        with self.reading(unit or self.surface_unit(), "depth_mesh") as folder:
            return read_depth_mesh(folder / f"{name}.npz")

    def static_cloud(self) -> PointCloud:
        """The fused background, world frame, scene units."""
        from recon4d.formats.ply import read_cloud

        with self.reading("fuse", "static_cloud") as folder:
            return read_cloud(folder / "static.ply")

    def static_mesh(self) -> TriMesh:
        """The fused background as a mesh, world frame, scene units."""
        from recon4d.formats.ply import read_mesh

        with self.reading("fuse", "static_mesh") as folder:
            return read_mesh(folder / "static_mesh.ply")

    def scene(self) -> Scene4D:
        """The whole result; what moves in a frame is read when asked for."""
        from recon4d.formats.scene_json import read_scene

        with self.reading("fuse", "scene") as folder:
            return replace(read_scene(folder / "scene.json"), moving=self.moving_cloud)

    def moving_cloud(self, name: str) -> PointCloud:
        """What moves in a frame, world frame, scene units; maybe no points."""
        from recon4d.formats.ply import read_cloud
        from recon4d.formats.scene_json import MOVING

        with self.reading("fuse", "moving_cloud") as folder:
            return read_cloud(folder / MOVING.format(name=name))

    def scene_flow(self, name: str) -> SceneFlow:
        """Where the pixels of a frame go in the world until the next frame, and where they came from."""
        from recon4d.formats.arrays import read_scene_flow
        from recon4d.formats.scene_json import SCENE_FLOW

        with self.reading("fuse", "scene_flow") as folder:
            return read_scene_flow(folder / SCENE_FLOW.format(name=name))
