"""The rooms and who may import whom; light imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import recon4d

PACKAGE = Path(recon4d.__file__).parent
EVERYONE = {"errors", "progress", "_version"}
MAY_IMPORT = {
    "scene": set(),
    "geometry": {"scene"},
    "formats": {"scene"},
    "poses": {"scene", "geometry", "formats"},
    "depth": {"scene", "geometry", "formats"},
    "metric": {"scene", "geometry", "formats"},
    "motion": {"scene", "geometry", "formats"},
    "render": {"scene", "geometry"},
    "refine": {"scene", "geometry", "render"},
    "fill": {"scene", "geometry", "render"},
    "evaluation": {"scene", "geometry", "formats", "render"},
    "synthetic": {"scene", "geometry", "formats", "render"},
    "view": {"scene", "geometry", "formats", "render", "evaluation", "workspace"},
}


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        found |= {m.split(".")[1] for m in modules if m.startswith("recon4d.")}
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_rooms_import_only_earlier_rooms(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert imported_rooms(path) <= MAY_IMPORT[room] | EVERYONE | {room}, path.name


def test_every_room_is_in_the_table():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms <= set(MAY_IMPORT) | {"stages"}


def test_modules_can_be_read_in_one_sitting():
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


@pytest.mark.parametrize("statement", ["import recon4d", "import recon4d.cli; recon4d.cli.main(['--help'])"])
def test_nothing_heavy_is_loaded_at_start(statement):
    heavy = "torch", "diffusers", "open3d", "pycolmap", "cv2", "numba", "trimesh", "av"
    code = f"{statement}\nimport sys\nprint('HEAVY', [m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
