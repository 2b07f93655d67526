"""Depth by models of the transformers library: tiny ones of the real classes against the library, and refusals."""

import json
import shutil

import numpy as np
import pytest
from tiny_depth_models import NAMES, save_tiny

from recon4d.depth.network_kinds import kind_of
from recon4d.depth.network_pictures import WHOLE, open_pictures
from recon4d.depth.transformers_depth import TransformersRequest, _inside, open_transformers_depth
from recon4d.errors import DepthError, InputError, OptionsError
from recon4d.scene.depth import DepthKind

KINDS = {
    "depth_anything": DepthKind.AFFINE_DISPARITY,
    "depth_anything_metric": DepthKind.METRIC_Z,
    "dpt": DepthKind.AFFINE_DISPARITY,
    "dpt_dinov2": DepthKind.METRIC_Z,
    "glpn": DepthKind.METRIC_Z,
    "zoedepth": DepthKind.METRIC_Z,
    "depth_pro": DepthKind.METRIC_Z,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: save_tiny(root / name, name) for name in (*NAMES, "prompt_depth_anything")}


def opened(folder, **more):
    return open_transformers_depth(TransformersRequest(folder, **{"device": "cpu"} | more))


def pictures(count=1, height=48, width=64, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def by_library(folder, rgb):
    """What a few lines of the library's documentation give: the raw numbers and all else of the output."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    with torch.inference_mode():
        out = model(**processor(images=rgb, return_tensors="pt"))
    return out.predicted_depth[0].numpy()


# the models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["depth_anything", "depth_anything_metric", "dpt", "glpn"])
def test_the_numbers_are_those_of_the_library(folders, name):
    network, rgb = opened(folders[name]), pictures()[0]
    (depth,) = network.estimate([rgb])
    expected = by_library(folders[name], rgb)
    assert expected.std() > 0.05 * abs(expected.mean())
    assert network.kind is depth.kind is KINDS[name]
    np.testing.assert_allclose(depth.values[depth.valid], expected[depth.valid], rtol=1e-4, atol=1e-4)
    assert depth.valid.mean() > 0.9
    assert network.dtype == "float32"


def test_depth_pro_is_inverted_with_its_field_of_view(folders):
    import torch
    from transformers import AutoModelForDepthEstimation

    network, rgb = opened(folders["depth_pro"]), pictures(2)
    found = network.estimate(rgb)
    model = AutoModelForDepthEstimation.from_pretrained(folders["depth_pro"]).eval()
    fed = torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        out = model(pixel_values=torch.nn.functional.interpolate(fed, (64, 64), mode="bilinear"))
    degrees = out.field_of_view.numpy()
    assert network.field_of_view_deg == pytest.approx(np.median(degrees), rel=1e-4)
    for depth, inverse, angle in zip(found, out.predicted_depth.numpy(), degrees):
        focal_px = 0.5 * 64 / np.tan(np.radians(angle) / 2)  # of a picture 64 pixels wide
        in_metres = np.clip(inverse * 64 / focal_px, 1e-4, 1e4)
        assert 50 < angle < 70
        assert depth.valid.all()
        np.testing.assert_allclose(1 / depth.values, in_metres, rtol=1e-3, atol=1e-5 * in_metres.max())


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_several_sizes_in_one_call_equal_one_by_one(folders, name):
    network = opened(folders[name])
    rgb = [*pictures(2), *pictures(1, 64, 48, seed=1), *pictures(1, seed=2)]
    together, alone = network.estimate(rgb), [network.estimate([picture])[0] for picture in rgb]
    for one, other in zip(together, alone):
        assert one.values.shape == other.values.shape
        scale = np.abs(other.values).max()
        np.testing.assert_allclose(one.values, other.values, rtol=1e-2, atol=2e-5 * scale)
    assert not np.array_equal(together[0].values, together[3].values)


def test_bfloat16_computes_the_same_only_coarser(folders):
    rgb = pictures()
    exact, coarse = (opened(folders["glpn"], dtype=dtype).estimate(rgb)[0] for dtype in ("float32", "bfloat16"))
    assert not np.array_equal(exact.values, coarse.values)
    np.testing.assert_allclose(coarse.values, exact.values, atol=0.1 * exact.values.max())


@pytest.mark.parametrize("name", ["zoedepth", "dpt_dinov2"])
def test_what_is_padded_is_cut_off_again(folders, name):
    """A map that shows the fed picture itself must show the whole picture, and nothing else."""
    config = json.loads((folders[name] / "config.json").read_text())
    rgb = np.zeros((45, 87, 3), dtype=np.uint8)
    rgb[..., 0] = 2 * np.arange(87)
    rgb[..., 1] = 3 * np.arange(45)[:, None]
    fed = open_pictures(folders[name], config["model_type"])([rgb])
    assert fed.window != WHOLE
    red, green = ((fed.pixels[0, channel].numpy() + 1) * 127.5 for channel in (0, 1))
    right, down = _inside(red, fed.window), _inside(green, fed.window)
    height, width = right.shape
    x = (np.arange(width) + 0.5) * 87 / width - 0.5
    y = (np.arange(height) + 0.5) * 45 / height - 0.5
    # ZoeDepth stretches corner to corner, so up to half a pixel of the fed grid at the border is theirs
    slack = 2 if name == "zoedepth" else 0.02
    inner = (slice(1, -1), slice(1, -1))
    for found, expected, step in ((right, 2 * x[None], 2), (down, 3 * y[:, None], 3)):
        wanted = np.broadcast_to(expected, found.shape)
        np.testing.assert_allclose(found[inner], wanted[inner], atol=step * slack)


# kinds ------------------------------------------------------------------------------------------------------------


def test_kinds_of_other_heads():
    import transformers

    assert kind_of(transformers.DepthProConfig(use_fov_model=False)) is DepthKind.SCALE_FREE_Z
    assert kind_of(transformers.DPTConfig(is_hybrid=True)) is DepthKind.AFFINE_DISPARITY
    assert kind_of(transformers.ViTConfig()) is None


def test_a_model_of_unknown_meaning_must_be_told(folders):
    folder = folders["prompt_depth_anything"]
    with pytest.raises(OptionsError, match=r"'prompt_depth_anything' model mean: name --depth\.kind .*affine_z"):
        opened(folder)
    network = opened(folder, kind=DepthKind.AFFINE_Z)
    assert network.kind is DepthKind.AFFINE_Z
    assert "as told" in network.remarks[0]
    assert network.estimate(pictures())[0].kind is DepthKind.AFFINE_Z


# refusals ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(folders, tmp_path):
    return shutil.copytree(folders["depth_anything"], tmp_path / "model")


def changed(path, **more):
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def test_weights_that_are_not_all_there_are_refused(copy):
    """The library would take random numbers for them."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    unused = [key for key in tensors if "layers.0.residual_layer1" in key or "mask_token" in key]
    assert len(unused) >= 4
    most = {key: tensor for key, tensor in tensors.items() if key not in unused}
    save_file(most, copy / "model.safetensors", {"format": "pt"})  # as Intel/dpt-large has them
    opened(copy)
    save_file({k: t for k, t in most.items() if "head.conv3" not in k}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lack 2 parts .* as head\.conv3\.bias"):
        opened(copy)


def test_pickled_weights_are_not_read(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(InputError, match="no weights in the safetensors format"):
        opened(copy)


def test_code_that_comes_with_a_model_is_not_run(copy):
    (copy / "own.py").write_text("raise SystemExit('it ran')")
    own = {"AutoConfig": "own.Config", "AutoModelForDepthEstimation": "own.Model"}
    changed(copy / "config.json", model_type="own", auto_map=own)
    with pytest.raises(InputError, match=r"config\.json cannot be used"):
        opened(copy)
    changed(copy / "config.json", model_type="depth_anything")
    opened(copy)  # as the library's own class
    changed(copy / "preprocessor_config.json", image_processor_type="Own", auto_map={"AutoImageProcessor": "own.Own"})
    with pytest.raises(InputError, match=r"preprocessor_config\.json cannot be used"):
        opened(copy)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, r"has no config\.json"),
        ("config.json", "{", r"config\.json cannot be used"),
        ("config.json", '{"model_type": "vit"}', "of type 'vit', of depth are .*depth_anything"),
        ("config.json", '{"model_type": "depth_anything", "patch_size": "x"}', r"config\.json cannot be used"),
        ("preprocessor_config.json", None, "nothing says how this model takes pictures"),
        ("preprocessor_config.json", "[", r"preprocessor_config\.json cannot be used"),
        ("model.safetensors", "no weights", "cannot be loaded"),
    ],
)
def test_damaged_folders_are_refused_in_a_sentence(copy, file, content, words):
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        opened(copy)
    assert "\n" not in str(caught.value)


def test_settings_of_depth_pro_are_checked(folders, tmp_path):
    folder = shutil.copytree(folders["depth_pro"], tmp_path / "model")
    changed(folder / "preprocessor_config.json", size={"height": 64})
    with pytest.raises(InputError, match="no usable size"):
        opened(folder)


def test_a_model_that_fails_says_so(copy, folders):
    changed(copy / "config.json", max_depth=None)
    with pytest.raises(DepthError, match="fails on 1 pictures of 56x42 pixels"):
        opened(copy).estimate(pictures())
    with pytest.raises(InputError, match="20x10 pixels cannot be brought"):
        opened(folders["glpn"]).estimate(pictures(1, 10, 20))


def test_a_device_that_is_not_there_is_refused(folders):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(OptionsError, match="cuda"):
        opened(folders["dpt"], device="cuda")
