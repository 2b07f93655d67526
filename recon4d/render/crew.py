"""Threads that share the work of one call, and work arrays that outlive it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

PIECES = 4  # per thread, so that none waits long for a slow one


class Crew:
    """Threads for compiled loops that leave the interpreter alone (nogil).

    Not numba's own threads: which of its threading layers is there differs from machine to machine, and the one that is
    always there must not be entered from two threads.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._helpers = ThreadPoolExecutor(threads - 1, "raster") if threads > 1 else None  # starts them when needed
        self._spare: deque[Scratch] = deque()

    def each(self, work: Callable[[int], None], count: int) -> None:
        """Call ``work`` with 0 .. count - 1, each once, in the caller's thread and in helpers."""
        left = iter(range(count))

        def go() -> None:
            for i in left:
                work(i)

        helping = [self._helpers.submit(go) for _ in range(min(self.threads, count) - 1)] if self._helpers else []
        go()
        for helper in helping:
            if not helper.cancel():  # has begun; one that has not would find nothing left to do
                helper.result()

    def ranges(self, work: Callable[[int, int], None], count: int, least: int) -> None:
        """Call ``work(first, last)`` with parts of 0 .. count, of ``least`` or more."""
        pieces = max(1, min(self.threads * PIECES if self.threads > 1 else 1, count // max(1, least)))
        self.each(lambda i: work(count * i // pieces, count * (i + 1) // pieces), pieces)

    @contextmanager
    def borrow(self) -> Iterator[Scratch]:
        """Work arrays for one call; calls at the same time get different ones, a failed call loses its own."""
        try:
            scratch = self._spare.pop()
        except IndexError:
            scratch = Scratch()
        yield scratch
        self._spare.append(scratch)


class Scratch:
    """Arrays by name that are kept, and grow; new ones hold zeros, others what the last user left."""

    def __init__(self) -> None:
        self._flat: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """A view of the array ``name``, which must always be asked for with the same ``dtype``."""
        size = int(np.prod(shape))
        if name not in self._flat or len(self._flat[name]) < size:
            self._flat.pop(name, None)  # let go of the smaller one first
            self._flat[name] = np.zeros(size, dtype=dtype)
        return self._flat[name][:size].reshape(shape)
