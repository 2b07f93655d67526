"""One scale from many cues, and the cues that are one formula each."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recon4d.errors import OptionsError
from recon4d.metric.baseline import baseline_cue, parse_baseline
from recon4d.metric.depth_ratio import NETWORK_SIGMA, SENSOR_SIGMA, metric_depth_cue
from recon4d.metric.height import camera_height_cue
from recon4d.metric.scale import STRUCTURE_SIGMA, Cue, MetricScale, NoCue, combine, consensus, student_widening


def test_two_equal_cues_by_hand():
    scale = combine([Cue("a", 0.40, 0.03), Cue("b", 0.40 * np.exp(0.04), 0.03)], structure_sigma=0.0)
    assert scale.metres_per_unit == pytest.approx(0.40 * np.exp(0.02))
    assert scale.sigma == pytest.approx(0.03 / np.sqrt(2))  # differ by less than chance: no widening
    assert [c.weight for c in scale.contributions] == pytest.approx([0.5, 0.5])
    assert [c.deviation_sigmas for c in scale.contributions] == pytest.approx([-2 / 3, 2 / 3])
    half = 1.96 * 0.03 / np.sqrt(2)
    assert scale.interval_95 == pytest.approx((0.40 * np.exp(0.02 - half), 0.40 * np.exp(0.02 + half)))


def test_precision_weighs_by_hand():
    scale = combine([Cue("a", 1.0, 0.01), Cue("b", 1.0, 0.03)], structure_sigma=0.0)
    assert [c.weight for c in scale.contributions] == pytest.approx([0.9, 0.1])
    assert scale.sigma == pytest.approx(1 / np.sqrt(1 / 0.01**2 + 1 / 0.03**2))


def test_more_spread_than_the_sigmas_allow_widens_by_hand():
    cues = [Cue(str(k), np.exp(0.04 * k), 0.02) for k in (-1, 0, 1)]  # chi2 = 8 with two degrees of freedom: ratio 2
    scale = combine(cues, structure_sigma=0.0)
    assert scale.contradictions == ()
    assert scale.sigma == pytest.approx(2 * 0.02 / np.sqrt(3))


def test_the_structures_own_error_stays_however_many_cues_agree():
    assert combine([Cue("a", 0.25, 0.0)]).sigma == pytest.approx(STRUCTURE_SIGMA)
    assert combine([Cue(str(k), 0.25, 0.001) for k in range(50)]).sigma == pytest.approx(STRUCTURE_SIGMA, rel=1e-3)


def test_two_cues_that_contradict_are_both_covered_and_said():
    scale = combine([Cue("marker 0.1 m", 0.41, 0.01), Cue("camera height 1.5 m", 0.55, 0.05)])
    low, high = scale.interval_95
    assert low < 0.41 < 0.55 <= high * (1 + 1e-9)
    (said,) = scale.contradictions
    assert "the marker 0.1 m says 0.41 m per unit" in said
    assert "the camera height 1.5 m 0.55" in said
    assert "(5 sigmas); the interval covers both; leave out the wrong one" in said
    assert all(c.weight > 0 for c in scale.contributions)


def test_a_cue_that_two_others_contradict_gets_no_weight():
    cues = [Cue("marker 0.1 m", 0.41, 0.01), Cue("distance 0.85 m", 0.42, 0.02), Cue("camera height 1.5 m", 0.6, 0.05)]
    scale = combine(cues)
    assert 0.41 <= scale.metres_per_unit <= 0.42
    assert scale.sigma < 0.03
    weights = {c.cue.name: c.weight for c in scale.contributions}
    assert weights["camera height 1.5 m"] == 0
    assert sum(weights.values()) == pytest.approx(1)
    assert "the camera height 1.5 m is not used" in scale.contradictions[0]
    assert scale.as_json()["source"] == "marker 0.1 m, distance 0.85 m"


def test_a_vague_cue_has_no_vote_between_two_that_contradict():
    cues = [Cue("marker", 0.41, 0.01), Cue("height", 0.55, 0.03), Cue("GPS", 0.43, 0.2)]
    scale = combine(cues)
    low, high = scale.interval_95
    assert low <= 0.41
    assert high >= 0.55 * (1 - 1e-9)


def test_several_guesses_do_not_outvote_a_measurement():
    scale = combine([Cue("marker", 0.41, 0.005), Cue("net a", 0.6, 0.07), Cue("net b", 0.6, 0.07)])
    assert len(scale.contradictions) == 2
    assert scale.interval_95[0] < 0.41 < 0.6 <= scale.interval_95[1] * (1 + 1e-9)


def test_order_and_unit_do_not_matter():
    cues = [Cue("a", 0.40, 0.02), Cue("b", 0.44, 0.05), Cue("c", 0.7, 0.04)]
    scale, turned = combine(cues), combine(cues[::-1])
    assert turned.metres_per_unit == pytest.approx(scale.metres_per_unit)
    larger = combine([Cue(c.name, 7 * c.metres_per_unit, c.sigma) for c in cues])
    assert larger.metres_per_unit == pytest.approx(7 * scale.metres_per_unit)
    assert larger.sigma == pytest.approx(scale.sigma)


@pytest.mark.parametrize("sigmas", [[0.03], [0.02, 0.05], [0.01, 0.03, 0.05, 0.1]])
def test_the_interval_holds_19_of_20(sigmas):
    rng, inside, rounds = np.random.default_rng(1), 0, 2000
    for _ in range(rounds):
        bent = rng.normal(scale=STRUCTURE_SIGMA)  # of the structure: all cues share it
        found = consensus(bent + rng.normal(scale=sigmas), np.array(sigmas), STRUCTURE_SIGMA)
        inside += abs(found.value) < 1.96 * found.sigma
    assert 0.94 <= inside / rounds <= 0.985


def test_without_a_cue_the_scale_is_null_and_says_how_to_get_one():
    content = combine([]).as_json()
    assert content["metres_per_unit"] is content["interval_95"] is content["source"] is None
    assert content["cues"] == []
    for option in ("distance", "marker", "camera-height", "baseline", "trajectory"):
        assert f"--metric.{option}" in content["how"]
    assert MetricScale().interval_95 is None


def test_the_record_can_be_written_and_read():
    content = json.loads(json.dumps(combine([Cue("a", 0.4, 0.02, "seen"), Cue("b", 0.9, 0.02)]).as_json()))
    assert set(content) == {"metres_per_unit", "interval_95", "source", "cues", "contradictions"}
    wanted = {"name", "metres_per_unit", "interval_95", "weight", "deviation_sigmas", "detail"}
    assert set(content["cues"][0]) == wanted
    assert content["cues"][0]["interval_95"] == pytest.approx([0.4 * np.exp(-0.0392), 0.4 * np.exp(0.0392)])


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_impossible_cues_are_refused(value):
    with pytest.raises(ValueError, match="Cue a"):
        Cue("a", value, 0.1)


def test_student_widening_by_the_table():
    assert 1.96 * student_widening(4) == pytest.approx(2.776, abs=1e-3)
    assert student_widening(1e6) == pytest.approx(1.0, abs=1e-4)


# -- metric depth ----------------------------------------------------------------------------------------------------


def test_metric_depth_by_hand():
    cue = metric_depth_cue(np.full(30, np.log(4.0)), "kinect", sensor=True)  # z = 4 units per metre
    assert cue.metres_per_unit == pytest.approx(0.25)
    assert cue.sigma == pytest.approx(SENSOR_SIGMA)
    assert metric_depth_cue(np.zeros(30), "net", sensor=False).sigma == pytest.approx(NETWORK_SIGMA)
    assert metric_depth_cue(np.zeros(0), "kinect", sensor=True).metres_per_unit == 1.0


@pytest.mark.parametrize("frames", [30, 100])
def test_the_interval_of_metric_depth_holds_though_frames_err_together(frames):
    rng, errors, sigmas = np.random.default_rng(2), [], []
    keep = np.exp(-1 / 5)  # correlation of neighbours: about ten frames tell as much as one
    for _ in range(300):
        walk = [rng.normal()]
        for _ in range(frames - 1):
            walk.append(keep * walk[-1] + np.sqrt(1 - keep**2) * rng.normal())
        cue = metric_depth_cue(0.05 * np.array(walk) + rng.normal(scale=SENSOR_SIGMA), "x", sensor=True)
        errors.append(np.log(cue.metres_per_unit))
        sigmas.append(cue.sigma)
    assert np.mean(np.abs(errors) < 1.96 * np.array(sigmas)) >= 0.94
    assert np.mean(sigmas) < 2 * np.std(errors)  # and it does not hide behind an interval that is far too wide


# -- camera height ---------------------------------------------------------------------------------------------------


def test_camera_height_by_hand():
    centres = np.array([[0.0, -3.0, 0.0], [1.0, -5.0, 2.0]])  # y down, ground at y = 1: heights 4 and 6
    cue = camera_height_cue((np.array([0.0, -1.0, 0.0]), 1.0, 0.1), centres, 1.5)
    assert cue.metres_per_unit == pytest.approx(0.3)
    assert cue.sigma == pytest.approx(np.hypot(0.1 / 5, 0.05))
    stated = camera_height_cue((np.array([0.0, -2.0, 0.0]), 2.0, 0.1), centres, 1.5, 0.15)  # the same plane
    assert stated.metres_per_unit == pytest.approx(0.3)
    assert stated.sigma == pytest.approx(np.hypot(0.1 / 5, 0.1))


def test_cameras_below_the_ground_give_no_height():
    with pytest.raises(NoCue, match="plane found as ground"):
        camera_height_cue((np.array([0.0, 1.0, 0.0]), -1.0, 0.1), np.zeros((3, 3)), 1.5)


# -- baseline --------------------------------------------------------------------------------------------------------


def test_pairs_are_found_by_the_text_under_the_star():
    rule = parse_baseline("left_* right_* 0.12")
    names = ["left_01", "left_02", "left_04", "right_02", "right_01", "right_03"]
    assert rule.metres == 0.12
    assert sorted(rule.pairs(names)) == [(0, 4), (1, 3)]
    assert parse_baseline("'my left' b 0.5").pairs(["b", "my left"]) == [(1, 0)]
    with pytest.raises(OptionsError, match="fits no two frames"):
        rule.pairs(["000000", "000001"])


@pytest.mark.parametrize(
    "text", ["left_* right_*", "a b 0", "a b -1", "a b nan", "a b c 1", "a* b 1", "a a 1", "", "'a b 1"]
)
def test_bad_baselines_are_refused_in_one_sentence(text):
    with pytest.raises(OptionsError, match=r"^align: --metric.baseline"):
        parse_baseline(text)


def test_baseline_by_hand_and_its_spread():
    first = np.arange(9.0)[:, None] * [1, 0, 0]
    cue = baseline_cue(first, first + np.array([0, 0.4, 0.3]), 0.1)
    assert cue.metres_per_unit == pytest.approx(0.2)
    assert cue.sigma == pytest.approx(0.01)  # pairs agree: what is left is the stated length
    assert baseline_cue(first[:1], first[:1] + np.array([0, 0.4, 0.3]), 0.1).sigma == pytest.approx(
        np.hypot(0.05, 0.01)
    )
    with pytest.raises(OptionsError, match="same camera centre"):
        baseline_cue(first, first, 0.1)


def test_the_interval_of_a_baseline_holds_19_of_20():
    rng, inside, rounds = np.random.default_rng(3), 0, 1000
    for _ in range(rounds):
        offset = np.array([0.5, 0, 0]) + rng.normal(scale=0.02, size=(8, 3))
        cue = baseline_cue(np.zeros((8, 3)), offset, 0.1 * np.exp(rng.normal(scale=0.01)))
        inside += abs(np.log(cue.metres_per_unit / 0.2)) < 1.96 * cue.sigma
    assert 0.93 <= inside / rounds <= 0.99
