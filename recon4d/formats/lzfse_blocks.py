"""The compressed blocks of LZFSE: literals and matches in finite state entropy, both read from the end backwards.

Facts about the format are those of github.com/lzfse/lzfse (lzfse_internal.h, lzfse_fse.h). A stream is read by one
number, which counts the bits that are still ahead: bits are picked from the bytes where it points.
"""

from __future__ import annotations

import struct

import numpy as np
from numba import njit

# Symbols stand for a base value and extra bits that are stored as they are; bases follow each other without gaps.
LENGTH_BITS = np.array([0] * 16 + [2, 3, 5, 8])  # of a run of literals
MATCH_BITS = np.array([0] * 16 + [3, 5, 8, 11])  # of a match
DISTANCE_BITS = np.repeat(np.arange(16), 4)
LITERALS = 256
STATES = (64, 64, 256, 1024)  # of the four coders, in the order of their tables: length, match, distance, literal
HEADER = 32  # bytes before the tables of frequencies
MOST_LITERALS, MOST_MATCHES = 40_000, 10_000


def unpack_block(data: np.ndarray, at: int, out: np.ndarray, filled: int) -> int:
    """Unpack the ``bvx2`` block at ``at`` of data (N,) uint8 behind the first ``filled`` bytes of ``out``.

    Returns:
        how many bytes are filled then.

    Raises:
        ValueError: the block is damaged.
    """
    _, _, first, second, third = struct.unpack_from("<4sIQQQ", data, at)
    literals, literal_bytes, matches = first & 0xFFFFF, first >> 20 & 0xFFFFF, first >> 40 & 0xFFFFF
    match_bytes, header = second >> 40 & 0xFFFFF, third & 0xFFFFFFFF
    body = at + header
    if literals > MOST_LITERALS or literals % 4 or matches > MOST_MATCHES:
        raise ValueError("too many literals or matches")
    if header < HEADER or body + literal_bytes + match_bytes > len(data):
        raise ValueError("a block goes beyond the end")
    tables = _tables(data[at + HEADER : body])
    states = np.array([second >> shift & 0x3FF for shift in (0, 10, 20, 30)])
    # The last byte of each stream may hold up to seven bits of nothing.
    ahead = 8 * literal_bytes + (first >> 60 & 7) - 7
    stream = data[body : body + literal_bytes]
    letters = np.empty(literals, dtype=np.uint8)
    if not _read_literals(stream, ahead, states, tables[3], letters):
        raise ValueError("its literals are damaged")
    states = np.array([third >> shift & 0x3FF for shift in (32, 42, 52)])
    ahead = 8 * match_bytes + (second >> 60 & 7) - 7
    stream = data[body + literal_bytes : body + literal_bytes + match_bytes]
    filled = _copy(stream, ahead, states, tables[:3], matches, letters, out, filled)
    if filled < 0:
        raise ValueError("its matches are damaged")
    return filled


def _tables(packed: np.ndarray) -> tuple[tuple[np.ndarray, ...], ...]:
    """Per coder and state: the symbol's base and extra bits, the bits to read for the next state, and its offset."""
    kinds = (LENGTH_BITS, MATCH_BITS, DISTANCE_BITS, np.zeros(LITERALS, dtype=np.int64))
    frequencies = _frequencies(packed, sum(len(kind) for kind in kinds))
    if frequencies is None:
        raise ValueError("its table of frequencies is damaged")
    found, at = [], 0
    for extra, states in zip(kinds, STATES):
        own = frequencies[at : at + len(extra)]
        at += len(extra)
        if own.sum() > states:
            raise ValueError("its frequencies are too many")
        bases = np.concatenate([[0], np.cumsum(1 << extra)[:-1]])
        found.append(_table(own, states, bases, extra))
    return tuple(found)


def _frequencies(packed: np.ndarray, count: int) -> np.ndarray | None:
    """(count,) numbers of 2, 3, 5, 8 or 14 bits, lowest bit first; None where they do not end with the bytes."""
    if not len(packed):
        return np.zeros(count, dtype=np.int64)
    bits = int.from_bytes(packed.tobytes(), "little")
    left, found = 8 * len(packed), np.zeros(count, dtype=np.int64)
    for i in range(count):
        if not bits & 1:
            value, used = bits >> 1 & 1, 2
        elif not bits & 2:
            value, used = 2 + (bits >> 2 & 1), 3
        elif not bits & 4:
            value, used = 4 + (bits >> 3 & 3), 5
        elif not bits & 8:
            value, used = 8 + (bits >> 4 & 15), 8
        else:
            value, used = 24 + (bits >> 4 & 1023), 14
        found[i], bits, left = value, bits >> used, left - used
        if left < 0:
            return None
    return found if left < 8 else None


def _table(frequency: np.ndarray, states: int, bases: np.ndarray, extra: np.ndarray) -> tuple[np.ndarray, ...]:
    """A symbol of frequency f owns f states; from each it leads to a stretch of states, all of them together.

    The lower states read one bit more, so that the stretches fill the table exactly. Source: Duda, Asymmetric numeral
    systems, arXiv 1311.2540 (tabled variant, states of a symbol in one run).
    """
    base, bits, wanted, offset = (np.zeros(states, dtype=np.int64) for _ in range(4))
    at = 0
    for symbol in np.flatnonzero(frequency):
        f = int(frequency[symbol])
        k = states.bit_length() - f.bit_length()  # brings f to one and not yet two times the number of states
        more = (2 * states >> k) - f
        rows = np.arange(f)
        base[at : at + f], bits[at : at + f] = bases[symbol], extra[symbol]
        wanted[at : at + f] = np.where(rows < more, k, k - 1)
        offset[at : at + f] = np.where(rows < more, (f + rows << k) - states, (rows - more) << max(k - 1, 0))
        at += f
    wanted[at:] = -1  # no such state
    return base, bits, wanted, offset


@njit(cache=True, nogil=True)
def _bits(stream, low, count):
    """``count`` bits from bit ``low`` of a stream on, the lowest first."""
    value = np.int64(0)
    for k in range((low + count + 7) // 8 - low // 8):
        value |= np.int64(stream[low // 8 + k]) << (8 * k)
    return (value >> (low % 8)) & ((np.int64(1) << count) - 1)


@njit(cache=True, nogil=True)
def _read_literals(stream, ahead, states, table, letters):
    """Four coders take turns. False where the stream ends too early or a state does not exist."""
    symbol, _, wanted, offset = table
    for i in range(len(letters)):
        state = states[i % 4]
        if state >= len(wanted) or wanted[state] < 0 or ahead < wanted[state]:
            return False
        ahead -= wanted[state]
        letters[i] = symbol[state]
        states[i % 4] = offset[state] + _bits(stream, ahead, wanted[state])
    return True


@njit(cache=True, nogil=True)
def _copy(stream, ahead, states, tables, matches, letters, out, filled):
    """Runs of literals and matches by turns; distance 0 repeats the one before. Returns the bytes filled, or -1."""
    values = np.zeros(3, dtype=np.int64)
    used, distance = 0, np.int64(0)
    for _ in range(matches):
        for coder in range(3):
            base, bits, wanted, offset = tables[coder]
            state = states[coder]
            if state >= len(wanted) or wanted[state] < 0 or ahead < wanted[state] + bits[state]:
                return -1
            ahead -= wanted[state] + bits[state]
            found = _bits(stream, ahead, wanted[state] + bits[state])
            values[coder] = base[state] + (found & ((np.int64(1) << bits[state]) - 1))
            states[coder] = offset[state] + (found >> bits[state])
        length, match = values[0], values[1]
        distance = values[2] if values[2] > 0 else distance
        if used + length > len(letters) or filled + length + match > len(out):
            return -1
        for k in range(length):
            out[filled + k] = letters[used + k]
        used, filled = used + length, filled + length
        if match > 0 and not 0 < distance <= filled:
            return -1
        for k in range(match):  # byte by byte: a match may run into itself
            out[filled + k] = out[filled + k - distance]
        filled += match
    return filled
