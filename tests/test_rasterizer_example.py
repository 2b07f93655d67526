"""The example that recovers a pose runs, and does."""

import re
import subprocess
import sys
from pathlib import Path

from recon4d.formats.pictures import read_rgb

SCRIPT = Path(__file__).parents[1] / "examples" / "recover_pose.py"


def test_example_recovers_the_pose(tmp_path):
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 80
    command = [sys.executable, str(SCRIPT), str(tmp_path / "pose.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    degrees, moved = re.search(r"off by ([\d.]+) degrees and ([\d.]+) scene units", done.stdout).groups()
    assert float(degrees) < 0.1
    assert float(moved) < 0.001
    start, found, wanted = read_rgb(tmp_path / "pose.png").reshape(120, 3, 160, 3).astype(float).transpose(1, 0, 2, 3)
    assert abs(found - wanted).mean() < 0.02 * abs(start - wanted).mean()
