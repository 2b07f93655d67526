"""The networks of DepthCrafter, in the stock classes of diffusers and transformers.

The UNet of Stable Video Diffusion takes one image embedding for a clip; DepthCrafter gives every frame its own. Hooks
on the spatio-temporal transformers hand them over, and nothing else of the UNet changes.

Source: Hu et al., DepthCrafter, arXiv 2409.02095; Blattmann et al., Stable Video Diffusion, arXiv 2311.15127.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recon4d.depth.model_files import Wanted, quiet_loading
from recon4d.errors import InputError, first_line

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
    from diffusers.models.attention_processor import Attention
    from transformers import CLIPVisionModelWithProjection

CLIP_SIDE = 224
FPS_ID, MOTION_ID = 7.0, 127.0  # what the model was trained with: frames per second, motion bucket
# Half precision first: that is what is loaded where it is there.
UNET_FILES = Wanted(
    needed=(
        ("unet/config.json", "config.json"),
        ("unet/*.fp16.safetensors", "unet/*.safetensors", "*.fp16.safetensors", "*.safetensors"),
    ),
    also=("unet/*.safetensors.index.json", "*.safetensors.index.json"),
)
BASE_FILES = Wanted(
    needed=(
        ("vae/config.json",),
        ("vae/*.fp16.safetensors", "vae/*.safetensors"),
        ("image_encoder/config.json",),
        ("image_encoder/*.fp16.safetensors", "image_encoder/*.safetensors"),
        ("scheduler/scheduler_config.json",),
        ("feature_extractor/preprocessor_config.json",),
    ),
    also=("vae/*.safetensors.index.json", "image_encoder/*.safetensors.index.json"),
)


@dataclass(frozen=True)
class Placement:
    """Where networks run, with which numbers, and what lies on the device while they do."""

    device: str = "cpu"
    dtype: str = "float32"
    offload: str = "model"  # none: all networks; model: the one at work; sequential: its layer at work


class DepthCrafterModel:
    """Image encoder, VAE, UNet and scheduler, ready to work. All tensors in and out lie on the device."""

    def __init__(
        self,
        unet: UNetSpatioTemporalConditionModel,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: CLIPVisionModelWithProjection,
        scheduler: EulerDiscreteScheduler,
        colours: tuple[tuple[float, ...], tuple[float, ...]],
        placement: Placement,
    ) -> None:
        """
        Args:
            colours: mean and deviation of the colours (0..1) that the image encoder expects.
        """
        import torch

        self.unet, self.vae, self.image_encoder, self.scheduler = unet, vae, image_encoder, scheduler
        self.device, self.dtype = torch.device(placement.device), getattr(torch, placement.dtype)
        self._colours = [torch.tensor(item, device=self.device)[None, :, None, None] for item in colours]
        self.encodes_in = self.dtype
        if self.dtype is torch.float16 and vae.config.force_upcast:
            # The encoder overflows in half precision; only its side of the VAE goes up, once and for all.
            self.encodes_in = torch.float32
            vae.encoder.float()
            vae.quant_conv.float()
        self._offload = "none" if self.device.type == "cpu" else placement.offload
        self._there: set[torch.nn.Module] = set()  # of those that come and go
        _place([unet, vae, image_encoder], self.device, self._offload)
        self._own_embeddings: torch.Tensor | None = None
        _give_every_frame_its_embedding(unet, lambda: self._own_embeddings)
        _skip_scores_of_single_tokens(unet)

    @property
    def latent_scale(self) -> int:
        """Pixels per latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    def embed(self, frames: torch.Tensor) -> torch.Tensor:
        """(n, C) image embeddings of frames (n, 3, h, w) from -1 to 1."""
        import torch

        mean, deviation = self._colours
        small = antialiased_resize(frames.float(), CLIP_SIDE)
        with torch.inference_mode(), self.at_work(self.image_encoder):
            return self.image_encoder((((small + 1) / 2 - mean) / deviation).to(self.dtype)).image_embeds

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """(n, 4, h/8, w/8) conditioning latents of frames (n, 3, h, w) from -1 to 1, not scaled."""
        import torch

        with torch.inference_mode(), self.at_work(self.vae):
            return self.vae.encode(frames.to(self.encodes_in)).latent_dist.mode()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, h, w) float32 disparity from 0 to 1 of latents (n, 4, h/8, w/8), all of one chunk."""
        import torch

        with torch.inference_mode(), self.at_work(self.vae):
            scaled = latents.to(self.dtype) / self.vae.config.scaling_factor
            pictures = self.vae.decode(scaled, num_frames=len(scaled)).sample.float()
        return (pictures / 2 + 0.5).clamp(0, 1).mean(dim=1)

    def predict(
        self, sample: torch.Tensor, timestep: torch.Tensor, embeddings: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        """(1, t, 4, h, w) velocity of a window.

        Args:
            sample: (1, t, 8, h, w) scaled noisy latents and conditioning latents.
            embeddings: (t, C), one per frame.
            ids: (1, 3) frames per second, motion bucket, noise strength.
        """
        import torch

        self._own_embeddings = embeddings[:, None].to(self.dtype)
        try:
            with torch.inference_mode(), self.at_work(self.unet):
                first = self._own_embeddings[None, 0]
                return self.unet(sample.to(self.dtype), timestep, first, added_time_ids=ids, return_dict=False)[0]
        finally:
            self._own_embeddings = None

    @contextmanager
    def at_work(self, *networks: torch.nn.Module) -> Iterator[None]:
        """Keep networks on the device while the block lasts; blocks within it do not move them again."""
        fetched = [one for one in networks if one not in self._there] if self._offload == "model" else []
        self._there.update(fetched)
        try:
            for network in fetched:
                network.to(self.device)
            yield
        finally:
            self._there.difference_update(fetched)
            for network in fetched:
                network.to("cpu")


def load_depthcrafter(unet_folder: Path | str, base_folder: Path | str, placement: Placement) -> DepthCrafterModel:
    """Load the networks from folders as the hub has them.

    Args:
        unet_folder: with the UNet at its root, or in its folder ``unet``.
        base_folder: of Stable Video Diffusion: ``vae``, ``image_encoder``, ``scheduler``, ``feature_extractor``.

    Raises:
        InputError: a part is missing or is no such network.
    """
    import torch
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
    from transformers import CLIPVisionModelWithProjection

    dtype = getattr(torch, placement.dtype)
    unet_folder, base_folder = Path(unet_folder), Path(base_folder)
    inner = unet_folder / "unet"
    place = unet_folder if (unet_folder / "config.json").is_file() and not (inner / "config.json").is_file() else inner
    # The UNet's config names the authors' class, which the stock one need not warn about.
    with quiet_loading("diffusers", "transformers"):
        unet = _loaded(UNetSpatioTemporalConditionModel, place, torch_dtype=dtype)
        vae = _loaded(AutoencoderKLTemporalDecoder, base_folder / "vae", torch_dtype=dtype)
        encoder = _loaded(CLIPVisionModelWithProjection, base_folder / "image_encoder", dtype=dtype)
    scheduler = _loaded(EulerDiscreteScheduler, base_folder / "scheduler")
    _check_fit(unet, vae, encoder, place, base_folder)
    colours = _colours(base_folder / "feature_extractor" / "preprocessor_config.json")
    return DepthCrafterModel(unet.eval(), vae.eval(), encoder.eval(), scheduler, colours, placement)


def _loaded(kind: type, folder: Path, **options: object) -> object:
    """A network or scheduler of one folder; only weights in the safetensors format, half precision files first."""
    if not folder.is_dir():
        raise InputError(f"depth: the model has no folder {folder}: give that of a whole model, as the hub has it")
    if options:
        options["use_safetensors"] = True
        if any(folder.glob("*.fp16.safetensors")):
            options["variant"] = "fp16"
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, **options)
    except Exception as error:  # diffusers, transformers, safetensors and PyTorch each have errors of their own
        raise InputError(
            f"depth: {folder} is not a usable {kind.__name__} ({first_line(error)}): get the model again"
        ) from error


def _check_fit(unet: object, vae: object, encoder: object, place: Path, base: Path) -> None:
    expected = 2 * vae.config.latent_channels, vae.config.latent_channels, encoder.config.projection_dim
    found = unet.config.in_channels, unet.config.out_channels, unet.config.cross_attention_dim
    if found != expected:
        raise InputError(
            f"depth: the UNet in {place} takes {found[0]} and gives {found[1]} channels with embeddings of {found[2]}, "
            f"the base model {base} asks for {expected[0]}, {expected[1]} and {expected[2]}: they do not fit together"
        )


def _colours(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return tuple(map(float, told["image_mean"])), tuple(map(float, told["image_std"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"depth: {path} does not tell image_mean and image_std ({error!r}): get the model again"
        ) from error


def _place(networks: list[torch.nn.Module], device: torch.device, offload: str) -> None:
    if offload == "none":
        for network in networks:
            network.to(device)
    elif offload == "sequential":
        from accelerate import cpu_offload

        for network in networks:
            cpu_offload(network, device)


def _give_every_frame_its_embedding(
    unet: UNetSpatioTemporalConditionModel, embeddings: Callable[[], torch.Tensor]
) -> None:
    """Let every spatio-temporal transformer see the embeddings (t, 1, C) instead of the first one repeated."""
    from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel

    def substitute(_module: object, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if len(args) > 1:
            return (args[0], embeddings(), *args[2:]), kwargs
        return args, {**kwargs, "encoder_hidden_states": embeddings()}

    for module in unet.modules():
        if isinstance(module, TransformerSpatioTemporalModel):
            module.register_forward_pre_hook(substitute, with_kwargs=True)


class _SingleToken:
    """Cross attention to one token, whose weight is 1 whatever the query: the token's value, projected.

    Args:
        shared: one token for the whole batch, repeated.
    """

    def __init__(self, shared: bool) -> None:
        self._shared = shared

    def __call__(
        self, attn: Attention, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **_ignored: object
    ) -> torch.Tensor:
        token = encoder_hidden_states[:1] if self._shared else encoder_hidden_states  # (b or 1, 1, C)
        out = attn.to_out[0](attn.to_v(token))
        return out.expand(len(hidden_states), hidden_states.shape[1], -1)


def _skip_scores_of_single_tokens(unet: UNetSpatioTemporalConditionModel) -> None:
    """Leave out queries and keys where there is one token to attend to: in every cross attention of this UNet."""
    from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock

    for module in unet.modules():
        if isinstance(module, (BasicTransformerBlock, TemporalBasicTransformerBlock)) and module.attn2 is not None:
            # Over time, every pixel attends to the embedding of the window's first frame.
            module.attn2.set_processor(_SingleToken(shared=isinstance(module, TemporalBasicTransformerBlock)))


def antialiased_resize(pictures: torch.Tensor, side: int) -> torch.Tensor:
    """(n, 3, side, side) of pictures (n, 3, h, w): blurred as far as they shrink, then bicubic, corners on corners.

    Per axis the blur has sigma max((shrink - 1) / 2, 0.001) and max(4 sigma, 3) taps, one more where that is even.
    Values may overshoot. Source: what diffusers' StableVideoDiffusionPipeline does to its image encoder's input.
    """
    from torch.nn import functional

    for axis in (2, 3):
        sigma = max((pictures.shape[axis] / side - 1) / 2, 0.001)
        taps = int(max(4 * sigma, 3)) | 1
        pictures = _blurred(pictures, axis, sigma, taps)
    return functional.interpolate(pictures, size=(side, side), mode="bicubic", align_corners=True)


def _blurred(pictures: torch.Tensor, axis: int, sigma: float, taps: int) -> torch.Tensor:
    import torch
    from torch.nn import functional

    offset = torch.arange(taps, dtype=pictures.dtype, device=pictures.device) - taps // 2
    weights = torch.exp(-(offset**2) / (2 * sigma**2))
    shape = [1, 1, 1, 1]
    shape[axis] = taps
    kernel = (weights / weights.sum()).view(shape).expand(pictures.shape[1], 1, *shape[2:])
    more = taps // 2
    padded = functional.pad(pictures, (0, 0, more, more) if axis == 2 else (more, more, 0, 0), mode="reflect")
    return functional.conv2d(padded, kernel, groups=pictures.shape[1])
