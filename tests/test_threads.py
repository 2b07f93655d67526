"""Several items at once: what is marked, what an error or an interrupt leaves, and how soon it stops."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from recon4d.stage_part import DONE_LIST
from recon4d.threads import make_at_once, usable_cores
from recon4d.workspace import Workspace

ITEMS = [f"{i:02d}" for i in range(20)]


def test_every_item_is_made_once_and_never_more_at_a_time_than_asked():
    lock, now, most, made, written = threading.Lock(), [0], [0], [], []

    def make(item: str) -> str:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1
            made.append(item)
        return item * 2

    files = {}
    make_at_once(ITEMS, make, lambda item, value: files.__setitem__(item, value), written.append, 3)
    assert sorted(made) == sorted(written) == ITEMS
    assert files == {item: item * 2 for item in ITEMS}
    assert 1 <= most[0] <= 3


def test_slow_item_does_not_hold_up_the_marks_of_others():
    released, written = threading.Event(), []

    def mark(item: str) -> None:
        written.append(item)
        if len(written) == len(ITEMS) - 1:
            released.set()

    make_at_once(ITEMS, lambda item: item == ITEMS[0] and released.wait(10), lambda item, made: None, mark, 2)
    assert written[-1] == ITEMS[0]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fails_in", ["make", "write"])
def test_error_is_raised_and_nothing_is_begun_after_it(tmp_path, workers, fails_in):
    begun, written = [], []

    def fail(step: str, item: str) -> None:
        if step == fails_in and item == "05":
            raise OSError(28, "No space left on device")

    def make(item: str) -> None:
        begun.append(item)
        fail("make", item)
        time.sleep(0.001)

    def write(item: str, made: None) -> None:
        fail("write", item)
        written.append(item)

    part = Workspace.create(tmp_path / "s").start("depth/mvs", "k")
    with pytest.raises(OSError, match="No space left"):
        part.each(ITEMS, "making", make, write, workers)
    count = len(begun)
    assert count <= 6 + 2 * workers
    time.sleep(0.02)
    assert len(begun) == count
    marked = (part.path / DONE_LIST).read_text().split() if (part.path / DONE_LIST).exists() else []
    assert set(marked) <= set(written)
    assert "05" not in marked
    again = []
    part = Workspace(tmp_path / "s").start("depth/mvs", "k")
    part.each(ITEMS, "making", lambda item: None, lambda item, made: again.append(item), workers)
    assert sorted(marked + again) == ITEMS


def test_interrupt_stops_soon_and_what_is_under_way_writes_nothing(tmp_path):
    program = (
        "import signal, sys, time, pathlib\n"
        "from recon4d.threads import make_at_once\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "def make(item):\n"
        "    (out / f'{item}.begun').write_text('')\n"
        "    time.sleep(0.05 if item < '02' else 30)\n"
        "try:\n"
        "    make_at_once([f'{i:02d}' for i in range(9)], make, lambda i, m: (out / i).write_text(''), print, 2)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "03.begun").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert time.monotonic() - started < 4
    names = {path.name for path in tmp_path.iterdir()}
    assert {"00", "01"} <= names
    assert not names & {"02", "03", "04.begun"}


def test_cores_are_counted():
    assert usable_cores() >= 1
