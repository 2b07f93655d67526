"""COLMAP in a process of its own: what comes back, how its death is told, and that nothing outlives the asker."""

import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from poses_scenes import two_planes, walk, workspace_with

from recon4d.errors import PosesError
from recon4d.formats.pictures import write_picture
from recon4d.poses.features import PictureSet, extract
from recon4d.poses.intrinsics import lens_knowledge
from recon4d.poses.lens import Lens
from recon4d.poses.models import write_model
from recon4d.poses.native import native_reason, refusal
from recon4d.progress import Silent
from recon4d.stages import poses_sfm
from recon4d.stages.poses import PosesOptions, run
from recon4d.stages.poses_apart import apart
from recon4d.workspace import Workspace

SAID_ON_A_FULL_DISK = """terminate called after throwing an instance of 'std::runtime_error'
  what():  [sqlite3_utils.h:65] SQLite error: database or disk is full
*** Aborted at 1700000000 (unix time) try "date -d @1700000000" if you are using GNU date ***
PC: @     0x7f98f409af16 (/usr/lib/libc.so.6+0x85f15)
    @     0x7f98f40a3057 (unknown)
"""


class Heard(Silent):
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.events = []

    @contextmanager
    def bar(self, label, total, done=0):
        self.events.append((label, total))
        yield self
        self.events.append("end")

    def advance(self, steps=1):
        self.events.append(steps)

    def say(self, text):
        self.events.append(text)


def count(numbers, progress):
    with progress.bar("counting", len(numbers)) as bar:
        for _ in numbers:
            bar.advance()
    print("what libraries print is no message")
    progress.say("counted")
    return os.getpid(), numbers.sum()


def test_result_and_progress_come_back_from_another_process(tmp_path):
    heard = Heard()
    outcome = apart("counting", tmp_path, count, (np.arange(3),), heard)
    process, total = outcome.value
    assert total == 3
    assert process != os.getpid()
    assert heard.events == [("counting", 3), 1, 1, 1, "end", "counted"]
    assert 20 < outcome.peak_memory_mb < 2000


def refuse(kind, progress):
    raise kind("poses: not these")


def test_errors_come_back_as_themselves_with_their_traceback(tmp_path):
    with pytest.raises(PosesError, match="not these"):
        apart("refusing", tmp_path, refuse, (PosesError,), Silent())
    with pytest.raises(KeyError) as caught:
        apart("refusing", tmp_path, refuse, (KeyError,), Silent())
    assert "in refuse" in str(caught.value.__cause__)


def die(words, progress):
    with progress.bar("dying", 2):
        sys.stderr.write(words)
        sys.stderr.flush()
        os.abort()


def test_death_is_one_sentence_with_the_last_words(tmp_path):
    with pytest.raises(PosesError, match=r"COLMAP gave up at the step 'x' \(Check failed: a == b\): if it happens"):
        apart("x", tmp_path, die, ("F20250101 12:00:00.000000  12 bundle.cc:12] Check failed: a == b\n",), Silent())
    with pytest.raises(PosesError, match="signal 6"):
        apart("x", tmp_path, die, ("",), Silent())


def test_full_disk_is_told_as_such_whoever_notices_it(tmp_path, monkeypatch):
    assert native_reason(SAID_ON_A_FULL_DISK) == "SQLite error: database or disk is full"
    said = refusal("features", SAID_ON_A_FULL_DISK, tmp_path)
    assert isinstance(said, OSError)
    assert (said.errno, said.filename) == (errno.ENOSPC, str(tmp_path))
    assert isinstance(refusal("features", "std::bad_alloc", tmp_path), PosesError)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 4096, 4096))
    seen = refusal("features", "std::bad_alloc", tmp_path)
    assert isinstance(seen, OSError)
    assert seen.errno == errno.ENOSPC


def limit(size, work, arguments, progress):
    """Let files grow to ``size`` bytes in this process: what a full disk is to COLMAP."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return work(*arguments, progress)


def test_features_that_cannot_be_written_are_an_error_not_an_abort(tmp_path):
    rng = np.random.default_rng(0)
    files = tuple(f"{row}.png" for row in range(4))
    for file in files:
        write_picture(tmp_path / file, rng.integers(0, 255, (480, 640, 3), dtype=np.uint8))
    pictures = PictureSet(tmp_path, files, (lens_knowledge(None, "auto", 640, 480, None),) * 4, None)
    arguments = (250_000, extract, (tmp_path / "database.db", pictures, 4096, -1))
    with pytest.raises(PosesError, match=r"disk I/O error.*limit on the size of files"):
        apart("features", tmp_path, limit, arguments, Silent())


def write_synthetic(folder, progress):
    write_model(pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions()), folder)


def test_half_a_model_is_noticed(tmp_path):
    apart("model", tmp_path, write_synthetic, (tmp_path / "whole",), Silent())
    sizes = [(tmp_path / "whole" / name).stat().st_size for name in ("points3D.bin", "images.bin")]
    for size in (min(sizes) // 2, max(sizes) - 1):
        with pytest.raises(OSError, match="No space left"):
            apart("model", tmp_path, limit, (size, write_synthetic, (tmp_path / f"half{size}",)), Silent())


def wait_long(told: Path, progress):
    told.with_suffix(".tmp").write_text(str(os.getpid()))
    told.with_suffix(".tmp").rename(told)
    time.sleep(60)


def process_in(told: Path) -> int:
    while not told.exists():
        time.sleep(0.02)
    return int(told.read_text())


def is_gone(process: int) -> bool:
    """Whether a process ends within five seconds; one that nobody has waited for yet counts as ended."""
    for _ in range(100):
        try:
            os.kill(process, 0)
            if "State:\tZ" in Path(f"/proc/{process}/status").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_interrupt_ends_both_processes_at_once(tmp_path):
    told = tmp_path / "pid"
    # Shells start what runs in the background with interrupts ignored; then Python has no handler of its own.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt():
        process_in(told)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            apart("waiting", tmp_path, wait_long, (told,), Silent())
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 20  # not the minute it would take
    assert is_gone(process_in(told))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks for the process in /proc")
def test_process_ends_when_its_asker_is_killed(tmp_path):
    told = tmp_path / "pid"
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from pathlib import Path\n"
        "from test_poses_apart import Silent, apart, wait_long\n"
        f"apart('waiting', Path({str(tmp_path)!r}), wait_long, (Path({str(told)!r}),), Silent())"
    )
    asker = subprocess.Popen([sys.executable, "-c", code])
    process = process_in(told)
    asker.kill()
    asker.wait()
    assert is_gone(process)


# -- the whole stage ---------------------------------------------------------------------------------------------------

VIEWS = 6
OPTIONS = PosesOptions(max_features=500, camera="300,300,160,120")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    poses = walk(VIEWS)
    return [two_planes(Lens("PINHOLE", 320, 240, (300.0, 300.0, 160.0, 120.0)), poses[row]) for row in range(VIEWS)]


def test_full_disk_ends_in_one_error_and_the_next_run_goes_on(pictures, tmp_path, monkeypatch):
    workspace = workspace_with(tmp_path / "scene", pictures)

    def full(step, folder, work, arguments, progress):
        if step != "matches":
            return apart(step, folder, work, arguments, progress)
        return apart(step, folder, die, (SAID_ON_A_FULL_DISK,), progress)

    with monkeypatch.context() as during:
        during.setattr(poses_sfm, "apart", full)
        with pytest.raises(OSError, match="No space left") as caught:
            run(workspace, OPTIONS)
    assert caught.value.errno == errno.ENOSPC
    assert run(Workspace(workspace.root), OPTIONS).summary["registered"] == VIEWS


@pytest.mark.parametrize("lock", ["EXCLUSIVE", "IMMEDIATE"])  # cannot be opened, cannot be written
def test_locked_database_says_who_to_end(pictures, tmp_path, monkeypatch, lock):
    workspace = workspace_with(tmp_path / "scene", pictures)

    def locked(step, folder, *arguments):
        if step != "matches":
            return apart(step, folder, *arguments)
        holder = sqlite3.connect(folder / "database.db", isolation_level=None)
        holder.execute(f"BEGIN {lock}")
        try:
            return apart(step, folder, *arguments)
        finally:
            holder.close()

    monkeypatch.setattr(poses_sfm, "apart", locked)
    with pytest.raises(PosesError, match=r"step 'matches' .*another program has the database open"):
        run(workspace, OPTIONS)
