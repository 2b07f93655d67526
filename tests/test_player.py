"""The player's page, unpacked here without our own code, and what it is thinned to."""

import base64
import hashlib
import json
import re
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from recon4d.formats.pictures import encoded
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import Provenance
from recon4d.scene.scene4d import UpAxis
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3
from recon4d.view.live_colors import mode_of
from recon4d.view.origins import ORIGINS
from recon4d.view.player import PROGRAM, PlayerScene, player_page
from recon4d.view.player_budget import PICTURE_SETTINGS, PointsCost, sample_rows, share_out
from recon4d.view.player_layout import lay_out
from recon4d.view.player_pictures import small_jpeg
from recon4d.view.player_points import pack_cloud, size_codes, spacings

SEED = 7


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """What `pack_cloud` wrote, read bit by bit from its description."""
    raw = zlib.decompress(data)
    count, *low, step = struct.unpack_from("<I4d", raw)
    planes = np.frombuffer(raw, np.uint8, offset=36).reshape(12, count).astype(np.int64)
    codes = np.cumsum(sum(planes[byte] << (8 * byte) for byte in range(6)))
    cells = np.stack([sum(((codes >> (3 * bit + axis)) & 1) << bit for bit in range(16)) for axis in range(3)], -1)
    green, red_green, blue_green, confidence, provenance, size = np.cumsum(planes[6:], axis=1) % 256
    colors = np.stack([(green + red_green) % 256, green, (green + blue_green) % 256], -1)
    return {
        "points": np.array(low) + step * cells,
        "step": step,
        "colors": colors,
        "confidence": confidence / 255,
        "provenance": provenance,
        "size": size,
    }


def random_cloud(count: int, seed: int = SEED) -> PointCloud:
    rng = np.random.default_rng(seed)
    return PointCloud(
        points=rng.uniform([-3, 1, -20], [5, 2.5, 4], (count, 3)),
        colors=rng.integers(0, 256, (count, 3)),
        confidence=rng.uniform(0, 1, count),
        provenance=rng.integers(0, 5, count),
    )


def test_a_packed_cloud_comes_back_within_half_a_step_and_with_its_very_colours():
    cloud = random_cloud(5000)
    packed = pack_cloud(cloud, np.arange(5000) % 251)
    found = unpack(packed.data)
    # Colours at random tell which row is which: match by them and the size code, then compare places.
    order = np.lexsort([*cloud.colors.T, np.arange(5000) % 251])
    back = np.lexsort([*found["colors"].T, found["size"]])
    np.testing.assert_array_equal(found["colors"][back], cloud.colors[order])
    np.testing.assert_array_equal(found["provenance"][back], cloud.provenance[order])
    np.testing.assert_array_equal(found["size"][back], (np.arange(5000) % 251)[order])
    np.testing.assert_allclose(found["confidence"][back], cloud.confidence[order], atol=0.5 / 255 + 1e-6)
    longest = np.ptp(cloud.points.astype(float), axis=0).max()
    assert found["step"] == pytest.approx(longest / 65535)
    np.testing.assert_allclose(found["points"][back], cloud.points[order], atol=found["step"] / 2 + 1e-9)


def test_points_are_kept_in_morton_order_by_hand():
    # On the grid of 0..65535: x is the lowest bit of each triple, then y, then z.
    corners = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    found = unpack(pack_cloud(PointCloud(corners, np.zeros((5, 3)))).data)
    np.testing.assert_allclose(found["points"], [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])


@pytest.mark.parametrize("count", [0, 1])
def test_few_points_are_packed_too(count):
    cloud = random_cloud(3)[:count]
    packed = pack_cloud(cloud)
    found = unpack(packed.data)
    assert (packed.count, packed.step) == (count, 1.0 if count else 0.0)
    np.testing.assert_allclose(found["points"], cloud.points)


def test_the_width_of_points_is_their_spacing():
    x, y = np.meshgrid(np.arange(12), np.arange(12))
    grid = 0.25 * np.stack([x, y, 0 * x], -1).reshape(-1, 3)
    widths = spacings(grid)
    inner = ((x > 0) & (x < 11) & (y > 0) & (y < 11)).ravel()
    np.testing.assert_allclose(widths[inner], 0.25)
    codes = size_codes(widths, 0.01)
    np.testing.assert_array_equal(codes[inner], 1 + round(4 * np.log2(25)))
    decoded = 0.01 * 2.0 ** ((codes.astype(float) - 1) / 4)
    np.testing.assert_allclose(decoded, widths, rtol=2 ** (1 / 8) - 1 + 1e-6)
    lonely = np.concatenate([grid, [[99, 99, 99]]])
    assert spacings(lonely)[-1] == pytest.approx(1.0)  # four times the median
    assert not spacings(grid[:4]).any()
    assert not size_codes(np.zeros(3), 0.01).any()


# -- the page ----------------------------------------------------------------------------------------------------------


def small_scene(frames: int = 3, **changes: object) -> PlayerScene:
    turn = Rigid3(np.tile(np.eye(3), (frames, 1, 1)), np.tile([0.0, 0, 1], (frames, 1)))
    trajectory = Trajectory(
        names=tuple(f"{2 * i:06d}" for i in range(frames)),
        timestamps_s=1.5 + np.array([0, 0.1, 0.35, 0.4])[:frames],
        cam_from_world=turn,
        cameras=(Camera(8, 6, 7.0, 7.5, 4.25, 2.5),) * frames,
        origin=(PoseOrigin.MEASURED,) * frames,
    )
    clouds = {name: random_cloud(40 * i, seed=i) for i, name in enumerate(trajectory.names)}  # none in the first
    static = random_cloud(600)
    grey = np.full((6, 8, 3), 127, np.uint8)
    scene = PlayerScene(
        title="A <b>room</b> & </script> more",
        trajectory=trajectory,
        static=static,
        moving=clouds.__getitem__,
        picture=lambda name: small_jpeg(grey, PICTURE_SETTINGS[0]),
        layout=lay_out(static.points, trajectory, UpAxis.Z),
        up=UpAxis.Z,
        in_metres=True,
        whole_static=900,
        moving_points=120,
        whole_moving=120,
    )
    return replace(scene, **changes)


def elements(page: str) -> dict[str, str]:
    return dict(re.findall(r'<script type="[a-z/]+" id="(\w+)">(.*?)</script>', page, re.DOTALL))


def page_of(scene: PlayerScene) -> str:
    return b"".join(player_page(scene)).decode()


def test_the_page_holds_every_frame_and_says_how_far_points_are_off():
    scene = small_scene()
    found = elements(page_of(scene))
    head = json.loads(found["scene"])
    assert head["names"] == ["000000", "000002", "000004"]
    np.testing.assert_allclose(head["starts_s"], [0, 0.1, 0.35])
    assert (head["lenses"], head["lens"]) == ([[8, 6, 7.0, 7.5, 4.25, 2.5]], [0, 0, 0])
    assert head["world_from_cam"][1] == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, -1]
    assert (head["static_points"], head["static_whole"], head["unit"]) == (600, 900, "m")
    assert head["title"] == scene.title
    worst = 0.0
    clouds = {"s0": scene.static, **{f"m{i}": scene.moving(n) for i, n in enumerate(head["names"])}}
    for element, cloud in clouds.items():
        there = unpack(base64.b64decode(found[element]))
        assert len(there["points"]) == len(cloud)
        if len(cloud):
            away = np.abs(there["points"][:, None] - cloud.points).max(-1).min(1)
            worst = max(worst, away.max())
    stated = json.loads(found["end"])["position_error"]
    assert 0.5 * stated < worst <= stated + 1e-9
    together = np.concatenate([scene.static.provenance, *(scene.moving(name).provenance for name in head["names"])])
    assert json.loads(found["end"])["origin_points"] == [int((together == kind).sum()) for kind in range(5)]
    assert all(base64.b64decode(found[f"p{i}"])[:3] == b"\xff\xd8\xff" for i in range(3))


def test_origins_have_the_words_and_colours_of_the_live_view():
    head = json.loads(elements(page_of(small_scene()))["scene"])
    shown = [(kind["words"], tuple(kind["color"])) for kind in head["origins"]]
    assert shown == [ORIGINS[kind] for kind in Provenance]
    legend = mode_of("provenance").legend(None)
    for words, color in shown:
        assert words in legend
        assert f"rgb{color}" in legend
    assert len({color for _, color in shown}) == len(Provenance)


def test_the_background_in_parts_is_whole_again_and_its_first_part_comes_first(monkeypatch):
    monkeypatch.setattr("recon4d.view.player.PART_POINTS", 250)
    scene = small_scene()
    page = page_of(scene)
    found = elements(page)
    parts = [unpack(base64.b64decode(found[f"s{i}"])) for i in range(3)]
    assert json.loads(found["scene"])["static_parts"] == 3
    colors = np.concatenate([part["colors"] for part in parts])
    np.testing.assert_array_equal(np.sort(colors @ [65536, 256, 1]), np.sort(scene.static.colors @ [65536, 256, 1]))
    for part in parts:  # each shows all of it, not a corner
        assert np.ptp(part["points"], axis=0) == pytest.approx(np.ptp(scene.static.points, axis=0), rel=0.05)
    order = [page.index(f'id="{element}"') for element in ("scene", "s0", "m0", "p0", "s1", "s2", "m1", "end")]
    assert order == sorted(order)
    assert page.index('id="p0"') < page.index("<script>") < page.index('id="s1"')


def test_the_page_allows_nothing_but_itself():
    page = page_of(small_scene())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page).group(1)
    program = re.search(r"<script>(.*?)</script>", page, re.DOTALL).group(1)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    for kind, text in (("script-src", program), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    without = page.replace(program, "")
    assert "http:" not in without
    assert "https:" not in without
    assert 'style="' not in without  # the policy would drop it
    assert set(re.findall(r"https?://[\w./]+", program)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xhtml",
    }
    assert re.findall(r"</?title>(.*?)</title>", page) == ["A &lt;b&gt;room&lt;/b&gt; &amp; &lt;/script&gt; more"]


def test_the_notices_of_what_the_program_contains_are_kept():
    program = (PROGRAM / "player.js").read_text(encoding="utf-8")
    notice = program[: program.index("*/")]
    assert "three.js authors" in notice
    assert "Arjun Barrett" in notice
    assert notice.count("Permission is hereby granted") == 2


def test_a_page_without_points_pictures_or_time():
    nothing = PointCloud(np.zeros((0, 3)), np.zeros((0, 3)))
    scene = small_scene(1)
    layout = lay_out(nothing.points, scene.trajectory, UpAxis.MODEL)
    found = elements(page_of(replace(scene, static=nothing, picture=None, layout=layout, up=UpAxis.MODEL)))
    head = json.loads(found["scene"])
    assert (head["static_points"], head["pictures"], head["up"]) == (0, False, [0, -1, 0])
    assert "p0" not in found
    assert len(unpack(base64.b64decode(found["s0"]))["points"]) == 0
    assert json.loads(found["end"])["position_error"] == 0


# -- how it lies -------------------------------------------------------------------------------------------------------


def test_the_layout_of_a_room_by_hand():
    trajectory = small_scene(2).trajectory  # at (0, 0, -1), looking along z
    rng = np.random.default_rng(SEED)
    wall = np.column_stack([rng.uniform(-0.2, 0.2, (3000, 2)), np.full(3000, 3.0)])
    layout = lay_out(wall, trajectory, UpAxis.MODEL)
    assert layout.depth == pytest.approx(4.0)
    np.testing.assert_allclose(layout.centre, [0, 0, 3], atol=0.02)
    assert layout.radius == pytest.approx(0.92 * 0.2 * 2**0.5, rel=0.03)
    assert layout.floor == pytest.approx(-0.2, abs=0.01)  # y points down: the lowest points are those with y = 0.2
    above = lay_out(wall + np.array([0, 5, 0]), trajectory, UpAxis.Y)
    assert above.floor == pytest.approx(4.8, abs=0.01)
    assert lay_out(wall + np.array([0, 0.21, 0]), trajectory, UpAxis.Y).floor == 0  # where `align` put the ground


# -- the budget --------------------------------------------------------------------------------------------------------


def test_all_fits_into_enough_room():
    budget = share_out(1e9, PointsCost(np.array([1000]), 7), PointsCost(np.array([30, 0, 50]), 7), [1e5, 1e4])
    assert (budget.static_points, budget.moving_points, budget.pictures) == (1000, 50, PICTURE_SETTINGS[0])


def test_pictures_shrink_to_a_quarter_then_points_share_the_rest():
    static, moving = PointsCost(np.array([400_000]), 7.0), PointsCost(np.array([50_000] * 40 + [100]), 7.0)
    room = 4e6
    budget = share_out(room, static, moving, [3e6, 1.5e6, 0.9e6, 0.5e6])
    assert budget.pictures == PICTURE_SETTINGS[2]
    left = 0.97 * room - 0.9e6
    kept = np.minimum(moving.counts, budget.moving_points)
    for points, share in ((budget.static_points, 0.4), (kept.sum(), 0.6)):
        assert 0.75 < points * 7.0 / (share * left) < 1  # fewer points cost more each
    assert budget.moving_points > 100  # the frame with few points stays whole


def test_what_one_layer_does_not_need_goes_to_the_other():
    few = share_out(4e6, PointsCost(np.array([400_000]), 7.0), PointsCost(np.array([10]), 7.0), [])
    assert few.static_points == 400_000
    assert few.pictures is None
    most = share_out(1e6, PointsCost(np.array([10]), 7.0), PointsCost(np.array([500_000]), 7.0), [])
    assert most.static_points == 10
    assert 100_000 < most.moving_points < 140_000
    none = share_out(-5.0, PointsCost(np.array([10]), 7.0), PointsCost(np.zeros(0, int), 0.0), [1.0])
    assert (none.static_points, none.moving_points, none.pictures) == (0, 0, None)


def test_rows_are_sampled_evenly():
    assert sample_rows(10, 4) == [0, 3, 6, 9]
    assert sample_rows(2, 4) == [0, 1]
    assert sample_rows(0, 4) == []


def test_pictures_are_shrunk_and_never_enlarged():
    import cv2

    wide = np.zeros((300, 1440, 3), np.uint8)
    wide[..., 0] = 200  # red: channels must not be swapped
    back = cv2.imdecode(np.frombuffer(small_jpeg(wide, PICTURE_SETTINGS[0]), np.uint8), cv2.IMREAD_COLOR)
    assert back.shape == (150, 720, 3)
    np.testing.assert_allclose(back.reshape(-1, 3).mean(0), [0, 0, 200], atol=4)
    small = cv2.imdecode(np.frombuffer(small_jpeg(wide[:20, :30], PICTURE_SETTINGS[0]), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (20, 30, 3)


@pytest.mark.parametrize(("suffix", "magic"), [(".jpg", b"\xff\xd8\xff"), (".webp", b"RIFF")])
def test_pictures_are_encoded_with_their_channels_in_order_and_smaller_at_lower_quality(suffix, magic):
    import cv2

    rng = np.random.default_rng(SEED)
    picture = np.clip(rng.normal([220, 120, 30], 12, (48, 64, 3)), 0, 255).astype(np.uint8)
    data = encoded(picture, suffix, 90)
    assert data.startswith(magic)
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_allclose(back.reshape(-1, 3).mean(0), [220, 120, 30], atol=4)
    assert len(encoded(picture, suffix, 30)) < 0.7 * len(data)
