import numpy as np
import pytest

from recon4d.motion.carry import carried_numbers, helped
from recon4d.motion.evidence import FrameEvidence
from recon4d.motion.labels import (
    ANYWAY,
    IN_TIME,
    MOVED,
    STILL,
    along_flow,
    colour_springs,
    data_term,
    frame_label,
    hinted_parts,
)
from recon4d.motion.outline import numbered, outlined


def test_a_lone_pixel_by_hand():
    evidence = FrameEvidence(np.array([[0.5]]), np.array([[0.2]]))
    no_springs = np.zeros((1, 1), dtype=np.float32), np.zeros((1, 1), dtype=np.float32)
    moved, still = MOVED * 0.25, STILL * 0.04
    label = frame_label(evidence, no_springs, [])
    assert label.item() == pytest.approx(moved / (moved + still + ANYWAY), rel=1e-4)
    stay = np.zeros((1, 1, 2), dtype=np.float32)
    tied = frame_label(evidence, no_springs, [(np.zeros((1, 1)), stay), (np.ones((1, 1)), stay)])
    assert tied.item() == pytest.approx((moved + IN_TIME) / (moved + still + ANYWAY + 2 * IN_TIME), rel=1e-4)


def test_weights_of_evidence():
    weight, target = data_term(FrameEvidence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])))
    np.testing.assert_allclose(weight, [[MOVED + ANYWAY, STILL + ANYWAY]], rtol=1e-6)
    np.testing.assert_allclose(target, [[MOVED, 0]], rtol=1e-6)


def test_labels_fill_an_object_and_stop_at_its_edge():
    rgb = np.full((40, 40, 3), 200, dtype=np.uint8)
    rgb[10:30, 10:30] = 40
    moved, still = np.zeros((40, 40)), np.zeros((40, 40))
    moved[12:28, 12:14] = moved[12:14, 12:28] = 1.0  # two sides of a plain square show its motion
    still[:6] = still[34:] = 1.0
    label = frame_label(FrameEvidence(moved, still), colour_springs(rgb), [])
    assert label[11:29, 11:29].min() > 0.5
    label[9:31, 9:31] = 0  # of a blurred edge a pixel on either side is nobody's
    assert label.max() < 0.5


def test_values_along_a_flow_and_outside():
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    flow = np.zeros((3, 4, 2), dtype=np.float32)
    flow[0, 0] = (1.5, 1.0)
    flow[1, 1] = (np.nan, 0)
    flow[2, 3] = (1.0, 0)
    values, known = along_flow(grid, flow)
    assert values[0, 0] == pytest.approx(0.5 * (grid[1, 1] + grid[1, 2]))
    assert (known[1, 1], known[2, 3], known[0, 0]) == (0, 0, 1)
    assert values[1, 1] == values[2, 3] == 0


def disc(size, radius, scale=1):
    y, x = np.mgrid[:size, :size] * scale + 0.5 * scale
    middle = 0.5 * size * scale
    return (x - middle) ** 2 + (y - middle) ** 2 < radius**2


def test_an_outline_follows_the_pictures_edge():
    truth = disc(480, 150)
    rng = np.random.default_rng(0)
    rgb = np.where(truth[..., None], (180, 60, 50), (70, 120, 90)) + rng.normal(0, 6, (480, 480, 3))
    coarse = np.roll(disc(240, 152, scale=2), 1, axis=1).astype(np.float32)  # too large, and 2 px to the right
    found = outlined(coarse, np.clip(rgb, 0, 255).astype(np.uint8)) > 0.5
    before = np.kron(coarse, np.ones((2, 2))) > 0.5

    def overlap(mask):
        return (mask & truth).sum() / (mask | truth).sum()

    assert overlap(before) < 0.975
    assert overlap(found) > 0.99


def test_nothing_stays_nothing():
    assert outlined(np.zeros((10, 12), dtype=np.float32), np.zeros((20, 24, 3), dtype=np.uint8)).max() == 0


def test_pixels_take_the_number_of_the_nearest_coarse_one():
    label = np.zeros((8, 16), dtype=np.float32)
    label[2:6, 1:9] = 1  # one part, two objects in it
    label[2:6, 12:15] = 1  # a part without any
    numbers = np.zeros((4, 8), dtype=np.uint16)
    numbers[1:3, 1] = 3
    numbers[1:3, 3] = 5
    found = numbered(label, numbers, 0.5)
    assert set(np.unique(found[2:6, 1:4])) == {3}
    assert set(np.unique(found[2:6, 6:9])) == {5}
    assert found[:, 10:].max() == 0
    assert found[:2].max() == 0


def test_objects_are_carried_only_where_the_flow_returns_to_the_same_look():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (30, 30, 3), dtype=np.uint8)
    there = np.roll(rgb, 4, axis=1)
    numbers = np.zeros((30, 30), dtype=np.uint16)
    numbers[10:20, 12:22] = 7
    flow = np.zeros((30, 30, 2), dtype=np.float32)
    flow[..., 0] = 4
    flow[12, 10] = np.nan
    carried = carried_numbers(numbers, flow, rgb, there)
    expected = np.roll(numbers, -4, axis=1)
    expected[12, 10] = 0
    np.testing.assert_array_equal(carried, expected)
    assert carried_numbers(numbers, flow, rgb, rng.integers(0, 255, (30, 30, 3), dtype=np.uint8)).max() == 0


def test_a_frame_that_found_most_of_an_object_needs_no_help():
    rgb = np.full((60, 60, 3), 90, dtype=np.uint8)
    rgb[20:40, 20:40] = (200, 50, 50)
    carried, own = np.zeros((2, 60, 60), dtype=np.uint16)
    carried[20:40, 20:40] = 2
    own[22:40, 22:40] = 2
    assert helped(own, carried, 2, rgb) is None
    own[:] = 0
    own[24:28, 24:28] = 2
    own[36:40, 36:40] = 5  # another object's pixels are not taken
    mask = helped(own, carried, 2, rgb)
    assert mask[21:35, 21:35].all()
    assert not mask[36:40, 36:40].any()
    assert not mask[:18].any()


def test_a_threshold_moves_the_mask():
    label = np.zeros((40, 40), dtype=np.float32)
    label[8:32, 8:32] = 0.3
    rgb = np.full((40, 40, 3), 90, dtype=np.uint8)
    rgb[8:32, 8:32] = (200, 50, 50)
    assert (outlined(label, rgb, 0.5) > 0.5).sum() == 0
    found = outlined(label, rgb, 0.2)
    assert abs(int((found > 0.2).sum()) - 24 * 24) < 60
    assert found.max() <= 1


def test_a_segment_moves_near_what_was_found_to_move():
    segment, moves = np.zeros((40, 60), dtype=bool), np.zeros((40, 60), dtype=bool)
    segment[10:20, 5:55] = True  # a mover and a long thing it touches, run into one
    segment[30:36, 5:15] = True  # another one, of which hardly anything moves
    moves[10:20, 5:17] = True  # 120 pixels: reach is 11
    moves[30, 5] = True
    raised = hinted_parts(segment, moves)
    assert raised[10:20, 5:27].all()
    assert not raised[:, 30:].any()
    assert not raised[30:36].any()
    assert not hinted_parts(segment, np.zeros_like(moves)).any()
