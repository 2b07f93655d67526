"""Layers of a frame: own pixels, other frames, surroundings; their files; the verb."""

from dataclasses import replace

import numpy as np
import pytest
from fabricated import fabricate, fabricated_trajectory, render

from recon4d.errors import InputError, OptionsError
from recon4d.fill.layers import OwnView, build_layers, extended
from recon4d.fill.other_frames import Target, agreement, choose_donors, frame_donor
from recon4d.formats.arrays import write_arrays
from recon4d.formats.layer_files import read_layers, write_layer_pictures, write_layers
from recon4d.geometry.meshing import cut_silhouettes
from recon4d.progress import Silent
from recon4d.scene.camera import Camera
from recon4d.scene.depth import Provenance, SceneDepth
from recon4d.scene.trajectory import PoseOrigin, View
from recon4d.scene.transforms import Rigid3
from recon4d.stages.layers import LayerMaker, LayersOptions, clip_edges, make_layers, run, run_verb

CAMERA = Camera(60, 40, 50, 50, 30, 20)
VIEW = View("0", 0.0, Rigid3.identity(), CAMERA, PoseOrigin.MEASURED)


def own_view(depth, picture=None, moving=None, view=VIEW, valid=None) -> OwnView:
    valid = np.isfinite(depth) if valid is None else valid
    surface = SceneDepth(np.where(valid, depth, 0), valid, np.zeros(depth.shape), np.zeros(depth.shape))
    picture = np.full((*depth.shape, 3), 90, dtype=np.uint8) if picture is None else picture
    mesh = cut_silhouettes(surface, view.camera, 1.1, 3.0)
    return OwnView(view, picture, mesh, np.zeros(depth.shape, bool) if moving is None else moving)


def box_before_wall(seed: int = 0) -> OwnView:
    """A box (z 2, red) before a wall (z 6, blue)."""
    depth = np.full(CAMERA.shape, 6.0)
    depth[12:30, 20:40] = 2.0
    picture = np.where((depth == 2.0)[..., None], [220, 30, 20], [20, 40, 200]).astype(np.uint8)
    return own_view(depth, picture)


def test_a_box_is_lifted_off_the_wall_behind_it():
    own = box_before_wall()
    front, back = build_layers(own, [3.0], border=0).layered.layers
    box = own.mesh.surface.depth == 2
    np.testing.assert_array_equal(front.shown, box)
    np.testing.assert_array_equal(front.color[box], own.picture[box])
    assert back.shown.all()
    # From the far side only: the wall goes on behind the box as if that were not there.
    np.testing.assert_allclose(back.depth, 6.0, rtol=1e-5)
    np.testing.assert_allclose(back.color, np.broadcast_to([20, 40, 200], back.color.shape), atol=4)
    np.testing.assert_array_equal(back.provenance == Provenance.COMPLETED, box)


def test_a_slanted_wall_stays_a_plane_behind_the_box():
    x, y = np.meshgrid(np.arange(60) + 0.5, np.arange(40) + 0.5)
    wall = 1 / (0.1 + 0.001 * x + 0.0005 * y)
    depth = wall.copy()
    depth[12:30, 20:40] = 2.0
    back = build_layers(own_view(depth), [3.0], border=0).layered.layers[1]
    np.testing.assert_allclose(back.depth, wall, rtol=0.01)


def test_own_pixels_are_unchanged_and_layers_lie_behind_each_other():
    rng = np.random.default_rng(3)
    depth = np.repeat(np.repeat(rng.choice([1.5, 2.5, 4.0, 9.0], (5, 6)), 8, 0), 10, 1) * rng.uniform(1, 1.01, (40, 60))
    picture = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    own = own_view(depth, picture, valid=rng.random((40, 60)) > 0.02)
    built = build_layers(own, [2.0, 3.0, 6.0], border=0.2)
    camera, x, y = extended(CAMERA, 0.2)
    assert built.layered.camera == camera == Camera(84, 56, 50, 50, 42, 28)  # 12 and 8 pixels on each side
    shown_by = np.zeros((40, 60), dtype=int)
    for low, high, layer in zip([0, 2, 3, 6], [2, 3, 6, 99], built.layered.layers):
        inner = [getattr(layer, field)[y:-y, x:-x] for field in ("depth", "color", "provenance")]
        here = own.mesh.surface.valid & (depth >= low) & (depth < high)
        np.testing.assert_array_equal(inner[0][here], own.mesh.surface.depth[here])
        np.testing.assert_array_equal(inner[1][here], picture[here])
        assert (inner[2][here] == Provenance.MEASURED).all()
        assert ((layer.depth[layer.shown] >= low) & (layer.depth[layer.shown] < high)).all()
        shown_by += here
    assert (shown_by[own.mesh.surface.valid] == 1).all()
    assert built.layered.layers[-1].shown.all()  # the last one is complete; the noun itself insists on the order


def two_frames(step: float = 1.0) -> tuple[OwnView, OwnView]:
    """A box before a striped wall, and the same from the side: there what the box hid is seen."""
    views = []
    for shift in (0.0, step):
        view = replace(VIEW, cam_from_world=Rigid3(np.eye(3), np.array([-shift, 0, 0])))
        rays = CAMERA.rays()
        at_box, at_wall = rays * 2 + [shift, 0, 0], rays * 6 + [shift, 0, 0]
        box = (np.abs(at_box[..., 0]) < 0.3) & (np.abs(at_box[..., 1]) < 0.3)
        wall_color = np.stack([128 + 100 * np.sin(2 * at_wall[..., 0] + c) for c in range(3)], axis=-1)
        picture = np.where(box[..., None], [250, 0, 0], wall_color).astype(np.uint8)
        views.append(own_view(np.where(box, 2.0, 6.0), picture, view=view))
    return tuple(views)


def donor_of(own: OwnView, still: bool = True):
    return frame_donor(own.mesh, own.picture, own.view, np.full(own.moving.shape, still))


def test_what_another_frame_saw_comes_from_there():
    own, other = two_frames()
    built = build_layers(own, [3.0], [donor_of(other)], border=0.1)
    back = built.layered.layers[1]
    given = back.provenance == Provenance.OTHER_FRAME
    hidden = np.pad(own.mesh.surface.depth == 2, ((4, 4), (6, 6)))
    assert (given & hidden).sum() > 0.95 * hidden.sum()
    np.testing.assert_allclose(back.depth[given], 6.0, rtol=1e-4)
    wall = built.layered.camera.rays() * 6
    truth = np.stack([128 + 100 * np.sin(2 * wall[..., 0] + c) for c in range(3)], axis=-1)
    assert np.abs(back.color.astype(float) - truth)[given].mean() < 6
    share = built.shares[1]
    assert share.hole > share.after_frames == share.after_filler > share.after_classical == 0


def test_what_moves_in_another_frame_is_not_taken():
    own, other = two_frames()
    built = build_layers(own, [3.0], [donor_of(other, still=False)], border=0)
    assert built.donors == 0
    assert not (built.layered.layers[1].provenance == Provenance.OTHER_FRAME).any()


def test_a_frame_whose_depth_disagrees_gives_nothing():
    own, other = two_frames()
    off = own_view(other.mesh.surface.depth * 1.03, other.picture, view=other.view)
    target = Target(own.view.cam_from_world, CAMERA, own.picture, own.mesh.surface.depth)
    assert agreement(donor_of(other), target).good
    assert agreement(donor_of(off), target).error == pytest.approx(0.03, abs=0.003)
    assert build_layers(own, [3.0], [donor_of(off)]).donors == 0


def test_colours_are_brought_to_the_exposure_of_the_frame():
    own, other = two_frames()
    darker = replace(other, picture=(other.picture * 0.8).astype(np.uint8))
    target = Target(own.view.cam_from_world, CAMERA, own.picture, own.mesh.surface.depth)
    np.testing.assert_allclose(agreement(donor_of(darker), target).gain, 1.25, rtol=0.02)


def test_surfaces_seen_from_behind_are_not_taken():
    own, _ = two_frames()
    behind = Rigid3(np.diag([-1.0, 1, -1]), np.array([0, 0, 12.0]))  # looks back from z = 12
    mirrored = own_view(np.full(CAMERA.shape, 6.0), view=replace(VIEW, cam_from_world=behind))
    target = Target(own.view.cam_from_world, CAMERA, own.picture, own.mesh.surface.depth)
    assert agreement(donor_of(mirrored), target).error == np.inf


def test_a_filler_sees_no_near_colours_and_its_pixels_say_so():
    own, asked = box_before_wall(), []

    def filler(color, mask):
        asked.append((color, mask))
        return np.full_like(color, 7)

    built = build_layers(own, [3.0], border=0, filler=filler)
    (color, mask), back = asked[0], built.layered.layers[1]
    box = own.mesh.surface.depth == 2
    assert len(asked) == 1
    assert mask[box].all()
    assert (color[mask] == 0).all()
    assert not (color == 220).any()
    assert (back.provenance[box] == Provenance.GENERATED).all()
    assert (back.color[box] == 7).all()
    np.testing.assert_array_equal(back.color[~box], own.picture[~box])
    np.testing.assert_allclose(back.depth[box], 6.0, rtol=1e-5)


def test_what_moves_is_in_front_and_no_surrounding():
    depth = np.full(CAMERA.shape, 6.0)
    depth[12:30, 20:40] = 2.0
    moving = np.zeros(CAMERA.shape, dtype=bool)
    moving[10:32, 40:50] = True
    depth[moving] = 4.0
    front, back = build_layers(own_view(depth, moving=moving), [3.0], border=0).layered.layers
    np.testing.assert_allclose(front.depth[moving], 4.0)  # though it lies in the slab of the back layer
    assert (front.provenance[moving] == Provenance.MEASURED).all()
    np.testing.assert_allclose(back.depth, 6.0, rtol=1e-5)
    assert (back.provenance[moving] == Provenance.COMPLETED).all()


def test_sky_is_far_and_keeps_its_colour_but_gaps_are_filled():
    depth = np.full(CAMERA.shape, 6.0)
    depth[:10] = np.nan
    depth[30, 30] = np.nan
    picture = np.full((*CAMERA.shape, 3), 50, dtype=np.uint8)
    picture[:10] = 240
    (only,) = build_layers(own_view(depth, picture), [], border=0).layered.layers
    np.testing.assert_allclose(only.depth[:10], 24.0)
    assert (only.color[:10] == 240).all()
    assert (only.provenance[:10] == Provenance.COMPLETED).all()
    assert only.depth[30, 30] == pytest.approx(6.0)
    assert only.provenance[30, 30] == Provenance.COMPLETED


def test_a_frame_without_any_depth_has_empty_layers():
    built = build_layers(own_view(np.full(CAMERA.shape, np.nan)), [3.0])
    assert not any(layer.shown.any() for layer in built.layered.layers)


def test_donors_are_spread_and_the_nearest_comes_first():
    trajectory = fabricated_trajectory(20, 64, 48)
    names = choose_donors(trajectory, trajectory.names[0], 4, 5.0)
    rows = [trajectory.names.index(name) for name in names]
    assert rows[0] == 1
    assert rows == sorted(rows)
    assert rows[-1] > 10
    assert len(rows) == 4
    assert choose_donors(fabricated_trajectory(1, 64, 48), "000000", 4, 5.0) == ()


def test_files_give_back_every_bit(tmp_path):
    layered = build_layers(box_before_wall(), [3.0]).layered
    write_layers(tmp_path / "a.npz", layered)
    again = read_layers(tmp_path / "a.npz")
    assert again.camera == layered.camera
    assert len(again.layers) == 2
    for one, other in zip(layered.layers, again.layers):
        for field in ("color", "depth", "alpha", "provenance"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    import cv2

    paths = write_layer_pictures(tmp_path, "a", layered)
    stored = cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored[..., 2::-1], layered.layers[0].color)
    np.testing.assert_array_equal(stored[..., 3], 255 * layered.layers[0].alpha)
    write_arrays(tmp_path / "b.npz", depth=np.ones((1, 2, 2)))
    with pytest.raises(InputError, match=r"b\.npz holds no layers"):
        read_layers(tmp_path / "b.npz")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return fabricate(tmp_path_factory.mktemp("scene"), frames=5, width=96, height=72, ball_moves=True)


def test_the_verb_writes_layers_that_agree_with_the_exact_scene(workspace):
    lines = run_verb(workspace, LayersOptions(k=2, workers=2), Silent())
    record = workspace.record("layers")
    assert lines[0].startswith("layers: 5 frames in 2 layers")
    for share in record.summary["shares"]:
        steps = list(share.values())
        assert steps == sorted(steps, reverse=True)
        assert steps[-1] == 0
    assert record.summary["shares"][0]["after_frames"] < record.summary["shares"][0]["hole"]
    folder, trajectory = workspace.unit_dir("layers"), workspace.trajectory()
    assert (folder / "layers.png").exists()
    view = trajectory["000006"]
    layered = read_layers(folder / "000006.npz")
    _, truth = render(replace(view, camera=layered.camera))
    visible = np.where(layered.layers[0].shown, layered.layers[0].depth, layered.layers[1].depth)
    origin = np.where(layered.layers[0].shown, layered.layers[0].provenance, layered.layers[1].provenance)
    given = origin == Provenance.OTHER_FRAME
    assert given.sum() > 100  # in the border
    assert np.median(np.abs(visible - truth)[given] / truth[given]) < 0.01
    first = record.key
    assert run(workspace, LayersOptions(k=2)).key == first
    assert run(workspace, LayersOptions(k=2, border=0.0)).key != first


def test_one_frame_at_a_time_is_the_same(workspace):
    edges = clip_edges(workspace, 3)
    one = make_layers(workspace, "000003", edges)
    maker = LayerMaker(workspace, edges=edges)
    maker.make("000006")
    again = maker.make("000003").layered
    for a, b in zip(one.layers, again.layers, strict=True):
        np.testing.assert_array_equal(a.depth, b.depth)
        np.testing.assert_array_equal(a.color, b.color)


def test_a_model_paints_what_no_frame_saw_and_is_part_of_the_key(workspace):
    def filler(color, mask):
        return np.where(mask[..., None], np.uint8(9), color)

    options = LayersOptions(k=2, every=2)
    keys = [run(workspace, options, filler=filler, filler_key=key).key for key in ("one model", "another")]
    assert keys[0] != keys[1]
    back = read_layers(workspace.unit_dir("layers") / "000006.npz").layers[1]
    made = back.provenance == Provenance.GENERATED
    assert made.any()
    assert (back.color[made] == 9).all()
    assert not (back.provenance == Provenance.COMPLETED).any()
    share = workspace.record("layers").summary["shares"][1]
    assert share["after_frames"] > share["after_filler"] == 0


def test_a_scene_of_one_frame_has_layers(tmp_path):
    workspace = fabricate(tmp_path, frames=1)
    built = LayerMaker(workspace).make("000000")
    assert built.donors == 0
    assert built.layered.layers[-1].shown.all()


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"border": -0.1},
        {"border": 2.0},
        {"donors": -1},
        {"every": 0},
        {"workers": 0},
        {"fill": ("magic",)},
        {"fill": ("frames", "frames")},
    ],
)
def test_options_that_cannot_work_are_refused(workspace, options):
    with pytest.raises(OptionsError, match=r"^layers: --(?!layers)"):
        run(workspace, LayersOptions(**options))
