"""The segmentation hint: probabilities by hand, sizes, refusals, and a real model."""

import numpy as np
import pytest
from onnx_models import write_onnx, write_segmentation_model

from recon4d.errors import InputError
from recon4d.motion.segmentation import Segmentation


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (30, 45, 3), dtype=np.uint8)


def test_one_channel_is_the_probability(tmp_path, picture):
    model = Segmentation(write_segmentation_model(tmp_path / "m.onnx", [[0.2, 0.3, 0.5]]))
    found = model.foreground(picture)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, picture @ [0.2, 0.3, 0.5] / 255, atol=1e-5)  # 0..1, RGB


def test_of_several_channels_the_first_is_the_background(tmp_path, picture):
    logits = np.array([[4.0, -2, 0], [0, 3, 1], [1, 1, -5]])
    model = Segmentation(write_segmentation_model(tmp_path / "m.onnx", logits))
    powers = np.exp(picture / 255 @ logits.T)
    np.testing.assert_allclose(model.foreground(picture), 1 - powers[..., 0] / powers.sum(axis=-1), atol=1e-5)


def test_channels_that_are_probabilities_already_stay(tmp_path, picture):
    path = tmp_path / "m.onnx"
    nodes = [
        ("ReduceMean", ["picture"], ["fore"], {"axes": [1], "keepdims": 1}),
        ("Sub", ["one", "fore"], ["back"], {}),
        ("Concat", ["back", "fore"], ["out"], {"axis": 1}),
    ]
    one = {"one": np.ones(1, dtype=np.float32)}
    write_onnx(path, {"picture": [1, 3, "h", "w"]}, nodes, one, {"out": [1, 2, "h", "w"]})
    np.testing.assert_allclose(Segmentation(path).foreground(picture), picture.mean(axis=-1) / 255, atol=1e-5)


def test_a_model_of_one_size_sees_the_whole_picture(tmp_path):
    picture = np.zeros((60, 80, 3), dtype=np.uint8)
    picture[:, 40:] = 255
    path = write_segmentation_model(tmp_path / "m.onnx", [[1 / 3, 1 / 3, 1 / 3]], (16, 16))
    found = Segmentation(path).foreground(picture)
    assert found.shape == (60, 80)
    assert (found[:, :36] < 0.01).all()
    assert (found[:, 44:] > 0.99).all()


def test_unusable_models_are_refused(tmp_path, picture):
    logit = write_segmentation_model(tmp_path / "logit.onnx", [[-9.0, 0, 0]])
    with pytest.raises(InputError, match=r"goes from -9 to .* probabilities"):
        Segmentation(logit).foreground(picture)
    two = {"a": [1, 3, "h", "w"], "b": [1, 3, "h", "w"]}
    write_onnx(tmp_path / "two.onnx", two, [("Add", ["a", "b"], ["out"], {})], {}, {"out": [1, 3, "h", "w"]})
    with pytest.raises(InputError, match="2 inputs"):
        Segmentation(tmp_path / "two.onnx")
    one = {"picture": [1, 3, "h", "w"]}
    pooled = [("GlobalAveragePool", ["picture"], ["out"], {})]
    write_onnx(tmp_path / "classes.onnx", one, pooled, {}, {"out": [1, 3, 1, 1]})
    with pytest.raises(InputError, match=r"gives \(1, 3, 1, 1\)"):
        Segmentation(tmp_path / "classes.onnx").foreground(picture)
    with pytest.raises(InputError, match="there is no model"):
        Segmentation(tmp_path / "absent.onnx")


@pytest.mark.shared
def test_the_selfie_model_finds_the_dog(shared_data):
    import av

    model = Segmentation(shared_data / "models/selfie_segmentation/selfie_segmentation.onnx")
    with av.open(str(shared_data / "data/dynamic/dog.mp4")) as clip:
        picture = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    found = model.foreground(picture) > 0.5
    assert 0.04 < found.mean() < 0.07
    assert found[100:400, 620:730].mean() > 0.8  # its body
    assert found[:, :560].mean() == 0
    assert found[:, 820:].mean() == 0
