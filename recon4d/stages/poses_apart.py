"""COLMAP's steps, each in a process of its own.

COLMAP's threads end the whole process when they fail: a full disk, no memory, a failed check. So a step runs in a fresh
Python (started in a quarter of a second) whose end can be told in one sentence. It reads its task from stdin, tells its
progress and its outcome on stdout, all as pickles, and ends when its stdin closes: nothing outlives the one who asked.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from recon4d.poses.native import refusal
from recon4d.progress import Bar, Progress
from recon4d.stages.common import peak_memory_mb

LINES_KEPT = 200  # of what the process writes to stderr: the reason stands before COLMAP's list of calls


@dataclass(frozen=True)
class Outcome:
    """What came back from a process."""

    value: object = None  # what the work returned
    error: Exception | None = None  # or what it raised
    trace: str = ""  # of the error, for bugs
    peak_memory_mb: float = 0.0


class _InOtherProcess(Exception):
    """Shown as the cause of an error that came from another process: its traceback there."""

    def __str__(self) -> str:
        return "\n" + self.args[0]


def apart(step: str, folder: Path, work: Callable[..., object], arguments: tuple, progress: Progress) -> Outcome:
    """Call ``work(*arguments, progress)`` in a process of its own and wait for it.

    Args:
        step: its name, for people.
        folder: where it writes; its disk is looked at when the process dies.
        work: a function of a module; what it takes and returns must be picklable.
        arguments: all but the last, which is the progress.

    Raises:
        PosesError: the process died; the sentence has the last native words.
        OSError: it died because the disk is full (ENOSPC).
        Exception: what ``work`` raised.
    """
    here = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    said: deque[bytes] = deque(maxlen=LINES_KEPT)
    with subprocess.Popen([sys.executable, "-c", here], **pipes) as process:
        listener = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
        listener.start()
        try:
            with suppress(BrokenPipeError):  # it died at once: what follows tells why
                pickle.dump((work, arguments), process.stdin)
                process.stdin.flush()
            outcome = _follow(process.stdout, progress)
            if outcome is None:
                process.wait()
        finally:
            process.kill()  # interrupted, or done and on its way out
            listener.join()
    if outcome is None:
        words = b"".join(said).decode(errors="replace")
        raise refusal(step, f"{_ending(process.returncode)}\n{words}", folder)
    if outcome.error is not None:
        raise outcome.error from _InOtherProcess(outcome.trace)
    return outcome


def _ending(code: int) -> str:
    """How a process ended, should it have no last words. Raises KeyboardInterrupt when it was interrupted."""
    if code == -signal.SIGINT:
        raise KeyboardInterrupt
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"


def _follow(messages: BinaryIO, progress: Progress) -> Outcome | None:
    """Show what a process tells until it gives its outcome; None when it ends without one."""
    with ExitStack() as shown:
        bar: Bar | None = None
        while True:
            try:
                message = pickle.load(messages)
            except (EOFError, pickle.UnpicklingError):  # nothing more, or half a message
                return None
            if isinstance(message, Outcome):
                return message
            kind, *content = message
            if kind == "bar":
                bar = shown.enter_context(progress.bar(*content))
            elif kind == "advance":
                bar.advance(*content)
            elif kind == "end":
                shown.close()
            else:
                progress.say(*content)


# -- in the other process ----------------------------------------------------------------------------------------------


class Told:
    """Progress, and its bar, that are told to the process that asked."""

    def __init__(self, to: BinaryIO) -> None:
        self.to = to

    def tell(self, message: object) -> None:
        """Send one message."""
        self.to.write(pickle.dumps(message))
        self.to.flush()

    @contextmanager
    def bar(self, label: str, total: int | None, done: int = 0) -> Iterator[Bar]:
        self.tell(("bar", label, total, done))
        yield self
        self.tell(("end",))

    def advance(self, steps: int = 1) -> None:
        self.tell(("advance", steps))

    def say(self, text: str) -> None:
        self.tell(("say", text))


def serve() -> None:
    """Do the task that comes on stdin, and end."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends it at once; COLMAP would finish what it is at
    told = Told(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what libraries print is no message
    work, arguments = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_asker, daemon=True).start()
    try:
        outcome = Outcome(value=work(*arguments, told), peak_memory_mb=peak_memory_mb())
    except Exception as error:
        outcome = Outcome(error=error, trace=traceback.format_exc())
    told.tell(outcome)


def _end_with_the_asker() -> None:
    while os.read(0, 1):  # nothing is sent after the task: this waits until the pipe closes
        pass
    os._exit(1)
