"""DepthCrafter against the numbers of its authors' program, run with a tiny network; and how it reads clips."""

import json

import av
import numpy as np
import pytest
import torch
from video_clips import pan, write_clip

from recon4d import cli
from recon4d.depth.depthcrafter import ClipDenoiser, DiffusionSettings
from recon4d.depth.depthcrafter_input import VideoPixels, read_clip, resized_pictures, sampled_frames, working_size
from recon4d.depth.depthcrafter_model import Placement, antialiased_resize, load_depthcrafter
from recon4d.errors import DepthError, InputError
from recon4d.formats.arrays import read_depth_map
from recon4d.formats.pictures import write_picture
from recon4d.scene.depth import DepthKind

CASES = "ABCDE"
shared = pytest.mark.shared
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def golden(shared_data):
    return shared_data / "golden" / "depthcrafter"


@pytest.fixture(scope="module")
def model(golden):
    return load_depthcrafter(golden / "tiny_svd", golden / "tiny_svd", Placement())


@pytest.fixture(scope="module")
def video(golden):
    return np.load(golden / "video.npz")["video"]


def case_of(golden, name):
    case = np.load(golden / f"case_{name}.npz")
    told = json.loads(str(case["config"]))
    settings = DiffusionSettings(
        steps=told["num_inference_steps"],
        guidance=told["guidance_scale"],
        window=told["window_size"],
        overlap=told["overlap"],
        seed=told["generator_seed"],
    )
    return case, settings


@shared
@pytest.mark.parametrize("name", CASES)
def test_disparity_and_latents_are_the_authors(golden, model, video, name, monkeypatch):
    case, settings = case_of(golden, name)
    latents, decoded = [], ClipDenoiser._decoded

    def spy(self, stitched):
        latents.append(stitched.numpy())
        return decoded(self, stitched)

    monkeypatch.setattr(ClipDenoiser, "_decoded", spy)
    monkeypatch.setattr(ClipDenoiser, "_seam", lambda *_: None)  # decodes shared frames once more, for the aligner
    inputs, predict = [], type(model).predict

    def watched(self, sample, *rest):
        inputs.append(sample.numpy())
        return predict(self, sample, *rest)

    monkeypatch.setattr(type(model), "predict", watched)
    clip = video[: len(case["depth_raw"])]
    denoiser = ClipDenoiser(model, lambda first, end: clip[first:end], clip.shape[:3], settings)
    found = np.concatenate([window.disparity for window in denoiser.windows()])
    assert denoiser.plan == list(zip(case["window_start"].tolist(), case["window_end"].tolist()))
    np.testing.assert_allclose(np.concatenate(latents)[None], case["latents_all"], rtol=0, atol=5e-4)
    np.testing.assert_allclose(found, case["depth_raw"], rtol=0, atol=1e-4)
    relative = (found - found.min()) / (found.max() - found.min())
    np.testing.assert_allclose(relative, case["depth"], rtol=0, atol=1e-4)
    per_window = settings.steps * (2 if settings.guidance > 1 else 1)
    for window in range(len(denoiser.plan)):
        first = case[f"win{window}_unet_in_step0"]
        np.testing.assert_allclose(inputs[window * per_window][0], first, rtol=0, atol=1e-4)


@shared
def test_embeddings_and_conditions_are_the_authors(golden, model, video):
    told = np.load(golden / "shared.npz")
    clip = torch.from_numpy(video).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    embeddings = torch.cat([model.embed(part) for part in clip.split(8)])
    np.testing.assert_allclose(embeddings.numpy(), told["clip_embeds"], rtol=0, atol=1e-4)
    noise = torch.randn(clip.shape, generator=torch.Generator("cpu").manual_seed(7))
    np.testing.assert_array_equal(noise.numpy(), told["aug_noise"])
    conditions = torch.cat([model.encode(part) for part in (clip + 0.02 * noise).split(8)])
    np.testing.assert_allclose(conditions.numpy(), told["cond_latents"], rtol=0, atol=1e-4)
    mean, deviation = model._colours
    pixels = ((antialiased_resize(clip[:1], 224) + 1) / 2 - mean) / deviation
    np.testing.assert_allclose(pixels[0].numpy(), told["clip_pixels_frame0"], rtol=0, atol=1e-5)


@shared
def test_schedule_is_the_authors(golden, model):
    told = np.load(golden / "schedule.npz")
    for steps in (1, 2, 3, 4, 5, 10, 25):
        model.scheduler.set_timesteps(steps)
        np.testing.assert_allclose(model.scheduler.sigmas.numpy(), told[f"sigmas_{steps}"], rtol=1e-6)
        np.testing.assert_allclose(model.scheduler.timesteps.numpy(), told[f"timesteps_{steps}"], rtol=1e-6, atol=1e-6)
        assert float(model.scheduler.init_noise_sigma) == pytest.approx(float(told[f"init_noise_sigma_{steps}"]))


@shared
def test_sizes_and_sampling_are_the_authors(golden):
    told = json.loads((golden / "preprocess_expected.json").read_text())
    for entry in told["resize"]:
        if 0 in (entry["out_w"], entry["out_h"]):  # their program goes on with no pixels
            with pytest.raises(DepthError, match="multiples of 64"):
                working_size(entry["w"], entry["h"], entry["max_res"])
        else:
            assert working_size(entry["w"], entry["h"], entry["max_res"]) == (entry["out_w"], entry["out_h"])
    for entry in told["sampling"]:
        taken, rate = sampled_frames(entry["n"], entry["fps"], entry["target_fps"], entry["process_length"])
        assert (len(taken), rate) == (entry["count"], entry["returned_fps"])
        assert (taken[: len(entry["first"])], taken[-1]) == (entry["first"], entry["last"])


@shared
def test_the_command_line_gives_the_authors_disparity(golden, video, tmp_path):
    """Windows, guidance off: case B, with a frame's depth as it comes from the decoder."""
    case, settings = case_of(golden, "B")
    (tmp_path / "clip").mkdir()
    for number, picture in enumerate(video):
        write_picture(tmp_path / "clip" / f"{number:03d}.png", picture)
    words = ["--poses.source", "none", "--until", "depth", "--depth.source", "depthcrafter", "--depth.dtype", "float32"]
    words += ["--depth.model", golden / "tiny_svd", "--depth.base-model", golden / "tiny_svd"]
    words += ["--depth.window", settings.window, "--depth.overlap", settings.overlap, "--depth.seed", settings.seed]
    out = tmp_path / "scene"
    assert cli.main(["run", str(tmp_path / "clip"), "--out", str(out), *map(str, words)]) == 0
    folder = out / "depth" / "depthcrafter"
    names = [f"{number:03d}" for number in range(len(video))]
    found = [read_depth_map(folder / f"{name}.npz", DepthKind.AFFINE_DISPARITY) for name in names]
    np.testing.assert_allclose(np.stack([depth.values for depth in found]), case["depth_raw"], rtol=0, atol=1e-4)
    assert json.loads((folder / "windows.json").read_text())["windows"] == [
        ["000", "009"],
        ["006", "015"],
        ["012", "021"],
        ["018", "023"],
    ]
    assert sorted(path.stem for path in (folder / "overlap").iterdir()) == [
        f"{number:03d}" for start in (6, 12, 18) for number in range(start, start + 4)
    ]


def test_working_size_by_hand():
    assert working_size(1920, 1080) == (1024, 576)
    assert working_size(640, 480) == (640, 512)  # 7.5 eights: halves go to the even number
    assert working_size(64, 33) == (64, 64)
    with pytest.raises(DepthError, match="640x31 pixels become 640x0"):
        working_size(640, 31)


def test_clips_are_scaled_as_ffmpegs_filter_does(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", pan(1, 5, 90, 150), pixel_format="yuv420p")
    found, rate = read_clip(path, max_res=128, target_fps=15)
    assert (found.shape, rate) == ((3, 64, 128, 3), 15)
    with av.open(str(path)) as container:
        stored = list(container.decode(video=0))[::2]
    for ours, frame in zip(found, stored):
        graph = av.filter.Graph()
        first = graph.add_buffer(width=150, height=90, format=frame.format, time_base=frame.time_base)
        scale, rgb = graph.add("scale", "w=128:h=64:flags=bilinear"), graph.add("format", "pix_fmts=rgb24")
        last = graph.add("buffersink")
        first.link_to(scale)
        scale.link_to(rgb)
        rgb.link_to(last)
        graph.configure()
        graph.push(frame)
        np.testing.assert_array_equal(ours, graph.pull().to_ndarray())


def test_halving_weighs_four_pixels_as_a_triangle_does():
    """1, 3, 3, 1 of eight; OpenCV takes two pixels."""
    grey = np.zeros((128, 256), dtype=np.uint8)
    grey[:, 100] = 240
    found = resized_pictures([np.repeat(grey[..., None], 3, axis=2)], (128, 64))[0]
    assert found[32, 48:53, 1].tolist() == pytest.approx([0, 30, 90, 0, 0], abs=2)


def test_frames_of_a_video_are_read_forward_and_again(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", pan(1, 9, 64, 64), pixel_format="yuv420p")
    whole, _ = read_clip(path)
    pixels = VideoPixels(path, [0, 2, 4, 6, 8], (64, 64))
    for first, end in ((0, 2), (2, 3), (4, 5), (1, 3)):
        np.testing.assert_array_equal(pixels.read(first, end), whole[::2][first:end])
    with pytest.raises(InputError, match="no frame 11"):
        VideoPixels(path, [8, 11], (64, 64)).read(0, 2)


def test_pictures_of_the_working_size_stay_as_they_are():
    picture = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    larger = np.full((100, 90, 3), 77, dtype=np.uint8)
    found = resized_pictures([picture, larger], (128, 64))
    np.testing.assert_array_equal(found[0], picture)
    assert np.abs(found[1].astype(int) - 77).max() <= 1


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(InputError, match="not a readable video"):
        read_clip(tmp_path / "clip.mp4")
