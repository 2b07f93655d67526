"""Small pipelines of the real classes that repaint, with random weights, saved to disk as the hub has them."""

from pathlib import Path

DIM = 32


def _clip_tokenizer():
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _clip(kind, projection=None):
    from transformers import CLIPTextConfig

    return kind(
        CLIPTextConfig(
            vocab_size=64,
            hidden_size=DIM,
            intermediate_size=DIM,
            projection_dim=projection or DIM,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=52,
            eos_token_id=53,
        )
    )


def _t5_tokenizer():
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(extra_ids=0, vocab=special + letters)


def _vae(latent_channels=4, **more):
    """Eight pixels per latent, as the large ones."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[8] * 4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        **more,
    )


def _unet(cross, channels=9, **more):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=8,
        norm_num_groups=8,
        **more,
    )


def save_tiny_sd(folder: Path, channels: int = 9, seed: int = 0, variant: str | None = None) -> Path:
    """Stable Diffusion for inpainting, with text encoder and tokenizer.

    With four channels it is one for pictures from words, which is given what is known in every step.
    """
    import torch
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    kind = StableDiffusionInpaintPipeline if channels == 9 else StableDiffusionPipeline
    kind(
        vae=_vae(),
        text_encoder=_clip(CLIPTextModel),
        tokenizer=_clip_tokenizer(),
        unet=_unet(DIM, channels),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, variant=variant)
    return folder


def save_tiny_sdxl(folder: Path, seed: int = 0) -> Path:
    """Stable Diffusion XL for inpainting, with both text encoders and tokenizers."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    unet = _unet(
        2 * DIM,
        transformer_layers_per_block=(1, 1),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + DIM,
    )
    StableDiffusionXLInpaintPipeline(
        vae=_vae(),
        text_encoder=_clip(CLIPTextModel),
        text_encoder_2=_clip(CLIPTextModelWithProjection),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def save_tiny_wan(folder: Path, seed: int = 0) -> Path:
    """Wan VACE with its text encoder and tokenizer: four frames and eight pixels per latent, as the large one."""
    import torch
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanVACEPipeline, WanVACETransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(seed)
    text = UMT5Config(
        vocab_size=256,
        d_model=DIM,
        d_kv=8,
        d_ff=DIM,
        num_layers=1,
        num_heads=2,
        relative_attention_num_buckets=8,
    )
    transformer = WanVACETransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=DIM,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        vace_layers=[0],
        vace_in_channels=96,
    )
    with torch.no_grad():  # random weights hardly say anything: loud enough that what is known shows in eight bits
        transformer.vace_patch_embedding.weight.mul_(10)
        transformer.proj_out.weight.mul_(10)
    WanVACEPipeline(
        tokenizer=_t5_tokenizer(),
        text_encoder=UMT5EncoderModel(text),
        vae=AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def save_tiny_flux(folder: Path, seed: int = 0) -> Path:
    """FLUX Fill with both text encoders and tokenizers: 16 latent channels in patches of 2x2, as the large one."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5Config, T5EncoderModel

    torch.manual_seed(seed)
    text = T5Config(vocab_size=256, d_model=DIM, d_kv=8, d_ff=DIM, num_layers=1, num_heads=2)
    FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(latent_channels=16, shift_factor=0.1, scaling_factor=0.36),
        text_encoder=_clip(CLIPTextModel),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=T5EncoderModel(text),
        tokenizer_2=_t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            in_channels=64 + 64 + 256,  # noise, what is known, and the mask of every pixel
            out_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=DIM,
            pooled_projection_dim=DIM,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    ).save_pretrained(folder)
    return folder
