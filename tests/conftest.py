"""Where shared test data lies, and fixtures several test files use."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from recon4d.synthetic.clip import ClipFiles

SHARED = Path(os.environ.get("RECON4D_TEST_DATA", Path(__file__).parents[2] / "shared"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With several workers: a file's tests stay together, and so do all files that want the reconstructed clip, which
    takes a minute to make."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "reconstructed" if _wants_reconstructed(config.rootpath / file) else file

    return Together(config, log)


@functools.cache
def _wants_reconstructed(file: Path) -> bool:
    return "reconstructed" in file.read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {}
    if not SHARED.is_dir():
        reasons["shared"] = f"test data not found at {SHARED} (set RECON4D_TEST_DATA)"
    if not os.environ.get("RECON4D_CLIENTS"):
        reasons["clients"] = "opens our files with Blender, Chromium and validators: run make test-clients"
    for item in items:
        for marker, reason in reasons.items():
            if marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with `data/`, `golden/`, `models/`; tests that use it carry the marker `shared`."""
    return SHARED


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch in one thread: several take ten times as long for tiny networks on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Reconstructed:
    """A synthetic clip and the scene the whole line made of it."""

    clip: ClipFiles
    scene: Path  # workspace folder; tests that change it work on a copy
    output: str  # what the command printed


@pytest.fixture(scope="session")
def reconstructed(tmp_path_factory: pytest.TempPathFactory) -> Reconstructed:
    """The command line on a short clip, from the video to the exports, with real structure from motion."""
    from recon4d.stages.export import WRITERS
    from recon4d.synthetic.clip import write_clip
    from recon4d.synthetic.scene import synthetic_scene

    folder = tmp_path_factory.mktemp("line")
    clip = write_clip(folder, synthetic_scene(count=24, fps=4.0))
    scene = folder / "scene"
    words = ["run", clip.video, "--out", scene, "--frames.max-frames", 60, "--depth.path", clip.simulated_depth]
    words += ["--export.to", ",".join(WRITERS)]  # every format on a scene that the line has made
    command = [sys.executable, "-m", "recon4d", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Reconstructed(clip, scene, done.stdout)
