"""What was read or built lately, up to a bound of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from threading import Lock
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
SMALL = 64  # bytes counted for anything that holds no array


class ByteCache:
    """Items by key; the ones not asked for the longest go first. Several threads may use it at once."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._items: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @property
    def size_bytes(self) -> int:
        """Bytes of all items held."""
        return self._bytes

    def __contains__(self, key: Hashable) -> bool:
        return key in self._items

    def get(self, key: Hashable, make: Callable[[], Item]) -> Item:
        """The item of a key, made where it is not held. The newest is held even if it passes the limit alone."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key][0]
        item = make()  # outside the lock: another thread may wait for something else
        with self._lock:
            self._drop(key)
            self._items[key] = item, size_of(item)
            self._bytes += self._items[key][1]
            while self._bytes > self.limit_bytes and len(self._items) > 1:
                self._drop(next(iter(self._items)))
        return item

    def _drop(self, key: Hashable) -> None:
        _, size = self._items.pop(key, (None, 0))
        self._bytes -= size


def size_of(item: object) -> int:
    """Bytes of the arrays in an array, a dataclass or a tuple of these."""
    if isinstance(item, np.ndarray):
        return item.nbytes
    if isinstance(item, bytes):
        return len(item)
    if isinstance(item, (tuple, list)):
        return SMALL + sum(map(size_of, item))
    if is_dataclass(item):
        return SMALL + sum(size_of(getattr(item, field.name)) for field in fields(item))
    return SMALL
