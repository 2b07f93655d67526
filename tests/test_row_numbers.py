"""Rows that a program counted: in the source, or in the frames that were chosen of it; the same for depth and poses."""

import numpy as np
import pytest
from test_peer_depth import recording

from recon4d.depth.matching import RowLabels, match_rows
from recon4d.errors import DepthError, InputError
from recon4d.formats.row_numbers import rows_by_count
from recon4d.poses.import_rows import ImportedPoses
from recon4d.poses.imports import match_to_frames
from recon4d.scene.transforms import Rigid3

EVERY_THIRD = recording(tuple(range(0, 102, 3)))  # 34 of 102 frames


def of_poses(numbers, frames, source_frames):
    count = len(numbers)
    poses = Rigid3(np.broadcast_to(np.eye(3), (count, 3, 3)), np.zeros((count, 3)))
    return match_to_frames(ImportedPoses("ViPE", poses, numbers=numbers), frames, source_frames, 30.0).row_of


def without(count: int, *left_out: int) -> tuple[int, ...]:
    return tuple(number for number in range(count) if number not in left_out)


def test_poses_counted_in_chosen_frames_are_not_taken_for_those_of_the_source():
    """34 frames were given to the program, which left out number 5: source frame 15."""
    row_of = of_poses(without(34, 5), EVERY_THIRD, 102)
    assert len(row_of) == 33
    assert (row_of["000003"], row_of["000099"]) == (1, 32)
    assert "000015" not in row_of


def test_poses_counted_in_the_source_are_found_there():
    row_of = of_poses(without(102, 3, 50), EVERY_THIRD, 102)
    assert len(row_of) == 33
    assert (row_of["000006"], row_of["000099"]) == (5, 97)
    assert "000003" not in row_of


def test_as_many_poses_as_chosen_frames_do_not_beat_their_numbers():
    assert of_poses((0, 3, 6), recording((0, 3, 6)), 9) == {"000000": 0, "000003": 1, "000006": 2}
    assert of_poses((3, 6, 8), recording((0, 3, 6)), 9) == {"000003": 0, "000006": 1}


def test_numbers_that_could_mean_either_are_refused():
    """Frames 1..19 of 20 were chosen; 0..17 without 9 may be their places, or frames of the source: one frame apart."""
    with pytest.raises(InputError, match=r"name 17 frames from 0 to 17, which can be .* the 19 chosen ones"):
        of_poses(without(18, 9), recording(tuple(range(1, 20))), 20)
    everything = recording(tuple(range(20)))
    assert len(of_poses(without(18, 9), everything, 20)) == 17  # both mean the same


def test_as_many_rows_of_depth_as_chosen_frames_do_not_beat_their_numbers():
    rows = RowLabels(3, numbers=(0, 3, 6))
    assert match_rows(recording((0, 3, 6)), rows, None, 20).row_of == {"000000": 0, "000003": 1, "000006": 2}
    with pytest.raises(DepthError, match=r"3 of 3 frames have no depth, .* frames of the source \(first: 000010\)"):
        match_rows(recording((10, 11, 12)), rows, None, 20)


def test_plain_counts_are_those_of_the_chosen_frames_or_of_the_source():
    for numbers in (None, (0, 1, 2)):
        assert list(rows_by_count(3, numbers, recording((0, 4, 8)), 9, "").row_of.values()) == [0, 1, 2]
    assert list(rows_by_count(9, None, recording((0, 4, 8)), 9, "").row_of.values()) == [0, 4, 8]
    assert rows_by_count(4, None, recording((0, 4, 8)), 9, "") is None
    assert rows_by_count(3, (2, 0, 1), recording((0, 4, 8)), 9, "").row_of == {"000000": 1, "000004": 2, "000008": 0}
