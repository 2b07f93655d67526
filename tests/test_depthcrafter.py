"""DepthCrafter on tiny networks: the same numbers as working on the whole clip at once, however it is cut up."""

import shutil

import numpy as np
import pytest
import torch
from tiny_models import save_tiny_svd

from recon4d.depth import depthcrafter_model
from recon4d.depth.depthcrafter import ClipDenoiser, DiffusionSettings, Seam, clip_disparity, plan_windows
from recon4d.depth.depthcrafter_model import Placement, antialiased_resize, load_depthcrafter
from recon4d.errors import DepthError, InputError, OptionsError

SIZE = 64, 64
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_svd(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def model(folder):
    return load_depthcrafter(folder, folder, Placement())


def clip_of(frames, seed=0):
    """A clip that changes from frame to frame."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    shade = np.stack([np.sin((x + 3 * t) / 9) + np.cos((y - t) / 7) for t in range(frames)])
    noise = np.random.default_rng(seed).normal(scale=0.2, size=(*shade.shape, 3))
    return np.clip(127 + 60 * (shade[..., None] + noise), 0, 255).astype(np.uint8)


def whole_clip(model, frames, s):
    """The readable twin: everything at once, as section 3.3 of the paper and the numbers of its program say."""
    count, window, overlap = len(frames), s.window, s.overlap
    if count <= window:
        window, overlap = count, 0
    generator = torch.Generator("cpu").manual_seed(s.seed)
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    noise = torch.randn(clip.shape, generator=generator)
    embeddings = torch.cat([model.embed(part) for part in clip.split(8)])
    conditions = torch.cat([model.encode(part) for part in (clip + s.noise_strength * noise).split(8)])
    unit = model.scheduler.init_noise_sigma
    latents = torch.randn((window, 4, clip.shape[2] // 8, clip.shape[3] // 8), generator=generator) * unit
    ids = torch.tensor([[7.0, 127.0, s.noise_strength]])
    stitched, start = None, 0
    while start < max(count - overlap, 1):
        end = min(start + window, count)
        model.scheduler.set_timesteps(s.steps)
        z = latents[: end - start].clone()
        latents = torch.cat([latents[len(latents) - overlap :], latents[: window - overlap]])
        if stitched is not None and overlap:
            z[:overlap] = stitched[-overlap:] + z[:overlap] / unit * model.scheduler.sigmas[0]
        z = z[None]
        for t in model.scheduler.timesteps:
            scaled = model.scheduler.scale_model_input(z, t)
            own = conditions[None, start:end]
            v = model.predict(torch.cat([scaled, own], 2), t, embeddings[start:end], ids)
            if s.guidance > 1:
                free = model.predict(torch.cat([scaled, torch.zeros_like(own)], 2), t, 0 * embeddings[start:end], ids)
                v = free + s.guidance * (v - free)
            z = model.scheduler.step(v, t, z).prev_sample
        if stitched is None:
            stitched = z[0]
        elif not overlap:
            stitched = torch.cat([stitched, z[0]])
        else:
            w = torch.linspace(0, 1, overlap)[:, None, None, None]
            shared = z[0, :overlap] * w + stitched[-overlap:] * (1 - w)
            stitched = torch.cat([stitched[:-overlap], shared, z[0, overlap:]])
        start += window - overlap
    return torch.cat([model.decode(part) for part in stitched.split(s.decode_chunk)]).numpy()


@pytest.mark.parametrize(
    ("frames", "settings"),
    [
        (13, {"window": 6, "overlap": 2}),
        (11, {"window": 10, "overlap": 4, "guidance": 1.2}),  # a last window with one new frame
        (10, {"window": 4, "overlap": 0}),
        (9, {"window": 5, "overlap": 1, "decode_chunk": 3}),
        (9, {"window": 4, "overlap": 3}),  # overlaps that overlap
        (5, {}),
        (1, {}),
    ],
)
def test_window_by_window_gives_the_bits_of_the_whole_clip(model, frames, settings):
    settings = DiffusionSettings(steps=2, seed=3, **settings)
    clip = clip_of(frames)
    found = clip_disparity(model, clip, settings)
    assert found.shape == (frames, *SIZE)
    assert np.ptp(found) > 0
    np.testing.assert_array_equal(found, whole_clip(model, clip, settings))


def denoiser(model, clip, settings):
    return ClipDenoiser(model, lambda first, end: clip[first:end], clip.shape[:3], settings)


def test_going_on_after_any_window_gives_the_same_bits(model):
    clip, settings = clip_of(13), DiffusionSettings(steps=1, window=6, overlap=2, decode_chunk=5)
    whole = list(denoiser(model, clip, settings).windows())
    assert [(w.first, len(w.disparity)) for w in whole] == [(0, 0), (0, 5), (5, 8)]
    for stopped in whole[:-1]:
        rest = list(denoiser(model, clip, settings).windows(stopped.state))
        assert len(rest) == len(whole) - stopped.state.done
        for again, before in zip(rest, whole[stopped.state.done :]):
            np.testing.assert_array_equal(again.disparity, before.disparity)
            np.testing.assert_array_equal(again.seam.later, before.seam.later)


def test_pictures_are_read_once_per_window_and_in_chunks(model):
    clip, asked = clip_of(20), []

    def read(first, end):
        asked.append((first, end))
        return clip[first:end]

    settings = DiffusionSettings(steps=1, window=10, overlap=4)
    units = []
    clip_denoiser = ClipDenoiser(model, read, clip.shape[:3], settings)
    list(clip_denoiser.windows(advance=lambda: units.append(1)))
    assert asked == [(0, 8), (8, 16), (16, 20)]
    assert len(units) == len(clip_denoiser.plan) * clip_denoiser.work_of_window()


def test_windows_by_hand():
    def plan(frames, window, overlap):
        return plan_windows(frames, DiffusionSettings(window=window, overlap=overlap))

    assert plan(24, 10, 4) == [(0, 10), (6, 16), (12, 22), (18, 24)]
    assert plan(11, 10, 4) == [(0, 10), (6, 11)]
    assert plan(10, 10, 4) == plan(10, 110, 25) == [(0, 10)]
    assert plan(9, 4, 0) == [(0, 4), (4, 8), (8, 9)]


@pytest.mark.parametrize(("window", "overlap"), [(10, 10), (10, 12), (0, 0), (5, -1)])
def test_windows_that_make_no_headway_are_refused(window, overlap):
    with pytest.raises(OptionsError, match="headway"):
        DiffusionSettings(window=window, overlap=overlap)


@pytest.mark.parametrize("shape", [(0, 64, 64), (3, 60, 64), (3, 4, 4)])
def test_clips_that_cannot_be_denoised_are_refused(model, shape):
    with pytest.raises(DepthError, match="multiples of 8"):
        clip_disparity(model, np.zeros((*shape, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "settings",
    [{"steps": 0}, {"seed": 2**64}, {"guidance": float("nan")}, {"noise_strength": -1.0}, {"decode_chunk": 0}],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(OptionsError, match="expected"):
        DiffusionSettings(**settings)


def test_frames_that_are_no_bytes_are_refused(model):
    """Colours from 0 to 1 would give another depth without an error."""
    with pytest.raises(DepthError, match="uint8"):
        clip_disparity(model, clip_of(2) / 255)


def test_noise_of_frames_drawn_apart_is_one_large_draw(model):
    settings = DiffusionSettings(seed=11, window=6, overlap=2)
    noise = denoiser(model, clip_of(19), settings)._noise
    generator = torch.Generator("cpu").manual_seed(11)
    whole = torch.randn((19, 3, 64, 64), generator=generator)
    first = torch.randn((6, 4, 8, 8), generator=generator)
    assert torch.equal(noise.of_frames(8, 16), whole[8:16])
    assert torch.equal(noise.of_frames(0, 8), whole[:8])
    assert torch.equal(noise.of_frames(16, 19), whole[16:])
    # Frames 4 and 5 of the first window are the first ones of the second.
    assert torch.equal(noise.initial(1, 6, 2), first[[4, 5, 0, 1, 2, 3]])
    assert torch.equal(noise.initial(2, 3, 2), first[[2, 3, 4]])


def test_constant_output_stays_constant_and_finite(folder):
    flat = load_depthcrafter(folder, folder, Placement())
    with torch.no_grad():
        flat.vae.decoder.time_conv_out.weight.zero_()
        flat.vae.decoder.time_conv_out.bias.zero_()
    settings = DiffusionSettings(steps=1, window=4, overlap=2)
    windows = list(denoiser(flat, clip_of(6), settings).windows())
    assert all((window.disparity == 0.5).all() for window in windows)
    assert (windows[-1].seam.confidence() == 1).all()


def test_cross_attention_to_one_token_is_exact(folder, model):
    from diffusers.models.attention_processor import AttnProcessor2_0

    stock = load_depthcrafter(folder, folder, Placement())
    replaced = 0
    for module in stock.unet.modules():
        if hasattr(module, "attn2") and module.attn2 is not None:
            module.attn2.set_processor(AttnProcessor2_0())
            replaced += 1
    assert replaced == 6  # three spatio-temporal transformers, each with a block in space and one in time
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn((1, 5, 8, 8, 8), generator=generator)
    embeddings = torch.randn((5, 32), generator=generator)
    ids, t = torch.tensor([[7.0, 127.0, 0.02]]), torch.tensor(1.2)
    ours, theirs = (each.predict(sample, t, embeddings, ids) for each in (model, stock))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
    # Each frame sees its own embedding: another one in frame 3 changes it most.
    other = embeddings.clone()
    other[3] += 5
    change = (model.predict(sample, t, other, ids) - ours).abs().amax(dim=(0, 2, 3, 4))
    assert change.argmax() == 3
    assert change[3] > 1e-4


def test_resizing_is_that_of_the_pipeline():
    from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as pipeline

    pictures = torch.rand((2, 3, 70, 300), generator=torch.Generator().manual_seed(1)) * 2 - 1
    theirs = pipeline._resize_with_antialiasing(pictures, (224, 224))
    torch.testing.assert_close(antialiased_resize(pictures, 224), theirs, rtol=0, atol=1e-6)


def test_seam_tells_where_windows_disagree_but_for_gain_and_shift():
    ramp = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    same = Seam((4, 8), 5, ramp, 2 * ramp - 0.3).confidence()
    np.testing.assert_allclose(same, 1, atol=1e-5)
    off = ramp.copy()
    off[0, 30, 30] += 0.045  # a twentieth of the range from the 5th to the 95th percentile
    found = Seam((4, 8), 5, ramp, off).confidence()
    assert found[0, 30, 30] == pytest.approx(0.5, abs=0.01)
    assert found[0, 0, 0] > 0.99


def test_windows_that_contradict_each_other_do_not_agree():
    ramp = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    flat = np.full_like(ramp, 0.4)
    assert np.median(Seam((0, 2), 0, ramp, 1 - ramp).confidence()) < 0.1
    assert np.median(Seam((0, 2), 0, flat, ramp).confidence()) < 0.1
    assert np.median(Seam((0, 2), 0, ramp, flat).confidence()) < 0.1
    assert (Seam((0, 2), 0, flat, flat + 0.2).confidence() == 1).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_single_precision(folder, model, dtype):
    clip, settings = clip_of(3), DiffusionSettings(steps=1)
    half = load_depthcrafter(folder, folder, Placement(dtype=dtype))
    assert half.encodes_in is (torch.float32 if dtype == "float16" else torch.bfloat16)
    pictures = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(half.encode(pictures).float(), model.encode(pictures), rtol=0, atol=0.05)
    found = clip_disparity(half, clip, settings)
    assert found.dtype == np.float32
    # Noise is drawn in half precision as the authors' program does, another noise: only the range can be compared.
    whole = clip_disparity(model, clip, settings)
    assert found.mean() == pytest.approx(whole.mean(), abs=0.1)
    assert np.ptp(found) == pytest.approx(np.ptp(whole), rel=0.5)


def test_layer_by_layer_offload_gives_the_same_numbers(folder, model):
    offloaded = load_depthcrafter(folder, folder, Placement())
    depthcrafter_model._place(
        [offloaded.unet, offloaded.vae, offloaded.image_encoder], torch.device("cpu"), "sequential"
    )
    assert next(offloaded.unet.parameters()).device.type == "meta"
    clip, settings = clip_of(2), DiffusionSettings(steps=1)
    np.testing.assert_array_equal(clip_disparity(offloaded, clip, settings), clip_disparity(model, clip, settings))


def test_unet_at_the_root_of_its_folder_is_found(folder, model, tmp_path):
    shutil.copytree(folder / "unet", tmp_path / "unet_alone")
    alone = load_depthcrafter(tmp_path / "unet_alone", folder, Placement())
    clip, settings = clip_of(2), DiffusionSettings(steps=1)
    np.testing.assert_array_equal(clip_disparity(alone, clip, settings), clip_disparity(model, clip, settings))


def test_models_that_cannot_be_used_are_refused_in_one_sentence(folder, tmp_path):
    with pytest.raises(InputError, match=r"no folder .*vae"):
        load_depthcrafter(folder, tmp_path, Placement())
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "feature_extractor" / "preprocessor_config.json").write_text("{}")
    with pytest.raises(InputError, match="image_mean"):
        load_depthcrafter(broken, broken, Placement())
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a usable UNet"):
        load_depthcrafter(broken, folder, Placement())
    weights.rename(weights.with_suffix(".bin"))  # pickled weights are not read
    with pytest.raises(InputError, match="not a usable UNet"):
        load_depthcrafter(broken, folder, Placement())


def test_networks_that_do_not_fit_together_are_refused(folder, tmp_path, model):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    shutil.copytree(folder, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "image_encoder")
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, projection_dim=64, num_hidden_layers=1, num_attention_heads=2
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "other" / "image_encoder")
    with pytest.raises(InputError, match="do not fit together"):
        load_depthcrafter(folder, tmp_path / "other", Placement())


def test_networks_come_to_the_device_for_their_work_and_go(folder, monkeypatch):
    """As on a GPU, with the CPU in its place: one network at a time, moved once per phase of a window."""
    moving = load_depthcrafter(folder, folder, Placement())
    moving._offload, moves = "model", []
    for name in ("unet", "vae", "image_encoder"):
        network = getattr(moving, name)
        monkeypatch.setattr(network, "to", lambda place, name=name: moves.append((name, str(place))))
    moving.device = torch.device("cpu:0")
    clip_disparity(moving, clip_of(10), DiffusionSettings(steps=2))

    def there_and_back(*names):
        return [(name, "cpu:0") for name in names] + [(name, "cpu") for name in names]

    assert moves == there_and_back("image_encoder", "vae") + there_and_back("unet") + there_and_back("vae")
