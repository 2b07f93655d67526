"""The two terms of another view, its picture and its depth, in one walk over the rows of a frame.

What a view shows of a row, sums over windows, and their pull back on the pixels follow each other while the rows are
still in the cache: a window needs rows below it, a pixel the windows around it, so each stage runs a few rows behind
the one before, with what it needs in rings. `window_match.likeness` is the same, picture by picture, to be read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from recon4d.refine.looks import LEAST_AHEAD, Robust, depth_row, land_row, picture_row, read_nearest, read_row
from recon4d.refine.window_match import FLOOR, LEAST_SEEN

NUMERIC = {"contract", "arcp", "nsz", "reassoc"}  # not nnan: NaN marks what a view does not see


class Asking(NamedTuple):
    """The frame whose pixels are carried into views; all (H, W)."""

    x: np.ndarray  # log inverse depth, NaN where there is none
    inverse: np.ndarray  # inverse depth
    grey: np.ndarray  # NaN where masked
    static: np.ndarray  # 0..1, how far each pixel takes part


class Asked(NamedTuple):
    """A view; its grids are of one size (h, w)."""

    grey: np.ndarray  # NaN where masked
    x: np.ndarray  # log inverse depth, NaN where there is none
    weight: np.ndarray  # of the square of a residual of depth, see `looks.heard`; -1 where it is not to be listened to
    turn: np.ndarray  # (3, 3), see `photo_cost.pixel_warp`
    shift: np.ndarray  # (3,)


class Sums(NamedTuple):
    """Over the views; all (H, W), added to."""

    gradient: np.ndarray
    hessian: np.ndarray  # diagonal, Gauss-Newton's
    agreeing: np.ndarray  # views whose depth agrees to within the cut
    alike: np.ndarray  # ZNCC of the window around each pixel
    seen: np.ndarray  # views that see enough of it


class Matching(NamedTuple):
    """How windows are compared."""

    photo: float  # factor on the term
    cut: float  # of 1 - ZNCC, beyond which a window counts little
    radius: int  # pixels


def add_view(
    asking: Asking, asked: Asked, robust: Robust, matching: Matching, visible: np.ndarray, keep: bool, sums: Sums
) -> tuple[float, float]:
    """Energies of the photometric and of the depth term of one view; their derivatives are added to ``sums``.

    Args:
        visible: (H, W) uint8: 1 the picture is seen, 2 the view's surface is the same one, 3 both.
        keep: whether ``visible`` is given; otherwise it is found and written. Energies compare only under one of it.
    """
    dtype = asking.x.dtype.type
    ahead = np.empty_like(asking.x)
    _ahead(asking.inverse, asked.turn, asked.shift, ahead)
    away = np.log(ahead)  # numpy's has several at once
    radius = matching.radius
    window = (0,) * (2 * radius + 1)
    factors = dtype(matching.photo), dtype(matching.cut)
    return _walk(asking, asked, (ahead, away), robust, factors, window, visible, keep, sums)


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _ahead(inverse, turn, shift, ahead):
    """Depth in the view over depth in the frame; NaN where that is not in front of the view."""
    height, width = inverse.shape
    one = inverse.dtype.type(1)
    half = one / 2
    for y in range(height):
        base = turn[2, 1] * (one * y + half) + turn[2, 2]
        for x in range(width):
            z = turn[2, 0] * (one * x + half) + base + inverse[y, x] * shift[2]
            ahead[y, x] = z if z > one * LEAST_AHEAD else np.nan


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _walk(asking, asked, ahead, robust, factors, window, visible, keep, sums):
    height, width = asking.x.shape
    dtype = asking.x.dtype
    size = len(window)
    radius = size // 2
    padded = width + 2 * radius  # zeros beyond the border add nothing to a window
    columns = (np.arange(width) + 0.5).astype(dtype)
    place = np.empty((2, width), dtype=np.int32)
    landed, change = np.empty((2, width), dtype=dtype), np.empty((3, width), dtype=dtype)
    corners, nearest, known = (
        np.empty((4, width), dtype=dtype),
        np.empty(width, dtype=dtype),
        np.empty(width, dtype=dtype),
    )
    shown = np.zeros((size, 3, width), dtype=dtype)  # ring of own and other grey levels minus 128, and slopes
    terms, pulls = np.zeros(6 * padded, dtype=dtype), np.zeros(4 * padded, dtype=dtype)
    along, along_back = np.zeros((size, 6 * padded), dtype=dtype), np.zeros((size, 4 * padded), dtype=dtype)
    down, down_back = np.empty(6 * padded, dtype=dtype), np.empty(4 * padded, dtype=dtype)
    photo = depth = 0.0
    for y in range(height + 2 * radius):
        slot = y % size
        if y < height:
            row = (columns, dtype.type(y + 0.5))
            land_row(asking.inverse[y], ahead[0][y], row, asked, (keep, visible[y]), place, landed, change)
            read_row(asked.x, place, corners)
            read_nearest(asked.weight, place, nearest)
            depth += depth_row(
                (asking.x[y], ahead[1][y], asking.static[y]),
                (corners, nearest),
                robust,
                (landed, change),
                (keep, visible[y]),
                (sums.gradient[y], sums.hessian[y], sums.agreeing[y]),
            )
            read_row(asked.grey, place, corners)
            picture_row(asking.grey[y], corners, landed, change, visible[y], shown[slot], known)
            _terms(shown[slot], known, radius, terms)
            _sum_along(terms, window, along[slot])
        elif y < height + radius:
            along[slot] = 0
        if radius <= y < height + radius:
            middle = y - radius
            _sum_down(along, window, down)
            photo += _match(down, asking.static[middle], factors, size, pulls, sums.alike[middle], sums.seen[middle])
            _sum_along(pulls, window, along_back[middle % size])
        elif y >= height + radius:
            along_back[(y - radius) % size] = 0
        if y >= 2 * radius:
            last = y - 2 * radius
            _sum_down(along_back, window, down_back)
            _pull(down_back, shown[last % size], sums.gradient[last], sums.hessian[last])
    return photo, depth


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _terms(shown, known, radius, terms):
    """What windows sum, one quantity after the other: known, own, own^2, other, other^2, own * other."""
    padded = len(known) + 2 * radius
    n, o, oo = terms[radius:], terms[padded + radius :], terms[2 * padded + radius :]
    w, ww, ow = terms[3 * padded + radius :], terms[4 * padded + radius :], terms[5 * padded + radius :]
    for x in range(len(known)):
        own, other = shown[0, x], shown[1, x]
        n[x] = known[x]
        o[x] = own
        oo[x] = own * own
        w[x] = other
        ww[x] = other * other
        ow[x] = own * other


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _sum_along(values, window, out):
    """Sums over the window's width, all quantities of a row at once; zeros lie between them."""
    size = len(window)
    for x in range(len(values) - size + 1):
        s = values.dtype.type(0)
        for j in range(size):
            s += values[x + j]
        out[x] = s


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _sum_down(rows, window, out):
    for x in range(len(out)):
        s = out.dtype.type(0)
        for j in range(len(window)):
            s += rows[j, x]
        out[x] = s


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _match(sums, share, factors, size, pulls, alike, seen):
    """ZNCC of the windows of a row; what each pulls at its pixels with. Formulas: `window_match.likeness`."""
    photo, cut = factors
    width, radius = len(share), size // 2
    padded = width + 2 * radius
    zero, one = share.dtype.type(0), share.dtype.type(1)
    floor, least = one * np.float32(FLOOR), share.dtype.type(LEAST_SEEN * size * size)
    sn, so, soo = sums[:padded], sums[padded : 2 * padded], sums[2 * padded : 3 * padded]
    sw, sww, sow = sums[3 * padded : 4 * padded], sums[4 * padded : 5 * padded], sums[5 * padded :]
    to_own, to_other = pulls[radius:padded], pulls[padded + radius : 2 * padded]
    even, bend = pulls[2 * padded + radius : 3 * padded], pulls[3 * padded + radius :]
    energy = zero
    for x in range(width):
        n = sn[x]
        per = one / max(n, one)
        mo, mw = so[x] * per, sw[x] * per
        io = one / np.sqrt(max(soo[x] * per - mo * mo, zero) + floor)
        iw = one / np.sqrt(max(sww[x] * per - mw * mw, zero) + floor)
        zncc = (sow[x] * per - mo * mw) * io * iw
        enough = n >= least
        cost = one - zncc
        over = cut / (cut + cost)
        weight = photo * share[x] if enough else zero
        energy += weight * cost * over
        k = weight * over * over * per * iw
        both, itself = k * io, k * zncc * iw
        to_own[x] = both
        to_other[x] = itself
        even[x] = both * mo - itself * mw
        bend[x] = k * iw
        alike[x] += zncc if enough else zero
        seen[x] += one if enough else zero
    return energy


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _pull(pulls, shown, gradient, hessian):
    width = len(gradient)
    padded = len(pulls) // 4
    to_own, to_other = pulls[:padded], pulls[padded : 2 * padded]
    even, bend = pulls[2 * padded : 3 * padded], pulls[3 * padded :]
    for x in range(width):
        own, other, slope = shown[0, x], shown[1, x], shown[2, x]
        gradient[x] -= (own * to_own[x] - other * to_other[x] - even[x]) * slope
        hessian[x] += bend[x] * slope * slope
