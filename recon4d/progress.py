"""Progress with an estimate of the time left: bars on a terminal, a line now and then elsewhere, or silence."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO


class Bar(Protocol):
    """One running piece of work."""

    def advance(self, steps: int = 1) -> None: ...


class Progress(Protocol):
    """Where progress and remarks go."""

    def bar(self, label: str, total: int | None, done: int = 0) -> Iterator[Bar]:
        """Context manager around one piece of work; ``total`` None when its length is not known."""

    def say(self, text: str) -> None:
        """One remark for the person who waits."""


class _SilentBar:
    def advance(self, steps: int = 1) -> None:
        pass


class Silent:
    """Shows nothing; the default for library use."""

    @contextmanager
    def bar(self, label: str, total: int | None, done: int = 0) -> Iterator[Bar]:
        yield _SilentBar()

    def say(self, text: str) -> None:
        pass


class _LineBar:
    def __init__(self, stream: TextIO, label: str, total: int | None, done: int) -> None:
        self.stream, self.label, self.total = stream, label, total
        self.done = self.first = done
        self.started = self.said = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.said < 10 or self.total is None or self.done >= self.total:
            return
        self.said = now
        left_s = (now - self.started) / (self.done - self.first) * (self.total - self.done)
        print(f"  {self.label}: {self.done}/{self.total}, about {left_s:.0f} s left", file=self.stream, flush=True)


class Lines:
    """For logs and pipes: a line every ten seconds of one piece of work."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout

    @contextmanager
    def bar(self, label: str, total: int | None, done: int = 0) -> Iterator[Bar]:
        yield _LineBar(self.stream, label, total, done)

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


class _RichBar:
    def __init__(self, progress: object, task: object) -> None:
        self.progress, self.task = progress, task

    def advance(self, steps: int = 1) -> None:
        self.progress.advance(self.task, steps)


class Terminal:
    """Bars drawn with rich."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console()

    @contextmanager
    def bar(self, label: str, total: int | None, done: int = 0) -> Iterator[Bar]:
        from rich import progress as rich_progress

        columns = (
            rich_progress.TextColumn("  {task.description:<22}"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TextColumn("left"),
            rich_progress.TimeRemainingColumn(),
        )
        with rich_progress.Progress(*columns, console=self.console, transient=True) as shown:
            task = shown.add_task(label, total=total, completed=done)
            yield _RichBar(shown, task)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def for_stream(stream: TextIO | None) -> Progress:
    """Bars when a person watches, lines otherwise, nothing where there is no stream (a closed stdout)."""
    if stream is None:
        return Silent()
    return Terminal() if stream.isatty() else Lines(stream)
