"""Exports on a disk that is full, by a limit of file sizes in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fabricated import fabricate

LIMITED = """
import resource, sys
from recon4d.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
sys.exit(main(["export", sys.argv[1], "--to", sys.argv[2]]))
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    root = fabricate(tmp_path_factory.mktemp("full") / "scene", frames=2, ball_moves=True).root
    (root / "options.toml").write_text(f'[input]\npath = "{root}"\n')
    return root


@pytest.mark.parametrize("name", ["ply", "pcd", "las", "laz", "glb", "usd", "html", "colmap", "nerfstudio", "exr"])
def test_a_full_disk_is_one_sentence_and_nothing_is_published(scene, name):
    """ndarray.tofile and USD raise errors that do not say so by themselves."""
    if name in ("las", "laz"):
        pytest.importorskip("laspy")
    elif name in ("usd", "exr"):
        pytest.importorskip({"usd": "pxr", "exr": "OpenEXR"}[name])
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run([*command, str(scene), name], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert last.startswith("recon4d: ")
    assert "disk is full" in last or "space left on the disk" in last
    assert not (scene / "export").exists()
