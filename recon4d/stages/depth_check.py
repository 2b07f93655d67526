"""Is depth of the kind it is taken for? The sparse points of the poses tell depth from disparity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from recon4d.depth.kind_check import KindEvidence, kind_evidence
from recon4d.errors import DepthError
from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.workspace import StagePart, Workspace

SAMPLE = 12  # frames, evenly over the clip
LEAST_ANGLE_DEG = 1.0  # of a point's rays: below, its z is mostly noise
LEAST_TRACK = 3


@dataclass(frozen=True)
class KindVerdict:
    """What a check of the kind found."""

    kind: DepthKind  # as which the numbers are to be read from now on
    changed: bool
    remark: str | None = None  # for people; None when there is nothing to compare with
    evidence: KindEvidence | None = None


def sample_names(workspace: Workspace, most: int = SAMPLE) -> tuple[str, ...]:
    """Frames whose depth is worth comparing with sparse points, evenly over the clip; none when there are no points."""
    if not _has_points(workspace):
        return ()
    rows = workspace.sparse_model().rows
    seen = [v.name for v in workspace.unrefined_trajectory() if v.origin.is_evidence and len(rows.get(v.name, ()))]
    chosen = np.unique(np.linspace(0, len(seen) - 1, most).round().astype(int)) if seen else ()
    return tuple(seen[i] for i in chosen)


def check_kind(
    workspace: Workspace,
    kind: DepthKind,
    told: bool,
    sample: Iterable[tuple[str, DepthMap]],
    otherwise: DepthKind | None = None,
) -> KindVerdict:
    """Compare depth that was not written yet with the sparse points.

    Args:
        kind: as which the numbers are read; that of the sample.
        told: the user named the kind; then a contradiction is an error.
        sample: frames (`sample_names`) and their depth on the grid of the undistorted picture; read one at a time.
        otherwise: the kind when larger numbers mean the opposite; None: the affine one of the other side.

    Raises:
        DepthError: the user's kind is contradicted.
    """
    if not _has_points(workspace):
        return KindVerdict(kind, changed=False)
    evidence = kind_evidence(*_at_points(workspace, sample))
    if evidence is None:
        return KindVerdict(kind, changed=False)
    facts = (
        f"rank correlation with the depth of {evidence.points} points of {evidence.frames} frames "
        f"{evidence.correlation:+.2f}"
    )
    if evidence.larger_is_farther is None:
        doubt = f"the points of the poses neither confirm nor refute that it is {_words(kind)} ({facts}): look at it"
        return KindVerdict(kind, False, doubt, evidence)
    if evidence.larger_is_farther is not kind.is_disparity:
        return KindVerdict(kind, False, f"the points of the poses agree that it is {_words(kind)} ({facts})", evidence)
    other = otherwise or (DepthKind.AFFINE_Z if kind.is_disparity else DepthKind.AFFINE_DISPARITY)
    meaning = "nearer" if other.is_disparity else "farther"
    if told:
        raise DepthError(
            f"depth: larger numbers are {meaning} here ({facts}), so they cannot be {kind.value} as --depth.kind (or "
            f"KIND in --depth.more) says: say {_kinds(other)}"
        )
    return KindVerdict(
        other,
        True,
        f"it looked like {kind.value}, but larger numbers are {meaning} ({facts}): it is read as {other.value}; "
        f"--depth.kind {_kinds(other)} says more where more is known",
        evidence,
    )


def confirmed_kind(workspace: Workspace, part: StagePart, kind: DepthKind, told: bool) -> DepthKind:
    """The kind of depth that a network has just written to the part, after a look at the sparse points.

    Work of hours is not thrown away for a kind: where the points contradict it, that is a warning, and the kind changes
    unless it was ``told``. The numbers in the files are the same either way.
    """
    from recon4d.formats.arrays import read_depth_map

    sample = ((name, read_depth_map(part.path / f"{name}.npz", kind)) for name in sample_names(workspace))
    verdict = check_kind(workspace, kind, told=False, sample=sample)
    if verdict.changed and told:
        part.warn(
            f"depth: larger numbers are {'nearer' if verdict.kind.is_disparity else 'farther'} at the points of the "
            f"poses, and {kind.value} means the opposite: check the model, the kind it is said to give, and the poses"
        )
        return kind
    if verdict.changed:
        part.warn(f"depth: {verdict.remark}")
    elif verdict.remark:
        part.progress.say(f"  {verdict.remark}")
    return verdict.kind


def _kinds(of: DepthKind) -> str:
    """All kinds of the same direction that other programs write."""
    alike = [k.value for k in DepthKind if k.is_disparity is of.is_disparity and k is not DepthKind.SCENE_Z]
    return " or ".join([", ".join(alike[:-1]), alike[-1]])


def _words(kind: DepthKind) -> str:
    return "disparity, larger is nearer" if kind.is_disparity else "depth, larger is farther"


def _has_points(workspace: Workspace) -> bool:
    """Poses that stand for nothing (none, static) bring no points."""
    return (workspace.unit_dir("poses") / "sparse").is_dir() and len(workspace.sparse_model()) > 0


def _at_points(
    workspace: Workspace, sample: Iterable[tuple[str, DepthMap]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The numbers at the trustworthy points of each frame, and the points' z."""
    model, trajectory = workspace.sparse_model(), workspace.unrefined_trajectory()
    good = (model.angle_deg >= LEAST_ANGLE_DEG) & (model.track_length >= LEAST_TRACK)
    values, depths = [], []
    for name, depth in sample:
        rows, pixels = model.rows.get(name), model.pixels.get(name)
        if rows is None or name not in trajectory.names:
            continue
        view = trajectory[name]
        z = (view.cam_from_world @ model.points[rows])[:, 2]
        height, width = depth.values.shape
        x = np.floor(pixels[:, 0] * (width / view.camera.width)).astype(int)
        y = np.floor(pixels[:, 1] * (height / view.camera.height)).astype(int)
        used = good[rows] & (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        used[used] &= depth.valid[y[used], x[used]]
        values.append(depth.values[y[used], x[used]].astype(np.float64))
        depths.append(z[used])
    return values, depths
