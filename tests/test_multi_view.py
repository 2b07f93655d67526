"""Stereo from first look to final depth, on a small corner of a room whose depth is known exactly."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from recon4d.depth.multi_view import (
    LEAST_SHARE,
    SURE_SHARE,
    SURE_SUPPORT,
    Look,
    PosedPicture,
    Settled,
    first_look,
    settle,
    steadied,
    trust,
)
from recon4d.depth.stereo_chances import texture_share
from recon4d.geometry.depth_votes import Agreement
from recon4d.scene.camera import Camera
from recon4d.scene.depth import DepthKind, DepthMap, Provenance
from recon4d.scene.transforms import Rigid3

WIDTH, HEIGHT = 128, 96
COUNT, JUDGED = 10, 5
NEAR, FAR = 1.2, 6.0
MOVER = np.s_[30:62, 30:60]
RIGHT_WITHIN = 0.05  # what confidence speaks of
CAMERA = Camera(WIDTH, HEIGHT, 110.0, 110.0, WIDTH / 2, HEIGHT / 2)


def colours(x, tint):
    """Smooth paint with detail of a few pixels, from points (H, W, 3) in the world."""
    rgb = np.empty(x.shape)
    for channel, shift in enumerate((0.0, 0.6, 1.1)):
        u, v, w = (x[..., k] for k in range(3))
        wide = np.sin(7 * u + 4 * v + 3 * w + shift) + np.sin(5 * v - 6 * u + 6 * w + 2)
        fine = np.sin(19 * u - 9 * v + 13 * w + shift) + np.sin(23 * v + 11 * u - 15 * w)
        rgb[..., channel] = tint[channel] + 22 * wide + 16 * fine
    return rgb


def render(cam_from_world):
    """Picture (H, W, 3) uint8 and exact z-depth (H, W): a floor, a wall with a plain part, and a board before it."""
    world_from_cam = cam_from_world.inverse()
    rays, origin = CAMERA.rays() @ world_from_cam.rotation.T, world_from_cam.translation
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 1] > 1e-9, (0.9 - origin[1]) / rays[..., 1], np.inf)
        wall = (4.0 - origin[2]) / rays[..., 2]
        board = (2.2 - origin[2]) / rays[..., 2]
    on_board = np.abs(origin + rays * board[..., None] - [0.55, -0.05, 2.2])
    board = np.where((on_board[..., 0] < 0.3) & (on_board[..., 1] < 0.4), board, np.inf)
    depth = np.minimum(np.minimum(floor, wall), board)
    x = origin + rays * depth[..., None]
    rgb = np.where((floor < wall)[..., None], colours(x, (120, 130, 110)), colours(x, (150, 125, 120)))
    plain = (np.abs(x[..., 0] + 0.2) < 0.5) & (x[..., 1] < 0.1) & (x[..., 1] > -0.8)
    rgb = np.where((plain & (wall < floor))[..., None], [150, 125, 120], rgb)
    rgb = np.where((board <= depth)[..., None], colours(1.3 * x + 1, (80, 100, 165)), rgb)
    return np.clip(rgb, 0, 255).astype(np.uint8), depth


def pose(i):
    """A walk to the right that looks back a little."""
    angle = 0.02 * (i - JUDGED)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return Rigid3(turn, -turn @ np.array([0.13 * (i - JUDGED), 0.05 * np.sin(2.0 * i), 0.06 * np.cos(1.3 * i)]))


@dataclass(frozen=True)
class Walked:
    """The clip, its truth, and each frame after each round."""

    pictures: list[PosedPicture]
    depths: list[np.ndarray]
    looks: list[Look]
    settled: list[Settled]
    final: DepthMap  # of the judged frame

    def others(self, answers, i=JUDGED):
        return [(self.pictures[j], answers[j]) for j in range(COUNT) if j != i]

    def error(self, inverse_depth, i=JUDGED):
        """(H, W) relative error of depth."""
        return np.abs(1 / (inverse_depth * self.depths[i]) - 1)


def neighbours(greys, i):
    return [greys[j] for j in range(COUNT) if 0 < abs(j - i) <= 3]


@pytest.fixture(scope="module")
def walked():
    rendered = [render(pose(i)) for i in range(COUNT)]
    pictures = [PosedPicture(rgb, CAMERA, pose(i)) for i, (rgb, _) in enumerate(rendered)]
    greys = [picture.grey() for picture in pictures]
    looks = [first_look(grey, neighbours(greys, i), NEAR, FAR) for i, grey in enumerate(greys)]
    settled = []
    for i in range(COUNT):
        others = [(pictures[j], looks[j]) for j in range(COUNT) if j != i]
        settled.append(settle(pictures[i], looks[i], others, neighbours(greys, i)))
    others = [(pictures[j], settled[j]) for j in range(COUNT) if j != JUDGED]
    final = steadied(pictures[JUDGED], settled[JUDGED], others, complete=True)
    return Walked(pictures, [depth for _, depth in rendered], looks, settled, final)


def inverse(depth_map):
    return 1 / np.where(depth_map.valid, depth_map.values, np.nan)


def textured(walked, i=JUDGED):
    return texture_share(walked.pictures[i].rgb) > 0.5


def shares_right(walked, answers, within=0.03):
    """Of the pixels with texture, per frame; the outermost frames have too few neighbours."""
    inner = range(1, COUNT - 1)
    return [(walked.error(answers[i].inverse_depth, i)[textured(walked, i)] < within).mean() for i in inner]


def unsure(shape=CAMERA.shape):
    """What stands for a depth where a frame saw nothing."""
    guess, nothing = np.full(shape, 1 / 2.7, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    made_up = np.full(shape, Provenance.COMPLETED, dtype=np.uint8)
    return Settled(guess, nothing, made_up, np.zeros(shape, dtype=bool), nothing)


# How right.


def test_the_first_look_finds_what_has_texture(walked):
    assert min(shares_right(walked, walked.looks)) > 0.8


def test_settling_and_steadying_make_it_no_worse(walked):
    looks, settled = shares_right(walked, walked.looks, 0.05), shares_right(walked, walked.settled, 0.05)
    assert np.mean(settled) > np.mean(looks)
    assert min(settled) > 0.9
    before, after = walked.error(walked.settled[JUDGED].inverse_depth), walked.error(inverse(walked.final))
    assert (after < RIGHT_WITHIN).mean() > (before < RIGHT_WITHIN).mean() - 0.002
    assert np.median(after) < np.median(before) + 5e-4


def test_depth_comes_no_nearer_from_round_to_round(walked):
    for answer in (walked.looks[JUDGED], walked.settled[JUDGED]):
        assert abs(np.median(answer.inverse_depth * walked.depths[JUDGED]) - 1) < 0.002
    assert abs(np.median(walked.final.values / walked.depths[JUDGED]) - 1) < 0.002


def test_a_plain_patch_takes_the_depth_of_the_wall_around_it(walked):
    plain = texture_share(walked.pictures[JUDGED].rgb) < 0.1
    assert plain.sum() > 100
    assert (walked.error(inverse(walked.final))[plain] < 0.02).mean() > 0.95


def test_confidence_tells_right_from_wrong(walked):
    answers = [(answer.inverse_depth, answer.confidence) for answer in (walked.looks[JUDGED], walked.settled[JUDGED])]
    for inverse_depth, confidence in [*answers, (inverse(walked.final), walked.final.confidence)]:
        assert confidence.dtype == np.float32
        assert ((confidence >= 0) & (confidence <= 1)).all()
        right = walked.error(inverse_depth) < RIGHT_WITHIN
        assert confidence[right].mean() > confidence[~right].mean() + 0.1


# What is given, and where it comes from.


def test_completed_depth_is_everywhere(walked):
    assert walked.final.kind is DepthKind.SCENE_Z
    assert walked.final.valid.all()
    assert (walked.final.values > 0).all()
    found = set(np.unique(walked.final.provenance))
    assert found <= {Provenance.MEASURED, Provenance.OTHER_FRAME, Provenance.COMPLETED}
    assert Provenance.MEASURED in found


def test_without_completion_only_what_was_measured_is_given(walked):
    frame, settled = walked.pictures[JUDGED], walked.settled[JUDGED]
    found = steadied(frame, settled, walked.others(walked.settled), complete=False)
    np.testing.assert_array_equal(found.valid, walked.final.provenance == Provenance.MEASURED)
    assert 0.5 < found.valid.mean() < 1
    np.testing.assert_array_equal(found.values, np.where(found.valid, walked.final.values, 0))


def test_what_only_others_saw_is_theirs(walked):
    """Others know the exact depth, the frame itself nothing."""
    exact = [Look((1 / depth).astype(np.float32), np.full(depth.shape, 0.9, np.float32)) for depth in walked.depths]
    blind = replace(exact[JUDGED], confidence=np.zeros_like(exact[JUDGED].confidence))
    found = settle(walked.pictures[JUDGED], blind, walked.others(exact), [])
    assert (found.provenance != Provenance.MEASURED).all()
    assert (found.provenance == Provenance.OTHER_FRAME).mean() > 0.8
    assert not found.own_trust.any()
    error = walked.error(found.inverse_depth)
    assert np.median(error) < 0.001
    assert (error < 0.03).mean() > 0.9
    seeing = settle(walked.pictures[JUDGED], exact[JUDGED], walked.others(exact), [])
    assert (seeing.provenance == Provenance.MEASURED).mean() > 0.9
    assert seeing.confidence.mean() > found.confidence.mean()


def test_what_was_measured_well_is_finer_than_a_plane(walked):
    """A wall with ripples of 1 %, which a plane would flatten; all frames stand in one place and agree."""
    x = np.arange(WIDTH, dtype=np.float32) * np.ones((HEIGHT, 1), dtype=np.float32)
    ripples = ((0.3 + 0.0004 * x) * (1 + 0.01 * np.sin(x / 5))).astype(np.float32)
    frame, look = walked.pictures[JUDGED], Look(ripples, np.ones(CAMERA.shape, dtype=np.float32))
    found = settle(frame, look, [(frame, look)] * 5, [])
    assert found.on_plane.mean() > 0.5
    np.testing.assert_allclose(found.inverse_depth, ripples, rtol=1e-3)


def test_nothing_trusted_settles_nothing_and_is_sure_of_nothing(walked):
    doubted = [replace(look, confidence=np.zeros_like(look.confidence)) for look in walked.looks]
    assert settle(walked.pictures[JUDGED], doubted[JUDGED], walked.others(doubted), []) is None
    answers = [unsure() for _ in range(COUNT)]
    found = steadied(walked.pictures[JUDGED], answers[JUDGED], walked.others(answers), complete=True)
    assert not found.confidence.any()
    np.testing.assert_array_equal(found.provenance, Provenance.COMPLETED)
    np.testing.assert_allclose(found.values[found.valid], 2.7, rtol=1e-6)


def test_a_frame_that_saw_nothing_hears_the_others(walked):
    found = steadied(walked.pictures[JUDGED], unsure(), walked.others(walked.settled), complete=True)
    heard = found.valid & (found.confidence > 0.5)
    assert heard.mean() > 0.8
    assert (np.abs(found.values / walked.depths[JUDGED] - 1)[heard] < RIGHT_WITHIN).mean() > 0.95


def test_what_others_corrected_is_no_surer_for_what_the_frame_thought(walked):
    wrong, settled = np.s_[20:60, 25:65], walked.settled[JUDGED]
    inverse_depth = settled.inverse_depth.copy()
    inverse_depth[wrong] *= 2
    chances = []
    for sure in (0.05, 0.35):  # too little to vote
        confidence = np.full(CAMERA.shape, sure, dtype=np.float32)
        mistaken = replace(settled, inverse_depth=inverse_depth, confidence=confidence)
        found = steadied(walked.pictures[JUDGED], mistaken, walked.others(walked.settled), complete=True)
        chances.append(found.confidence)
    inside = np.zeros(CAMERA.shape, dtype=bool)
    inside[27:53, 32:58] = True
    right = np.abs(found.values / walked.depths[JUDGED] - 1) < RIGHT_WITHIN
    assert right[inside].mean() > 0.95
    assert (found.provenance[inside & right] == Provenance.OTHER_FRAME).all()
    np.testing.assert_array_equal(chances[0][inside & right], chances[1][inside & right])
    elsewhere = np.ones(CAMERA.shape, dtype=bool)
    elsewhere[15:65, 20:70] = False
    assert (chances[0] < chances[1])[elsewhere].mean() > 0.95


@pytest.mark.parametrize("count", [COUNT, 6], ids=["a clip", "a short clip"])
def test_what_moves_has_no_depth(walked, count):
    """A thing that is in one picture only, and for which the frame's own matching does not vouch."""
    first = min(JUDGED - count // 2, COUNT - count)
    others = [j for j in range(first, first + count) if j != JUDGED]
    rgb = walked.pictures[JUDGED].rgb.copy()
    rgb[MOVER] = np.add(np.random.default_rng(0).integers(0, 40, (*rgb[MOVER].shape[:2], 1)), [10, 190, 40])
    frame = replace(walked.pictures[JUDGED], rgb=rgb)

    def final(own_trust):
        settled = replace(walked.settled[JUDGED], own_trust=np.full(CAMERA.shape, own_trust, dtype=np.float16))
        return steadied(frame, settled, [(walked.pictures[j], walked.settled[j]) for j in others], complete=True)

    moving = ~final(0.0).valid
    assert moving[MOVER].mean() > 0.9
    assert not final(0.0).values[moving].any()
    elsewhere = np.ones(CAMERA.shape, dtype=bool)
    elsewhere[MOVER[0].start - 3 : MOVER[0].stop + 3, MOVER[1].start - 3 : MOVER[1].stop + 3] = False
    assert not moving[elsewhere].any()
    assert final(1.0).valid.all()


# What must not change it.


def scaled_picture(picture, unit):
    pose = picture.cam_from_world
    return replace(picture, cam_from_world=Rigid3(pose.rotation, unit * pose.translation))


def test_another_unit_of_length_gives_the_same_answers(walked):
    unit = 7.0
    pictures = [scaled_picture(picture, unit) for picture in walked.pictures]
    greys = [picture.grey() for picture in pictures]

    def scaled(answer):
        return replace(answer, inverse_depth=answer.inverse_depth / np.float32(unit))

    def same(found, expected, share):
        assert (np.abs(found / expected - 1) < 1e-3).mean() > share

    look = first_look(greys[JUDGED], neighbours(greys, JUDGED), unit * NEAR, unit * FAR)
    same(unit * look.inverse_depth, walked.looks[JUDGED].inverse_depth, 0.995)
    others = [(pictures[j], scaled(walked.looks[j])) for j in range(COUNT) if j != JUDGED]
    settled = settle(pictures[JUDGED], scaled(walked.looks[JUDGED]), others, neighbours(greys, JUDGED))
    same(unit * settled.inverse_depth, walked.settled[JUDGED].inverse_depth, 0.97)
    for name in ("provenance", "on_plane"):
        assert (getattr(settled, name) == getattr(walked.settled[JUDGED], name)).mean() > 0.97
    others = [(pictures[j], scaled(walked.settled[j])) for j in range(COUNT) if j != JUDGED]
    final = steadied(pictures[JUDGED], scaled(walked.settled[JUDGED]), others, complete=True)
    same(final.values / unit, walked.final.values, 0.995)
    assert (final.provenance == walked.final.provenance).mean() > 0.995
    np.testing.assert_array_equal(final.valid, walked.final.valid)
    assert (np.abs(final.confidence - walked.final.confidence) < 1e-3).mean() > 0.995


def test_the_order_of_those_who_vote_does_not_matter(walked):
    greys = [picture.grey() for picture in walked.pictures]
    others = walked.others(walked.looks)[::-1]
    found = settle(walked.pictures[JUDGED], walked.looks[JUDGED], others, neighbours(greys, JUDGED))
    expected = walked.settled[JUDGED]
    assert (np.abs(found.inverse_depth / expected.inverse_depth - 1) < 1e-3).mean() > 0.97


# By hand.


def test_trust_by_hand():
    share = (LEAST_SHARE + SURE_SHARE) / 2
    support = np.array([[0, SURE_SUPPORT, 9 * SURE_SUPPORT, SURE_SUPPORT / 4, SURE_SUPPORT, LEAST_SHARE]])
    total = np.array([[0, SURE_SUPPORT, 9 * SURE_SUPPORT, SURE_SUPPORT / 4, SURE_SUPPORT / share, 1]])
    found = trust(Agreement(np.ones_like(support), support, total))
    np.testing.assert_allclose(found, [[0, 1, 1, 0.25, 0.5, 0]], atol=1e-6)


def test_grey_is_luminance():
    rgb = np.zeros((1, 4, 3), dtype=np.uint8)
    rgb[0, 0, 0] = rgb[0, 1, 1] = rgb[0, 2, 2] = 100
    rgb[0, 3] = 200
    view = PosedPicture(rgb, Camera(4, 1, 10.0, 10.0, 2.0, 0.5), pose(0)).grey()
    np.testing.assert_allclose(view.grey, [[29.9, 58.7, 11.4, 200]], rtol=1e-5)


def test_a_frame_that_vouches_for_itself_alone_is_not_measured():
    """A sure own vote weighs two; without any other frame it used to pass for confirmed."""
    shape = (24, 32)
    picture = PosedPicture(np.zeros((*shape, 3), np.uint8), Camera(32, 24, 30.0, 30.0, 16.0, 12.0), Rigid3.identity())
    sure = Look(np.full(shape, 0.5, np.float32), np.full(shape, 0.95, np.float32))
    settled = settle(picture, sure, [], [])
    assert not (settled.provenance == Provenance.MEASURED).any()
