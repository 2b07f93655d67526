"""The source depthcrafter in a scene: interrupted and gone on with, its windows, what is refused, and alignment."""

import contextlib
import hashlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Reconstructed
from tiny_models import save_tiny_svd
from video_clips import pan, write_clip

from recon4d import cli
from recon4d.depth import depthcrafter, depthcrafter_model, devices, model_files
from recon4d.depth.depthcrafter import ClipDenoiser, DiffusionSettings, clip_disparity
from recon4d.depth.depthcrafter_input import read_clip
from recon4d.depth.depthcrafter_model import Placement, load_depthcrafter
from recon4d.errors import InputError, OptionsError
from recon4d.formats.arrays import read_depth_map
from recon4d.formats.pictures import write_picture
from recon4d.scene.depth import DepthKind
from recon4d.stages import align, depth, depth_video
from recon4d.stages.align import AlignOptions
from recon4d.stages.depth_options import DepthOptions, check_models
from recon4d.workspace import Workspace

FRAMES = 11
QUICK = ("--depth.steps", 1, "--depth.window", 5, "--depth.overlap", 2)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_svd(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    for number, picture in enumerate(pan(2, FRAMES, 64, 96)):
        write_picture(folder / f"{number:02d}.png", picture)
    return folder


def run(clip, out, tiny, *words):
    command = ["run", clip, "--out", out, "--poses.source", "none", "--until", "depth"]
    command += ["--depth.source", "depthcrafter", "--depth.model", tiny, "--depth.base-model", tiny, *words]
    return cli.main(list(map(str, command)))


def digests(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in ("stage.json",)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def whole(clip, tiny, tmp_path_factory):
    """The depth folder of an undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "scene"
    assert run(clip, out, tiny, *QUICK) == 0
    return out / "depth" / "depthcrafter"


def test_record_says_which_model_and_how_the_windows_agree(whole, tiny):
    record = json.loads((whole / "stage.json").read_text())
    summary = record["summary"]
    assert summary["kind"] == "affine_disparity"
    assert (summary["frames"], summary["windows"], summary["size"]) == (FRAMES, 3, "128x64")
    assert summary["model"] == tiny.name
    assert summary["commercial_use"] is None  # of a folder that says nothing
    base = {"base_model": tiny.name, "base_licence": "licence not known", "base_commercial_use": None}
    assert base.items() <= summary.items()
    assert len(summary["agreement_of_windows"]) == 2
    assert all(0 <= share <= 1 for share in summary["agreement_of_windows"])
    assert json.loads((whole / "windows.json").read_text())["windows"] == [["00", "04"], ["03", "07"], ["06", "10"]]
    assert sorted(p.stem for p in (whole / "overlap").iterdir()) == ["03", "04", "06", "07"]


def test_depth_is_of_the_size_of_the_picture_and_less_sure_where_windows_meet(whole):
    maps = [read_depth_map(whole / f"{i:02d}.npz", DepthKind.AFFINE_DISPARITY) for i in range(FRAMES)]
    assert {depth.values.shape for depth in maps} == {(64, 96)}
    sure = [float(depth.confidence.min()) for depth in maps]
    assert [i for i in range(FRAMES) if sure[i] < 1] == [3, 4, 6, 7]


@pytest.mark.parametrize("after", [1, 2])
def test_killed_after_a_window_it_goes_on_with_the_next_and_ends_with_the_same_bytes(
    whole, clip, tiny, tmp_path, monkeypatch, after, capsys
):
    denoised, done = ClipDenoiser._denoised, []

    def killed(self, number, before):
        if number == after:
            raise KeyboardInterrupt
        return denoised(self, number, before)

    out = tmp_path / "scene"
    with monkeypatch.context() as patch:
        patch.setattr(ClipDenoiser, "_denoised", killed)
        run(clip, out, tiny, *QUICK)
    assert not (out / "depth" / "depthcrafter").exists()

    def counted(self, number, before):
        done.append(number)
        return denoised(self, number, before)

    monkeypatch.setattr(ClipDenoiser, "_denoised", counted)
    assert run(clip, out, tiny, *QUICK) == 0
    assert done == list(range(after, 3))
    assert f"{after} of 3 windows are done already" in capsys.readouterr().out
    found = digests(out / "depth" / "depthcrafter")
    assert found == digests(whole)
    assert not [name for name in found if "state" in name]


def test_stopped_after_the_last_window_nothing_is_denoised_again(whole, clip, tiny, tmp_path, monkeypatch):
    out = tmp_path / "scene"

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(depth_video, "confirmed_kind", stopped)
        run(clip, out, tiny, *QUICK)
    monkeypatch.setattr(ClipDenoiser, "_denoised", stopped)
    assert run(clip, out, tiny, *QUICK) == 0
    assert digests(out / "depth" / "depthcrafter") == digests(whole)


def test_damaged_state_means_starting_anew(whole, clip, tiny, tmp_path, monkeypatch):
    out = tmp_path / "scene"
    with monkeypatch.context() as patch:
        patch.setattr(depth_video, "confirmed_kind", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(clip, out, tiny, *QUICK)
    (state,) = (out / ".part").glob("*/state.npz")
    state.write_bytes(state.read_bytes()[:100])
    assert run(clip, out, tiny, *QUICK) == 0
    assert digests(out / "depth" / "depthcrafter") == digests(whole)


def test_a_missing_preview_is_written_when_it_is_wanted_again(clip, tiny, tmp_path, capsys):
    out = tmp_path / "scene"
    assert run(clip, out, tiny, *QUICK, "--depth.no-preview") == 0
    folder = out / "depth" / "depthcrafter"
    assert not (folder / "preview.mp4").exists()
    assert json.loads((folder / "stage.json").read_text())["summary"]["values_5_50_95"][0] is not None
    capsys.readouterr()
    assert run(clip, out, tiny, *QUICK, "--depth.preview") == 0
    assert "depth/depthcrafter: up to date" in capsys.readouterr().out
    assert (folder / "preview.mp4").exists()
    assert (folder / "depth.png").exists()


def test_pixels_of_a_video_that_was_replaced_are_refused(tiny, tmp_path, capsys):
    video = write_clip(tmp_path / "clip.mp4", pan(3, 2, 64, 64), pixel_format="yuv420p")
    out = tmp_path / "scene"
    command = ["run", str(video), "--out", str(out), "--poses.source", "none", "--until", "poses"]
    assert cli.main(command) == 0
    write_clip(video, pan(4, 2, 64, 64), pixel_format="yuv420p")
    words = ["--source", "depthcrafter", "--model", tiny, "--base-model", tiny, "--pixels", "source"]
    assert cli.main(["depth", str(out), *map(str, words)]) == 1
    assert "no longer the video that the frames were made from" in capsys.readouterr().err


def test_a_window_too_large_for_the_device_is_said(clip, tiny, tmp_path, monkeypatch, capsys):
    def too_much(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(ClipDenoiser, "_denoised", too_much)
    assert run(clip, tmp_path / "scene", tiny, *QUICK) == 1
    assert "lower --depth.max-res or --depth.window" in capsys.readouterr().err


def test_a_network_that_gives_no_numbers_is_said(clip, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ClipDenoiser, "_decoded", lambda self, latents: np.full((len(latents), 64, 128), np.nan))
    assert run(clip, tmp_path / "scene", tiny, *QUICK) == 1
    assert "(NaN) for frame 03: take --depth.dtype float32" in capsys.readouterr().err


def test_options_that_no_source_reads_are_said(clip, tiny, tmp_path, capsys):
    assert run(clip, tmp_path / "scene", tiny, *QUICK, "--depth.metres-per-value", 0.5) == 0
    assert "--depth.metres-per-value is not read by --depth.source depthcrafter" in capsys.readouterr().out


def test_one_frame_is_one_window(tiny, tmp_path):
    write_picture(tmp_path / "one.png", pan(2, 1, 64, 64)[0])
    assert run(tmp_path / "one.png", tmp_path / "scene", tiny, "--depth.steps", 1) == 0
    folder = tmp_path / "scene" / "depth" / "depthcrafter"
    assert (folder / "one.npz").exists()
    assert not (folder / "windows.json").exists()


def test_pixels_of_the_video_give_what_the_authors_program_sees(tiny, tmp_path):
    video = write_clip(tmp_path / "clip.mp4", pan(3, 4, 64, 96), pixel_format="yuv420p", options={"crf": "18"})
    words = ("--depth.steps", 1, "--depth.pixels", "source", "--depth.resolution", "model", "--depth.seed", 5)
    assert run(video, tmp_path / "scene", tiny, "--frames.stride", 1, *words) == 0
    folder = tmp_path / "scene" / "depth" / "depthcrafter"
    found = [read_depth_map(folder / f"{i:06d}.npz", DepthKind.AFFINE_DISPARITY).values for i in range(4)]
    model = load_depthcrafter(tiny, tiny, Placement())
    expected = clip_disparity(model, read_clip(video)[0], DiffusionSettings(steps=1, seed=5))
    np.testing.assert_array_equal(np.stack(found), expected)


def test_pixels_of_a_folder_of_pictures_are_refused(clip, tiny, tmp_path, capsys):
    assert run(clip, tmp_path / "scene", tiny, *QUICK, "--depth.pixels", "source") == 1
    assert "reads the video anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--depth.window", 5, "--depth.overlap", 5), "headway"),
        (("--depth.steps", 0), "--depth.steps is 0"),
        (("--depth.seed", 10**23), "--depth.seed is 1e+23"),
        (("--depth.guidance", "inf"), "a finite number"),
        (("--depth.max-res", 20), "--depth.max-res is 20"),
        (("--depth.device", "cuda"), "sees no such device"),
        (("--depth.dtype", "float16"), "use float32 or bfloat16"),
        (("--depth.base-model", "/no/such/model"), "was not found"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence_before_any_work(clip, tiny, tmp_path, capsys, words, text):
    if torch.cuda.is_available() and "cuda" in words:
        pytest.skip("there is a CUDA device")
    assert run(clip, tmp_path / "scene", tiny, *words) == 1
    out, told = capsys.readouterr()
    assert text in told
    assert "working" not in out
    assert "Traceback" not in told


def test_pictures_too_small_for_the_network_are_refused(tiny, tmp_path, capsys):
    write_picture(tmp_path / "one.png", pan(2, 1, 30, 64)[0])
    assert run(tmp_path / "one.png", tmp_path / "scene", tiny) == 1
    assert "64x30 pixels become 64x0" in capsys.readouterr().err


# -- which model is meant --------------------------------------------------------------------------------------------


def test_a_model_is_named_for_the_source_that_needs_it():
    options = DepthOptions(source="depthcrafter,onnx", model=("onnx=net.onnx",))
    assert options.model_of("onnx") == "net.onnx"
    assert options.model_of("depthcrafter") == "tencent/DepthCrafter"
    check_models(options, ["depthcrafter", "onnx"])
    with pytest.raises(OptionsError, match="does not say which"):
        check_models(DepthOptions(model=("net",)), ["depthcrafter", "onnx"])
    with pytest.raises(OptionsError, match="neither a model nor SOURCE=MODEL"):
        check_models(DepthOptions(model=("mvs=net",)), ["mvs"])
    with pytest.raises(OptionsError, match="two models"):
        check_models(DepthOptions(model=("a", "b")), ["onnx"])
    with pytest.raises(OptionsError, match=r"needs --depth\.model"):
        check_models(DepthOptions(), ["onnx"])


def test_a_model_of_the_hub_is_taken_from_the_cache_with_its_revision(tiny, tmp_path, monkeypatch):
    """The layout of the hub's cache, without a network."""
    import huggingface_hub

    revision = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny, cached / "snapshots" / revision)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(revision)
    download = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **how: download(**how, cache_dir=tmp_path))
    found = model_files.find_model("someone/tiny", depthcrafter_model.UNET_FILES)
    assert (found.name, found.identity) == ("someone/tiny", f"someone/tiny@{revision}")
    assert load_depthcrafter(found.place, tiny, Placement()).latent_scale == 8
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot be downloaded"):
        model_files.find_model("someone/else", depthcrafter_model.UNET_FILES)


def test_a_finished_scene_needs_neither_its_model_nor_its_gpu_again(clip, tiny, tmp_path, monkeypatch, capsys):
    """As when a scene made on another machine is gone on with: nothing is fetched only to find nothing to do."""
    revision = tmp_path / "0123456789abcdef"
    shutil.copytree(tiny, revision)
    monkeypatch.setattr(model_files, "_cached", lambda *_: revision)
    out = tmp_path / "scene"
    assert run(clip, out, "someone/tiny", *QUICK) == 0
    record = json.loads((out / "depth" / "depthcrafter" / "stage.json").read_text())
    assert record["summary"]["made_with"]["model"] == "someone/tiny@0123456789abcdef"
    assert record["summary"]["model"] == "someone/tiny@0123456789abcdef"
    monkeypatch.setattr(model_files, "_cached", lambda *_: None)
    monkeypatch.setattr(devices, "chosen_dtype", lambda *_: "float16")
    capsys.readouterr()
    assert run(clip, out, "someone/tiny", *QUICK) == 0
    assert "depth/depthcrafter: up to date" in capsys.readouterr().out
    # Where it runs does not change it either.
    assert run(clip, out, "someone/tiny", *QUICK, "--depth.offload", "none", "--depth.device", "cpu") == 0
    assert "depth/depthcrafter: up to date" in capsys.readouterr().out
    # Something typed that does change it: now the model is asked for.
    monkeypatch.setattr(model_files, "_from_hub", lambda *_: (_ for _ in ()).throw(InputError("depth: no network")))
    assert run(clip, out, "someone/tiny", *QUICK, "--depth.seed", 1) == 1
    assert "no network" in capsys.readouterr().err


def test_another_content_of_the_model_is_another_result(tiny, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    patterns = depthcrafter_model.UNET_FILES
    before = model_files.find_model(str(other), patterns).identity
    assert before == model_files.find_model(str(tiny), patterns).identity
    (other / "vae" / "config.json").write_text("{}")  # not read for the UNet
    assert model_files.find_model(str(other), patterns).identity == before
    config = other / "unet" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert model_files.find_model(str(other), patterns).identity != before
    with pytest.raises(InputError, match="holds none of"):
        model_files.find_model(str(tmp_path), model_files.Wanted((("unet/*.bin",),)))


# -- the line --------------------------------------------------------------------------------------------------------


def test_windows_reach_the_aligner(reconstructed: Reconstructed, tmp_path, monkeypatch):
    """True disparity through the source's windows, each with a gain and shift of its own as a latent would have them:
    the aligner finds the drift and the depth again."""
    root = tmp_path / "scene"
    shutil.copytree(reconstructed.scene, root)
    workspace = Workspace(root)
    names = workspace.recording().names
    truth = dict(zip(names, np.load(reconstructed.clip.simulated_depth)["depth"]))
    gains = (0.6, 0.85, 0.7)

    def decode(latents):
        return torch.nn.functional.interpolate(latents[:, :1], scale_factor=8, mode="bilinear")[:, 0]

    def denoised(self, number, before):
        first, end = self.plan[number]
        coarse = [torch.from_numpy(truth[name])[None, None] for name in names[first:end]]
        side = list(self._noise.initial(0, 1, 0).shape[2:])
        grids = [torch.nn.functional.interpolate(one, size=side, mode="area").expand(1, 4, -1, -1) for one in coarse]
        return torch.cat(grids) * gains[number] + 0.1

    oracle = SimpleNamespace(
        device=torch.device("cpu"),
        dtype=torch.float32,
        latent_scale=8,
        latent_channels=4,
        decode=decode,
        vae=None,
        at_work=lambda *_: contextlib.nullcontext(),
    )
    monkeypatch.setattr(depthcrafter_model, "load_depthcrafter", lambda *_: oracle)
    monkeypatch.setattr(depthcrafter.ClipDenoiser, "_denoised", denoised)
    (tmp_path / "net" / "unet").mkdir(parents=True)
    (tmp_path / "net" / "unet" / "config.json").write_text("{}")
    shutil.copytree(tmp_path / "net" / "unet", tmp_path / "net" / "vae")
    net = str(tmp_path / "net")
    options = DepthOptions(source="depthcrafter", model=(net,), base_model=net, window=12, overlap=5)
    (record,) = depth.run(workspace, options)
    assert record.summary["windows"] == 3
    assert min(record.summary["agreement_of_windows"]) > 0.99  # but for gain and shift
    align.run(workspace, AlignOptions())
    summary = workspace.record("align").summary
    assert summary["joints"] == 2
    assert summary["residual_median"] < 0.005
