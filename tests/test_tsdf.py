"""The signed distance volume: blocks, distances, what is seen through, islands, points, normals."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recon4d.geometry.islands import large_islands
from recon4d.geometry.surface_points import SurfacePoints
from recon4d.geometry.tsdf import Sighting, TsdfVolume
from recon4d.geometry.tsdf_kernels import BLOCK
from recon4d.scene.camera import Camera
from recon4d.scene.depth import Provenance
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(80, 60, 80.0, 80.0, 40.0, 30.0)
VOXEL, BAND = 0.05, 0.2
TURN = Rigid3.from_quat_xyzw([0.1, -0.2, 0.05, 0.97], np.zeros(3)).rotation
POSES = [Rigid3(TURN, np.array([0.1 * k, -0.03 * k, 0.02 * k])) for k in range(4)]


def plane_depth(pose: Rigid3, normal: np.ndarray, offset: float) -> np.ndarray:
    """z-depth (H, W) of the plane normal . x = offset in the world."""
    rays = CAMERA.rays() @ pose.rotation  # into the world: world_from_cam has the transposed rotation
    centre = pose.inverse().translation
    return ((offset - centre @ normal) / (rays @ normal)).astype(np.float32)


def sighting(
    depth: np.ndarray,
    pose: Rigid3,
    weight: float = 1.0,
    measured: bool = True,
    color=(200, 100, 50),
    gain=1.0,
    counts=True,
):
    depth = np.asarray(depth, dtype=np.float32)
    return Sighting(
        depth=depth,
        weights=np.full(depth.shape, weight, dtype=np.float32),
        counts=np.full(depth.shape, counts),
        measured=np.full(depth.shape, measured),
        picture=np.broadcast_to(np.array(color, dtype=np.uint8), (*depth.shape, 3)).copy(),
        gains=np.full(3, gain, dtype=np.float32),
        camera=CAMERA,
        cam_from_world=pose,
    )


def volume_of(*seen: Sighting) -> TsdfVolume:
    volume = TsdfVolume(VOXEL, BAND)
    for one in seen:
        volume.reserve(one)
    for one in seen:
        volume.add(one)
    return volume


def readable(volume: TsdfVolume, seen: list[Sighting]) -> tuple[np.ndarray, ...]:
    """Mean distance, the sums and colours of every voxel, from the definition."""
    index = np.arange(BLOCK)
    z, y, x = np.meshgrid(index, index, index, indexing="ij")
    places = (BLOCK * volume.blocks[:, None, None, None] + np.stack([x, y, z], axis=-1)) * volume.voxel_size
    sums = np.zeros((*places.shape[:-1], 4))
    distance, color = np.zeros(places.shape[:-1]), np.zeros(places.shape)
    for one in seen:
        in_cam = one.cam_from_world @ places.reshape(-1, 3)
        pixel = one.camera.project(in_cam)
        u, v = np.floor(np.nan_to_num(pixel, nan=-1)).astype(int).T
        inside = (u >= 0) & (v >= 0) & (u < one.camera.width) & (v < one.camera.height)
        u, v = np.where(inside, u, 0), np.where(inside, v, 0)
        depth, weight = one.depth[v, u], one.weights[v, u] * inside
        ahead = depth - in_cam[:, 2]
        near, through = (depth > 0) & (np.abs(ahead) <= volume.band), (depth > 0) & (ahead > volume.band)
        shape = distance.shape
        sums[..., 0] += (weight * near).reshape(shape)
        sums[..., 1] += (weight * through).reshape(shape)
        sums[..., 2] += (weight * near * one.measured[v, u]).reshape(shape)
        sums[..., 3] += (near & (weight > 0) & one.counts[v, u]).reshape(shape)
        distance += (weight * near * ahead / volume.band).reshape(shape)
        color += (weight * near)[:, None].reshape(*shape, 1) * (one.picture[v, u] * one.gains).reshape(*shape, 3)
    total = np.maximum(sums[..., 0], 1e-12)
    return distance / total, sums, color / total[..., None]


def test_kernel_does_what_the_definition_says():
    rng = np.random.default_rng(0)
    seen = []
    for k, pose in enumerate(POSES):
        depth = plane_depth(pose, np.array([0.1, 0.2, 1.0]), 2.0) + rng.normal(0, 0.02, CAMERA.shape)
        depth[:5] = 0
        seen.append(sighting(depth, pose, 0.3 + 0.2 * k, k % 2 == 0, (40 * k, 90, 10), 1.0 + 0.1 * k, counts=k < 3))
    volume = volume_of(*seen)
    distance, sums, color = readable(volume, seen)
    assert (sums[..., 0] > 0).sum() > 5000
    assert (sums[..., 1] > 0).sum() > 500
    np.testing.assert_allclose(volume.sums, sums, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(volume.tsdf, distance, rtol=0, atol=2e-5)
    np.testing.assert_allclose(volume.colors, color, rtol=0, atol=2e-3)


def test_no_block_near_the_surface_is_missed():
    depth = plane_depth(POSES[0], np.array([0.1, 0.2, 1.0]), 2.0)
    volume = volume_of(sighting(depth, POSES[0]))
    there = {tuple(block) for block in volume.blocks}
    for ahead in np.linspace(-BAND, BAND, 9):
        points = POSES[0].inverse() @ CAMERA.unproject(depth.astype(float) + ahead)[:-1, :-1].reshape(-1, 3)
        assert {tuple(block) for block in np.floor(points / (BLOCK * VOXEL)).astype(int)} <= there


def test_volume_grows_beyond_its_first_blocks():
    depth = plane_depth(POSES[0], np.array([0.0, 0.0, 1.0]), 3.0)
    volume = TsdfVolume(0.008, 0.03)
    volume.reserve(sighting(depth, POSES[0]))
    volume.add(sighting(depth, POSES[0]))
    assert volume.count > 1024
    assert len(np.unique(volume.blocks, axis=0)) == volume.count
    distance, sums, _ = readable(volume, [sighting(depth, POSES[0])])
    np.testing.assert_allclose(volume.sums, sums)
    np.testing.assert_allclose(volume.tsdf, distance, atol=2e-5)


def test_voxel_on_the_axis_by_hand():
    seen = sighting(np.full(CAMERA.shape, 2.0), Rigid3.identity())
    volume = volume_of(seen, sighting(np.full(CAMERA.shape, 2.1), Rigid3.identity(), weight=3.0))
    z, block = 39, (0, 0, 4)  # 1.95 in front of the camera: 0.05 and 0.15 ahead of the two walls
    slot = volume.blocks.tolist().index(list(block))
    place = slot, z - BLOCK * 4, 0, 0
    assert volume.tsdf[place] == pytest.approx((1 * 0.05 + 3 * 0.15) / 4 / BAND, abs=1e-5)
    assert volume.sums[place].tolist() == [4, 0, 4, 2]  # two frames, whatever they weigh
    slot = volume.blocks.tolist().index([0, 0, 4])
    far = slot, 36 - BLOCK * 4, 0, 0  # 1.8: 0.2 ahead of the first, 0.3 ahead of the second, which looks through
    assert volume.sums[far][1] == 3


def test_pixels_without_depth_or_weight_say_nothing():
    depth = np.full(CAMERA.shape, 2.0)
    half = depth.copy()
    half[:, :40] = 0
    volume, other = volume_of(sighting(half, POSES[0])), volume_of(sighting(depth, POSES[0], weight=0.0))
    assert (other.sums == 0).all()
    assert (volume.sums[..., 0] > 0).any()
    points = SurfacePoints(volume, volume.judge(1, 0.5, BAND, 1), BAND)
    points.add(sighting(depth, POSES[0]))  # all of it: the left half finds no voxel
    pixels = CAMERA.project(POSES[0] @ points.cloud().points.astype(float))
    assert 36 < pixels[:, 0].min() < 41


def test_what_later_frames_look_through_is_no_background():
    wall = [sighting(np.full(CAMERA.shape, 3.0), Rigid3.identity()) for _ in range(8)]
    guest = np.full(CAMERA.shape, 3.0)
    guest[20:40, 30:50] = 1.5
    standing = [sighting(guest, Rigid3.identity()) for _ in range(3)]
    volume = volume_of(*standing, *wall)
    judgement = volume.judge(2, 0.67, 0.1, 1)
    assert judgement.carved > 100
    points = SurfacePoints(volume, judgement, 0.1)
    for seen in (*standing, *wall):
        points.add(seen)
    cloud = points.cloud()
    assert cloud.points[:, 2].min() > 2.9
    assert points.left >= 3 * 20 * 20
    everything = volume.judge(2, 0.0, 0.1, 1)
    assert SurfacePoints(volume, everything, 0.1)._row_of.max() > points._row_of.max()


def test_it_does_not_matter_whether_the_view_through_came_first_or_last():
    wall = [sighting(np.full(CAMERA.shape, 3.0), Rigid3.identity()) for _ in range(8)]
    guest = [sighting(np.full(CAMERA.shape, 1.5), Rigid3.identity()) for _ in range(3)]
    first, last = volume_of(*wall, *guest), volume_of(*guest, *wall)
    np.testing.assert_allclose(first.sums[np.lexsort(first.blocks.T)], last.sums[np.lexsort(last.blocks.T)], atol=1e-5)


def test_what_hides_behind_a_surface_is_not_carved():
    far, near = np.full(CAMERA.shape, 3.0), np.full(CAMERA.shape, 1.5)
    volume = volume_of(*[sighting(far, Rigid3.identity())] * 3, *[sighting(near, Rigid3.identity())] * 20)
    behind = volume.blocks[:, 2] * BLOCK * VOXEL > 2.3
    assert volume.sums[behind][..., 1].max() == 3  # those that see the far wall; the other 20 say nothing of it


def test_few_views_are_not_enough():
    depth = np.full(CAMERA.shape, 2.0)
    volume = volume_of(sighting(depth, POSES[0]), sighting(depth, POSES[0]))
    assert volume.judge(2, 0.67, 0.1, 1).usable.any()
    judgement = volume.judge(3, 0.67, 0.1, 1)
    assert not judgement.usable.any()
    assert judgement.lonely > 0


def test_frames_count_however_little_they_weigh():
    depth = np.full(CAMERA.shape, 2.0)
    unsure = [sighting(depth, POSES[0], weight=0.01)] * 3
    assert volume_of(*unsure).judge(3, 0.67, 0.1, 1).usable.any()
    sure = sighting(np.full(CAMERA.shape, 3.0), POSES[0])  # one word of weight 1 outweighs them
    judgement = volume_of(*unsure, sure).judge(3, 0.67, 0.1, 1)
    assert not judgement.usable.any()
    assert judgement.carved > 0


def test_frames_that_do_not_count_move_the_mean_and_are_no_view():
    depth = np.full(CAMERA.shape, 2.0)
    volume = volume_of(sighting(depth, POSES[0]), sighting(1.01 * depth, POSES[0], counts=False))
    assert not volume.judge(2, 0.67, 0.1, 1).usable.any()
    at = volume.sums[..., 0] == 2
    assert (volume.sums[at][:, 3] == 1).all()


def test_small_piece_in_the_air_goes_and_a_large_one_stays():
    blocks = np.array([[0, 0, 0], [1, 0, 0], [9, 9, 9]])
    at_surface = np.zeros((3, 8, 8, 8), dtype=bool)
    at_surface[:2, 4] = True  # 128 voxels over two blocks
    at_surface[2, :2, :2, :2] = True  # 8 voxels far away
    kept = large_islands(blocks, at_surface, 100)
    assert kept[:2].all()
    assert not kept[2, :4, :4, :4].any()
    assert large_islands(blocks, at_surface, 8).all()
    assert not large_islands(blocks, at_surface, 129)[0, 4].any()


def test_pieces_that_touch_over_a_corner_of_blocks_are_one():
    blocks = np.array([[-1, -1, -1], [0, 0, 0]])
    at_surface = np.zeros((2, 8, 8, 8), dtype=bool)
    at_surface[0, 7, 7, 7] = at_surface[1, 0, 0, 0] = True
    assert large_islands(blocks, at_surface, 2).all()


def test_points_lie_on_the_plane_they_were_seen_on():
    normal, seen = np.array([0.1, 0.2, 1.0]) / np.linalg.norm([0.1, 0.2, 1.0]), []
    for k, pose in enumerate(POSES):
        seen.append(sighting(plane_depth(pose, normal, 2.0), pose, 0.5 + 0.1 * k, measured=k > 0))
    volume = volume_of(*seen)
    judgement = volume.judge(2, 0.67, 1.5 * VOXEL, 1)
    points = SurfacePoints(volume, judgement, 1.5 * VOXEL)
    for one in seen:
        points.add(one)
    cloud = points.cloud()
    assert len(cloud) > 500
    np.testing.assert_allclose(cloud.points @ normal, 2.0, atol=1e-4)
    assert np.median(cloud.normals @ -normal) > 0.99  # towards the cameras
    assert (cloud.provenance == Provenance.MEASURED).mean() > 0.95
    assert (cloud.colors == [200, 100, 50]).all()
    vertices, faces, colors = volume.mesh(judgement.usable)
    assert len(faces) > 500
    np.testing.assert_allclose(colors, np.broadcast_to([200, 100, 50], colors.shape), atol=1)  # it was black
    assert np.quantile(np.abs(vertices @ normal - 2.0), 0.95) < 0.1 * VOXEL


def test_a_point_is_the_weighted_mean_of_its_voxel():
    depth = np.zeros(CAMERA.shape, dtype=np.float32)
    depth[30, 40] = 2.0  # in the voxel at (0, 0, 2)
    seen = [sighting(depth, Rigid3.identity(), 1.0), sighting(1.005 * depth, Rigid3.identity(), 3.0)]
    volume = volume_of(*seen)
    points = SurfacePoints(volume, volume.judge(1, 0.0, BAND, 1), BAND)
    for one in seen:
        points.add(one)
    cloud = points.cloud()
    assert len(cloud) == 1
    assert cloud.points[0, 2] == pytest.approx((2.0 + 3 * 2.01) / 4, abs=1e-5)
    assert (points.kept, points.left) == (2, 0)


def test_confidence_counts_half_a_vote_each_way():
    depth = np.full(CAMERA.shape, 2.0)
    volume = volume_of(*[sighting(depth, POSES[0])] * 3)
    at = volume.sums[..., 0] == 3
    clean = at & (volume.sums[..., 1] == 0)
    np.testing.assert_allclose(volume.confidence()[clean], 3.5 / 4)


def test_threads_do_not_change_a_bit():
    # A machine with one core has no second thread unless numba is told so before it is loaded.
    program = (
        "import hashlib, numba, numpy as np\n"
        "from test_tsdf import POSES, plane_depth, sighting, volume_of\n"
        "seen = [sighting(plane_depth(pose, np.array([0.1, 0.2, 1.0]), 2.0), pose) for pose in POSES]\n"
        "for threads in (1, 2):\n"
        "    numba.set_num_threads(threads)\n"
        "    volume = volume_of(*seen)\n"
        "    arrays = volume.blocks, volume.tsdf, volume.sums, volume.colors\n"
        "    print(numba.get_num_threads(), *(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays))\n"
    )
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    (one, *with_one), (two, *with_two) = (line.split() for line in done.stdout.splitlines())
    assert (one, two) == ("1", "2")
    assert with_one == with_two


def test_turning_the_world_turns_the_points():
    depth, turn = np.full(CAMERA.shape, 2.0), Rigid3(TURN, np.array([5.0, -3.0, 2.0]))
    clouds = []
    for pose in (Rigid3.identity(), turn.inverse()):
        seen = sighting(depth, pose)
        volume = volume_of(seen)
        points = SurfacePoints(volume, volume.judge(1, 0.5, 2 * VOXEL, 1), 2 * VOXEL)
        points.add(seen)
        clouds.append(pose @ points.cloud().points.astype(float))
    np.testing.assert_allclose(clouds[0][:, 2], 2.0, atol=1e-5)
    np.testing.assert_allclose(clouds[1][:, 2], 2.0, atol=1e-5)
    np.testing.assert_allclose(clouds[0].min(axis=0), clouds[1].min(axis=0), atol=VOXEL)


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="must be positive"):
        TsdfVolume(0.0, 1.0)
