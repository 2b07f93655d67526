"""From matches to cameras and points: COLMAP's incremental and global mappers, and points for given cameras."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recon4d.poses.given import model_for_triangulation
from recon4d.poses.models import write_model
from recon4d.poses.native import SEED, load_pycolmap
from recon4d.poses.reversal import Reading, Verdict, judge, seed
from recon4d.poses.solution import Solution
from recon4d.progress import Bar, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pycolmap

# Degrees between the views of the first pair. COLMAP itself halves the first value twice when nothing starts; slow
# clips need less still, and what comes of it is judged by its parallax afterwards.
FIRST_PAIR_DEG = (16.0, 8.0, 4.0)

LEAST_KEPT = 0.9  # of the frames, when a reversed model is mapped again

PLAUSIBLE_FOCAL = (0.3, 5.0)  # of the longest side: 118 to 11 degrees


@dataclass(frozen=True)
class Places:
    """Where the mappers read and write."""

    database: Path
    pictures: Path  # folder of the pictures, under the names of the database
    model: Path  # folder for the result; it is not there when nothing could be started

    @property
    def work(self) -> Path:
        """For the files the mappers insist on writing."""
        return self.model.with_name("mapper")


@dataclass(frozen=True)
class MappingOptions:
    """How to map."""

    mapper: str  # incremental or global
    fixed_lens: bool  # the cameras are given: do not refine them
    threads: int  # -1: all
    enough: int  # frames a model must have; with fewer, easier conditions are tried


@dataclass(frozen=True)
class Mapped:
    """The best model and what it took."""

    model: pycolmap.Reconstruction | None  # None when nothing could be started
    models: int  # number of separate models of the last attempt
    mapper: str  # the mapper that made it


@dataclass(frozen=True)
class MapReport:
    """How the written model came about."""

    mapper: str  # the mapper that made it
    models: int  # number of separate models of the last attempt
    reading: Reading  # of depth
    turned: bool  # it was mapped again from the other reading
    ratio: float | None  # cost of the best other reading over that of the model's; None: no other comes near


def reconstruct(places: Places, options: MappingOptions, progress: Progress) -> MapReport:
    """Map all frames of a database; of several models the one with most frames is written, never the first as such.

    A model whose depth comes out reversed is mapped again the other way round.
    """
    mapped = _best(places, options, progress)
    verdict, turned = Verdict(Reading.SETTLED, None, ()), False
    if mapped.model is not None:
        verdict = judge(mapped.model, options.fixed_lens)
        if verdict.reading is Reading.REVERSED:
            mapped, verdict, turned = _turned(mapped, verdict, places, options, progress)
    _save(mapped.model, places.model)
    return MapReport(mapped.mapper, mapped.models, verdict.reading, turned, verdict.ratio)


def _turned(
    mapped: Mapped, verdict: Verdict, places: Places, options: MappingOptions, progress: Progress
) -> tuple[Mapped, Verdict, bool]:
    """Map again from the other reading; the better of both models, and whether it is the new one.

    The incremental mapper does it, whichever made the first model: the global one takes its motions from pairs of
    frames, which cannot tell the readings apart.
    """
    start = places.model.with_name("seed")
    progress.say("  depth came out reversed: the pictures fit better the other way round, mapping once more")
    _save(seed(mapped.model, verdict), start)
    models = _incremental(places, options, FIRST_PAIR_DEG[0], progress, start)
    shutil.rmtree(start)
    again = _largest(models, "incremental")
    if _frames_of(again) < max(options.enough, LEAST_KEPT * _frames_of(mapped)):
        return mapped, verdict, False
    settled = judge(again.model, options.fixed_lens)
    if settled.reading is Reading.REVERSED:
        return mapped, verdict, False
    return again, settled, True


def _best(places: Places, options: MappingOptions, progress: Progress) -> Mapped:
    best = Mapped(None, 0, options.mapper)
    if options.mapper == "incremental":
        for first_pair_deg in FIRST_PAIR_DEG:
            models = _incremental(places, options, first_pair_deg, progress)
            best = max(best, _largest(models, "incremental"), key=_frames_of)
            if _frames_of(best) >= options.enough:
                return best
    models = _global(places, options, progress)
    return max(best, _largest(models, "global"), key=_frames_of)


def _save(model: pycolmap.Reconstruction | None, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if model is not None:
        write_model(model, folder)


def _frames_of(mapped: Mapped) -> int:
    return 0 if mapped.model is None else mapped.model.num_reg_images()


def _largest(models: dict[int, pycolmap.Reconstruction], mapper: str) -> Mapped:
    ranked = sorted(models.values(), key=lambda m: (m.num_reg_images(), m.num_points3D()))
    return Mapped(ranked[-1] if ranked else None, len(models), mapper)


def estimate_focal(places: Places, progress: Progress) -> float | None:
    """Focal length in pixels that the two-view geometries of all pairs agree on, and take it as the mapper's start.

    A start far from the truth can end in another minimum: with the usual guess a hand-held clip of a room came out
    with 1540 px, with this one (665 px) with 696 px, 60 % more points and less error.

    Returns:
        None when the pairs do not agree; the database then keeps its guess.

    Source: Sweeney et al., ICCV 2015 (view graph calibration), as in COLMAP.
    """
    pycolmap = load_pycolmap()
    options = pycolmap.ViewGraphCalibrationOptions()
    options.random_seed = SEED
    options.reestimate_relative_pose = False
    # A copy, because pairs that do not agree are thrown out.
    with _fresh(places.work) as folder, progress.bar("focal length", None):
        copy = folder / "calibration.db"
        shutil.copyfile(places.database, copy)
        if not pycolmap.calibrate_view_graph(copy, options):
            return None
        with pycolmap.Database.open(copy) as opened:
            camera = opened.read_all_cameras()[0]
    focal = camera.mean_focal_length()
    low, high = (share * max(camera.width, camera.height) for share in PLAUSIBLE_FOCAL)
    if not low < focal < high:
        return None
    start = pycolmap.Camera.create_from_model_name(
        camera.camera_id, camera.model_name, focal, camera.width, camera.height
    )
    start.has_prior_focal_length = True
    with pycolmap.Database.open(places.database) as opened:
        opened.update_camera(start)
    return focal


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """An empty folder for the files the mappers insist on writing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def incremental_options(fixed_lens: bool, threads: int) -> pycolmap.IncrementalPipelineOptions:
    """Options of the incremental mapper and of triangulation."""
    pycolmap = load_pycolmap()
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = SEED
    options.num_threads = threads
    if fixed_lens:
        options.ba_refine_focal_length = options.ba_refine_extra_params = False
        options.ba_refine_principal_point = False
        options.mapper.abs_pose_refine_focal_length = options.mapper.abs_pose_refine_extra_params = False
    return options


def _incremental(
    places: Places, options: MappingOptions, first_pair_deg: float, progress: Progress, start: Path | None = None
) -> dict[int, pycolmap.Reconstruction]:
    """All models, from a first pair that the mapper chooses, or from the model in the folder ``start``."""
    pycolmap = load_pycolmap()
    pipeline = incremental_options(options.fixed_lens, options.threads)
    pipeline.mapper.init_min_tri_angle = first_pair_deg
    with pycolmap.Database.open(places.database) as opened:
        count = opened.num_images()
    pycolmap.set_random_seed(SEED)
    with _fresh(places.work) as folder, progress.bar("mapping", count) as bar:
        advance = _up_to(bar, count)
        return pycolmap.incremental_mapping(
            places.database,
            places.pictures,
            folder,
            pipeline,
            **({} if start is None else {"input_path": start}),
            initial_image_pair_callback=lambda: (advance(), advance()),
            next_image_callback=advance,
        )


def _up_to(bar: Bar, total: int) -> object:
    """Advance the bar, but not past its end: frames taken into a second model are counted again by the mapper."""
    left = iter(range(total))
    return lambda: bar.advance() if next(left, None) is not None else None


def _global(places: Places, options: MappingOptions, progress: Progress) -> dict[int, pycolmap.Reconstruction]:
    pycolmap = load_pycolmap()
    pipeline = pycolmap.GlobalPipelineOptions()
    pipeline.random_seed = pipeline.mapper.random_seed = SEED
    pipeline.num_threads = pipeline.mapper.num_threads = options.threads
    if options.fixed_lens:  # the global mapper does not know the switches of the incremental one
        adjustment = pipeline.mapper.bundle_adjustment
        adjustment.refine_focal_length = adjustment.refine_extra_params = False
        adjustment.refine_principal_point = False
    pycolmap.set_random_seed(SEED)
    with _fresh(places.work) as folder, progress.bar("mapping all at once", None):
        return pycolmap.global_mapping(places.database, places.pictures, folder, pipeline)


def triangulate(solution: Solution, name_of: dict[str, str], places: Places, threads: int, progress: Progress) -> None:
    """Points for the cameras of a solution, which stay as they are.

    Args:
        solution: with a pose for every picture of the database.
        name_of: file name in the database -> name of the frame.
        places: the model is written there.
        threads: -1: all.
    """
    pycolmap = load_pycolmap()
    given = model_for_triangulation(solution, name_of, places.database)
    options = incremental_options(fixed_lens=True, threads=threads)
    pycolmap.set_random_seed(SEED)
    with _fresh(places.work) as folder, progress.bar("triangulating", None):
        model = pycolmap.triangulate_points(given, places.database, places.pictures, folder, options=options)
    _save(model, places.model)
