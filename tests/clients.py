"""The programs of others that open our files in tests marked `clients`: Blender, Chromium, the glTF validator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLENDER = ROOT / ".venv-blender/bin/python"
NODE_MODULES = ROOT / "tools/clients/node_modules"
CHROMIUMS = (
    "chromium",
    "google-chrome",
    "google-chrome-stable",
    "chromium-browser",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
NO_CHROMIUM = (
    "no Chromium or Chrome was found that starts: install Google Chrome (https://www.google.com/chrome), or Chromium "
    "(Debian: apt-get install chromium; macOS: brew install --cask chromium), or set RECON4D_CHROMIUM to its path"
)


def blender(script: Path, *arguments: object, timeout_s: float = 300) -> str:
    """What a script prints that Blender's Python runs (``import bpy`` works in it). Fails when the script does."""
    _need(BLENDER.exists(), "Blender", "tools/setup_blender.sh")
    done = subprocess.run(
        [str(BLENDER), str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def chromium() -> str:
    """Path of a Chromium that runs without a screen."""
    found = find_chromium()
    if found is None:
        pytest.fail(NO_CHROMIUM)
    return found


def find_chromium() -> str | None:
    """The first Chromium or Chrome that starts: RECON4D_CHROMIUM and no other where it is set."""
    given = os.environ.get("RECON4D_CHROMIUM")
    for name in [given] if given else CHROMIUMS:
        path = shutil.which(name)
        # Ubuntu's chromium-browser is there without a browser: it only says that a snap is needed.
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


def gltf_issues(path: Path) -> list[str]:
    """Errors and warnings of the Khronos validator for a .glb, ``code: message (where)``."""
    _need((NODE_MODULES / "gltf-validator").is_dir(), "the glTF validator", "tools/setup_clients.sh")
    code = (
        "const v = require('gltf-validator'), fs = require('fs');"
        "v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])), {maxIssues: 100})"
        ".then(r => console.log(JSON.stringify(r.issues.messages)))"
        ".catch(e => { console.error(e); process.exit(1); })"
    )
    done = subprocess.run(
        ["node", "-e", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
    )
    messages = json.loads(done.stdout)
    return [f"{m['code']}: {m['message']} ({m.get('pointer')})" for m in messages if m["severity"] <= 1]


def _need(there: bool, what: str, script: str) -> None:
    if not there:
        pytest.fail(f"{what} is missing: run bash {script}, or make test-clients")


if __name__ == "__main__":  # for tools/setup_clients.sh
    print(find_chromium() or sys.exit(f"setup_clients: {NO_CHROMIUM}"))
