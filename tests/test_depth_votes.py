"""Votes between frames: by hand, against readable twins, and what must not change them."""

import math

import numpy as np
import pytest

from recon4d.geometry.depth_votes import (
    AGREES_WITHIN,
    LEAST_PART,
    MIN_CONFIDENCE,
    ONE_SURFACE,
    SUPPORTS_WITHIN,
    Votes,
    agree,
    collect_votes,
    weigh,
)
from recon4d.geometry.photo_cost import GreyView, pixel_warp
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

FOCAL = 20.0
SHAPE = (12, 16)


def view(position=(0.0, 0.0, 0.0), degrees=0.0, shape=SHAPE):
    """A camera at ``position`` that looks along z, turned about y."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    camera = Camera(shape[1], shape[0], FOCAL, FOCAL, shape[1] / 2, shape[0] / 2)
    return GreyView(np.zeros(shape), camera, Rigid3(turn, -turn @ np.array(position)))


def full(value, shape=SHAPE):
    return np.full(shape, value, dtype=np.float32)


def single(value, at, shape=SHAPE):
    grid = np.zeros(shape, dtype=np.float32)
    grid[at] = value
    return grid


def carried(seen, confidence, source, voted):
    """What one frame says of another: inverse depth and weight (H, W) of its vote."""
    silent = np.zeros(voted.grey.shape, dtype=np.float32)
    votes = collect_votes((silent, silent), [(seen, confidence)], [pixel_warp(source, voted)], 1.0)
    return votes.inverse_depth[1], votes.weight[1]


def columns_of(**votes):
    """Votes on a single pixel, one frame each."""
    return Votes(*(np.array(row, dtype=np.float32).reshape(-1, 1, 1) for row in (votes["values"], votes["weight"])))


def at_pixel(answer):
    return [float(grid[0, 0]) for grid in answer]


# Readable twins, in float64.


def readable_carry(seen, confidence, source, voted):
    """Through points in the world, one pixel after the other: what lands on a pixel, then what is seen of it."""
    shape = voted.grey.shape
    landing = {at: [] for at in np.ndindex(shape)}
    for y, x in np.ndindex(seen.shape):
        if confidence[y, x] < MIN_CONFIDENCE:
            continue
        ray = source.camera.rays()[y, x]
        in_voted = voted.cam_from_world @ (source.cam_from_world.inverse() @ (ray / float(seen[y, x])))
        if in_voted[2] <= 0:
            continue
        u, v = voted.camera.project(in_voted) - 0.5
        for at in [(math.floor(v) + down, math.floor(u) + right) for down in (0, 1) for right in (0, 1)]:
            part = (1 - abs(v - at[0])) * (1 - abs(u - at[1]))
            if at in landing and part >= LEAST_PART:
                landing[at].append((1 / in_voted[2], part, float(confidence[y, x]) ** 2))
    out, weight = np.zeros(shape), np.zeros(shape)
    for at, arrivals in landing.items():
        surface = []
        for near, part, squared in arrivals:
            mean = sum(n * p for n, p, _ in surface) / sum(p for _, p, _ in surface) if surface else 0
            if near > (1 + ONE_SURFACE) * mean:
                surface = []
            if near >= (1 - ONE_SURFACE) * mean:
                surface.append((near, part, squared))
        if surface:
            near, part, squared = np.array(surface).T
            out[at], weight[at] = part @ near / part.sum(), part @ squared / part.sum()
    return out, weight


def readable_agree(votes):
    out = np.zeros((3, *votes.weight.shape[1:]))
    for y, x in np.ndindex(out.shape[1:]):
        voting = votes.weight[:, y, x] > 0
        value, weight = (grid[voting, y, x].astype(float) for grid in (votes.inverse_depth, votes.weight))
        if not voting.any():
            continue
        alike = np.abs(value[None] - value[:, None]) <= AGREES_WITHIN * value[:, None]
        support = alike @ weight
        best = int(support.argmax())
        out[:, y, x] = (alike[best] * weight) @ value / support[best], support[best], weight.sum()
    return out


def readable_weigh(votes, surface):
    away = votes.inverse_depth.astype(float) - surface
    agreeing = np.abs(away) <= SUPPORTS_WITHIN * surface
    return [(votes.weight * side).sum(axis=0) for side in (agreeing, ~agreeing & (away < 0), ~agreeing & (away > 0))]


def random_votes(count=9, shape=(7, 8), seed=0):
    """Clusters of values, doubtful ones between them, and frames that say nothing."""
    rng = np.random.default_rng(seed)
    values = rng.choice([0.2, 0.25, 0.4], (count, *shape)) * rng.normal(1, 0.02, (count, *shape))
    weight = rng.uniform(0.1, 1, (count, *shape)) * (rng.random((count, *shape)) < 0.7)
    return Votes(values.astype(np.float32), weight.astype(np.float32))


# Carrying depth from frame to frame.


@pytest.mark.parametrize(
    ("position", "degrees"),
    [((0.7, -0.3, 0.4), 8.0), ((-0.5, 0.2, -1.0), -15.0), ((0.2, 0.1, 3.5), 3.0), ((1.0, 0.0, 2.0), 100.0)],
    ids=["sideways", "back", "through surfaces", "turned away"],
)
def test_carrying_matches_the_way_through_the_world(position, degrees):
    rng = np.random.default_rng(3)
    seen = rng.uniform(0.2, 0.6, (10, 14)).astype(np.float32)
    confidence = rng.uniform(0, 1, seen.shape).astype(np.float32)
    source, voted = view(shape=seen.shape), view(position, degrees)
    expected, expected_weight = readable_carry(seen, confidence, source, voted)
    out, weight = carried(seen, confidence, source, voted)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_allclose(weight, expected_weight, atol=1e-6)


def test_the_same_camera_sees_the_same_map():
    rng = np.random.default_rng(4)
    seen, confidence = (rng.uniform(0.5, 1, SHAPE).astype(np.float32) for _ in range(2))
    out, weight = carried(seen, confidence, view(), view())
    np.testing.assert_allclose(out, seen, rtol=1e-6)
    np.testing.assert_allclose(weight, confidence**2, rtol=1e-6)


@pytest.mark.parametrize("slant", [-0.005, 0.005], ids=["nearer to the left", "nearer to the right"])
def test_a_slanted_surface_does_not_come_nearer_from_frame_to_frame(slant):
    # A plane has an inverse depth affine in the picture, in every one of them: normal . x_in_world = 1.
    normal = np.array([slant * FOCAL, 0.1, 0.4])

    def plane(camera_view):
        world_from_cam = camera_view.cam_from_world.inverse()
        at_camera = 1 - normal @ world_from_cam.translation
        rays = camera_view.camera.rays() @ world_from_cam.rotation.T
        return (rays @ normal / at_camera).astype(np.float32)

    source, voted = view((0.05, 0.03, -0.1), 1.0, (48, 64)), view(shape=(48, 64))
    inner = np.s_[16:32, 24:40]
    truth = plane(voted)[inner]
    out = carried(plane(source), full(1.0, (48, 64)), source, voted)[0][inner]
    assert (plane(source)[inner] > 0).all()
    error = out / truth - 1
    change = np.abs(slant) / truth  # from a pixel to the next
    assert np.abs(error.mean()) < 0.05 * change.mean()
    assert (np.abs(error) < 0.6 * change).all()


def test_a_camera_moved_sideways_moves_pixels_by_focal_length_times_baseline_times_inverse_depth():
    # 20 * 0.5 * 0.25 = 2.5 pixels to the left, 20 * 0.1 * 0.25 = 0.5 pixels up: between columns 7 and 8, rows 4 and 5.
    out, weight = carried(full(0.25), single(1.0, (5, 10)), view(), view((0.5, 0.1, 0)))
    expected = np.zeros(SHAPE)
    expected[4:6, 7:9] = 0.25
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    np.testing.assert_array_equal(weight > 0, expected > 0)


def test_a_camera_moved_forward_sees_things_nearer_and_farther_apart():
    # Depth 4 becomes 3.2, and what was 2.5 pixels from the centre (8, 6) both ways is 2.5 * 4 / 3.2 = 3.125 from it.
    out, _ = carried(full(0.25), single(1.0, (8, 10)), view(), view((0, 0, 0.8)))
    expected = np.zeros(SHAPE)
    expected[8:10, 10:12] = 1 / 3.2
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_what_lies_behind_the_camera_says_nothing():
    out, weight = carried(full(0.25), full(1.0), view(), view((0, 0, 5)))
    assert not out.any()
    assert not weight.any()


def test_the_nearer_surface_of_a_frame_hides_the_farther_whatever_their_confidence():
    # The near pixel moves to columns 7 and 8, rows 4 and 5, see above; the wall behind it by 1 pixel to the left.
    seen, confidence = full(0.1), full(0.9)
    seen[5, 10], confidence[5, 10] = 0.25, 0.5
    out, weight = carried(seen, confidence, view(), view((0.5, 0.1, 0)))
    expected = np.zeros(SHAPE, dtype=bool)
    expected[4:6, 7:9] = True
    np.testing.assert_array_equal(np.abs(out - 0.25) < 1e-6, expected)
    np.testing.assert_allclose(weight[expected], 0.25, rtol=1e-6)
    np.testing.assert_allclose(weight[~expected & (out > 0)], 0.81, rtol=1e-6)
    # And the surface is not in another's way: its frame has one vote there, another frame has its own.
    warp = pixel_warp(view(), view((0.5, 0.1, 0)))
    both = collect_votes((full(0), full(0)), [(seen, confidence), (full(0.1), confidence)], [warp, warp], 1.0)
    np.testing.assert_allclose(both.inverse_depth[:, 4, 7], [0, 0.25, 0.1], rtol=1e-6)


def test_confidence_counts_squared_and_the_own_vote_as_told():
    own = (full(0.3), full(0.5))
    votes = collect_votes(own, [(full(0.25), full(0.8))], [pixel_warp(view(), view())], own_weight=3.0)
    np.testing.assert_array_equal(votes.inverse_depth[0], own[0])
    np.testing.assert_allclose(votes.weight[0], 3.0 * 0.25, rtol=1e-6)
    np.testing.assert_allclose(votes.weight[1], 0.64, rtol=1e-6)


def test_doubted_depth_does_not_vote():
    doubted, trusted = full(MIN_CONFIDENCE - 0.01), full(MIN_CONFIDENCE + 0.01)
    warp = pixel_warp(view(), view())
    silent = collect_votes((full(0.3), doubted), [(full(0.3), doubted)], [warp], 1.0)
    assert not silent.weight.any()
    assert not any(grid.any() for grid in agree(silent))
    heard = collect_votes((full(0.3), trusted), [(full(0.3), trusted)], [warp], 1.0)
    assert (heard.weight > 0).all()


def test_a_depth_of_zero_is_no_vote():
    _, weight = carried(full(0), full(1.0), view(), view())
    assert not weight.any()


# What the votes say together.


def test_three_weak_votes_and_a_strong_one():
    weak = [1.0, 1.005, 0.995]
    strong = at_pixel(agree(columns_of(values=[*weak, 2.0], weight=[0.2, 0.2, 0.2, 0.7])))
    np.testing.assert_allclose(strong, [2.0, 0.7, 1.3], rtol=1e-6)
    outvoted = at_pixel(agree(columns_of(values=[*weak, 2.0], weight=[0.2, 0.3, 0.2, 0.6])))
    np.testing.assert_allclose(outvoted, [(0.2 * 1 + 0.3 * 1.005 + 0.2 * 0.995) / 0.7, 0.7, 1.3], rtol=1e-6)


def test_votes_agree_within_a_share_of_the_inverse_depth():
    for value in (0.01, 1.0, 50.0):
        just, not_quite = value * (1 + 0.95 * AGREES_WITHIN), value * (1 + 1.05 * AGREES_WITHIN)
        assert at_pixel(agree(columns_of(values=[value, just], weight=[1, 1])))[1] == 2
        assert at_pixel(agree(columns_of(values=[value, not_quite], weight=[1, 1])))[1] == 1


def test_agreement_matches_its_readable_twin():
    votes = random_votes()
    np.testing.assert_allclose(np.stack(agree(votes)), readable_agree(votes), rtol=1e-6, atol=1e-6)


def test_the_order_of_the_frames_does_not_matter():
    votes, order = random_votes(seed=1), np.random.default_rng(0).permutation(9)
    shuffled = Votes(votes.inverse_depth[order], votes.weight[order])
    np.testing.assert_allclose(agree(shuffled), agree(votes), rtol=1e-5)
    surface = full(0.25, (7, 8))
    np.testing.assert_allclose(weigh(shuffled, surface), weigh(votes, surface), rtol=1e-5, atol=1e-6)


def test_pixels_nobody_votes_for_are_zero():
    votes = random_votes()
    votes.weight[:, 2:4, 3] = 0
    for grid in agree(votes):
        assert not grid[2:4, 3].any()
    assert (agree(votes).inverse_depth[:2] > 0).any()


def test_votes_for_and_against_a_surface_by_hand():
    inside = 1 + 0.9 * SUPPORTS_WITHIN
    votes = columns_of(values=[0.5 * inside, 0.5 / inside, 0.4, 0.3, 0.7, 9.0], weight=[1, 2, 4, 8, 16, 0])
    # Inverse depth below that of the surface is farther: they see through it.
    assert at_pixel(weigh(votes, full(0.5, (1, 1)))) == [3, 12, 16]


def test_evidence_matches_its_readable_twin_and_loses_no_vote():
    votes = random_votes(seed=2)
    surface = np.random.default_rng(5).choice([0.2, 0.25, 0.4], (7, 8)).astype(np.float32)
    evidence = weigh(votes, surface)
    np.testing.assert_allclose(evidence, readable_weigh(votes, surface), atol=1e-6)
    np.testing.assert_allclose(sum(evidence), agree(votes).total, rtol=1e-5)


def test_votes_of_others_leave_the_own_one_out():
    votes = collect_votes((full(0.1), full(1.0)), [(full(0.2), full(1.0))], [pixel_warp(view(), view())], 2.0)
    assert (weigh(votes, full(0.1)).agreeing > 0).all()
    assert not (weigh(votes.of_others, full(0.1)).agreeing > 0).any()
    assert (weigh(votes.of_others, full(0.2)).agreeing > 0).any()
