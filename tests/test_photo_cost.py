"""The matching cost: by hand, against a readable twin, and on surfaces whose depth is known."""

import numpy as np
import pytest

from recon4d.geometry.photo_cost import GreyView, Labels, photo_costs
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

FOCAL = 20.0


def view(grey, x=0.0):
    """A picture taken at (x, 0, 0), looking along z."""
    height, width = grey.shape
    camera = Camera(width, height, FOCAL, FOCAL, width / 2, height / 2)
    return GreyView(grey, camera, Rigid3(np.eye(3), np.array([-x, 0.0, 0.0])))


def noise(shape=(12, 16), seed=0):
    return np.random.default_rng(seed).uniform(20, 230, shape).astype(np.float32)


def test_a_view_that_does_not_see_the_surface_does_not_count_there():
    grey, seen = noise(), np.random.default_rng(1).random((12, 16)) < 0.5
    others = [view(noise(seed=2), 0.1), view(noise(seed=3), 0.2)]
    labels = Labels.sweep(grey.shape, 2.0, 10.0, 5)
    both, first = photo_costs(view(grey), others, labels), photo_costs(view(grey), others[:1], labels)
    costs = photo_costs(view(grey), others, labels, visible=[None, seen])
    np.testing.assert_array_equal(costs[seen], both[seen])
    np.testing.assert_array_equal(costs[~seen], first[~seen])
    assert (np.abs(both - first) > 0.01).any()


def test_without_any_view_that_counts_every_label_costs_one():
    grey = noise()
    labels = Labels.sweep(grey.shape, 2.0, 10.0, 5)
    for nothing in (np.zeros(grey.shape, dtype=bool), np.zeros(grey.shape, dtype=np.float32)):
        assert (photo_costs(view(grey), [view(grey)] * 2, labels, visible=[nothing] * 2) == 1).all()


def test_grids_that_do_not_fit_are_refused():
    grey = noise()
    labels = Labels.sweep(grey.shape, 2.0, 10.0, 5)
    with pytest.raises(ValueError, match="2 grids say what 1 views see"):
        photo_costs(view(grey), [view(grey)], labels, visible=[None, None])
    with pytest.raises(ValueError, match=r"what a view sees is \(3, 4\), the picture \(12, 16\)"):
        photo_costs(view(grey), [view(grey)], labels, visible=[np.ones((3, 4))])
    with pytest.raises(ValueError, match=r"the labels are \(3, 4\), the picture \(12, 16\)"):
        photo_costs(view(grey), [view(grey)], Labels.sweep((3, 4), 2.0, 10.0, 5))
