"""One picture that shows how depth was brought to the structure: fits, errors over time and space, size in metres."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon4d.formats.pictures import write_picture
from recon4d.view.alignment_evidence import AlignmentEvidence, SigmaShares, SpaceErrors
from recon4d.view.axes import GROUND, Axes, robust_range
from recon4d.view.drawing import FAINT, INK, PAPER, legend, paper, resized, shortened, text_width, write

WIDTH, HEIGHT, MARGIN = 1800, 1100, 28
LEFT_WIDTH = 560  # of the column with the scatter
TEXT, HEAD = 0.42, 0.5
JOINT, OWN, PLAIN, HELD_OUT = (255, 176, 72), (110, 168, 240), (146, 149, 156), (118, 212, 148)
SEAM, CARRIED, WARNED, WANTED = (206, 132, 232), (240, 216, 96), (190, 48, 48), (240, 240, 242)
EARLY, MIDDLE, LATE = (70, 130, 255), (214, 214, 216), (255, 140, 40)  # frames of a clip, first to last
NEARER, EVEN, FARTHER = (44, 112, 214), (236, 236, 238), (214, 66, 44)  # of signed errors


def write_alignment_page(path: Path, evidence: AlignmentEvidence) -> None:
    """Write the page of a clip as a PNG of 1800 x 1100 pixels."""
    write_picture(path, alignment_page(evidence))


def alignment_page(evidence: AlignmentEvidence) -> np.ndarray:
    """(1100, 1800, 3) uint8 RGB."""
    page = paper(HEIGHT, WIDTH)
    write(page, shortened(evidence.clip, 0.95, WIDTH // 2), (MARGIN, 46), 0.95, INK)
    numbers = "   ".join(evidence.key_numbers)
    write(page, shortened(numbers, HEAD, WIDTH - 2 * MARGIN), (MARGIN, 76), HEAD, FAINT)
    _scatter(page, evidence)
    _sigma(page, evidence.sigma)
    _scale(page, evidence)
    _over_time(page, evidence)
    _in_space(page, evidence.space)
    return page


# -- left column ---------------------------------------------------------------------------------------------------


def _scatter(page: np.ndarray, evidence: AlignmentEvidence) -> None:
    points, count = evidence.points, len(evidence.names)
    left, top, width, height = MARGIN + 66, 134, LEFT_WIDTH - 66, 452
    _title(page, "what the fit sees", MARGIN, 116)
    known = None if points is None else np.isfinite(points.d) & np.isfinite(points.y)
    if points is None or not known.any():
        axes = Axes(left, top, width, height, (0, 1), (0, 1))
        axes.inside(page)[:] = GROUND
        axes.say(page, "no sparse points on the depth")
        return
    axes = Axes(left, top, width, height, robust_range([points.d]), robust_range([points.y]))
    axes.draw(page)
    # Drawn in a fixed shuffle: with the last frames on top, only they would be seen.
    order = np.random.default_rng(0).permutation(np.flatnonzero(known & _within(points.y, axes.y_range)))
    colors = 0.8 * _frame_colors(points.frame[order], count)
    axes.dots(page, points.d[order], points.y[order], colors, size=2 if len(order) > 2500 else 3)
    for frame in _spread(count):
        shift = 0.0 if evidence.fits.shift is None else evidence.fits.shift[frame]
        ends = np.array(axes.x_range)
        # Dark below, so that the line stands out from the points of its own colour.
        for color, thickness in ((PAPER, 4), (tuple(int(c) for c in _frame_colors(np.array([frame]), count)[0]), 2)):
            axes.line(page, ends, evidence.fits.gain[frame] * ends + shift, color, thickness)
    write(
        page, points.x_label, (left + (width - text_width(points.x_label, TEXT)) // 2, top + height + 36), TEXT, FAINT
    )
    write(page, shortened(points.y_label, TEXT, width - 10), (left + 10, top + 18), TEXT, FAINT)
    if count > 1:
        legend(page, [("first", EARLY), ("middle", MIDDLE), ("last frame", LATE)], left + width, 116)


def _sigma(page: np.ndarray, sigma: SigmaShares | None) -> None:
    top = 664
    _title(page, "is sigma honest? (held-out points within it)", MARGIN, top)
    if sigma is None:
        write(page, "no held-out points", (MARGIN, top + 30), TEXT, FAINT)
        return
    left, width = MARGIN + 84, LEFT_WIDTH - 84 - 150
    for row, (name, share, wanted) in enumerate(
        (("1 sigma", sigma.within_one, 0.6827), ("2 sigma", sigma.within_two, 0.9545))
    ):
        y = top + 20 + 34 * row
        write(page, name, (MARGIN, y + 15), TEXT, FAINT)
        page[y : y + 20, left : left + width] = (43, 45, 51)
        page[y : y + 20, left : left + round(width * float(np.clip(share, 0, 1)))] = HELD_OUT
        mark = left + round(width * wanted)
        page[y - 4 : y + 24, mark - 1 : mark + 1] = WANTED
        write(page, f"{100 * share:.0f} % ({100 * wanted:.0f} % wanted)", (left + width + 12, y + 15), TEXT, INK)
    write(page, f"{sigma.points:,} points", (left, top + 104), TEXT, FAINT)


def _scale(page: np.ndarray, evidence: AlignmentEvidence) -> None:
    """The size in metres: each cue with its interval, all together below them."""
    top = 812
    _title(page, "metres per unit", MARGIN, top)
    if evidence.scale is None:
        write(page, "not known: no cue gives the size in metres", (MARGIN, top + 30), TEXT, FAINT)
        return
    shown, left_out = [*evidence.cues[:6], evidence.scale], len(evidence.cues) - 6
    whole = evidence.scale
    text = f"{whole.metres_per_unit:.4g}, 95 % within {whole.low:.4g} to {whole.high:.4g}"
    text += f" ({left_out} more cues)" if left_out > 0 else ""
    write(page, text, (MARGIN + 190, top), HEAD, JOINT)
    ends = np.array([[cue.low, cue.high] for cue in shown])
    low, high = robust_range([ends.ravel()], share=1.0, least=0.02)
    axes = Axes(MARGIN + 190, top + 14, LEFT_WIDTH - 190, 24 * len(shown) + 8, (low, high), (0, 1), has_y=False)
    axes.draw(page)
    axes.span(page, whole.low, whole.high, JOINT, 0.22)
    for row, cue in enumerate(shown):
        together = row == len(shown) - 1
        color, y = (JOINT if together else OWN), axes.top + 16 + 24 * row
        name = "all together" if together else cue.name
        write(page, shortened(name, TEXT, 176), (MARGIN, y + 5), TEXT, INK if together else FAINT)
        a, middle, b = axes.columns(np.array([cue.low, cue.metres_per_unit, cue.high])).round().astype(int)
        page[y - 1 : y + 1, a : b + 1] = color
        page[y - 5 : y + 5, [a, b]] = color
        page[y - 5 : y + 5, middle - 4 : middle + 5] = color


# -- right column --------------------------------------------------------------------------------------------------


def _over_time(page: np.ndarray, evidence: AlignmentEvidence) -> None:
    fits, errors = evidence.fits, evidence.errors
    entries = [("fit of each frame alone", OWN)] if np.isfinite(fits.own_gain).any() else []
    entries.append(("joint fit", JOINT))
    if fits.carried.any():
        entries.append(("carried by its neighbours", CARRIED))
    if evidence.seams:
        entries.append(("seam of windows", SEAM))
    if evidence.warned:
        entries.append(("warned", WARNED))
    right = WIDTH - MARGIN
    legend(page, entries, right, 116)
    if fits.shift is None:
        _parameter(page, evidence, "gain", fits.gain, fits.own_gain, (116, 390))
    else:
        own_shift = fits.own_shift if fits.own_shift is not None else np.full(len(fits.gain), np.nan)
        _parameter(page, evidence, "gain", fits.gain, fits.own_gain, (116, 170))
        _parameter(page, evidence, "shift", fits.shift, own_shift, (336, 170))
    series = (
        ("one scale", errors.one_scale, PLAIN, 1),
        ("each frame alone", errors.own_fit, OWN, 1),
        ("final", errors.final, JOINT, 2),
        ("held-out points", errors.held_out_median, HELD_OUT, 2),
        ("95 % of them below", errors.held_out_95, tuple(c * 2 // 3 for c in HELD_OUT), 1),
    )
    together = max(len(evidence.names) // 300, 1)
    known = [
        (name, 100 * np.abs(values), color, thick) for name, values, color, thick in series if np.isfinite(values).any()
    ]
    smoothed = f" (medians of {together} frames)" if together > 1 else ""
    _title(page, f"median error at the sparse points, %{smoothed}", _time_left(), 564)
    legend(page, [(name, color) for name, _, color, _ in known], right, 564)
    positive = [_medians(np.where(values > 0, values, np.nan), together) for _, values, _, _ in known]
    low, high = _log_range(positive)
    axes = _time_axes(evidence, 578, 190, (low, high), log=True)
    _time_ground(page, evidence, axes)
    for (_, _, color, thickness), values in zip(known, positive):
        axes.line(page, together * (np.arange(len(values)) + 0.5) - 0.5, values.clip(low, high), color, thickness)
    if not any(np.isfinite(values).any() for values in positive):
        axes.say(page, "no sparse points: nothing to compare with")


def _parameter(
    page: np.ndarray,
    evidence: AlignmentEvidence,
    title: str,
    joint: np.ndarray,
    own: np.ndarray,
    place: tuple[int, int],
) -> None:
    """Gain or shift over time; ``place`` is the baseline of the title and the height."""
    baseline, height = place
    _title(page, title, _time_left(), baseline)
    formula = "of y = gain * d" if evidence.fits.shift is None else "of y = gain * d + shift"
    write(page, formula, (_time_left() + 60, baseline), TEXT, FAINT)
    # The joint fit is whole in view; a frame's own fit far outside sits at the edge.
    low, high = robust_range([joint], share=1.0, least=0.05)
    away = np.abs(own - joint)[np.isfinite(own) & np.isfinite(joint)]
    room = 6.0 * float(np.median(away)) if len(away) else 0.0
    axes = _time_axes(evidence, baseline + 14, height, (low - room, high + room))
    _time_ground(page, evidence, axes)
    rows = np.arange(len(joint))
    axes.dots(page, rows, own, np.array(OWN), _dot_size(len(joint)))
    axes.line(page, rows, joint, JOINT, 2)
    carried = np.where(evidence.fits.carried, joint, np.nan)
    axes.dots(page, rows, carried, np.array(CARRIED), _dot_size(len(joint)) + 2)
    if not np.isfinite(own).any():
        axes.say(page, "no frame has a fit of its own: the depth is taken as it is")


def _time_left() -> int:
    return MARGIN + LEFT_WIDTH + 44


def _time_axes(
    evidence: AlignmentEvidence, top: int, height: int, y_range: tuple[float, float], log: bool = False
) -> Axes:
    left, last = _time_left() + 62, len(evidence.names) - 1
    pad = max(0.5, 0.006 * last)
    return Axes(left, top, WIDTH - MARGIN - left, height, (-pad, last + pad), y_range, log)


def _time_ground(page: np.ndarray, evidence: AlignmentEvidence, axes: Axes) -> None:
    """Grid with frames' names below, warned stretches, seams."""
    names = evidence.names
    axes.draw(page, x_name=lambda tick: names[round(tick)][-10:] if 0 <= round(tick) < len(names) else "", whole_x=True)
    for first, last in evidence.warned:
        axes.span(page, first - 0.5, last + 0.5, WARNED)
    for seam in evidence.seams:
        axes.upright(page, seam, SEAM)


def _in_space(page: np.ndarray, space: SpaceErrors | None) -> None:
    top, left = 830, _time_left()
    cell_width, cell_height, gap = 360, 206, 20
    if space is None:
        _title(page, "error over the picture", left, top)
        write(page, "not known: too few sparse points", (left, top + 30), TEXT, FAINT)
        return
    limit = _even_limit([grid for grid in (space.before, space.after, space.correction) if grid is not None])
    cells = [("error before the correction", space.before), ("error after it", space.after)]
    if space.correction is not None:
        cells.append((f"correction of frame {space.name} (red: moved away)", space.correction))
    for column, (title, grid) in enumerate(cells):
        x = left + column * (cell_width + gap)
        _title(page, shortened(title, HEAD, cell_width), x, top)
        if grid is None:
            write(page, "no spatial correction", (x, top + 30), TEXT, FAINT)
            continue
        shape = grid.shape if space.picture is None else space.picture.shape
        size = _fitted(shape, cell_width, cell_height)
        cell = resized_grid(grid, size, limit)
        if column == 2 and space.picture is not None:
            grey = resized(space.picture, size).mean(axis=2, keepdims=True)
            cell = (0.5 * cell + 0.5 * grey).astype(np.uint8)
        page[top + 14 : top + 14 + size[1], x : x + size[0]] = cell
    _error_bar(page, left, HEIGHT - 32, 3 * cell_width + 2 * gap, limit)


def resized_grid(grid: np.ndarray, size: tuple[int, int], limit: float) -> np.ndarray:
    """Signed numbers as colours at (width, height), each cell of the grid a block; NaN is dark."""
    rows = np.arange(size[1]) * grid.shape[0] // size[1]
    columns = np.arange(size[0]) * grid.shape[1] // size[0]
    return diverging(grid, limit)[np.ix_(rows, columns)]


def diverging(values: np.ndarray, limit: float) -> np.ndarray:
    """(..., 3) uint8: blue at -limit, white at 0, red at limit, dark where NaN."""
    share = np.clip(np.nan_to_num(values, nan=0.0) / limit, -1, 1)[..., None]
    ends = np.where(share < 0, np.array(NEARER), np.array(FARTHER))
    colors = np.array(EVEN) + np.abs(share) * (ends - np.array(EVEN))
    return np.where(np.isfinite(values)[..., None], colors, np.array((43, 45, 51))).round().astype(np.uint8)


def _error_bar(page: np.ndarray, left: int, top: int, width: int, limit: float) -> None:
    side = 190
    bar = width - 2 * side
    page[top : top + 12, left + side : left + side + bar] = diverging(np.linspace(-limit, limit, bar), limit)
    percent = 100 * np.expm1(limit)
    ends = (f"{percent:.2g} % too near", f"{percent:.2g} % too far")
    write(page, ends[0], (left + side - 10 - text_width(ends[0], TEXT), top + 11), TEXT, FAINT)
    write(page, ends[1], (left + side + bar + 10, top + 11), TEXT, FAINT)


# -- small helpers -------------------------------------------------------------------------------------------------


def _title(page: np.ndarray, text: str, left: int, baseline: int) -> None:
    write(page, text, (left, baseline), HEAD, INK)


def _medians(values: np.ndarray, together: int) -> np.ndarray:
    """Medians of so many neighbours each, over those that are known."""
    if together == 1:
        return values
    full = np.concatenate([values, np.full(-len(values) % together, np.nan)]).reshape(-1, together)
    out, known = np.full(len(full), np.nan), np.isfinite(full).any(axis=1)
    out[known] = np.nanmedian(full[known], axis=1)
    return out


def _within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (values >= limits[0]) & (values <= limits[1])


def _dot_size(count: int) -> int:
    """Pixels of a frame's dot."""
    return 6 if count <= 30 else 3 if count <= 400 else 2


def _spread(count: int) -> tuple[int, ...]:
    """Up to five frames from first to last."""
    return tuple(int(row) for row in np.unique(np.linspace(0, count - 1, 5).round()))


def _frame_colors(frames: np.ndarray, count: int) -> np.ndarray:
    """(K, 3) float: blue for the first frame of a clip, white in its middle, orange for the last."""
    share = 2 * np.asarray(frames, dtype=np.float64)[:, None] / max(count - 1, 1) - 1
    ends = np.where(share < 0, np.array(EARLY), np.array(LATE))
    return np.array(MIDDLE) + np.abs(share) * (ends - np.array(MIDDLE))


def _log_range(series: Sequence[np.ndarray]) -> tuple[float, float]:
    """A positive range that holds nearly all of several series, of a factor 4 at least."""
    finite = [values[np.isfinite(values)] for values in series]
    finite = [values for values in finite if len(values)]
    if not finite:
        return 1.0, 20.0
    low = min(float(np.quantile(values, 0.01)) for values in finite) / 1.2
    high = max(float(np.quantile(values, 0.985)) for values in finite) * 1.2
    low = max(low, high / 1e3)
    widen = max(1.0, 2.0 / np.sqrt(high / low))
    return low / widen, high * widen


def _even_limit(grids: Sequence[np.ndarray]) -> float:
    """One end for the colours of all grids: 98 % of their cells lie within."""
    values = np.concatenate([np.abs(grid[np.isfinite(grid)]) for grid in grids])
    return max(float(np.quantile(values, 0.98)) if len(values) else 0.0, 0.01)


def _fitted(shape: tuple[int, ...], width: int, height: int) -> tuple[int, int]:
    """(width, height) of a picture of this shape that fits into a cell."""
    scale = min(width / shape[1], height / shape[0])
    return max(round(shape[1] * scale), 1), max(round(shape[0] * scale), 1)
