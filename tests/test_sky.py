"""Sky in made pictures with exact masks, indoors where there is none, and in real clips."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from recon4d.geometry.sky import SkyFrame, SkyModel, fit_sky, nearness, sky_mask, up_in_picture
from recon4d.scene.depth import DepthKind

WIDTH, HEIGHT = 320, 240


def noise(rng, blur, size=(HEIGHT, WIDTH)):
    """Smooth noise of standard deviation 1."""
    out = cv2.GaussianBlur(rng.normal(0, 1, size), (0, 0), blur)
    return out / out.std()


def outdoors(seed, kind="blue"):
    """Picture, z (inf for sky) of a street: ground, two houses with a roof, a tree with holes in its crown."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0.5:HEIGHT, 0.5:WIDTH]
    z, shift = np.full((HEIGHT, WIDTH), np.inf), rng.uniform(-25, 25)
    picture = sky_colors(rng, v, kind)
    ground = v > 150
    z[ground] = 240.0 / (v[ground] - 146.0)
    picture[ground] = np.array([118, 112, 104]) + 14 * rng.normal(0, 1, (ground.sum(), 1))
    for left, right, top, depth, color in (
        (-20, 110, 60, 22.0, (188, 150, 120)),
        (230, 340, 85, 32.0, (205, 203, 198)),
    ):
        roof = np.abs(u - shift - (left + right) / 2) / (right - left) * 60 + top - 30
        house = (u > left + shift) & (u < right + shift) & (v > roof) & (v < 240.0 / depth + 146)
        z[house] = depth
        windows = ((u - shift) % 26 < 11) & (v % 30 < 15) & (v > top + 8)
        wall = np.where(windows[..., None], [52, 60, 72], color) + 7 * rng.normal(0, 1, (HEIGHT, WIDTH, 1))
        picture[house] = np.where((v < top)[..., None], [120, 62, 48] + 9 * rng.normal(0, 1, (HEIGHT, WIDTH, 1)), wall)[
            house
        ]
    crown = (np.hypot((u - 170 - shift) / 36, (v - 75) / 44) + 0.12 * noise(rng, 5) < 1) & (noise(rng, 2.5) < 1.4)
    tree = crown | ((np.abs(u - 170 - shift) < 4) & (v > 110) & (v < 166))
    z[tree] = 12.0
    picture[tree] = np.array([58, 92, 40]) + 26 * rng.normal(0, 1, (tree.sum(), 1))
    return np.clip(picture, 0, 255).astype(np.uint8), z


def sky_colors(rng, v, kind):
    fall = (v / 150)[..., None]
    if kind == "overcast":
        return np.array([206.0, 208, 212]) + 12 * fall + 9 * noise(rng, 18)[..., None] + rng.normal(0, 2, (*v.shape, 1))
    blue = np.array([84.0, 138, 214]) * (1 - fall) + np.array([176.0, 205, 236]) * fall
    cloud = 1 / (1 + np.exp(-3 * (noise(rng, 14) - 0.7)))[..., None]
    return blue * (1 - cloud) + np.array([236.0, 238, 242]) * cloud + rng.normal(0, 2, (*v.shape, 1))


def indoors(seed, ceiling=(222, 222, 220), farther=1.0):
    """A room with a plain ceiling and a back wall; ``farther``: how much farther the depth source sets the ceiling."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0.5:HEIGHT, 0.5:WIDTH]
    z = np.full((HEIGHT, WIDTH), 5.0)
    floor, top = v > 165, v < 60 + 0.05 * u
    z[floor] = 5.0 * 45 / (v[floor] - 120)
    z[top] = np.minimum(5.0 * 60 / np.maximum(120 - v[top], 1), 5.0)
    wall = np.where(((u % 64 < 30) & (v % 50 < 28))[..., None], [120, 84, 60], [228, 226, 222])
    picture = wall + 5 * rng.normal(0, 1, (HEIGHT, WIDTH, 1))
    picture[floor] = np.array([140, 110, 80]) + 20 * rng.normal(0, 1, (floor.sum(), 1))
    picture[top] = np.array(ceiling) + 2 * rng.normal(0, 1, (top.sum(), 1))
    return np.clip(picture, 0, 255).astype(np.uint8), z, np.where(top, z * farther, z)


def seen(picture, z, seed, given_z=None, empty=None, bend=0.04):
    """A frame as a good video depth network and structure from motion give it: disparity with unknown gain and shift,
    bent by 4 % and smeared; points where there is texture, none in ``empty``."""
    rng = np.random.default_rng(1000 + seed)
    disparity = 1.0 / (z if given_z is None else given_z)
    disparity = cv2.GaussianBlur(disparity, (0, 0), 1.0)[::2, ::2] * (
        1 + bend * noise(rng, 20, (HEIGHT // 2, WIDTH // 2))
    )
    values = (3.1 * disparity + 0.07 + 0.002 * rng.normal(0, 1, disparity.shape)).astype(np.float32)
    grey = picture.astype(np.float32).mean(axis=2)
    usable = np.isfinite(z) & (cv2.blur(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), (3, 3)) > 8)
    if empty is not None:
        usable &= ~empty
    row, column = np.nonzero(usable)
    chosen = rng.choice(len(row), 400, replace=False)
    row, column = row[chosen], column[chosen]
    pixels = np.stack([column + 0.5, row + 0.5], axis=1)
    return SkyFrame(picture, values, np.ones(values.shape, bool), pixels, z[row, column] * rng.normal(1, 0.01, 400))


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("kind", ["blue", "overcast"])
def test_sky_over_a_street_is_found(kind):
    scenes = [outdoors(seed, kind) for seed in range(5)]
    frames = [seen(*scene, seed) for seed, scene in enumerate(scenes)]
    model = fit_sky(frames[:4])
    assert model.present, model.reason
    for frame, (_, z) in zip(frames, scenes):  # the last one was not in the sample
        mask = sky_mask(frame, model)
        assert overlap(mask, np.isinf(z)) > 0.93
        assert (mask & np.isfinite(z)).mean() < 0.01


def test_sky_is_found_without_points_of_its_frame_once_the_clip_has_it():
    scenes = [outdoors(seed) for seed in range(4)]
    frames = [seen(*scene, seed) for seed, scene in enumerate(scenes)]
    model = fit_sky(frames[:3])
    bare = replace(frames[3], pixels=np.zeros((0, 2)), z=np.zeros(0))
    assert overlap(sky_mask(bare, model), np.isinf(scenes[3][1])) > 0.9


@pytest.mark.parametrize(("turns", "up"), [(1, (-1.0, 0.0)), (2, (0.0, 1.0)), (3, (1.0, 0.0))])
def test_sky_is_at_the_upper_side_however_the_camera_is_turned(turns, up):
    """np.rot90 turns counter-clockwise: once, and the picture's top lies at the left."""
    frames, truths = [], []
    for seed in range(3):
        picture, z = outdoors(seed)
        frame, size = seen(picture, z, seed), (WIDTH, HEIGHT)
        pixels = frame.pixels
        for _ in range(turns):
            pixels, size = np.stack([pixels[:, 1], size[0] - pixels[:, 0]], axis=1), size[::-1]
        picture = np.ascontiguousarray(np.rot90(picture, turns))
        grid = np.ascontiguousarray(np.rot90(frame.nearness, turns))
        frames.append(SkyFrame(picture, grid, np.ones(grid.shape, bool), pixels, frame.z, up))
        truths.append(np.rot90(np.isinf(z), turns))
    model = fit_sky(frames)
    assert overlap(sky_mask(frames[0], model), truths[0]) > 0.93
    assert not fit_sky([replace(frame, up=(-up[0], -up[1])) for frame in frames]).present  # there is no sky below


@pytest.mark.parametrize("ceiling", [(222, 222, 220), (150, 190, 240), (255, 255, 255)])
@pytest.mark.parametrize("farther", [1.0, 2.5])
def test_ceilings_are_no_sky(ceiling, farther):
    """Also when the depth puts them 2.5 times too far away, and no point lies on them."""
    frames = []
    for seed in range(4):
        picture, z, given = indoors(seed, ceiling, farther)
        top = np.zeros(z.shape, bool)
        top[:76] = True
        frames.append(seen(picture, z, seed, given, empty=top))
    assert not fit_sky(frames).present


def test_depth_that_cannot_tell_infinity_gives_no_sky():
    """A network that flattens everything beyond the houses: the blue sky stays, rather than that rooms lose theirs."""
    frames = []
    for seed in range(4):
        picture, z = outdoors(seed)
        frames.append(seen(picture, z, seed, given_z=np.minimum(z, 25.0)))
    assert not fit_sky(frames).present


def test_points_in_a_region_veto_it():
    """A blue billboard before the sky's place, which the depth does not see but the structure does."""
    frames = []
    for seed in range(4):
        picture, z = outdoors(seed)
        frame, rng = seen(picture, z, seed), np.random.default_rng(seed)
        row, column = np.nonzero(np.isinf(z))
        chosen = rng.choice(len(row), 400, replace=False)
        pixels = np.concatenate([frame.pixels, np.stack([column, row], axis=1)[chosen] + 0.5])
        frames.append(replace(frame, pixels=pixels, z=np.concatenate([frame.z, rng.uniform(15, 18, 400)])))
    assert not fit_sky(frames).present


def test_far_points_do_not_veto():
    """Clouds that were triangulated at some huge depth."""
    frames, truths = [], []
    for seed in range(3):
        picture, z = outdoors(seed)
        frame = seen(picture, z, seed)
        row, column = np.nonzero(np.isinf(z))
        chosen = np.random.default_rng(seed).choice(len(row), 40, replace=False)
        pixels = np.concatenate([frame.pixels, np.stack([column, row], axis=1)[chosen] + 0.5])
        frames.append(replace(frame, pixels=pixels, z=np.concatenate([frame.z, np.full(40, 4000.0)])))
        truths.append(np.isinf(z))
    assert overlap(sky_mask(frames[0], fit_sky(frames)), truths[0]) > 0.93


def test_too_few_points_and_damaged_depth_give_no_sky():
    picture, z = outdoors(0)
    frame = seen(picture, z, 0)
    bare = replace(frame, pixels=frame.pixels[:10], z=frame.z[:10])
    assert not fit_sky([bare]).present
    broken = replace(frame, nearness=np.full_like(frame.nearness, np.nan))
    assert not fit_sky([broken]).present
    assert not fit_sky([]).present
    assert not sky_mask(broken, SkyModel.without("none")).any()


def test_a_single_frame_is_enough_for_one_picture():
    picture, z = outdoors(7)
    frame = seen(picture, z, 7)
    model = fit_sky([frame])
    assert model.present
    assert overlap(sky_mask(frame, model), np.isinf(z)) > 0.93


def test_up_in_the_picture_by_hand():
    up = np.array([0.0, 0, 2])
    level = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # x right, y down, looks along +y of the world
    assert up_in_picture(level, up) == pytest.approx((0.0, -1.0))
    rolled = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ level  # what was down is left, so up is right
    assert up_in_picture(rolled, up) == pytest.approx((1.0, 0.0))
    assert up_in_picture(np.diag([1.0, -1, -1]), up) == (0.0, 0.0)  # looks straight down


def test_nearness_by_hand():
    values, valid = np.array([[2.0, 4.0, 0.0]], dtype=np.float32), np.array([[True, True, False]])
    np.testing.assert_allclose(nearness(values, valid, DepthKind.AFFINE_DISPARITY), values)
    np.testing.assert_allclose(nearness(values, valid, DepthKind.METRIC_Z), [[0.5, 0.25, 0.0]])
    np.testing.assert_allclose(nearness(values, valid, DepthKind.AFFINE_Z), -values)


@pytest.mark.shared
@pytest.mark.parametrize("prediction", ["tcmonodepth_small", "simulated_diffusion"])
def test_a_real_kitchen_has_no_sky(shared_data, prediction):
    """In no frame, and not over the clip: with windows, white walls and a white ceiling."""
    folder = shared_data / "data" / "rgbd_static"
    clip, frames = np.load(shared_data / "data" / "rgbd_static_pred" / f"{prediction}.npz"), []
    for row in range(0, 100, 7):
        name = str(clip["names"][row])
        picture = cv2.imread(str(folder / "color" / f"{name}.jpg"))[..., ::-1]
        z = cv2.imread(str(folder / "depth_registered" / f"{name}.png"), cv2.IMREAD_UNCHANGED) / 1000.0
        rng = np.random.default_rng(row)
        at = np.nonzero((z > 0.3) & (z < 8))
        chosen = rng.choice(len(at[0]), 400, replace=False)
        pixels = np.stack([at[1][chosen] + 0.5, at[0][chosen] + 0.5], axis=1)
        values = clip["depth"][row].astype(np.float32)
        valid = np.ones(values.shape, dtype=bool)
        frames.append(SkyFrame(np.ascontiguousarray(picture), values, valid, pixels, z[at][chosen]))
    assert not fit_sky(frames).present
    assert not any(fit_sky([frame]).present for frame in frames)
