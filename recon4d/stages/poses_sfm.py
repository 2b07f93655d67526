"""Structure from motion as resumable steps in the part of the poses stage: features, matches, model.

COLMAP knows each picture by its row (``000012.jpg``), not by its name: its lists are split at white space, and names of
people's pictures have any. What leaves these steps has the real names again.

A step that was killed leaves files that cannot be trusted (a database amid a transaction, half a model); so each step
is marked when it is done, and what an unmarked step left is removed before it is done again.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from recon4d.errors import PosesError
from recon4d.formats.disk import link_or_copy
from recon4d.formats.text_files import write_text
from recon4d.poses.features import Descriptors, PictureSet, extract, match
from recon4d.poses.imports import ImportedPoses, Matching
from recon4d.poses.intrinsics import Knowledge, LensKnowledge
from recon4d.poses.lens import Lens
from recon4d.poses.mapping import MappingOptions, Places, estimate_focal, reconstruct, triangulate
from recon4d.poses.native import SEED, load_pycolmap, refusal
from recon4d.poses.pairs import all_pairs, loop_pairs, sequential_pairs
from recon4d.poses.parallax import check_motion, measure_motion
from recon4d.poses.reversal import Reading
from recon4d.poses.solution import Solution
from recon4d.poses.verdict import check_angle, check_registered
from recon4d.scene.recording import Recording
from recon4d.scene.trajectory import PoseOrigin
from recon4d.scene.transforms import Rigid3
from recon4d.stages.poses_apart import apart
from recon4d.workspace import StagePart

if TYPE_CHECKING:
    import pycolmap

    from recon4d.stages.poses import PosesOptions

MOST_EXHAUSTIVE = 60  # pictures: 1770 pairs
MOST_INCREMENTAL = 300  # frames; the incremental mapper's time grows faster than their number
LITTLE_PARALLAX = 0.004  # of the longest side, px: a model comes out, but its focal length and depth are loose


class SfmSteps:
    """The steps on one recording; ``facts`` collects what the record should say about them."""

    def __init__(self, part: StagePart, recording: Recording, options: PosesOptions, kind: str) -> None:
        self.part, self.recording, self.options, self.kind = part, recording, options, kind
        self.folder = part.path / "sfm"
        self.database = self.folder / "database.db"
        self.places = Places(self.database, self.folder / "pictures", self.folder / "model")
        self.threads = options.threads or -1
        suffixes = [path.suffix for path in recording.pictures]
        self.file_of = {name: f"{row:06d}{suffixes[row]}" for row, name in enumerate(recording.names)}  # for COLMAP
        self.name_of = {file: name for name, file in self.file_of.items()}
        facts = self.folder / "facts.json"
        self.facts: dict[str, object] = json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else {}

    # -- steps -----------------------------------------------------------------------------------------------------

    def solve(self, knowledge: LensKnowledge) -> Solution:
        """Cameras and points from the pictures alone. Raises PosesError."""
        if len(self.recording) < 2:
            raise PosesError(
                "poses: there is only one frame, structure from motion needs several from different places: use "
                "--poses.source none to make depth alone (or static to place it)"
            )
        self._features_and_matches(dict.fromkeys(self.recording.names, knowledge))
        self._step("motion", lambda: self._check_motion(knowledge))
        if knowledge.knowledge is Knowledge.GUESS:
            self._step("focal", self._estimate_focal)
        self._step("model", lambda: self._map(knowledge))
        solution = self._solution(self._model())
        self._say_little_parallax(knowledge)
        self._say_reading(knowledge)
        return solution

    def triangulate(self, solution: Solution) -> Solution:
        """Points for imported cameras, which stay as they are."""
        taken_with = {name: LensKnowledge(lens, Knowledge.GIVEN) for name, lens in solution.lenses.items()}
        self._features_and_matches(taken_with)
        self._step("model", lambda: self._triangulate(solution))
        model = self._model()
        self.part.progress.say(f"  {model.num_points3D()} points triangulated with the imported cameras")
        if not model.num_points3D():
            self.part.warn("no point agrees with the imported cameras: check the poses' convention and --poses.camera")
            return solution
        return Solution(solution.cam_from_world, solution.lenses, solution.origin, model)

    def say_import(self, imported: ImportedPoses, matching: Matching) -> None:
        """Say which rule matched the rows, and what is left over on either side."""
        rows = len(imported.world_from_cam)
        self.facts |= {"import": imported.kind, "rule": matching.rule}
        self.part.progress.say(f"  {imported.kind}: {len(matching.row_of)} of {rows} poses matched {matching.rule}")
        if imported.doubt:
            self.part.warn(imported.doubt)
        if imported.missing:
            self.part.warn(
                f"{len(imported.missing)} of {rows} pictures that the import names do not exist (such as "
                f"{imported.missing[0]})"
            )
        used = set(matching.row_of.values())
        unused = rows - len(used)
        if imported.names is not None and unused:
            example = next(name for row, name in enumerate(imported.names) if row not in used)
            self.part.warn(f"{unused} of {rows} pictures of the import are not among the frames (such as {example})")

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        seconds = self.facts.setdefault("seconds", {})
        seconds[name] = round(time.monotonic() - started, 2)

    def _step(self, name: str, work: Callable[[], None]) -> None:
        if self.part.is_done(name) and self.database.exists():
            return
        try:
            with self._timed(name):
                work()
        except RuntimeError as error:
            if type(error) is not RuntimeError:  # Python's own: a bug
                raise
            raise refusal(name, str(error), self.folder) from error
        write_text(self.folder / "facts.json", json.dumps(self.facts) + "\n")
        self.part.mark_done(name)

    def _apart(self, step: str, work: Callable[..., object], *arguments: object) -> object:
        """Have COLMAP work in a process of its own, so that only that process ends when COLMAP fails."""
        outcome = apart(step, self.folder, work, arguments, self.part.progress)
        most_mb = max(outcome.peak_memory_mb, float(self.facts.get("colmap_memory_mb", 0.0)))
        self.facts["colmap_memory_mb"] = round(most_mb, 1)
        return outcome.value

    def _features_and_matches(self, taken_with: dict[str, LensKnowledge]) -> None:
        self._step("features", lambda: self._extract(taken_with))
        self._step("matches", lambda: self._match([self.file_of[name] for name in taken_with]))

    def _extract(self, taken_with: dict[str, LensKnowledge]) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.places.pictures.mkdir()
        for name, picture in zip(self.recording.names, self.recording.pictures):
            link_or_copy(picture, self.places.pictures / self.file_of[name])
        pictures = PictureSet(
            folder=self.places.pictures,
            files=tuple(self.file_of[name] for name in taken_with),
            lenses=tuple(taken_with.values()),
            masks=self._colmap_masks(),
        )
        self._apart("features", extract, self.database, pictures, self.options.max_features, self.threads)

    def _colmap_masks(self) -> Path | None:
        """Our masks in COLMAP's form: black = ignore, and the suffix is added to the file's whole name."""
        from recon4d.formats.pictures import read_grey, write_picture

        if not any(self.recording.masks):
            return None
        folder = self.folder / "masks"
        folder.mkdir()
        for name, mask in zip(self.recording.names, self.recording.masks):
            if mask is not None:
                write_picture(folder / f"{self.file_of[name]}.png", 255 - read_grey(mask))
        return folder

    def _match(self, files: list[str]) -> None:
        count, overlap = len(files), self.options.overlap
        exhaustive = self.options.matching == "exhaustive" or (
            self.options.matching == "auto" and self.kind == "pictures" and count <= MOST_EXHAUSTIVE
        )
        pairs = all_pairs(count) if exhaustive else sequential_pairs(count, overlap)
        loops: list[tuple[int, int]] = []
        if self.options.loop_closure and not exhaustive:
            with load_pycolmap().Database.open(self.database) as opened:
                loops = sorted(set(loop_pairs(Descriptors(opened, files), overlap, SEED)) - set(pairs))
        self.facts |= {
            "matching": "exhaustive" if exhaustive else "sequential",
            "pairs": len(pairs) + len(loops),
            "loop_pairs": len(loops),
        }
        named = [(files[a], files[b]) for a, b in [*pairs, *loops]]
        self._apart("matches", match, self.database, named, self.threads)

    def _check_motion(self, knowledge: LensKnowledge) -> None:
        lens = knowledge.lens if knowledge.knowledge is Knowledge.GIVEN else None
        motion = measure_motion(self.database, list(self.file_of.values()), lens)
        longest = max(knowledge.lens.width, knowledge.lens.height)
        check_motion(motion, longest)
        self.facts |= {
            "displacement_px": round(motion.displacement_px, 2),
            "parallax_px": round(motion.parallax_px, 2),
        }

    def _estimate_focal(self) -> None:
        focal_px = self._apart("focal", estimate_focal, self.places)
        self.facts |= {"focal_estimate_px": None if focal_px is None else round(focal_px, 2)}

    def _map(self, knowledge: LensKnowledge) -> None:
        frames, options = len(self.recording), self.options
        mapper = options.mapper
        if mapper == "auto":
            mapper = "incremental" if frames <= MOST_INCREMENTAL else "global"
        mapping = MappingOptions(
            mapper=mapper,
            fixed_lens=knowledge.knowledge is Knowledge.GIVEN,
            threads=1 if options.deterministic else self.threads,
            enough=max(2, math.ceil(options.min_registered * frames)),
        )
        report = self._apart("model", reconstruct, self.places, mapping)
        self.facts |= {
            "mapper": report.mapper,
            "models": report.models,
            "depth_reading": report.reading.value,
            "depth_turned": report.turned,
            "other_reading_cost": None if report.ratio is None else round(report.ratio, 3),
        }

    def _triangulate(self, solution: Solution) -> None:
        threads = 1 if self.options.deterministic else self.threads
        self._apart("model", triangulate, solution, self.name_of, self.places, threads)

    # -- the model of the last step --------------------------------------------------------------------------------

    def _model(self) -> pycolmap.Reconstruction | None:
        """With the real file names; None when nothing could be started."""
        if not self.places.model.exists():
            return None
        model = load_pycolmap().Reconstruction(str(self.places.model))
        real = dict(zip(self.recording.names, (path.name for path in self.recording.pictures)))
        for image in model.images.values():
            image.name = real[self.name_of[image.name]]
        return model

    def _solution(self, model: pycolmap.Reconstruction | None) -> Solution:
        registered = 0 if model is None else model.num_reg_images()
        check_registered(registered, len(self.recording), self.options.min_registered, "could be registered")
        check_angle(model)
        name_of = {path.name: name for name, path in zip(self.recording.names, self.recording.pictures)}
        images = {name_of[model.images[i].name]: model.images[i] for i in model.reg_image_ids()}
        return Solution(
            {name: Rigid3.from_matrix(image.cam_from_world().matrix()) for name, image in images.items()},
            {name: Lens.from_native(image.camera) for name, image in images.items()},
            PoseOrigin.MEASURED,
            model,
        )

    def _say_little_parallax(self, knowledge: LensKnowledge) -> None:
        parallax = float(self.facts["parallax_px"])
        if parallax < LITTLE_PARALLAX * max(knowledge.lens.width, knowledge.lens.height):
            self.part.warn(
                f"little parallax: a turn of the camera explains all but {parallax:.1f} px of the motion, so distances"
                " and the focal length are uncertain; give --poses.camera fx,fy,cx,cy when you know it"
            )

    def _say_reading(self, knowledge: LensKnowledge) -> None:
        if self.facts["depth_reading"] == Reading.SETTLED.value:
            return
        given = knowledge.knowledge is Knowledge.GIVEN
        self.part.warn(
            "near and far may be swapped: the scene is nearly flat, or hardly seen from different sides, and read the "
            f"other way round the pictures fit with {self.facts['other_reading_cost']:.2f} times the cost; look at the "
            "points" + ("" if given else ", and give --poses.camera fx,fy,cx,cy when you know it")
        )
