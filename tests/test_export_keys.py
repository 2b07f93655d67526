"""Which options a format heeds: those left out of its key change no byte of it."""

from __future__ import annotations

import dataclasses

import pytest
from fabricated import fabricate

from recon4d.scene.depth import Provenance
from recon4d.stages.export import WRITERS, ExportOptions, format_key, run
from recon4d.workspace import Workspace

OTHER = {
    "up": "y",
    "frames": "::2",
    "layers": ("static",),
    "provenance": (int(Provenance.MEASURED),),  # all is of another one
    "max_points": 5,  # the model has 7
    "max_static_points": 4,
    "shape": "quads",
    "texture": False,
    "mesh_stride": 3,
    "max_glb_frames": 2,
    "html_mb": 1.0,
}
# Where an option is heeded and yet changes nothing of this scene, which is as small as can be.
NO_EFFECT = {("html", "html_mb")}


def contents(workspace: Workspace) -> dict[str, dict[str, bytes]]:
    """Bytes of the files of each format."""
    root = workspace.root / "export"
    return {
        name: {path.relative_to(root).as_posix(): path.read_bytes() for path in (root / name).rglob("*.*")}
        for name in WRITERS
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Workspace, dict[str, dict[str, bytes]]]:
    for module in ("pxr", "laspy", "lazrs", "OpenEXR"):
        pytest.importorskip(module)
    workspace = fabricate(tmp_path_factory.mktemp("keys") / "room", frames=3, ball_moves=True)
    run(workspace, ExportOptions(to=tuple(WRITERS)))
    return workspace, contents(workspace)


def test_every_option_is_walked():
    assert set(OTHER) == {option.name for option in dataclasses.fields(ExportOptions)} - {"to"}


@pytest.mark.parametrize("option", OTHER)
def test_an_option_changes_the_formats_that_heed_it_and_no_other(whole, option):
    workspace, before = whole
    first, second = ExportOptions(to=tuple(WRITERS)), ExportOptions(to=tuple(WRITERS), **{option: OTHER[option]})
    (workspace.root / "export/made.json").unlink(missing_ok=True)  # everything is written, nothing taken over
    run(workspace, second)
    after = contents(workspace)
    for name in WRITERS:
        heeded = format_key(workspace, first, name) != format_key(workspace, second, name)
        changed = after[name] != before[name]
        assert changed == (heeded and (name, option) not in NO_EFFECT), name
