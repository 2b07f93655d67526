"""The COLMAP database: frames, features and verified matches, written step by step so that a bar can show them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.errors import PosesError
from recon4d.poses.intrinsics import Knowledge, LensKnowledge
from recon4d.poses.native import SEED, load_pycolmap
from recon4d.poses.pairs import FEATURES_PER_FRAME
from recon4d.progress import Progress

FRAMES_AT_ONCE = 16
PAIRS_AT_ONCE = 128
FEW_FEATURES = 32  # a frame below has nothing to hold on to: verification alone wants 15 inliers


@dataclass(frozen=True)
class PictureSet:
    """The pictures that take part and how they were taken."""

    folder: Path
    files: tuple[str, ...]  # file names in time order, without white space: COLMAP's lists are split at it
    lenses: tuple[LensKnowledge, ...]  # one per file
    masks: Path | None  # folder of COLMAP masks: FILE.png, black = ignore


def extract(database: Path, pictures: PictureSet, max_features: int, threads: int, progress: Progress) -> None:
    """Write cameras, frames and SIFT features into a new database.

    Raises:
        PosesError: hardly any frame has features.
    """
    pycolmap = load_pycolmap()
    pycolmap.Database.open(database).close()
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads = threads
    extraction.sift.max_num_features = max_features
    with progress.bar("features", len(pictures.files)) as bar:
        for taken_with in dict.fromkeys(pictures.lenses):
            files = [file for file, lens in zip(pictures.files, pictures.lenses) if lens == taken_with]
            options = _reader_options(taken_with, pictures.masks)
            single = pycolmap.CameraMode.SINGLE
            # Rows are written first, by one thread: extraction writes in the order its threads finish, and image ids
            # decide what the mapper does first.
            pycolmap.import_images(database, pictures.folder, single, files, options)
            for start in range(0, len(files), FRAMES_AT_ONCE):
                some = files[start : start + FRAMES_AT_ONCE]
                pycolmap.extract_features(
                    database, pictures.folder, some, single, options, extraction, device=pycolmap.Device.cpu
                )
                bar.advance(len(some))
    _check_features(database)


def _reader_options(taken_with: LensKnowledge, masks: Path | None) -> object:
    options = load_pycolmap().ImageReaderOptions()
    options.camera_model = taken_with.lens.model
    if taken_with.knowledge is not Knowledge.GUESS:  # COLMAP then trusts the focal length as a start
        options.camera_params = ",".join(repr(value) for value in taken_with.lens.params)
    if masks is not None:
        options.mask_path = masks
    return options


def _check_features(database: Path) -> None:
    with load_pycolmap().Database.open(database) as opened:
        counts = [opened.num_keypoints_for_image(image.image_id) for image in opened.read_all_images()]
    rich = sum(count >= FEW_FEATURES for count in counts)
    if rich < 2:
        raise PosesError(
            f"poses: {rich} of {len(counts)} frames have {FEW_FEATURES} features or more (median "
            f"{np.median(counts):.0f}), they look blank, black or blurred: use a textured clip, or --poses.source none "
            "to make depth alone"
        )


class Descriptors(Sequence[np.ndarray]):
    """Descriptors of the frames of a database in time order, largest features first, read when asked for."""

    def __init__(self, database: object, files: Sequence[str]) -> None:
        self.database = database
        ids = {image.name: image.image_id for image in database.read_all_images()}
        self.ids = [ids[file] for file in files]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> np.ndarray:
        image_id = self.ids[row]
        keypoints = self.database.read_keypoints(image_id)  # x, y, then an affine shape or scale and angle
        size = np.hypot(keypoints[:, 2], keypoints[:, 4 if keypoints.shape[1] == 6 else 2])
        largest = np.argsort(-size, kind="stable")[:FEATURES_PER_FRAME]
        return self.database.read_descriptors(image_id).data[largest]


def match(database: Path, pairs: Sequence[tuple[str, str]], threads: int, progress: Progress) -> None:
    """Match and verify pairs of files; matches that were in the database before are forgotten.

    The random draws of the verification have a seed per pair, so threads do not change the result.
    """
    pycolmap = load_pycolmap()
    with pycolmap.Database.open(database) as opened:
        opened.clear_matches()
        opened.clear_two_view_geometries()
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = threads
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    with tempfile.TemporaryDirectory() as folder, progress.bar("matching", len(pairs)) as bar:
        listed = Path(folder) / "pairs.txt"
        pairing = pycolmap.ImportedPairingOptions()
        pairing.match_list_path = listed
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            some = pairs[start : start + PAIRS_AT_ONCE]
            listed.write_text("".join(f"{a} {b}\n" for a, b in some), encoding="utf-8")
            pycolmap.set_random_seed(SEED)
            pycolmap.match_image_pairs(database, matching, pairing, verification, device=pycolmap.Device.cpu)
            bar.advance(len(some))
