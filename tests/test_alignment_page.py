"""The page of a clip's alignment: ticks and ranges by hand, what lies where, and clips of every shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recon4d.formats.pictures import read_rgb
from recon4d.view import alignment_page as pages
from recon4d.view.alignment_evidence import (
    AlignmentEvidence,
    CueScale,
    FitPoints,
    FrameErrors,
    FrameFits,
    SigmaShares,
    SpaceErrors,
)
from recon4d.view.alignment_page import HEIGHT, WIDTH, alignment_page, diverging, write_alignment_page
from recon4d.view.axes import Axes, log_ticks, robust_range, round_ticks, tick_texts
from recon4d.view.drawing import paper, shortened, text_width


def evidence(count: int = 40, shift: bool = True, **changes: object) -> AlignmentEvidence:
    """A clip with all there is to show."""
    rng, rows = np.random.default_rng(4), np.arange(count)
    gain, offset = 0.5 + 0.1 * np.sin(rows / 9), 0.02 * np.cos(rows / 7)
    frame, y = rng.integers(0, count, 900), 1 / rng.uniform(1, 8, 900)
    d = (y - (offset[frame] if shift else 0)) / gain[frame]
    fits = FrameFits(
        gain,
        gain * np.exp(rng.normal(0, 0.03, count)),
        np.zeros(count, dtype=bool),
        offset if shift else None,
        offset + rng.normal(0, 0.01, count) if shift else None,
    )
    error = 0.05 * np.exp(rng.normal(0, 0.1, count))
    grid = 0.1 * np.sin(np.add.outer(np.arange(9), np.arange(12)) / 5)
    made = AlignmentEvidence(
        clip="clip",
        names=tuple(f"{3 * row:06d}" for row in rows),
        key_numbers=("40 frames", "held-out 5 %"),
        fits=fits,
        errors=FrameErrors(3 * error, 1.3 * error, error, 1.1 * error, 4 * error),
        points=FitPoints(d, y, frame, "source disparity", "1 / depth of the structure (1/units)"),
        space=SpaceErrors(grid, 0.2 * grid, -grid, np.full((48, 64, 3), 90, dtype=np.uint8), "000012"),
        sigma=SigmaShares(0.7, 0.94, 500),
        scale=CueScale("all", 1.4, 1.3, 1.5),
        cues=(CueScale("marker", 1.41, 1.3, 1.52), CueScale("metric depth", 1.3, 1.0, 1.7)),
        seams=(count / 2,),
        warned=((1, min(3, count - 1)),),
    )
    return replace(made, **changes)


def colored(page: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """(H, W) bool pixels of exactly one colour."""
    return (page == np.array(color)).all(axis=2)


def test_ticks_by_hand():
    np.testing.assert_allclose(round_ticks(0.13, 0.94, 5), [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(round_ticks(-3, 3, 7), [-3, -2, -1, 0, 1, 2, 3])
    np.testing.assert_allclose(round_ticks(0, 1999, 5), [0, 500, 1000, 1500])
    np.testing.assert_allclose(round_ticks(-0.5, 2.5, 12, whole=True), [0, 1, 2])  # frames have no halves
    np.testing.assert_allclose(log_ticks(1.5, 60), [2, 5, 10, 20, 50])
    np.testing.assert_allclose(log_ticks(0.01, 1000), [0.01, 0.1, 1, 10, 100, 1000])


def test_ticks_are_written_with_equal_and_fewest_decimals():
    assert tick_texts(np.array([-0.5, 0, 0.5])) == ["-0.5", "0.0", "0.5"]
    assert tick_texts(np.array([0.1, 0.125])) == ["0.100", "0.125"]
    assert tick_texts(np.array([10.0, 20])) == ["10", "20"]
    assert tick_texts(np.array([0, 2e-5])) == ["0", "2.0e-5"]
    assert tick_texts(np.array([1e6, 2e6])) == ["1.0e6", "2.0e6"]


def test_range_ignores_stray_numbers_and_is_never_empty():
    low, high = robust_range([np.append(np.linspace(1, 2, 999), 1e9)])
    assert 0.85 < low < 1.0
    assert 2.0 < high < 2.15
    low, high = robust_range([np.full(3, 2.0)], least=0.1)
    assert (low, high) == (pytest.approx(1.9), pytest.approx(2.1))
    assert robust_range([np.full(3, np.nan), np.zeros(0)]) == (0.0, 1.0)
    low, high = robust_range([np.zeros(2)])
    assert low < 0 < high


def test_place_of_numbers_by_hand():
    axes = Axes(left=10, top=20, width=101, height=51, x_range=(0, 50), y_range=(1, 2))
    np.testing.assert_allclose(axes.columns(np.array([0, 25, 50])), [10, 60, 110])
    np.testing.assert_allclose(axes.rows(np.array([1, 1.5, 2])), [70, 45, 20])
    log = Axes(10, 20, 101, 51, (0, 50), (1, 100), log_y=True)
    np.testing.assert_allclose(log.rows(np.array([1, 10, 100, 0])), [70, 45, 20, np.nan])


def test_line_is_broken_where_a_number_is_missing():
    picture = paper(60, 120)
    axes = Axes(10, 5, 101, 51, (0, 4), (0, 2))
    axes.line(picture, np.arange(5), np.array([1, 1, np.nan, 1, 1]), (255, 0, 0))
    drawn = np.flatnonzero(picture[30, :, 0] > 200)
    assert set(range(12, 34)) <= set(drawn)
    assert set(range(87, 109)) <= set(drawn)
    assert not set(range(40, 82)) & set(drawn)


def test_dot_outside_sits_at_the_edge_and_is_not_lost():
    picture = paper(60, 120)
    axes = Axes(10, 5, 101, 51, (0, 4), (0, 2))
    axes.dots(picture, np.array([1.0, 2.0, 3.0, 9.0]), np.array([1e9, np.nan, -5.0, 1.0]), np.array([1, 2, 3]), size=3)
    rows, columns = np.nonzero(colored(picture, (1, 2, 3)))
    assert set(zip(rows.tolist(), columns.tolist())) == {
        (r, c)
        for r, c in [
            *((r, c) for r in (5, 6, 7) for c in (34, 35, 36)),
            *((r, c) for r in (53, 54, 55) for c in (84, 85, 86)),
        ]
    }


def test_colours_of_signed_errors_by_hand():
    colors = diverging(np.array([-0.2, -0.1, 0, 0.05, 0.1, np.nan]), 0.1)
    np.testing.assert_array_equal(colors[[0, 1]], [pages.NEARER, pages.NEARER])
    np.testing.assert_array_equal(colors[2], pages.EVEN)
    np.testing.assert_array_equal(colors[3], (np.array(pages.EVEN) + pages.FARTHER) / 2)
    np.testing.assert_array_equal(colors[4], pages.FARTHER)
    assert colors[5].max() < 60


def test_joint_fit_lies_where_its_numbers_are():
    """A step of the gain at a seam shows as a line that is higher after it, and the seam between."""
    gain = np.where(np.arange(40) < 20, 0.5, 0.6)
    made = evidence(shift=False)
    made = replace(made, fits=replace(made.fits, gain=gain, own_gain=gain), seams=(19.5,))
    page = alignment_page(made)[130:506]
    rows, columns = np.nonzero(colored(page, pages.JOINT))
    seam = np.nonzero(colored(page, pages.SEAM))[1]
    assert len(set(seam.tolist())) == 1
    before, after = rows[columns < seam[0] - 20], rows[columns > seam[0] + 20]
    assert before.min() > after.max() + 100  # rows grow downward


def test_unit_of_the_depth_does_not_change_the_picture_but_for_its_labels():
    made = evidence(shift=False)
    scaled = replace(made, fits=replace(made.fits, gain=1024 * made.fits.gain, own_gain=1024 * made.fits.own_gain))
    inside = np.s_[130:520, pages.MARGIN + pages.LEFT_WIDTH + 106 : WIDTH - pages.MARGIN]
    np.testing.assert_array_equal(
        colored(alignment_page(made)[inside], pages.JOINT), colored(alignment_page(scaled)[inside], pages.JOINT)
    )


def test_one_stray_fit_does_not_flatten_the_others():
    made = evidence(shift=False)
    own = made.fits.own_gain.copy()
    own[7] = 1e7
    stray = alignment_page(replace(made, fits=replace(made.fits, own_gain=own)))[130:506]
    rows = np.nonzero(colored(stray, pages.JOINT))[0]
    assert np.ptp(rows) > 60


def test_warned_frames_are_shaded_and_carried_ones_marked():
    made = evidence()
    calm = alignment_page(replace(made, warned=()))
    assert (alignment_page(made)[600:760].astype(int)[..., 0] - calm[600:760][..., 0]).max() > 30
    carried = np.zeros(40, dtype=bool)
    carried[10:14] = True
    own = np.where(carried, np.nan, made.fits.own_gain)
    page = alignment_page(replace(made, fits=replace(made.fits, carried=carried, own_gain=own)))
    assert colored(page[130:300], pages.CARRIED).sum() >= 4 * 25
    assert not colored(calm[130:300], pages.CARRIED).any()


def test_share_within_sigma_is_the_length_of_its_bar():
    def length(share: float) -> int:
        page = alignment_page(evidence(sigma=SigmaShares(share, 0.95, 10), errors=_unknown(40)))
        return int(colored(page[694:695, : pages.LEFT_WIDTH], pages.HELD_OUT).sum())

    assert length(0.8) == pytest.approx(2 * length(0.4), abs=3)  # the mark of 68 % covers two pixels
    assert length(0.0) == 0


def _unknown(count: int) -> FrameErrors:
    return FrameErrors(*np.full((5, count), np.nan))


@pytest.mark.parametrize("count", [1, 2, 3, 2000])
@pytest.mark.parametrize("shift", [True, False])
def test_clips_of_every_length(count, shift):
    page = alignment_page(evidence(count, shift))
    assert page.shape == (HEIGHT, WIDTH, 3)
    assert colored(page[130:520, 700:], pages.JOINT).sum() > 10


def test_what_is_not_known_is_said_and_nothing_fails(tmp_path):
    nothing = np.full(5, np.nan)
    tripod = AlignmentEvidence(
        clip="Straße/映像 " * 30,
        names=tuple(f"a very long name of a picture {row}" for row in range(5)),
        key_numbers=("metric_z",) * 80,
        fits=FrameFits(np.ones(5), nothing, np.zeros(5, dtype=bool)),
        errors=_unknown(5),
    )
    write_alignment_page(tmp_path / "page.png", tripod)
    assert read_rgb(tmp_path / "page.png").shape == (HEIGHT, WIDTH, 3)
    half = evidence(points=None, sigma=None, scale=None, cues=(), errors=_unknown(40))
    alignment_page(replace(half, space=SpaceErrors(np.full((4, 5), np.nan))))
    empty = FitPoints(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int), "d", "y")
    alignment_page(replace(half, points=empty, space=None))
    alignment_page(evidence(cues=tuple(CueScale("a cue with quite a long name", 1.0, 1.0, 1.0) for _ in range(9))))
    exact = evidence(errors=FrameErrors(*np.zeros((5, 40))))  # SCENE_Z that is the structure itself
    alignment_page(exact)


def test_portrait_pictures_keep_their_shape():
    grid = np.zeros((16, 9))
    space = SpaceErrors(grid, grid, grid, np.zeros((160, 90, 3), dtype=np.uint8), "7")
    page = alignment_page(evidence(space=space))
    cell = colored(page[844:1050, pages.MARGIN + pages.LEFT_WIDTH + 44 :][:, :360], pages.EVEN)
    rows, columns = np.nonzero(cell)
    assert np.ptp(columns) + 1 == pytest.approx((np.ptp(rows) + 1) * 9 / 16, abs=1)


def test_long_text_is_cut_where_it_would_leave_its_place():
    assert shortened("short", 0.5, 400) == "short"
    cut = shortened("word " * 100, 0.5, 200)
    assert cut.endswith("...")
    assert text_width(cut, 0.5) <= 200
