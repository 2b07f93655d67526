"""Making things in several threads, so that an interrupt or an error stops soon and leaves nothing half done behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

Made = TypeVar("Made")
PATIENCE_S = 1.5  # an interrupt waits no longer for what is under way


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_at_once(
    items: Sequence[str],
    make: Callable[[str], Made],
    write: Callable[[str, Made], None],
    written: Callable[[str], None],
    workers: int,
) -> None:
    """Make and write items in ``workers`` threads, no more of them in flight than that.

    After an error nothing more is begun or written, and the error is raised here once what was under way has ended. An
    interrupt does not wait that long: a thread deep in numbers is left to end by itself, and writes nothing any more.

    Args:
        written: called here, in the caller's thread, with each item that is complete, in the order of completion.
    """
    waiting, turn = iter(items), threading.Lock()
    stopped = threading.Event()
    ended: SimpleQueue[tuple[str, BaseException | None]] = SimpleQueue()

    def work() -> None:
        while not stopped.is_set():
            with turn:
                item = next(waiting, None)
            if item is None:
                return
            try:
                made = make(item)
                if stopped.is_set():
                    return
                write(item, made)
            except BaseException as error:  # raised again where people wait for it
                ended.put((item, error))
                return
            ended.put((item, None))

    # Not those of concurrent.futures: the interpreter waits for them at its end, however long that takes.
    crew = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(items)))]
    patience_s = None
    try:
        for thread in crew:
            thread.start()
        for _ in items:
            item, error = ended.get()
            if error is not None:
                raise error
            written(item)
    except KeyboardInterrupt:
        patience_s = PATIENCE_S
        raise
    finally:
        stopped.set()
        until = None if patience_s is None else time.monotonic() + patience_s
        for thread in crew:
            if thread.ident is not None:
                thread.join(None if until is None else max(0.0, until - time.monotonic()))
