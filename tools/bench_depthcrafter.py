"""DepthCrafter: distance to the golden numbers, memory against the length of the clip, and seconds per frame.

    python tools/bench_depthcrafter.py golden GOLDEN/depthcrafter      # differences from the authors' program
    python tools/bench_depthcrafter.py memory MODEL                    # peak memory of 60 and of 600 frames
    python tools/bench_depthcrafter.py speed MODEL                     # against a plain loop over the stock classes
    python tools/bench_depthcrafter.py real --size 1024x576 --frames 110 --device cuda   # the real size, random weights

MODEL is a folder with all five parts of a model, such as the tiny one of the golden data.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from recon4d.depth.depthcrafter import ClipDenoiser, DiffusionSettings, clip_disparity
from recon4d.depth.depthcrafter_model import DepthCrafterModel, Placement, load_depthcrafter

SETTINGS = DiffusionSettings(steps=2, window=30, overlap=8)
MEMORY_SIZE = (192, 320)
USUAL = DiffusionSettings()  # window 110, overlap 25, five steps


def golden(arguments: argparse.Namespace) -> None:
    model = load_depthcrafter(arguments.model / "tiny_svd", arguments.model / "tiny_svd", Placement())
    video = np.load(arguments.model / "video.npz")["video"]
    print("case  frames  windows  largest difference of disparity (0..1; 1e-4 is allowed)")
    for name in "ABCDE":
        case = np.load(arguments.model / f"case_{name}.npz")
        told = json.loads(str(case["config"]))
        settings = DiffusionSettings(
            steps=told["num_inference_steps"],
            guidance=told["guidance_scale"],
            window=told["window_size"],
            overlap=told["overlap"],
            seed=told["generator_seed"],
        )
        found = clip_disparity(model, video[: len(case["depth_raw"])], settings)
        off = float(np.abs(found - case["depth_raw"]).max())
        print(f"{name:<5} {len(found):>6} {len(case['window_start']):>8}  {off:.1e}")


def memory(arguments: argparse.Namespace) -> None:
    """Twice: with every larger array given back at once, which shows what is in use, and as glibc manages its heap."""
    size = f"{MEMORY_SIZE[1]}x{MEMORY_SIZE[0]}"
    for name, more in (("given back at once", {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}), ("as it comes", {})):
        peaks = {}
        for frames in (60, 600):
            command = [sys.executable, __file__, "peak", str(arguments.model), "--frames", str(frames)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | more)
            peaks[frames] = float(done.stdout.split()[-1])
            print(f"memory {name}: {frames} frames at {size}: peak {peaks[frames]:.0f} MB", flush=True)
        print(f"memory {name}: ratio {peaks[600] / peaks[60]:.3f} (1.1 is allowed)", flush=True)


def peak(arguments: argparse.Namespace) -> None:
    model = load_depthcrafter(arguments.model, arguments.model, Placement())
    clip = ClipDenoiser(model, _drawn, (arguments.frames, *MEMORY_SIZE), SETTINGS)
    for window in clip.windows():
        assert np.isfinite(window.disparity).all()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _drawn(first: int, end: int) -> np.ndarray:
    """(n, h, w, 3) pictures with the number of their frame in them."""
    y, x = np.mgrid[: MEMORY_SIZE[0], : MEMORY_SIZE[1]]
    shades = [127 + 120 * np.sin((x + 3 * frame) / 9) * np.cos((y - frame) / 7) for frame in range(first, end)]
    return np.repeat(np.stack(shades)[..., None], 3, axis=-1).astype(np.uint8)


def speed(arguments: argparse.Namespace) -> None:
    model = load_depthcrafter(arguments.model, arguments.model, Placement())
    stock = load_depthcrafter(arguments.model, arguments.model, Placement())
    _use_stock_attention(stock)
    frames = _drawn(0, 195)[:, :64, :128]
    rounds = [(_timed(clip_disparity, model, frames, USUAL), _timed(_plain_loop, stock, frames)) for _ in range(3)]
    ours, theirs = (min(seconds) for seconds in zip(*rounds))
    print(
        f"{ours / 195:.3f} s a frame window by window, {theirs / 195:.3f} with a plain loop, the clip whole in memory: "
        f"{theirs / ours:.2f} times as fast (195 frames in two windows, 128x64, best of 3)"
    )


def _timed(work, *given: object) -> float:
    started = time.perf_counter()
    work(*given)
    return time.perf_counter() - started


def _use_stock_attention(model: DepthCrafterModel) -> None:
    from diffusers.models.attention_processor import AttnProcessor2_0

    for module in model.unet.modules():
        if getattr(module, "attn2", None) is not None:
            module.attn2.set_processor(AttnProcessor2_0())


def _plain_loop(model: DepthCrafterModel, frames: np.ndarray) -> None:
    """What one writes first: everything at once, window after window over the latents of the whole clip."""
    s = USUAL
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    embeddings = torch.cat([model.embed(part) for part in clip.split(8)])
    noisy = clip + s.noise_strength * torch.randn_like(clip)
    conditions = torch.cat([model.encode(part) for part in noisy.split(8)])
    ids = torch.tensor([[7.0, 127.0, s.noise_strength]])
    stitched = None
    for start in range(0, len(frames) - s.overlap, s.window - s.overlap):
        end = min(start + s.window, len(frames))
        model.scheduler.set_timesteps(s.steps)
        z = torch.randn_like(conditions[None, start:end]) * model.scheduler.init_noise_sigma
        for t in model.scheduler.timesteps:
            scaled = torch.cat([model.scheduler.scale_model_input(z, t), conditions[None, start:end]], dim=2)
            z = model.scheduler.step(model.predict(scaled, t, embeddings[start:end], ids), t, z).prev_sample
        stitched = z[0] if stitched is None else torch.cat([stitched, z[0, s.overlap :]])
    for part in stitched.split(8):
        model.decode(part)


def real(arguments: argparse.Namespace) -> None:
    """One step of the real UNet with random weights, with stock cross attention and with ours."""
    from diffusers import UNetSpatioTemporalConditionModel

    from recon4d.depth import depthcrafter_model

    width, height = map(int, arguments.size.split("x"))
    device = torch.device(arguments.device)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    with torch.device(device):
        torch.set_default_dtype(dtype)
        unet = UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20)).eval()
        torch.set_default_dtype(torch.float32)
    embeddings = torch.randn((arguments.frames, 1, 1024), device=device, dtype=dtype)
    depthcrafter_model._give_every_frame_its_embedding(unet, lambda: embeddings)
    sample = torch.randn((1, arguments.frames, 8, height // 8, width // 8), device=device, dtype=dtype)
    ids = torch.tensor([[7.0, 127.0, 0.02]], device=device, dtype=dtype)

    def step() -> None:
        with torch.inference_mode():
            unet(sample, torch.tensor(1.0, device=device), embeddings[None, 0], added_time_ids=ids)
            if device.type == "cuda":
                torch.cuda.synchronize()

    millions = sum(weight.numel() for weight in unet.parameters()) / 1e6
    print(f"UNet of {millions:.0f} million weights, {arguments.frames} frames at {width}x{height}, {dtype} on {device}")
    times = {}
    for name in ("stock", "ours"):
        if name == "ours":
            depthcrafter_model._skip_scores_of_single_tokens(unet)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step()
        times[name] = min(_timed(step) for _ in range(3))
        gigabytes = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
        print(
            f"  {name}: {1000 * times[name] / arguments.frames:.1f} ms per frame and step, {gigabytes:.1f} GB at most"
        )
    print(f"  {times['stock'] / times['ours']:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for work in (golden, memory, speed, peak):
        verb = verbs.add_parser(work.__name__)
        verb.add_argument("model", type=Path)
        verb.add_argument("--frames", type=int, default=60)
        verb.set_defaults(work=work)
    verb = verbs.add_parser("real")
    verb.add_argument("--size", default="1024x576")
    verb.add_argument("--frames", type=int, default=110)
    verb.add_argument("--device", default="cuda")
    verb.set_defaults(work=real)
    arguments = parser.parse_args()
    torch.set_num_threads(1 if arguments.work in (golden, speed, peak) else torch.get_num_threads())
    arguments.work(arguments)


if __name__ == "__main__":
    main()
