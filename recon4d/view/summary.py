"""The key numbers of a finished stage in one line of plain words."""

from __future__ import annotations

from collections.abc import Callable

from recon4d.workspace import StageRecord

Summary = dict[str, object]


def summary_line(record: StageRecord) -> str:
    """Key numbers and the seconds of a stage; in plain form where a record of another version lacks some of them."""
    tell = _LINES.get(record.unit.partition("/")[0], _plain)
    try:
        told = tell(record.summary)
    except (KeyError, TypeError, ValueError, AttributeError):
        told = _plain(record.summary)
    walked = record.summary.get("walked")  # by the first of two passes: it took as long as all of its stages
    more = sum(cost["seconds"] for cost in walked.values()) if isinstance(walked, dict) else 0
    return f"{record.unit}: {told} ({record.seconds + more:.0f} s)"


def _frames(s: Summary) -> str:
    return f"{s['frames']} frames of {s['width']}x{s['height']} from {s['source_frames']}"


def _poses(s: Summary) -> str:
    text = f"{s['registered']} of {s['frames']} frames have a pose ({s['source']})"
    if s.get("points"):
        text += f", {s['points']} points"
    if s.get("reprojection_error_px"):
        text += f", {s['reprojection_error_px']:.2f} px reprojection error"
    if s.get("focal_px"):
        text += f", focal length {s['focal_px']:.0f} px"
    if s.get("left_out_share"):
        text += f", without the {100 * s['left_out_share']:.1f} % of the pixels that move"
    return text


def _first_pass(s: Summary) -> str:
    if not s["frames_with_movers"]:
        return "nothing moves, a second pass has nothing to leave out"
    return f"{100 * s['moving_share']:.1f} % of the pixels move, in {s['frames_with_movers']} of {s['frames']} frames"


def _motion(s: Summary) -> str:
    if not s["objects"]:
        return f"nothing moves in {s['frames']} frames"
    share = f"{100 * s['moving_share']:.1f} % of the pixels"
    return f"{s['objects']} object{'s' if s['objects'] > 1 else ''} in {s['frames']} frames, {share}"


def _depth(s: Summary) -> str:
    text = f"{s['frames']} frame{'s' if s['frames'] != 1 else ''} of kind {s['kind']}"
    if s.get("model"):
        text += f" by {s['model']} ({s['licence']})"
    if not s.get("shares"):
        return text
    words = {"measured": "measured", "other_frame": "seen in other frames", "completed": "completed"}
    return f"{text} at {s['size']}: " + ", ".join(f"{100 * s['shares'][k]:.0f} % {word}" for k, word in words.items())


def _align(s: Summary) -> str:
    text = f"{s['frames']} frames"
    if s["residual_median"] is not None:
        text += f", {100 * s['residual_median']:.1f} % median residual at {s['points_per_frame']:.0f} points a frame"
    if s.get("held_out"):
        text += f", {100 * s['held_out']['median']:.1f} % at points held out"
    if not s["metres_per_unit"]:
        return text + ", size in metres not known"
    low, high = s["interval_95"]
    return text + f", {s['metres_per_unit']:.4g} metres per unit (95 %: {low:.4g} to {high:.4g})"


def _mesh(s: Summary) -> str:
    return f"{s['frames']} frames cut at their silhouettes"


def _refine(s: Summary) -> str:
    if not s["refined"]:
        return f"nothing refined: {s['why_not']}"
    before, after = s["energy_before"], s["energy_after"]
    gains = [
        f"{term} {100 * (after[term] / before[term] - 1):+.0f} %"
        for term in ("photometric", "depth", "opinions")
        if before[term]
    ]
    return (
        f"{s['refined']} of {s['frames']} frames at {s['size']}: energy {', '.join(gains)}, in all "
        f"{100 * (s['energy_left'] - 1):+.0f} %; windows alike (ZNCC) {s['alike']['before']:.3f} before, "
        f"{s['alike']['after']:.3f} after; depth moved by {100 * s['moved_median']:.1f} % (median), now known to "
        f"{100 * s['sigma_median']:.1f} %"
    )


def _export(s: Summary) -> str:
    size = f"{s['size_mb']:.{0 if s['size_mb'] >= 10 else 1}f} MB"
    return f"{s['files']} file{'s' if s['files'] != 1 else ''}, {size}, {s['up']} up, in {s['units']}"


def _fuse(s: Summary) -> str:
    if not {"static_points", "static_triangles", "voxel_size"} <= s.keys():
        return _plain(s)
    text = (
        f"background of {s['static_points']} points and {s['static_triangles']} triangles in voxels of "
        f"{s['voxel_size']:.3g}"
    )
    # Records of earlier versions lack some of what follows.
    if "coverage" in s:
        text += f", {100 * s['coverage']:.0f} % of what stands still is where it is"
    if gone := s.get("removed"):
        in_the_air = gone["islands"] + gone["stray_points"]
        text += f"; removed: {gone['seen_through']} voxels seen through, {gone['seldom_seen']} seldom seen, "
        text += f"{in_the_air} hanging in the air"
    if "objects" in s:
        text += f"; {s['objects']} moving objects with {s['moving_points']} points"
    return text


def _plain(s: Summary) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in s.items() if not isinstance(value, (dict, list))
    )


_LINES: dict[str, Callable[[Summary], str]] = {
    "frames": _frames,
    "poses": _poses,
    "first_pass": _first_pass,
    "depth": _depth,
    "align": _align,
    "motion": _motion,
    "mesh": _mesh,
    "refine": _refine,
    "fuse": _fuse,
    "export": _export,
}
