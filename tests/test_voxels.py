"""The benchmarks' merging of points over voxels: means by hand, any order, precision far from the origin."""

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from voxels import VoxelMerger


def test_voxel_mean_by_hand():
    merger = VoxelMerger(1.0, columns=1)
    merger.add(
        np.array([[0.2, 0.2, 0.2], [0.4, 0.2, 0.2], [-0.5, 0, 0]]),
        np.array([1.0, 3.0, 1.0]),
        np.array([[0.0], [4.0], [9.0]]),
    )
    merger.add(np.array([[0.8, 0.2, 0.2]]), np.array([4.0]), np.array([[1.0]]))
    points, weights, frames, columns = merger.result()
    assert weights.tolist() == [1.0, 8.0]  # the voxel below zero comes first
    assert frames.tolist() == [1, 2]
    np.testing.assert_allclose(points[1], [(0.2 + 3 * 0.4 + 4 * 0.8) / 8, 0.2, 0.2])
    np.testing.assert_allclose(columns[:, 0], [9.0, (0 + 12 + 4) / 8])


def test_voxels_do_not_depend_on_the_order_of_frames():
    rng = np.random.default_rng(0)
    frames = [(rng.normal(size=(500, 3)), rng.uniform(0.5, 1, 500), rng.normal(size=(500, 2))) for _ in range(4)]
    results = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        merger = VoxelMerger(0.3, 2)
        for i in order:
            merger.add(*frames[i])
        results.append(merger.result())
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_voxels_far_from_the_origin_keep_their_precision():
    merger = VoxelMerger(0.01, columns=0)
    point = np.array([[4321.1234567, -0.0012345, 77.7777777]])
    merger.add(point, np.ones(1), np.zeros((1, 0)))
    np.testing.assert_allclose(merger.result()[0], point, rtol=0, atol=1e-8)
