"""COLMAP models as arrays."""

import numpy as np
import pytest

from recon4d.errors import InputError
from recon4d.formats.colmap_model import largest_angles_deg, read_sparse_model


def test_largest_angle_by_hand():
    points = np.array([[0.0, 0, 1], [0.0, 0, 0], [5.0, 5, 5]])
    # The first is seen from 45 degrees left, from straight ahead and from 45 degrees right; the second only once.
    row = np.array([0, 1, 0, 0])
    centres = np.array([[-1.0, 0, 0], [0, 0, -1], [0, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(largest_angles_deg(points, row, centres), [90, 0, 0], atol=1e-6)


def test_angles_agree_with_the_plain_loop(monkeypatch):
    rng = np.random.default_rng(0)
    points, centres = rng.normal(size=(40, 3)), rng.normal(size=(400, 3)) * 3
    row = rng.integers(0, 40, 400)
    monkeypatch.setattr("recon4d.formats.colmap_model.PAIRS_AT_ONCE", 200)
    expected = []
    for i, point in enumerate(points):
        rays = point - centres[row == i]
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        expected.append(np.degrees(np.arccos(np.clip((rays @ rays.T).min(), -1, 1))))
    np.testing.assert_allclose(largest_angles_deg(points, row, centres), expected, atol=1e-9)


def test_synthetic_model_reads_as_arrays(tmp_path):
    import pycolmap

    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=5, num_points3D=30, camera_has_prior_focal_length=False
    )
    pycolmap.set_random_seed(1)
    model = pycolmap.synthesize_dataset(options)
    (tmp_path / "m").mkdir()
    model.write(str(tmp_path / "m"))
    sparse = read_sparse_model(tmp_path / "m")
    assert len(sparse) == 30
    assert len(sparse.pixels) == 5
    seen = np.zeros(30, dtype=int)
    by_stem = {image.name.rpartition(".")[0].rpartition("/")[2]: image for image in model.images.values()}
    for name, pixels in sparse.pixels.items():
        image = by_stem[name]
        points_in_cam = image.cam_from_world() * sparse.points[sparse.rows[name]]
        np.testing.assert_allclose(pixels, image.camera.img_from_cam(points_in_cam), atol=1e-6)
        seen[sparse.rows[name]] += 1
    np.testing.assert_array_equal(seen, sparse.track_length)
    assert (sparse.angle_deg > 0).all()


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(InputError, match="no readable COLMAP model"):
        read_sparse_model(tmp_path)
