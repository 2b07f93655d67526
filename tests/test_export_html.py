"""The player's page of a whole scene: what is in it, how large it is, and what it says."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from fabricated import STILL, fabricate
from listening import Listener
from test_player import elements, unpack

from recon4d.errors import ExportError
from recon4d.formats.ply import write_cloud
from recon4d.scene.cloud import PointCloud
from recon4d.stages import export
from recon4d.stages.export import ExportOptions
from recon4d.workspace import Workspace

PAGE = "export/html/index.html"


def exported(workspace: Workspace, **options: object) -> tuple[dict[str, str], list[str]]:
    """The page's elements and what was said."""
    progress = Listener()
    export.run(workspace, ExportOptions(to=("html",), **options), progress)
    return elements((workspace.root / PAGE).read_text(encoding="utf-8")), progress.said


def cloud(found: dict[str, str], element: str) -> dict[str, np.ndarray]:
    return unpack(base64.b64decode(found[element]))


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return fabricate(tmp_path_factory.mktemp("player") / "cellar" / "scene", ball_moves=True)


def heavy(workspace: Workspace, points: int = 60_000) -> None:
    """Give every frame many moving points and the background more, with colours at random: hard to pack."""
    rng = np.random.default_rng(3)
    for path, count in [(p, points) for p in sorted(workspace.root.glob("fuse/moving/*.ply"))] + [
        (workspace.root / "fuse/static.ply", 4 * points)
    ]:
        some = rng.normal(size=(count, 3)), rng.integers(0, 256, (count, 3))
        path.unlink()
        write_cloud(path, PointCloud(*some))


def test_the_page_is_the_delivered_scene(room):
    found, said = exported(room)
    head, scene = json.loads(found["scene"]), room.scene()
    assert head["title"] == "cellar"
    assert head["pictures_left_out"] is False
    assert (head["unit"], head["up"], head["floor"]) == ("m", [0, 0, 1], 0.0)
    assert head["static_points"] == head["static_whole"] == len(scene.static)
    delivered = scene.delivered_from_scene()
    for element, wanted in [("s0", scene.static), *((f"m{i}", scene.moving(n)) for i, n in enumerate(scene.names))]:
        there, points = cloud(found, element), delivered @ wanted.points.astype(float)
        assert len(there["points"]) == len(points)
        for axis in range(3):  # as sets: the order is the page's own
            np.testing.assert_allclose(
                np.sort(there["points"][:, axis]), np.sort(points[:, axis]), atol=there["step"] / 2 + 1e-6
            )
        code = [65536, 256, 1]
        np.testing.assert_array_equal(np.sort(there["colors"] @ code), np.sort(wanted.colors.astype(int) @ code))
    assert len(cloud(found, f"m{scene.names.index(STILL)}")["points"]) == 0
    # The pose in the page: camera to world, in metres.
    centre = delivered @ scene.trajectory.centres[2]
    np.testing.assert_allclose(head["world_from_cam"][2][9:], centre, atol=1e-6)
    assert json.loads(found["end"])["position_error"] < 1e-3  # a millimetre in a room of ten metres
    assert not any("of" in text and "points" in text for text in said)  # nothing is thinned


def test_what_is_thinned_is_said_there_and_on_the_page(tmp_path):
    workspace = fabricate(tmp_path / "scene")
    heavy(workspace)
    found, said = exported(workspace, html_mb=2.0)
    size, head = (workspace.root / PAGE).stat().st_size, json.loads(found["scene"])
    assert 1.6e6 < size <= 2e6
    moving = [len(cloud(found, f"m{i}")["points"]) for i in range(4)]
    static = sum(len(cloud(found, f"s{i}")["points"]) for i in range(head["static_parts"]))
    assert len(set(moving)) == 1  # one bound for all
    assert (head["static_points"], head["static_whole"]) == (static, 240_000)
    assert (head["moving_points"], head["moving_whole"]) == (sum(moving), 240_000)
    assert f"  the player has {sum(moving):,} of 240,000 moving points (all frames together)" in said
    assert f"  the player has {static:,} of 240,000 points of the background" in said
    assert f"  the player is {size / 1e6:.1f} MB: html/index.html opens in any browser" in said


def test_bounds_of_the_options_hold_and_count_as_thinning(tmp_path):
    workspace = fabricate(tmp_path / "scene")
    whole = workspace.scene()
    found, _ = exported(workspace, max_points=30, max_static_points=500)
    head = json.loads(found["scene"])
    counts = [len(cloud(found, f"m{i}")["points"]) for i in range(4)]
    assert counts == [min(30, len(whole.moving(name))) for name in whole.names]
    assert (head["static_points"], head["static_whole"]) == (500, len(whole.static))
    assert head["moving_whole"] == sum(len(whole.moving(name)) for name in whole.names)


def test_a_page_too_small_for_its_frames_is_refused(tmp_path, monkeypatch):
    workspace = fabricate(tmp_path / "scene", frames=2)
    monkeypatch.setattr("recon4d.stages.export_html.empty_page_bytes", lambda scene: 0)  # as if the program were small
    monkeypatch.setattr("recon4d.view.player._part", lambda name: b"x" * 600_000)
    with pytest.raises(ExportError, match=r"a player of 1 MB does not hold 2 frames: give a larger --html-mb"):
        exported(workspace, html_mb=1.0)


def test_layers_frames_and_provenance(room):
    found, _ = exported(room, layers=("static",), frames="::2", provenance=(0,), up="y")
    head = json.loads(found["scene"])
    assert head["names"] == list(room.scene().names[::2])
    assert head["up"] == [0, 1, 0]
    assert not len(cloud(found, "m0")["points"])
    static = room.scene().static
    assert head["static_points"] == head["static_whole"] == np.isin(static.provenance, [0]).sum()
    assert any("2 of 4 frames" in note for note in head["notes"])
    assert any("chosen by how they came about" in note for note in head["notes"])


def test_a_scene_of_one_frame_of_unknown_size(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=1, known=False)
    found, _ = exported(workspace)
    head = json.loads(found["scene"])
    assert (head["unit"], head["starts_s"]) == ("units", [0.0])
    assert any("metres is not known" in note for note in head["notes"])
    assert any("up is not known" in note for note in head["notes"])


def test_no_static_layer(room):
    found, _ = exported(room, layers=("moving",))
    head = json.loads(found["scene"])
    assert (head["static_points"], head["static_whole"]) == (0, 0)
    assert not len(cloud(found, "s0")["points"])
    assert np.isfinite([head["radius"], head["depth"], head["floor"], *head["centre"]]).all()


def test_the_same_scene_gives_the_same_page_wherever_it_lies(tmp_path):
    pages = []
    for name in ("a", "b"):
        workspace = fabricate(tmp_path / name / "cellar", frames=2)
        exported(workspace, max_static_points=300)
        pages.append((workspace.root / PAGE).read_bytes())
    assert pages[0] == pages[1]
    moved = tmp_path / "attic"
    workspace.root.rename(moved)
    found, _ = exported(Workspace(moved), max_static_points=301)
    assert json.loads(found["scene"])["title"] == "attic"
    assert b"<title>attic</title>" in (moved / PAGE).read_bytes()


def test_pictures_go_when_there_is_no_room_for_them(tmp_path, monkeypatch):
    from recon4d.stages import export_html

    workspace = fabricate(tmp_path / "scene", frames=2)
    small = export_html.PICTURE_SETTINGS[-1:]
    monkeypatch.setattr(export_html, "PICTURE_SETTINGS", small)
    monkeypatch.setattr(export_html, "small_jpeg", lambda picture, setting: b"x" * 400_000)
    found, said = exported(workspace, html_mb=1.0)
    head = json.loads(found["scene"])
    assert (head["pictures"], head["pictures_left_out"]) == (False, True)
    assert "The video is not in this page: within 1 MB there is no room for it." in head["notes"]
    assert "p0" not in found
    assert any("no pictures of the video" in text for text in said)


def test_cameras_that_differ_keep_their_own_lens(room):
    from test_player import small_scene

    from recon4d.view.player import _describe

    scene = small_scene()
    first = scene.trajectory.cameras[0]
    wider = replace(scene.trajectory, cameras=(first, replace(first, fx=9.0), first))
    head = _describe(replace(scene, trajectory=wider), 1.0, 1)
    assert (len(head["lenses"]), head["lens"], head["lenses"][1][2]) == (2, [0, 1, 0], 9.0)
