"""Holes painted by diffusion pipelines: what they are fed, what of their result is kept, which models are refused."""

import ast
import json
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import huggingface_hub
import numpy as np
import pytest

from recon4d.errors import InputError, MissingDependency, OptionsError
from recon4d.fill.inpainting import RECIPES, Painter, Request, fed_size, laid_into, spans
from recon4d.stages.fill_model import FillModelOptions, find_fill_model, load_filler, load_video_filler
from tests.tiny_inpainting import save_tiny_flux, save_tiny_sd, save_tiny_sdxl, save_tiny_wan

pytestmark = pytest.mark.usefixtures("one_thread")
SD, WAN = RECIPES["StableDiffusionInpaintPipeline"], RECIPES["WanVACEPipeline"]


class Echo:
    """A pipeline that gives back what it is fed, or ``answer`` of it."""

    def __init__(self, answer=lambda pictures: pictures, flagged=None):
        self.answer, self.flagged, self.calls = answer, flagged, []

    def __call__(self, **call):
        self.calls.append(call)
        video = "video" in call
        pictures = self.answer(np.stack([np.asarray(p) for p in (call["video"] if video else [call["image"]])]) / 255)
        return SimpleNamespace(images=pictures, frames=pictures[None], nsfw_content_detected=self.flagged)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def block(*shape):
    """A hole in the middle, off the cells of eight pixels."""
    mask = np.zeros(shape, bool)
    height, width = shape[-2:]
    mask[..., height // 4 + 1 : 3 * height // 4, width // 3 : width // 2 + 3] = True
    return mask


@pytest.mark.parametrize("shape", [(45, 61), (17, 100), (64, 64), (9, 5)])
@pytest.mark.parametrize("kind", ["StableDiffusionInpaintPipeline", "FluxFillPipeline"])
def test_a_pipeline_that_changes_nothing_gives_the_same_picture(kind, shape):
    echo, recipe = Echo(), RECIPES[kind]
    color = noise(*shape)
    painter = Painter(echo, recipe, Request(max_side=max(shape)))
    np.testing.assert_array_equal(painter.picture(color, block(*shape)), color)
    (call,) = echo.calls
    assert call["height"] % recipe.multiple == call["width"] % recipe.multiple == 0
    assert call["image"].size == call["mask_image"].size == (call["width"], call["height"])
    assert call["height"] - shape[0] < recipe.multiple
    assert call["width"] - shape[1] < recipe.multiple


@pytest.mark.parametrize("side", [65, 301])
def test_a_picture_painted_at_another_size_comes_back_in_place(side):
    rows, columns = np.mgrid[:90, :131]
    ramp = np.stack([columns, 2 * rows, columns + rows], axis=-1).astype(np.uint8)
    mask = block(90, 131)
    painted = Painter(Echo(), SD, Request(max_side=side)).picture(ramp, mask)
    # A shift by one pixel would change the green by two everywhere.
    assert np.abs(painted.astype(int) - ramp)[mask].max() <= 1


def test_small_pictures_are_enlarged_and_large_ones_made_smaller():
    assert fed_size((240, 320), SD, 768) == (384, 512)
    assert fed_size((100, 1000), SD, 768) == (77, 768)
    assert fed_size((1080, 1920), SD, 768) == (432, 768)
    assert fed_size((500, 600), SD, 768) == (500, 600)


def test_a_hole_of_one_pixel_repaints_its_whole_cell_in_white():
    mask = np.zeros((32, 40), bool)
    mask[19, 13] = True
    echo = Echo()
    Painter(echo, SD, Request(max_side=40)).picture(noise(32, 40), mask)
    fed = np.asarray(echo.calls[0]["mask_image"])
    assert (fed[16:24, 8:16] == 255).all()
    assert np.count_nonzero(fed) == 64


def test_the_seam_by_hand():
    color = np.full((1, 30, 3), 100, np.uint8)
    mask = np.zeros((1, 30), bool)
    mask[0, 10:] = True
    out = laid_into(color, mask, np.full((1, 30, 3), 121, np.float32), seam=6)[0, :, 0]
    # 21 too bright: of the correction, one seventh less with each pixel.
    assert out[:18].tolist() == [100] * 10 + [103, 106, 109, 112, 115, 118, 121, 121]


def test_only_holes_are_painted_and_nothing_is_called_without():
    black = Echo(lambda pictures: np.zeros_like(pictures))
    color, mask = noise(40, 48), block(40, 48)
    painted = Painter(black, SD, Request(max_side=48)).picture(color, mask)
    np.testing.assert_array_equal(painted[~mask], color[~mask])
    assert (painted[mask] != color[mask]).mean() > 0.9
    assert Painter(black, SD).picture(color, np.zeros_like(mask)).tobytes() == color.tobytes()
    assert len(black.calls) == 1


def test_what_a_checker_withholds_stays_as_it_was():
    color, mask = noise(16, 16), block(16, 16)
    withheld = Echo(lambda pictures: np.zeros_like(pictures), flagged=[True])
    np.testing.assert_array_equal(Painter(withheld, SD).picture(color, mask), color)


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (3, 1, [(0, 1), (1, 2), (2, 3)]),
        (81, 81, [(0, 81)]),
        (82, 81, [(0, 81), (61, 82)]),
        (143, 81, [(0, 81), (61, 142), (122, 143)]),
        (1, 5, [(0, 1)]),
    ],
)
def test_runs_of_a_long_video(count, most, expected):
    assert spans(count, most) == expected


def test_a_video_is_fed_grey_holes_and_a_multiple_of_four_and_one():
    echo = Echo(lambda pictures: np.full_like(pictures, 0.5))
    colors, masks = noise(6, 20, 30), block(6, 20, 30)
    painted = Painter(echo, WAN, Request(max_side=30)).video(colors, masks)
    (call,) = echo.calls
    assert call["num_frames"] == len(call["video"]) == len(call["mask"]) == 9
    fed = np.stack([np.asarray(picture) for picture in call["video"]])
    assert (fed[:6, :20, :30][masks] == 128).all()
    np.testing.assert_array_equal(fed[6:], fed[[5, 5, 5]])
    np.testing.assert_array_equal(painted[~masks], colors[~masks])


def test_the_next_run_of_a_video_starts_from_what_the_last_one_painted():
    echo = Echo(lambda pictures: np.full_like(pictures, 40 / 255))
    colors, masks = np.full((8, 32, 32, 3), 40, np.uint8), block(8, 32, 32)
    colors[masks] = 200
    painted = Painter(echo, replace(WAN, max_frames=5), Request(max_side=32)).video(colors, masks)
    assert (painted == 40).all()
    second = echo.calls[1]
    assert np.asarray(second["mask"][0]).max() == 0
    assert (np.asarray(second["video"][0]) == 40).all()
    assert np.asarray(second["mask"][1]).max() == 255


def test_guidance_and_words_as_each_kind_takes_them():
    def call(kind, **request):
        echo = Echo()
        Painter(echo, RECIPES[kind], Request(max_side=16, **request)).picture(noise(16, 16), block(16, 16))
        return echo.calls[0]

    sd = call("StableDiffusionInpaintPipeline", prompt="a wall")
    assert (sd["guidance_scale"], sd["negative_prompt"], sd["num_inference_steps"], sd["strength"]) == (7.5, "", 30, 1)
    assert call("StableDiffusionInpaintPipeline")["guidance_scale"] == 1  # nothing to tell from nothing
    assert call("ZImageInpaintPipeline", guidance=3.0)["guidance_scale"] == 0
    qwen = call("QwenImageInpaintPipeline", prompt="a wall", guidance=2.5, steps=7)
    assert (qwen["true_cfg_scale"], qwen["guidance_scale"], qwen["num_inference_steps"]) == (2.5, None, 7)
    flux = call("FluxFillPipeline")
    assert flux["guidance_scale"] == 30
    assert "negative_prompt" not in flux
    with pytest.raises(OptionsError, match="takes no negative prompt"):
        call("FluxFillPipeline", negative_prompt="people")


def _parameters_of_installed_pipelines():
    """Names that ``__call__`` of each class takes, read from the source: importing them all takes half a minute."""
    (place,) = find_spec("diffusers").submodule_search_locations
    for path in Path(place, "pipelines").glob("*/pipeline_*.py"):
        text = path.read_text(encoding="utf-8")
        if any(f"class {kind}(" in text for kind in RECIPES):
            for node in ast.parse(text).body:
                if isinstance(node, ast.ClassDef) and node.name in RECIPES:
                    (call,) = (item for item in node.body if getattr(item, "name", "") == "__call__")
                    yield node.name, {argument.arg for argument in call.args.args}


def test_every_recipe_gives_arguments_that_the_installed_class_takes():
    found = dict(_parameters_of_installed_pipelines())
    assert {"StableDiffusionInpaintPipeline", "FluxFillPipeline", "WanVACEPipeline"} <= set(found)
    for kind, parameters in found.items():
        echo = Echo()
        Painter(echo, RECIPES[kind], Request(prompt="a wall", max_side=16)).picture(noise(16, 16), block(16, 16))
        assert set(echo.calls[0]) <= parameters, kind


@pytest.mark.parametrize(
    "answer",
    [lambda p: p * np.nan, lambda p: p[:, :-1], lambda p: np.concatenate([p, p])],
    ids=["nan", "size", "count"],
)
def test_what_is_no_picture_is_refused(answer):
    with pytest.raises(InputError, match=r"the model gives .* for 1 pictures of 16x16 pixels"):
        Painter(Echo(answer), SD, Request(max_side=16)).picture(noise(16, 16), block(16, 16))


def test_holes_of_another_size_are_refused():
    with pytest.raises(InputError, match="do not fit together"):
        Painter(Echo(), SD).picture(noise(16, 16), block(16, 17))


# Models on disk.


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "sd": save_tiny_sd(folder / "sd"),
        "words": save_tiny_sd(folder / "words", channels=4),
        "sdxl": save_tiny_sdxl(folder / "sdxl"),
        "flux": save_tiny_flux(folder / "flux"),
        "wan": save_tiny_wan(folder / "wan"),
    }


@pytest.fixture
def ftfy(monkeypatch):
    """The package that Wan's pipeline mends prompts with, which need no mending here."""
    from diffusers.pipelines.wan import pipeline_wan_vace

    module = ModuleType("ftfy")
    module.fix_text = str
    monkeypatch.setitem(sys.modules, "ftfy", module)
    monkeypatch.setattr(pipeline_wan_vace, "ftfy", module, raising=False)


def options(folder, **more):
    return FillModelOptions(**{"model": str(folder), "steps": 2, "max_side": 64, "prompt": "a room", **more})


@pytest.mark.parametrize("name", ["sd", "words", "sdxl", "flux"])
def test_real_pipelines_paint_the_hole_and_nothing_else(folders, name):
    color, mask = noise(45, 61), block(45, 61)
    painted = load_filler(options(folders[name]))(color, mask)
    assert painted.dtype == np.uint8
    np.testing.assert_array_equal(painted[~mask], color[~mask])
    assert (painted[mask] != color[mask]).mean() > 0.9
    again = load_filler(options(folders[name]))
    assert again(color, mask).tobytes() == again(color, mask).tobytes() == painted.tobytes()
    other_seed, other_words = (
        load_filler(options(folders[name], **more)) for more in ({"seed": 1}, {"prompt": "grass"})
    )
    assert other_seed(color, mask).tobytes() != painted.tobytes()
    assert other_words(color, mask).tobytes() != painted.tobytes()


def test_a_real_video_pipeline_paints_frames_together(folders, ftfy):
    colors, masks = noise(6, 37, 50), block(6, 37, 50)
    masks[2] = False
    fill = load_video_filler(options(folders["wan"]))
    painted = fill(colors, masks)
    np.testing.assert_array_equal(painted[~masks], colors[~masks])
    assert (painted[masks] != colors[masks]).mean() > 0.9
    assert fill(colors, masks).tobytes() == painted.tobytes()
    changed = colors.copy()
    changed[3:][~masks[3:]] = 255  # frames know of each other
    assert (fill(changed, masks)[:3] != painted[:3]).any()
    assert load_filler(options(folders["wan"]))(colors[0], masks[0]).shape == (37, 50, 3)


def test_a_pipeline_for_stills_paints_a_video_picture_by_picture(folders):
    colors, masks = noise(2, 24, 32), block(2, 24, 32)
    one, many = load_filler(options(folders["sd"])), load_video_filler(options(folders["sd"]))
    expected = [one(color, mask) for color, mask in zip(colors, masks)]
    np.testing.assert_array_equal(many(colors, masks), expected)


def test_wan_without_its_package_says_how_to_get_it(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    monkeypatch.delitem(sys.modules, "ftfy")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingDependency, match=r"ftfy is not installed: pip install 'recon4d\[fill\]'"):
        load_filler(options(folders["wan"]))


def test_half_precision_files_alone_are_enough(tmp_path):
    folder = save_tiny_sd(tmp_path / "half", variant="fp16")
    assert (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    color, mask = noise(16, 24), block(16, 24)
    assert (load_filler(options(folder))(color, mask)[mask] != color[mask]).any()


def test_the_key_of_a_model_is_its_content(folders, tmp_path):
    copy = shutil.copytree(folders["sd"], tmp_path / "elsewhere")
    before = find_fill_model(options(folders["sd"])).key()
    assert before["kind"] == "StableDiffusionInpaintPipeline"
    assert before["dtype"] == "float32"
    (copy / "README.md").write_text("of no account")
    assert find_fill_model(options(copy)).key() == before
    with open(copy / "tokenizer" / "tokenizer.json", "a") as stream:
        stream.write("\n")
    assert find_fill_model(options(copy)).key() != before


def test_of_the_hub_only_the_parts_of_one_precision_are_fetched_and_of_one_revision(folders, monkeypatch):
    names = [file.relative_to(folders["sd"]).as_posix() for file in folders["sd"].rglob("*") if file.is_file()]
    junk = [
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "sd.safetensors",
        "x.py",
    ]
    revisions, fetched = [], []

    def download(repo_id, revision, allow_patterns, local_files_only=False):
        if local_files_only:
            raise OSError
        revisions.append(revision)
        fetched.extend(allow_patterns)
        return str(folders["sd"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda **_: names + junk)
    found = find_fill_model(options("someone/net"))
    assert found.key()["model"] == "someone/net@sd"
    assert revisions == [None, "sd"]
    assert not set(junk) & set(fetched)
    assert set(names) <= set(fetched)


def _index(folder, **changes):
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: _index(f, _class_name="DDPMPipeline"),
            "class DDPMPipeline, and those .* FluxFillPipeline, .*WanVACE",
        ),
        (lambda f: _index(f, _class_name=["mine", "MyPipeline"]), "those that can paint here, as far"),
        (lambda f: _index(f, text_encoder=[None, None]), "saved without text_encoder, so that it cannot read a prompt"),
        (
            lambda f: _index(f, unet=["my_unet", "Unet"]),
            r"the part unet .* code of its own \(my_unet\), which is not run",
        ),
        (lambda f: (f / "model_index.json").write_text("{"), r"model_index.json cannot be read"),
        (lambda f: (f / "model_index.json").write_text("[]"), r"tells no parts of a pipeline"),
        (lambda f: (f / "model_index.json").unlink(), "holds none of model_index.json"),
        (lambda f: (f / "vae" / "config.json").unlink(), "has no vae/config.json"),
        (
            lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").rename(f / "unet" / "x.bin"),
            "has no unet/diffusion_pytorch_model.safetensors or .* other formats, which can run code, are not read",
        ),
    ],
)
def test_models_that_cannot_be_used_are_refused_before_they_are_loaded(folders, tmp_path, damage, message):
    copy = shutil.copytree(folders["sd"], tmp_path / "copy")
    damage(copy)
    with pytest.raises(InputError, match=f"^fill: .*{message}"):
        find_fill_model(options(copy))


def test_weights_that_cannot_be_read_are_refused(folders, tmp_path):
    copy = shutil.copytree(folders["sd"], tmp_path / "copy")
    (copy / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"^fill: .*copy is not a usable StableDiffusionInpaintPipeline \(.*get the"):
        load_filler(options(copy))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float16", "device": "cpu"}, "fill: --fill.dtype is float16, which CPUs"),
        ({"steps": 0}, "--fill.steps is 0"),
        ({"guidance": -1.0}, "--fill.guidance is -1"),
        ({"max_side": 3}, "--fill.max-side is 3"),
        ({"seed": -1}, "--fill.seed is -1"),
        ({"model": ""}, "no model is named"),
    ],
)
def test_options_that_cannot_be(folders, change, message):
    with pytest.raises(OptionsError, match=message):
        find_fill_model(options(folders["sd"], **change))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"^fill: the model .*nowhere was not found: correct the path"):
        find_fill_model(options(tmp_path / "nowhere"))


def test_a_negative_prompt_is_refused_where_it_would_be_ignored(folders):
    with pytest.raises(OptionsError, match="FluxFillPipeline takes no negative prompt"):
        load_filler(options(folders["flux"], negative_prompt="people"))
