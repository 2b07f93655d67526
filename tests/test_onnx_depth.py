"""Depth by ONNX models: how pictures are fed, what comes back, who says what, refusals, and a real model."""

import json

import numpy as np
import pytest
from onnx_models import write_onnx

from recon4d.depth.network_maps import network_map
from recon4d.depth.onnx_depth import OnnxRequest, open_onnx_depth
from recon4d.depth.onnx_recipe import PRESETS, parse_size, read_sidecar, sidecar_of
from recon4d.errors import InputError, OptionsError
from recon4d.formats import onnx_model
from recon4d.scene.depth import DepthKind, Provenance

WEIGHTS = np.array([0.5, 0.3, 0.2], dtype=np.float32)
DISPARITY = DepthKind.AFFINE_DISPARITY


def depth_model(path, size=("h", "w"), batch=1, last=False, squeeze=None, weights=WEIGHTS, dtype="float"):
    """A "depth" model that tells what it was fed: the weighted sum of the channels, (B, 1, h, w) or squeezed."""
    shape = [batch, *size, 3] if last else [batch, 3, *size]
    kernel = np.asarray(weights, dtype=np.float32).reshape(1, 3, 1, 1)
    nodes = [("Transpose", ["picture"], ["turned"], {"perm": [0, 3, 1, 2]})] if last else []
    nodes += [("Conv", ["turned" if last else "picture", "weights"], ["map"], {})]
    out = [batch, 1, *size]
    if squeeze == "channel":
        nodes += [("Squeeze", ["map", "axes"], ["out"], {})]
        out = [batch, *size]
    elif squeeze == "last":
        nodes += [("Transpose", ["map"], ["out"], {"perm": [0, 2, 3, 1]})]
        out = [batch, *size, 1]
    else:
        nodes += [("Identity", ["map"], ["out"], {})]
    constants = {"weights": kernel} | ({"axes": np.array([1])} if squeeze == "channel" else {})
    return write_onnx(path, {"picture": shape}, nodes, constants, {"out": out})


def pictures(count=1, height=24, width=32, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def opened(path, **more):
    said = {"kind": DISPARITY, "input_values": "0..255"} | more
    return open_onnx_depth(OnnxRequest(path, **said))


# feeding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("0..255", lambda rgb: rgb),
        ("0..1", lambda rgb: rgb / 255),
        ("-1..1", lambda rgb: rgb / 127.5 - 1),
        ("imagenet", lambda rgb: (rgb / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_pictures_are_fed_in_the_range_that_was_named(tmp_path, values, expected, last):
    network = opened(depth_model(tmp_path / "m.onnx", (24, 32), last=last), input_values=values)
    rgb = pictures()[0]
    (depth,) = network.estimate([rgb])
    np.testing.assert_allclose(depth.values, expected(rgb.astype(float)) @ WEIGHTS, atol=2e-4 * 255)
    assert depth.kind is DISPARITY
    assert depth.valid.all()
    assert (depth.confidence == 1).all()
    assert (depth.provenance == Provenance.FITTED).all()


def test_channels_can_be_turned_round_and_their_mean_is_in_the_order_they_are_fed(tmp_path):
    path = depth_model(tmp_path / "m.onnx", (24, 32))
    side = {"channels": "bgr", "mean": [0.1, 0.2, 0.3], "std": 0.5, "kind": "metric_z", "metres_per_value": 0.01}
    path.with_suffix(".json").write_text(json.dumps(side))
    rgb = pictures()[0]
    (depth,) = open_onnx_depth(OnnxRequest(path)).estimate([rgb])
    numbers = 0.01 * (((rgb[..., ::-1] / 255.0 - [0.1, 0.2, 0.3]) / 0.5) @ WEIGHTS)
    assert depth.kind is DepthKind.METRIC_Z
    np.testing.assert_array_equal(depth.valid, numbers > 0)  # metres have a true zero
    np.testing.assert_allclose(depth.values[depth.valid], numbers[numbers > 0], rtol=1e-4, atol=1e-6)


def test_shrinking_means_over_areas(tmp_path):
    network = opened(depth_model(tmp_path / "m.onnx", (6, 8)))
    rgb = pictures()[0]
    (depth,) = network.estimate([rgb])
    areas = rgb.reshape(6, 4, 8, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(depth.values, areas @ WEIGHTS, atol=1e-2)


def test_bytes_are_fed_to_models_of_bytes(tmp_path):
    from onnx import TensorProto, helper, save

    path = tmp_path / "int8.onnx"
    given = helper.make_tensor_value_info("picture", TensorProto.UINT8, [1, 24, 32, 3])
    out = helper.make_tensor_value_info("out", TensorProto.UINT8, [1, 24, 32, 1])
    red = helper.make_node("Slice", ["picture", "from", "to", "axis"], ["out"])
    ends = [helper.make_tensor(name, TensorProto.INT64, [1], [n]) for name, n in (("from", 0), ("to", 1), ("axis", 3))]
    graph = helper.make_graph([red], "test", [given], [out], ends)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    network = open_onnx_depth(OnnxRequest(path, preset="fastdepth", metres_per_value=0.0717))
    rgb = pictures()[0]
    (depth,) = network.estimate([rgb])
    np.testing.assert_allclose(depth.values, rgb[..., 0] * np.float32(0.0717))
    np.testing.assert_array_equal(depth.valid, rgb[..., 0] > 0)


@pytest.mark.parametrize("squeeze", [None, "channel", "last"])
def test_several_pictures_go_together_where_the_batch_is_free(tmp_path, squeeze):
    rgb = [*pictures(2), *pictures(1, 48, 32, seed=1), *pictures(1, seed=2)]
    free = opened(depth_model(tmp_path / "free.onnx", batch="n", squeeze=squeeze), preset="dpt", input_values="0..255")
    fixed = opened(depth_model(tmp_path / "one.onnx", squeeze=squeeze), preset="dpt", input_values="0..255")
    calls = []
    run = free._model.run
    free._model.run = lambda fed, names: calls.append(len(fed[0])) or run(fed, names)
    together, alone = free.estimate(rgb), fixed.estimate(rgb)
    assert calls == [3, 1]  # those of one size at once
    assert [depth.values.shape for depth in together] == [(384, 512), (384, 512), (576, 384), (384, 512)]
    for one, other in zip(together, alone):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-5)
    assert not np.allclose(together[0].values, together[1].values)


def test_a_batch_that_is_free_in_name_only_is_given_up(tmp_path):
    nodes = [
        ("ReduceMean", ["picture"], ["grey"], {"axes": [1], "keepdims": 1}),
        ("Reshape", ["grey", "shape"], ["out"], {}),
    ]
    shape = {"shape": np.array([1, 1, 24, 32])}
    write_onnx(tmp_path / "m.onnx", {"picture": ["n", 3, 24, 32]}, nodes, shape, {"out": ["n", 1, 24, 32]})
    rgb = pictures(3)
    found = opened(tmp_path / "m.onnx").estimate(rgb)
    for depth, picture in zip(found, rgb):
        np.testing.assert_allclose(depth.values, picture.mean(axis=-1), atol=1e-3)


def test_models_of_any_size_get_the_shorter_side_of_the_preset(tmp_path):
    network = opened(depth_model(tmp_path / "m.onnx"), preset="depth-anything-v2", input_values=None)
    (depth,) = network.estimate(pictures(1, 90, 160))
    assert depth.values.shape == (518, 924)  # 518 * 16 / 9 = 920.9, 66 patches of 14 pixels
    asked = opened(depth_model(tmp_path / "m.onnx"), preset="depth-anything-v2", input_size=(140, 70))
    assert asked.estimate(pictures())[0].values.shape == (70, 140)
    with pytest.raises(OptionsError, match=r"100x70 .* must be multiples of 14"):
        opened(depth_model(tmp_path / "m.onnx"), preset="depth-anything-v2", input_size=(100, 70))


# what comes back --------------------------------------------------------------------------------------------------


def test_numbers_that_are_no_depth_are_invalid():
    values = np.array([[np.nan, np.inf, -np.inf], [0, -1, 2], [1, 3, 1e39]])
    affine = network_map(DISPARITY, values)
    np.testing.assert_array_equal(affine.valid, [[0, 0, 0], [1, 1, 1], [1, 1, 0]])
    for kind in (DepthKind.METRIC_Z, DepthKind.SCALE_FREE_DISPARITY):
        np.testing.assert_array_equal(network_map(kind, values).valid, [[0, 0, 0], [0, 0, 1], [1, 1, 0]])
    assert np.isfinite(affine.values).all()
    np.testing.assert_array_equal(affine.confidence, affine.valid)


@pytest.mark.parametrize("value", [0.0, 0.7, np.nan])
def test_one_number_everywhere_is_no_depth(value):
    assert not network_map(DISPARITY, np.full((4, 5), value)).valid.any()


def test_half_precision_and_holes_of_a_model_come_back_clean(tmp_path):
    nodes = [("ReduceMean", ["picture"], ["grey"], {"axes": [1], "keepdims": 1}), ("Log", ["grey"], ["out"], {})]
    write_onnx(tmp_path / "m.onnx", {"picture": [1, 3, 24, 32]}, nodes, {}, {"out": [1, 1, 24, 32]})
    rgb = pictures()[0]
    rgb[5, 6] = 0  # log 0
    (depth,) = opened(tmp_path / "m.onnx").estimate([rgb])
    assert np.argwhere(~depth.valid).tolist() == [[5, 6]]
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        expected = np.log(rgb.mean(axis=-1))
    np.testing.assert_allclose(depth.values[depth.valid], expected[depth.valid], rtol=1e-4)


# who says what ----------------------------------------------------------------------------------------------------


def test_options_go_before_the_sidecar_and_the_sidecar_before_a_preset(tmp_path):
    path = depth_model(tmp_path / "m.onnx")
    side = 'preset = "midas-small"\nsize = "16x8"\nmultiple = 4\nvalues = "0..1"\n'
    path.with_suffix(".toml").write_text(side)
    rgb = pictures(1, 8, 16)[0]
    by_side = open_onnx_depth(OnnxRequest(path))
    assert by_side.kind is DISPARITY  # of the preset
    assert any("m.toml" in remark for remark in by_side.remarks)
    np.testing.assert_allclose(by_side.estimate([rgb])[0].values, rgb / 255 @ WEIGHTS, atol=1e-4)
    request = OnnxRequest(path, kind=DepthKind.AFFINE_Z, input_values="0..255", input_size=(32, 16))
    by_options = open_onnx_depth(request)
    assert by_options.kind is DepthKind.AFFINE_Z
    (depth,) = by_options.estimate([np.full((8, 16, 3), 7, dtype=np.uint8) + np.arange(3, dtype=np.uint8)])
    assert depth.values.shape == (16, 32)
    assert not depth.valid.any()
    (depth,) = by_options.estimate([rgb])
    assert depth.values.mean() > 50  # 0..255


def test_the_size_a_model_insists_on_goes_before_that_of_a_preset(tmp_path):
    path = depth_model(tmp_path / "m.onnx", (24, 32))
    path.with_suffix(".json").write_text('{"preset": "fastdepth"}')
    assert open_onnx_depth(OnnxRequest(path)).estimate(pictures())[0].values.shape == (24, 32)
    assert open_onnx_depth(OnnxRequest(path, preset="dpt")).kind is DISPARITY


def test_nothing_is_guessed(tmp_path):
    path = depth_model(tmp_path / "my_midas_small.onnx")
    with pytest.raises(OptionsError, match=r"range of numbers .*tcmonodepth.*probably midas-small") as caught:
        open_onnx_depth(OnnxRequest(path))
    assert all(name in str(caught.value) for name in PRESETS)
    with pytest.raises(OptionsError, match=r"what the numbers .* mean"):
        open_onnx_depth(OnnxRequest(path, input_values="0..1"))
    with pytest.raises(OptionsError, match="any size"):
        open_onnx_depth(OnnxRequest(path, input_values="0..1", kind=DISPARITY))
    with pytest.raises(OptionsError, match=r"no preset 'nonsense' .* tcmonodepth"):
        open_onnx_depth(OnnxRequest(path, preset="nonsense"))
    with pytest.raises(OptionsError, match=r"input values are 0\.\.1"):
        open_onnx_depth(OnnxRequest(path, input_values="0-1"))


def test_models_that_cannot_be_used_are_refused_in_a_sentence(tmp_path):
    fixed = depth_model(tmp_path / "fixed.onnx", (24, 32))
    with pytest.raises(OptionsError, match="takes 32x24 pixels only, not 64x48"):
        opened(fixed, input_size=(64, 48))
    with pytest.raises(InputError, match="depth: there is no model"):
        opened(tmp_path / "absent.onnx")
    (tmp_path / "no.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"depth: .* is not a usable ONNX model"):
        opened(tmp_path / "no.onnx")
    one = {"picture": [1, 3, 24, 32]}
    for name, node, out, words in (
        ("classes", ("GlobalAveragePool", ["picture"], ["out"], {}), [1, 3, 1, 1], r"\(1, 3, 1, 1\)"),
        ("colours", ("Identity", ["picture"], ["out"], {}), [1, 3, 24, 32], r"\(1, 3, 24, 32\) for 1 pictures"),
        ("tokens", ("Flatten", ["picture"], ["out"], {"axis": 3}), [72, 32], r"\(72, 32\)"),
    ):
        write_onnx(tmp_path / f"{name}.onnx", one, [node], {}, {"out": out})
        with pytest.raises(InputError, match=words):
            opened(tmp_path / f"{name}.onnx").estimate(pictures())
    two = [("ReduceMax", ["picture"], ["a"], {"axes": [1]}), ("ReduceMin", ["picture"], ["b"], {"axes": [1]})]
    path = write_onnx(tmp_path / "two.onnx", one, two, {}, {"a": [1, 1, 24, 32], "b": [1, 1, 24, 32]})
    with pytest.raises(InputError, match="has the outputs a, b: name that of depth"):
        opened(path)
    path.with_suffix(".json").write_text('{"output": "b"}')
    rgb = pictures()[0]
    np.testing.assert_allclose(opened(path).estimate([rgb])[0].values, rgb.min(axis=-1))


def test_the_layout_is_told_where_the_shape_does_not_tell(tmp_path):
    path = write_onnx(
        tmp_path / "m.onnx",
        {"picture": [1, "a", "b", "c"]},
        [("ReduceMean", ["picture"], ["out"], {"axes": [3]})],
        {},
        {"out": [1, "a", "b"]},
    )
    path.with_suffix(".json").write_text('{"layout": "nhwc"}')
    rgb = pictures()[0]
    (depth,) = opened(path, input_size=(32, 24)).estimate([rgb])
    np.testing.assert_allclose(depth.values, rgb.mean(axis=-1), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.json", "{", "not readable as JSON"),
        ("m.json", "[1]", "no table of keys"),
        ("m.json", "[" * 60000, "not readable as JSON|no table"),
        ("m.json", " " * 70000, "longer than"),
        ("m.toml", "a b", "not readable as TOML"),
        ("m.json", '{"sise": 3}', "'sise', which is none of preset, size"),
        ("m.json", '{"size": [3]}', "neither WIDTHxHEIGHT"),
        ("m.json", '{"size": "3"}', "'3' is no input size"),
        ("m.json", '{"multiple": 0}', "multiple is 0"),
        ("m.json", '{"values": "0..2"}', "input values are"),
        ("m.json", '{"values": "0..1", "mean": 0.5}', "both given"),
        ("m.json", '{"std": [1, 0, 1]}', "std is"),
        ("m.json", '{"mean": [1, 2]}', "mean is"),
        ("m.json", '{"kind": "depth"}', "kind is 'depth', scene_z or metric_z"),
        ("m.json", '{"channels": "grb"}', "rgb or bgr"),
        ("m.json", '{"metres_per_value": -1}', "positive number"),
        ("m.json", '{"preset": "nonsense"}', "no preset 'nonsense'"),
    ],
)
def test_sidecars_that_say_nonsense_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    assert sidecar_of(tmp_path / "m.onnx") == tmp_path / name
    with pytest.raises(InputError, match=words) as caught:
        read_sidecar(tmp_path / name)
    assert name in str(caught.value)
    (tmp_path / "m.json").touch()
    (tmp_path / "m.toml").touch()
    with pytest.raises(InputError, match="remove one"):
        sidecar_of(tmp_path / "m.onnx")


def test_sizes_are_written_width_first():
    assert parse_size("320x192") == (320, 192)
    for text in ("320", "320x", "0x5", "x", "99999x5", "3.5x2"):
        with pytest.raises(OptionsError, match="is no input size"):
            parse_size(text)


# devices ----------------------------------------------------------------------------------------------------------


def test_cuda_is_refused_in_a_sentence_where_onnxruntime_lacks_it(tmp_path, monkeypatch):
    import onnxruntime

    path = depth_model(tmp_path / "m.onnx", (24, 32))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(OptionsError, match=r"depth: .* CUDA, the installed onnxruntime has CPU.* onnxruntime-gpu"):
        opened(path, device="cuda")
    for device in ("auto", "cpu", "mps"):
        assert opened(path, device=device).device == "cpu"
    with pytest.raises(OptionsError, match="cpu, cuda, not on 'tpu'"):
        opened(path, device="tpu")
    # listed, but its libraries do not load: onnxruntime falls back without an error
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    started = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, providers: started(path, options, providers=both[1:])
    )
    with pytest.raises(OptionsError, match="did not start it"):
        opened(path, device="cuda")
    assert opened(path, device="auto").device == "cpu"


def test_messages_name_the_stage(tmp_path):
    with pytest.raises(InputError, match=r"^motion: there is no model"):
        onnx_model.OnnxModel(tmp_path / "absent.onnx", onnx_model.OnnxUse("motion", pictures=2))
    with pytest.raises(OptionsError, match=r"^align: a layout"):
        onnx_model.OnnxUse("align", pictures=2, layout="chwn")


# a real model -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tcmonodepth(shared_data):
    return shared_data / "models/tcmonodepth_small/tcmonodepth_tcsmallnet_192x320.onnx"


@pytest.mark.shared
def test_a_real_model_scores_what_its_readme_says(shared_data, tcmonodepth):
    """0.133 / 0.818 on 100 frames with one fit each; on every ninth of them 0.130 / 0.827. Fed 0..1 it runs as well."""
    import cv2

    from recon4d.evaluation.video_depth_benchmark import BenchmarkFrame, benchmark_frames
    from recon4d.formats.pictures import read_rgb

    with pytest.raises(OptionsError, match="probably tcmonodepth"):
        open_onnx_depth(OnnxRequest(tcmonodepth))
    data = shared_data / "data/rgbd_static"
    names = [f"{k:06d}" for k in range(0, 298, 27)]
    rgb = [read_rgb(data / f"color/{name}.jpg") for name in names]
    truth = [cv2.imread(str(data / f"depth_registered/{name}.png"), cv2.IMREAD_UNCHANGED) / 1000 for name in names]
    found = {}
    for values in (None, "0..1"):
        network = open_onnx_depth(OnnxRequest(tcmonodepth, preset="tcmonodepth", input_values=values))
        frames = [BenchmarkFrame(depth.values, true) for depth, true in zip(network.estimate(rgb), truth)]
        scored = [benchmark_frames(lambda frame=frame: [frame], max_depth=8.0) for frame in frames]
        found[values] = [np.mean([getattr(one.scores, name) for one in scored]) for name in ("abs_rel", "delta1")]
        if values is None:
            assert all(one.gain > 0 for one in scored)  # larger is nearer
    assert found[None] == pytest.approx([0.130, 0.827], abs=0.002)
    assert found["0..1"][0] > 0.17


@pytest.mark.shared
def test_a_real_model_sees_that_the_ground_before_the_camera_is_near(shared_data, tcmonodepth):
    from recon4d.formats.pictures import read_rgb

    network = open_onnx_depth(OnnxRequest(tcmonodepth, preset="tcmonodepth"))
    street = read_rgb(sorted((shared_data / "data/dynamic/kitti/image_l").iterdir())[10])
    (depth,) = network.estimate([street])
    rows = np.median(depth.values, axis=1)
    assert rows[-20:].mean() > 1.5 * rows[:90].mean()
