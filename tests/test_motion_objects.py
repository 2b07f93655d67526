import numpy as np
import pytest
from motion_scenes import HEIGHT, WIDTH, Planes

from recon4d.errors import InputError
from recon4d.motion import objects
from recon4d.motion.nearest_number import nearest_number
from recon4d.motion.objects import REMEMBERED, SHOWN_FRAMES, Track, Tracker
from recon4d.motion.resting import mask_at_rest, rests_there

NAN_FLOW = np.full((HEIGHT, WIDTH, 2), np.nan, dtype=np.float32)


def followed(planes, frames, masks=None, shown=1.0, off=None):
    """Numbers of all frames under final names, and the tracker."""
    tracker, numbers = Tracker(), []
    for frame in range(frames):
        mask = planes.mask(frame) if masks is None else masks[frame]
        moves = NAN_FLOW if off is None else off(frame)
        to_before = planes.true_flow(frame, frame - 1) if frame else NAN_FLOW
        numbers.append(tracker.add(frame, planes.look(frame), mask, np.where(mask, shown, 0), moves, to_before))
    final = tracker.numbering(HEIGHT * WIDTH)
    table = np.array([final.get(number, 0) for number in range(len(tracker.tracks) + 1)])
    return [table[grid] for grid in numbers], tracker


def test_two_objects_keep_their_numbers():
    planes = Planes(squares=[(10, 60, 12, 0, 3), (48, 80, 12, -2, -2)])
    numbers, _ = followed(planes, 6)
    for frame, grid in enumerate(numbers):
        assert set(np.unique(grid[planes.square(0, frame)])) == {1}
        assert set(np.unique(grid[planes.square(1, frame)])) == {2}
        assert (grid > 0).sum() == planes.mask(frame).sum()


def test_objects_that_touch_for_a_while_stay_two():
    planes = Planes(squares=[(20, 50, 12, 0, 3), (20, 77, 12, 0, -3)])  # they meet at frame 3 and pass
    numbers, _ = followed(planes, 3)
    assert set(np.unique(numbers[-1])) == {0, 1, 2}
    masks = [planes.mask(frame) for frame in range(4)]
    masks[3] = masks[3].copy()
    left, right = planes.square(0, 3), planes.square(1, 3)
    masks[3][20:32, left[1].start : right[1].stop] = True  # one part now
    numbers, _ = followed(planes, 4, masks)
    assert np.median(numbers[3][left][:, :6]) == 1
    assert np.median(numbers[3][right][:, -6:]) == 2


def test_what_is_seen_to_move_in_too_few_frames_is_no_object():
    planes = Planes(squares=[(20, 60, 12, 1, 1)])
    assert max(grid.max() for grid in followed(planes, SHOWN_FRAMES - 1)[0]) == 0
    assert max(grid.max() for grid in followed(planes, SHOWN_FRAMES)[0]) == 1
    assert max(grid.max() for grid in followed(planes, 6, shown=0.3)[0]) == 0


def test_specks_are_no_objects():
    planes = Planes(squares=[(20, 60, 2, 1, 1)])
    assert max(grid.max() for grid in followed(planes, 6)[0]) == 0


def test_an_object_out_of_sight_for_a_moment_keeps_its_number():
    planes = Planes(squares=[(20, 60, 12, 1, 1)])
    masks = [planes.mask(frame) for frame in range(8)]
    masks[3] = masks[4] = np.zeros_like(masks[0])
    numbers, _ = followed(planes, 8, masks)
    assert [int(grid.max()) for grid in numbers] == [1, 1, 1, 0, 0, 1, 1, 1]
    assert REMEMBERED > 2


def test_a_fragment_that_moves_along_belongs_to_its_object():
    planes = Planes(squares=[(20, 50, 16, 1, 1), (24, 70, 5, 1, 1)])  # 4 px apart, the second one small

    def off(frame):
        grid = np.zeros((HEIGHT, WIDTH, 2))
        grid[planes.mask(frame)] = (1, 1)
        return grid

    numbers, tracker = followed(planes, 6, off=off)
    assert len(tracker.tracks) == 2
    assert max(grid.max() for grid in numbers) == 1

    def apart(frame):
        grid = off(frame)
        grid[planes.square(1, frame)] = (-4, 3)
        return grid

    assert max(grid.max() for grid in followed(planes, 6, off=apart)[0]) == 2


def test_frames_that_show_an_object_are_counted():
    planes = Planes(squares=[(20, 60, 12, 1, 1)])
    _, tracker = followed(planes, 5)
    assert tracker.shown_frames(tracker.numbering(HEIGHT * WIDTH)) == {1: 5}


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_numbers_spread_to_the_nearest_pixels(dtype):
    numbers = np.zeros((3, 7), dtype=dtype)
    numbers[1, 1], numbers[1, 6] = 300, 7
    found = nearest_number(numbers)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.tile(np.repeat([300, 7], [4, 3]), (3, 1)))
    assert nearest_number(np.zeros_like(numbers)).max() == 0


def test_parts_beyond_sixteen_bits_keep_their_numbers():
    planes, tracker = Planes(squares=[(10, 60, 12, 0, 3), (48, 80, 12, -2, -2)]), Tracker()
    tracker.tracks.update({number: Track(number, [-99]) for number in range(1, 65536)})  # long out of sight
    for frame in range(SHOWN_FRAMES):
        mask = planes.mask(frame)
        to_before = planes.true_flow(frame, frame - 1) if frame else NAN_FLOW
        numbers = tracker.add(frame, planes.look(frame), mask, mask.astype(float), NAN_FLOW, to_before)
        assert [set(np.unique(numbers[planes.square(k, frame)])) for k in range(2)] == [{65536}, {65537}]
    tracker.tracks = {number: tracker.tracks[number] for number in (65536, 65537)}
    assert tracker.numbering(HEIGHT * WIDTH) == {65536: 1, 65537: 2}


def test_more_movers_than_can_be_numbered_are_refused(monkeypatch):
    assert objects.MOST_OBJECTS == 65535
    monkeypatch.setattr(objects, "MOST_OBJECTS", 2)
    tracker = Tracker()
    for number in range(1, 4):
        tracker.tracks[number] = Track(number, [0], [100], [1.0], told=True)
    with pytest.raises(InputError, match="motion: 3 objects move, 2 can be numbered"):
        tracker.numbering(100)
    del tracker.tracks[1]
    assert tracker.numbering(100) == {2: 1, 3: 2}


# -- at rest ---------------------------------------------------------------------------------------------------------


class Resting(Planes):
    """A square that stands still on the near plane until frame 3 and then leaves."""

    def square(self, k, frame):
        row, column, side, down, right = self.squares[k]
        gone = max(frame - 3, 0)
        top, left = row + down * gone, column + right * gone - 2 * frame
        return slice(top, top + side), slice(left, left + side)


def test_an_object_is_found_where_it_stood_before_it_moved():
    planes = Resting(squares=[(20, 70, 14, 3, 2)])
    with_object, without = planes.look(3), planes.look(9)
    found = rests_there(planes.look(0), with_object, without, planes.mask(3), planes.mask(9))
    both = found & planes.mask(0)
    assert both.sum() > 0.9 * planes.mask(0).sum()
    assert found.sum() < 1.1 * planes.mask(0).sum()


def test_what_came_from_elsewhere_did_not_rest():
    planes = Planes(squares=[(20, 40, 14, 3, 5)])
    found = rests_there(planes.look(0), planes.look(3), planes.look(9), planes.mask(3), planes.mask(9))
    assert found is None


def test_a_place_that_looks_the_same_without_the_object_tells_nothing():
    planes = Resting(squares=[(20, 70, 14, 3, 2)])
    assert rests_there(planes.look(0), planes.look(3), planes.look(3), planes.mask(3), ~planes.mask(3)) is None


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_a_mask_at_rest_needs_the_same_depth(factor):
    planes = Resting(squares=[(20, 70, 14, 3, 2)])
    found = mask_at_rest(planes.look(0), planes.look(2, factor), planes.mask(2))
    assert found.any() == (factor == 1.0)
