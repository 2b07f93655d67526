"""The working folder of one unit: which of its items are done, and making the others one by one or several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from recon4d.progress import Progress
from recon4d.threads import make_at_once

DONE_LIST = "done.txt"
STATE = "state.npz"  # what a stage goes on from that does not work item by item
WRITERS = 2  # threads that compress and write what a stage makes
Made = TypeVar("Made")


class StagePart:
    """The working folder of one unit, resumable item by item."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path = path
        self.progress = progress
        self.warnings: list[str] = []
        path.mkdir(parents=True, exist_ok=True)
        done_list = path / DONE_LIST
        self._done = set(done_list.read_text(encoding="utf-8").splitlines()) if done_list.exists() else set()

    def is_done(self, item: str) -> bool:
        return item in self._done

    def mark_done(self, item: str) -> None:
        """Remember that all files of ``item`` are complete."""
        with open(self.path / DONE_LIST, "a", encoding="utf-8") as file:
            file.write(item + "\n")
        self._done.add(item)

    def pending(self, items: Sequence[str], label: str) -> Iterator[str]:
        """The items not yet done, with progress; each is marked done when the loop comes back for the next."""
        waiting = [item for item in items if item not in self._done]
        with self.progress.bar(label, len(items), len(items) - len(waiting)) as bar:
            for item in waiting:
                yield item
                self.mark_done(item)
                bar.advance()

    def each(
        self,
        items: Sequence[str],
        label: str,
        make: Callable[[str], Made],
        write: Callable[[str, Made], None],
        workers: int | None = None,
    ) -> None:
        """Make the items not yet done, with progress, and write them. An item is marked done once it is written.

        Args:
            workers: so many items are made at once, each in a thread; None makes them here, one after the other, and
                only writes in threads (compressing takes longer than making, and lets other threads run).
        """
        waiting = [item for item in items if item not in self._done]
        with self.progress.bar(label, len(items), len(items) - len(waiting)) as bar:

            def written(item: str) -> None:
                self.mark_done(item)
                bar.advance()

            if workers is None:
                _make_one_by_one(waiting, make, write, written)
            else:
                make_at_once(waiting, make, write, written, workers)

    def warn(self, text: str) -> None:
        """One sentence that the user must read; kept in the record and shown."""
        self.warnings.append(text)
        self.progress.say(f"  warning: {text}")


def _make_one_by_one(
    items: Sequence[str],
    make: Callable[[str], Made],
    write: Callable[[str, Made], None],
    written: Callable[[str], None],
) -> None:
    """Make the items here and write them beside that, in threads."""
    with ThreadPoolExecutor(WRITERS) as pool:
        under_way: deque[tuple[str, Future[None]]] = deque()

        def settle() -> None:
            item, future = under_way.popleft()
            future.result()
            written(item)

        try:
            for item in items:
                under_way.append((item, pool.submit(write, item, make(item))))
                if len(under_way) > WRITERS:
                    settle()
            while under_way:
                settle()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error nothing more is begun
