"""How the tests find the programs of others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import clients
import pytest


def program(path: Path, status: int) -> str:
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_a_browser_that_only_points_to_a_snap_is_none(tmp_path, monkeypatch):
    monkeypatch.delenv("RECON4D_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(clients, "CHROMIUMS", (*clients.CHROMIUMS[:4], str(tmp_path / "Google Chrome")))
    assert clients.find_chromium() is None
    with pytest.raises(pytest.fail.Exception, match="RECON4D_CHROMIUM"):
        clients.chromium()
    on_mac = program(tmp_path / "Google Chrome", 0)
    assert clients.chromium() == on_mac
    program(tmp_path / "chromium", 1)
    assert clients.chromium() == on_mac
    assert clients.find_chromium() == on_mac
    browser = program(tmp_path / "chromium-browser", 0)
    assert clients.chromium() == browser


def test_the_browser_that_is_named_is_taken_or_none(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON4D_CHROMIUM", program(tmp_path / "mine", 0))
    assert clients.chromium() == str(tmp_path / "mine")
    monkeypatch.setenv("RECON4D_CHROMIUM", str(tmp_path / "other"))
    assert clients.find_chromium() is None
    done = subprocess.run([sys.executable, clients.__file__], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, f"setup_clients: {clients.NO_CHROMIUM}")
