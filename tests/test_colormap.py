"""The colours of depth: the table that others use, and the way back."""

import numpy as np
import pytest

from recon4d.formats.colormap import grey_u8, inferno, inferno_share, inferno_table, inferno_u8


def test_the_table_has_its_published_ends_and_middle():
    table = inferno_table()
    assert table.shape == (256, 3)
    assert np.allclose(table[[0, 127, 255]], [[0.001462, 0.000466, 0.013866], [0.729909, 0.212759, 0.333861],
                                              [0.988362, 0.998364, 0.644924]], atol=1e-7)  # fmt: skip
    brightness = table @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > 0).all()


def test_numbers_are_cut_to_colours_and_those_outside_get_the_last_ones():
    table = inferno_table()
    shares = np.array([[-3.0, 0.0, 0.9999 / 255], [1.0 / 255 + 1e-6, 1.0, np.inf]])
    assert np.array_equal(inferno(shares), table[[[0, 0, 0], [1, 255, 255]]])
    assert np.array_equal(inferno(np.array(np.nan)), table[0])
    assert np.array_equal(inferno_u8(np.array(1.0)), [252, 254, 164])


@pytest.mark.shared
def test_colours_are_those_of_the_reference(shared_data):
    with np.load(shared_data / "golden" / "depthcrafter" / "vis.npz") as golden:
        assert np.abs(inferno(golden["depth"]) - golden["vis_float"]).max() <= 1e-6
        assert np.array_equal(inferno_u8(golden["depth"]), golden["vis_u8"])
        assert np.array_equal(grey_u8(golden["depth"]), golden["gray_u8"])


def test_the_way_back_finds_the_number_to_a_step_even_after_some_noise():
    share = np.linspace(0, 1, 4096)
    back, distance = inferno_share(inferno_u8(share))
    assert np.abs(back - np.floor(share * 255) / 255).max() < 2.5 / 255
    assert distance.max() < 4
    noisy = np.clip(inferno_u8(share).astype(int) + np.random.default_rng(1).integers(-4, 5, (4096, 3)), 0, 255)
    assert np.abs(inferno_share(noisy.astype(np.uint8))[0] - share).mean() < 2.0 / 255


def test_other_pictures_are_far_from_these_colours():
    grey = np.repeat(np.arange(60, 256, dtype=np.uint8)[:, None], 3, axis=1)
    assert inferno_share(grey)[1].mean() > 20
