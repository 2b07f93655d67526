"""How long a scene unit is, from all the cues a scene has: a part of the stage align."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import AlignmentError, InputError, OptionsError
from recon4d.metric.baseline import baseline_cue, parse_baseline
from recon4d.metric.depth_ratio import metric_depth_cue
from recon4d.metric.distance import (
    KnownDistance,
    Pick,
    PickedEnd,
    distance_cue,
    lifted,
    met,
    on_surface,
    parse_distance,
)
from recon4d.metric.gps import GPS_ERROR_M, MIN_PHOTOS, east_north_up, gps_cue
from recon4d.metric.height import camera_height_cue
from recon4d.metric.marker import MIN_FRAMES, MarkerSquare, Sightings, fit_square, marker_cues, often_seen
from recon4d.metric.marker_pictures import DICTIONARIES, TRIED, MarkerFinder, marker_finder
from recon4d.metric.path import positions_at, trajectory_cue
from recon4d.metric.scale import STRUCTURE_SIGMA, Cue, MetricScale, NoCue, combine
from recon4d.scene.trajectory import PoseOrigin, Trajectory, View
from recon4d.stages.common import BY_CONTENT, check_range
from recon4d.workspace import StagePart, Workspace

if TYPE_CHECKING:
    from recon4d.formats.gps import GpsFix
    from recon4d.geometry.ground import GroundPlane
    from recon4d.scene.depth import SceneDepth

MARKER_FRAMES = 60  # are searched for markers, evenly over the clip
MARKER_SURVEY = 20  # of them are searched with every dictionary
MARKER_NEAR = 30  # more frames are searched beside those that show a marker seen in few
SURFACE_FRAMES = 60  # are searched for the surface that a picked 3-D point lies on


@dataclass(frozen=True)
class MetricOptions:
    """What is known in metres. All that is given is combined; what contradicts the rest is said."""

    marker: float | None = None
    """Side of the black square of printed ArUco or AprilTag markers in view, metres; all of one size."""
    marker_dictionary: str = "auto"
    """Kind of the markers, by OpenCV's names: 4x4_50, 6x6_250, apriltag_36h11, ... auto finds it."""
    camera_height: float | None = None
    """Mean height of the camera above the ground over the clip, metres; the ground must be in view."""
    camera_height_sigma: float | None = None
    """Standard deviation of that height, metres; left out: 5 % of it."""
    distance: tuple[str, ...] = ()
    """Known distances in metres between two points picked in the pictures of poses/images (pixels): "NAME x,y x,y 0.85"
    in one frame, "NAME x,y NAME2 x,y 0.85" in two, "NAME x,y+NAME2 x,y NAME x,y+NAME2 x,y 0.85" each in several
    (best), or "X,Y,Z X,Y,Z 0.85" in scene units as in fuse/static.ply. +-0.01 after it: its standard deviation."""
    trajectory: Path | None = field(default=None, metadata=BY_CONTENT)
    """Path of the camera in metres (ARKit, robot, motion capture): TUM text, matched by time."""
    trajectory_offset_s: float = 0.0
    """Added to the times of the frames (seconds, the first is 0) to find them on the trajectory."""
    gps: bool = True
    """Use the GPS in the EXIF of photos where they lie far enough apart."""
    baseline: tuple[str, ...] = ()
    """Distance of two cameras mounted together, metres: "left_* right_* 0.12" pairs frames where * stands for the same
    text; two names without * are one pair."""


@dataclass(frozen=True)
class MetricDepth:
    """A depth source that is metric itself."""

    name: str
    log_gain: np.ndarray  # (N,) of the frames with a fit of their own: z in scene units = exp(log_gain) * metres
    sensor: bool  # measured, not predicted


@dataclass(frozen=True)
class ScaleEvidence:
    """What align has at hand beside the pictures."""

    scene_depth: Callable[[str], SceneDepth]  # aligned depth of a frame by name
    ground: GroundPlane | None
    metric_depths: tuple[MetricDepth, ...] = ()


def check_metric_options(options: MetricOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError or InputError."""
    from recon4d.formats.trajectories import read_tum

    for name in ("marker", "camera_height", "camera_height_sigma"):
        if getattr(options, name) is not None:
            check_range("align", f"metric.{name}", getattr(options, name), above=0.0)
    if options.marker_dictionary not in ("auto", *DICTIONARIES):
        raise OptionsError(
            f"align: --metric.marker-dictionary is '{options.marker_dictionary}', auto or one of "
            f"{', '.join(DICTIONARIES)} is expected"
        )
    if options.camera_height_sigma is not None and options.camera_height is None:
        raise OptionsError("align: --metric.camera-height-sigma needs --metric.camera-height")
    if not math.isfinite(options.trajectory_offset_s):
        raise OptionsError("align: --metric.trajectory-offset-s is no finite number of seconds")
    for text in options.distance:
        parse_distance(text)
    for text in options.baseline:
        parse_baseline(text)
    if options.trajectory is not None:
        try:
            read_tum(Path(options.trajectory))
        except InputError as error:
            raise InputError(f"align: --metric.trajectory: {error}") from error


def check_named_frames(options: MetricOptions, trajectory: Trajectory) -> None:
    """Refuse frames and camera pairs that a clip does not have, before it is fitted. Raises OptionsError."""
    for text in options.distance:
        for picks in parse_distance(text).ends:
            if isinstance(picks, tuple):
                for pick in picks:
                    _named_view(trajectory, pick.frame, "--metric.distance")
    names = [view.name for view in trajectory if view.origin.is_evidence]
    for text in options.baseline:
        parse_baseline(text).pairs(names)


def _named_view(trajectory: Trajectory, name: str, option: str) -> View:
    if name not in trajectory:
        raise OptionsError(
            f"align: {option} names the frame {name!r}, which is none with a pose (they are called "
            f"{', '.join(trajectory.names[:3])}, ...): correct the name"
        )
    return trajectory[name]


def measure_scale(
    workspace: Workspace, trajectory: Trajectory, options: MetricOptions, evidence: ScaleEvidence, part: StagePart
) -> MetricScale:
    """Metres per scene unit from everything that is given or found.

    What was asked for but the clip does not show becomes a warning of ``part``, and so do contradictions.

    Raises:
        OptionsError: a frame is named that has no pose.
        AlignmentError: a picked pixel is outside its picture, on no surface, or picks of one point do not meet.
    """
    views = [view for view in trajectory if view.origin.is_evidence]
    scene = _Scene(workspace, trajectory, views, evidence, part)
    cues = []
    for measure in _measures(scene, options):
        try:
            cues += measure()
        except NoCue as error:
            part.warn(str(error))
    photos = _photo_fixes(scene) if options.gps else {}
    if photos:
        try:
            cues.append(_from_gps(scene, photos))
        except NoCue as error:  # nobody asked for it
            part.progress.say(f"  {str(error).removeprefix('align: ')}")
    # On a tripod there is no structure that could be bent: the depth itself is the scene.
    structured = not all(origin is PoseOrigin.STATIC for origin in trajectory.origin)
    scale = combine(cues, STRUCTURE_SIGMA if structured else 0.0)
    for sentence in scale.contradictions:
        part.warn(sentence)
    return scale


@dataclass(frozen=True)
class _Scene:
    """What every measurement may look at."""

    workspace: Workspace
    trajectory: Trajectory
    views: list[View]  # with poses that are evidence, in the order of time
    evidence: ScaleEvidence
    part: StagePart

    def view(self, name: str, option: str) -> View:
        """The view of a frame that a person named. Raises OptionsError."""
        return _named_view(self.trajectory, name, option)


def _measures(scene: _Scene, options: MetricOptions) -> Iterator[Callable[[], list[Cue]]]:
    if options.marker is not None:
        yield lambda: _from_markers(scene, options.marker, options.marker_dictionary)
    for text in options.distance:
        yield lambda text=text: [_from_distance(scene, parse_distance(text))]
    if options.camera_height is not None:
        yield lambda: [_from_height(scene, options.camera_height, options.camera_height_sigma)]
    if options.trajectory is not None:
        yield lambda: [_from_trajectory(scene, Path(options.trajectory), options.trajectory_offset_s)]
    for text in options.baseline:
        yield lambda text=text: [_from_baseline(scene, text)]
    for depth in scene.evidence.metric_depths:
        yield lambda depth=depth: [metric_depth_cue(depth.log_gain, depth.name, depth.sensor)]


# -- markers ---------------------------------------------------------------------------------------------------------


def _from_markers(scene: _Scene, side_m: float, wanted: str) -> list[Cue]:
    """Raises NoCue."""
    count = len(scene.views)
    if not count:
        raise NoCue("align: --metric.marker is not used: it needs a camera that moves; give another cue")
    rows = np.unique(np.linspace(0, count - 1, min(count, MARKER_FRAMES)).round().astype(int)).tolist()
    names = list(TRIED) if wanted == "auto" else [wanted]
    found: dict[str, Sightings] = {name: {} for name in names}
    if len(names) > 1:
        _search(scene, rows[:: max(len(rows) // MARKER_SURVEY, 1)], found)
        # A number seen twice is hardly chance; seen once it is what textures look like now and then.
        twice = {name: sum(len(seen) for seen in found[name].values() if len(seen) > 1) for name in names}
        best = max(names, key=lambda name: twice[name])
        found = {best: {}} if twice[best] else {name: {} for name in names}
    _search(scene, rows, found)
    kind = max(found, key=lambda name: sum(len(seen) for seen in often_seen(found[name]).values()))
    sightings = found[kind]
    if sightings and max(len(seen) for seen in sightings.values()) < MARKER_NEAR:
        shown = {row for seen in sightings.values() for row, _ in seen}
        near = sorted(set(range(count)) - set(rows), key=lambda row: min(abs(row - other) for other in shown))
        _search(scene, sorted(near[:MARKER_NEAR]), {kind: sightings})
    squares, reasons = _squares(scene, often_seen(sightings))
    if squares:
        return marker_cues(squares, side_m, kind)
    if not reasons:
        raise NoCue(
            f"align: no marker was found in {MIN_FRAMES} or more of {len(rows)} frames, so --metric.marker is unused: "
            "show it larger, sharp and flat, with its white margin, or name its kind with --metric.marker-dictionary"
        )
    raise NoCue(
        f"align: --metric.marker is not used: {reasons[0]}; film the marker longer, standing still, from several sides"
    )


def _squares(scene: _Scene, sightings: Sightings) -> tuple[list[MarkerSquare], list[str]]:
    """The markers that stand in the scene, and why others do not, those seen most often first."""
    squares, reasons = [], []
    for number, seen in sorted(sightings.items(), key=lambda item: -len(item[1])):
        try:
            squares.append(fit_square(number, seen, scene.views))
        except NoCue as error:
            reasons.append(str(error))
    return squares, reasons


def _search(scene: _Scene, rows: Sequence[int], found: dict[str, Sightings]) -> None:
    """Add what the frames of these rows show, by dictionary."""
    import cv2

    finders: dict[str, MarkerFinder] = {name: marker_finder(name) for name in found}
    with scene.part.progress.bar("looking for markers", len(rows)) as bar:
        for row in rows:
            grey = cv2.cvtColor(scene.workspace.picture(scene.views[row].name), cv2.COLOR_RGB2GRAY)
            for name, find in finders.items():
                for number, corners in find(grey):
                    found[name].setdefault(number, []).append((row, corners))
            bar.advance()


# -- distances, height, baseline -------------------------------------------------------------------------------------


def _from_distance(scene: _Scene, known: KnownDistance) -> Cue:
    """Raises OptionsError, AlignmentError, NoCue."""
    if isinstance(known.ends[0], np.ndarray):
        ends = _surface_ends(scene, known)
    else:
        ends = [_picked_end(scene, picks, known.text) for picks in known.ends]
    cue = distance_cue(ends, known.metres, known.tolerance_m)
    return replace(cue, detail=f"{cue.detail}: {known.text}")


def _picked_end(scene: _Scene, picks: tuple[Pick, ...], text: str) -> PickedEnd:
    """Raises OptionsError, AlignmentError, NoCue."""
    views = [scene.view(pick.frame, "--metric.distance") for pick in picks]
    if len(picks) == 1:
        return lifted(picks[0], views[0], scene.evidence.scene_depth(picks[0].frame))
    if len({pick.frame for pick in picks}) < len(picks):
        raise OptionsError(f"align: --metric.distance {text!r} joins two pixels of one frame with +")
    guessed = [view.name for view in views if not view.origin.is_evidence]
    if guessed:
        raise AlignmentError(
            f"align: the pose of frame {guessed[0]} in --metric.distance {text!r} is not measured: pick another frame"
        )
    try:
        return met(picks, views)
    except NoCue as error:
        raise NoCue(f"{error}, so --metric.distance {text!r} is not used: pick frames further apart") from error


def _surface_ends(scene: _Scene, known: KnownDistance) -> list[PickedEnd]:
    """Ends given as points, with the errors of the frame that sees them best; if possible one for both."""
    count = len(scene.trajectory)
    found: list[list[PickedEnd | None]] = []
    for row in np.unique(np.linspace(0, count - 1, min(count, SURFACE_FRAMES)).round().astype(int)):
        view = scene.trajectory[scene.trajectory.names[row]]
        surface = scene.evidence.scene_depth(view.name)
        found.append([on_surface(np.asarray(point), view, surface) for point in known.ends])
    both = [pair for pair in found if None not in pair]
    if both:
        return min(both, key=lambda pair: sum(np.linalg.norm(end.depth_error) for end in pair))
    ends = []
    for k, point in enumerate(known.ends):
        seen = [pair[k] for pair in found if pair[k] is not None]
        if not seen:
            raise AlignmentError(
                f"align: the point {','.join(f'{v:g}' for v in point)} of --metric.distance lies on no surface of the "
                "scene: give scene units as in fuse/static.ply, not those of a levelled or metric export"
            )
        ends.append(min(seen, key=lambda end: np.linalg.norm(end.depth_error)))
    return ends


def _from_height(scene: _Scene, height_m: float, sigma_m: float | None) -> Cue:
    """Raises NoCue."""
    ground = scene.evidence.ground
    if ground is None:
        raise NoCue(
            "align: no ground was found, so --metric.camera-height is not used: film more of the ground, or give "
            "another cue"
        )
    plane = (ground.normal, ground.offset, ground.sigma)
    return camera_height_cue(plane, scene.trajectory.centres, height_m, sigma_m)


def _from_baseline(scene: _Scene, text: str) -> Cue:
    """Raises OptionsError."""
    rule = parse_baseline(text)
    pairs = rule.pairs([view.name for view in scene.views])
    centres = np.stack([view.cam_from_world.inverse().translation for view in scene.views])
    first, second = np.array(pairs).T
    return baseline_cue(centres[first], centres[second], rule.metres)


# -- paths -----------------------------------------------------------------------------------------------------------


def _from_trajectory(scene: _Scene, path: Path, offset_s: float) -> Cue:
    """Raises NoCue."""
    from recon4d.formats.trajectories import read_tum

    times, poses = read_tum(path)
    wanted = np.array([view.timestamp_s for view in scene.views])
    positions, rows = positions_at(wanted + offset_s, times, poses.translation)
    if not len(rows):
        span = f"{wanted.min() + offset_s:.3f} to {wanted.max() + offset_s:.3f} s" if len(wanted) else "without a pose"
        raise NoCue(
            f"align: no frame has a time on --metric.trajectory {path.name} (frames: {span}, trajectory: "
            f"{times.min():.3f} to {times.max():.3f} s): shift them with --metric.trajectory-offset-s"
        )
    centres = np.stack([scene.views[row].cam_from_world.inverse().translation for row in rows])
    return trajectory_cue(centres, positions, path.name)


def _photo_fixes(scene: _Scene) -> dict[int, GpsFix]:
    """GPS of the photos, by row of the view, as the frames stage found it; nothing for a video."""
    from recon4d.formats.gps import read_gps_table

    with scene.workspace.reading("frames", "align") as folder:
        told = read_gps_table(folder / "gps.csv") if (folder / "gps.csv").exists() else {}
    fixes = {row: told[view.name] for row, view in enumerate(scene.views) if view.name in told}
    return fixes if len(fixes) >= MIN_PHOTOS else {}


def _from_gps(scene: _Scene, fixes: dict[int, GpsFix]) -> Cue:
    """Raises NoCue."""
    heights = [fix.altitude_m for fix in fixes.values()]
    heights = np.zeros(len(fixes)) if None in heights else np.array(heights)
    places = [(fix.latitude_deg, fix.longitude_deg) for fix in fixes.values()]
    positions = east_north_up(*np.array(places).T, heights)
    centres = np.stack([scene.views[row].cam_from_world.inverse().translation for row in fixes])
    return gps_cue(centres, positions, [fix.error_m or GPS_ERROR_M for fix in fixes.values()])
