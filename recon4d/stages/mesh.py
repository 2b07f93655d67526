"""Stage mesh: the depth grid of every frame, cut at silhouettes and around what moves."""

from __future__ import annotations

from dataclasses import dataclass

from recon4d.progress import Progress
from recon4d.stages.common import check_range, execute
from recon4d.workspace import StagePart, StageRecord, Workspace

VERSION = 2


@dataclass(frozen=True)
class MeshOptions:
    """Where a surface ends."""

    max_ratio: float = 1.03
    """Neighbouring pixels are cut apart when one is this many times deeper than the other."""
    min_angle_deg: float = 8.0
    """They are cut apart when the line between them runs closer to the viewing ray than this (degrees)."""


def check_options(options: MeshOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError."""
    check_range("mesh", "max_ratio", options.max_ratio, above=1.0)
    check_range("mesh", "min_angle_deg", options.min_angle_deg, low=0.0, high=90.0)


def run(workspace: Workspace, options: MeshOptions, progress: Progress | None = None) -> StageRecord:
    """Cut every aligned depth grid into surfaces."""
    check_options(options)
    return execute(
        workspace,
        "mesh",
        VERSION,
        options,
        ("align", "motion", "poses"),
        lambda part: _work(workspace, options, part),
        progress,
    )


def _work(workspace: Workspace, options: MeshOptions, part: StagePart) -> dict[str, object]:
    from recon4d.formats.arrays import write_depth_mesh
    from recon4d.geometry.meshing import cut_between, cut_silhouettes

    trajectory = workspace.unrefined_trajectory()
    for name in part.pending(trajectory.names, "meshing"):
        mesh = cut_silhouettes(
            workspace.scene_depth(name), trajectory[name].camera, options.max_ratio, options.min_angle_deg
        )
        write_depth_mesh(part.path / f"{name}.npz", cut_between(mesh, workspace.motion(name).object_id))
    return {"frames": len(trajectory)}
