"""What the user says about depth: one flat table of options, of which each source takes those that concern it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from recon4d.errors import OptionsError
from recon4d.formats.path_text import shown
from recon4d.stages.common import BY_CONTENT, NOT_IN_KEY, PATH_AFTER_EQUALS, PATH_OR_HUB_ID

KINDS = Literal["auto", "scene_z", "metric_z", "scale_free_z", "affine_z", "scale_free_disparity", "affine_disparity"]
AUTO, PRECOMPUTED, MVS = "auto", "precomputed", "mvs"
DEPTHCRAFTER, TRANSFORMERS, ONNX, SENSOR = "depthcrafter", "transformers", "onnx", "sensor"
NETWORKS = (DEPTHCRAFTER, TRANSFORMERS, ONNX)  # sources that read --depth.model
USUAL_MODELS = {
    DEPTHCRAFTER: "tencent/DepthCrafter",
    TRANSFORMERS: "depth-anything/Depth-Anything-V2-Small-hf",
}


@dataclass(frozen=True)
class DepthOptions:
    """Where depth comes from."""

    source: str = AUTO
    """Depth source, or several with commas; the first is the primary one. auto: precomputed where --path names depth,
    sensor where the recording is an RGB-D one, else mvs; precomputed: files you have; mvs: multi-view stereo on the
    pictures of a moving camera; depthcrafter: the video diffusion model; transformers: a depth network of the Hugging
    Face library; onnx: one in an ONNX file; sensor: the depth camera of an RGB-D recording."""
    path: Path | None = field(default=None, metadata=BY_CONTENT)
    """For precomputed: depth as DepthCrafter, Video Depth Anything, Depth Anything 3, ViPE, MegaSaM, MonST3R or MoGe
    write it, an .npz or .npy stack (frames, height, width), or a folder with a file per frame."""
    kind: KINDS = "auto"
    """What the numbers mean, for precomputed, transformers and onnx; auto detects it and says what it took."""
    key: str | None = None
    """For precomputed: name of the array in an npz; without it depth, depths, disparity and the like are tried."""
    metres_per_value: float | None = None
    """For metric numbers of precomputed and onnx: metres that 1 stands for (without it, of files 0.001 for whole
    numbers, 1 for floats)."""
    sensor: bool = False
    """For precomputed: the depth was measured by a sensor (RGB-D, lidar): its points count as measured."""
    names: Path | None = field(default=None, metadata=BY_CONTENT)
    """For precomputed: text file that names the rows of the depth, one frame name per line."""
    offset: int | None = None
    """For precomputed: row k of the depth is source frame offset + k * stride."""
    stride: int | None = None
    """See offset."""
    windows: str | None = None
    """For precomputed: LENGTH:OVERLAP of the windows of frames in which a video model made the depth, in frames it saw:
    110:25 for DepthCrafter as it comes. Without it, what the npz says (windows, overlap_rows, overlap_earlier,
    overlap_later)."""
    more: tuple[str, ...] = field(default=(), metadata=PATH_AFTER_EQUALS)
    """Further depth of the same frames, NAME[:KIND][:sensor][:METRES]=PATH each: it becomes depth/NAME and anchors the
    primary depth, or is that itself where align names it. METRES is what 1 stands for (as metres-per-value); its rows
    are matched by name or by their number."""
    max_size: int = 320
    """For mvs: longest side (pixels) of the pictures it works on. Twice as many take four times as long or more."""
    complete: bool = True
    """For mvs: also give depth where nothing was measured, marked as seen in another frame or completed."""
    workers: int | None = None
    """For mvs: frames at a time; without it one per core, as far as memory goes. The result is the same."""
    model: tuple[str, ...] = field(default=(), metadata=PATH_OR_HUB_ID)
    """For depthcrafter, transformers and onnx: folder, .onnx file, or ID[@REVISION] on the Hugging Face hub; where
    several sources need one, SOURCE=MODEL each. Without it tencent/DepthCrafter for depthcrafter and
    depth-anything/Depth-Anything-V2-Small-hf for transformers; onnx has none."""
    base_model: str = field(default="stabilityai/stable-video-diffusion-img2vid-xt", metadata=PATH_OR_HUB_ID)
    """For depthcrafter: the model whose image encoder, VAE and scheduler it works with; folder or hub id."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """For networks: where they run; auto takes the GPU where there is one."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """For depthcrafter and transformers: numbers they compute with; auto is float16 on cuda, else float32."""
    offload: Literal["none", "model", "sequential"] = "model"
    """For depthcrafter on a GPU: keep there everything, the network at work, or only its layer at work."""
    steps: int = 5
    """For depthcrafter: denoising steps."""
    guidance: float = 1.0
    """For depthcrafter: classifier-free guidance; up to 1 is none, more (1.2) takes twice as long."""
    window: int = 110
    """For depthcrafter: frames it sees at once; memory grows with it."""
    overlap: int = 25
    """For depthcrafter: frames that a window shares with the one before it."""
    seed: int = 42
    """For depthcrafter: of the noise it starts from."""
    max_res: int = 1024
    """For depthcrafter: longest side (pixels) it works at; sides become multiples of 64."""
    decode_chunk: int = 8
    """For depthcrafter: frames decoded at once; another number gives another depth, 8 is what it is published with."""
    noise_strength: float = 0.02
    """For depthcrafter: noise added to the pictures it is shown."""
    pixels: Literal["recorded", "source"] = "recorded"
    """For depthcrafter: recorded shows it the pictures of the frames stage, in true colours; source decodes the video
    anew as the authors' program does, for the same depth as that program gives."""
    resolution: Literal["source", "model"] = "source"
    """For networks: size of the depth: source brings it to the picture's along its edges, model keeps the network's."""
    batch: int = 4
    """For transformers and onnx: pictures at a time."""
    preset: str | None = None
    """For onnx: name of a known way to feed a network (size, range of values, what it gives); see docs."""
    input_size: str | None = None
    """For onnx: WIDTHxHEIGHT of the pictures the network takes, where it takes any."""
    input_values: Literal["0..1", "0..255", "-1..1", "imagenet"] | None = None
    """For onnx: range of the colours that the network takes; imagenet: 0..1 less its mean, over its deviation."""
    preview: bool = field(default=True, metadata=NOT_IN_KEY)
    """Write depth.png and preview.mp4 beside the depth: some frames, and all of them, on one scale of colours."""

    def model_of(self, source: str) -> str | None:
        """The model that is meant for a source, as it was typed; its usual one, or None, where none is."""
        plain = None
        for text in self.model:
            name, equals, model = text.partition("=")
            if not equals:
                plain = text
            elif name == source:
                return model
        return plain or USUAL_MODELS.get(source)


def fields_of(kind: type, options: DepthOptions) -> dict[str, object]:
    """Of the flat options those that a source's own options have, too."""
    return {item.name: getattr(options, item.name) for item in fields(kind)}


def source_names(options: DepthOptions, has_sensor: bool = False) -> list[str]:
    """The sources that the options name, the primary one first; auto is the one it stands for.

    Args:
        has_sensor: the recording brings the depth of a sensor.
    """
    names = [name.strip() for name in options.source.split(",") if name.strip()]
    chosen = PRECOMPUTED if options.path is not None else SENSOR if has_sensor else MVS
    return [chosen if name == AUTO else name for name in names]


def check_models(options: DepthOptions, sources: Sequence[str]) -> None:
    """Refuse models that belong to no source, or to nobody knows which. Raises OptionsError."""
    networks = [name for name in sources if name in NETWORKS]
    said: set[str] = set()
    for text in options.model:
        name, equals, model = text.partition("=")
        meant = name if equals else ""
        if equals and (name not in NETWORKS or not model):
            raise OptionsError(
                f"depth: --depth.model '{shown(text)}' is neither a model nor SOURCE=MODEL with one of the sources "
                f"{', '.join(NETWORKS)}"
            )
        if meant in said:
            raise OptionsError(f"depth: --depth.model names two models for {meant or 'one source'}: give one")
        said.add(meant)
    if "" in said and len([name for name in networks if name not in said]) > 1:
        raise OptionsError(
            f"depth: --depth.model does not say which of {', '.join(networks)} it is for: write SOURCE=MODEL for each"
        )
    if ONNX in networks and options.model_of(ONNX) is None:
        raise OptionsError("depth: the source onnx needs --depth.model: the .onnx file of a depth network")
