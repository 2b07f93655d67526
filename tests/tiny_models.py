"""Small networks of the real classes with random weights, saved to disk as the hub has them."""

from pathlib import Path

CLIP_DIM = 32


def save_tiny_svd(folder: Path, seed: int = 0) -> Path:
    """A Stable Video Diffusion of 0.8 million weights, UNet included: eight pixels per latent."""
    import torch
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(seed)
    UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        layers_per_block=1,
        cross_attention_dim=CLIP_DIM,
        transformer_layers_per_block=(1, 0),
        num_attention_heads=(2, 4),
    ).save_pretrained(folder / "unet")
    AutoencoderKLTemporalDecoder(
        block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1
    ).save_pretrained(folder / "vae")
    vision = CLIPVisionConfig(
        hidden_size=CLIP_DIM,
        intermediate_size=CLIP_DIM,
        projection_dim=CLIP_DIM,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=224,
        patch_size=32,
    )
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        steps_offset=1,
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
    ).save_pretrained(folder / "scheduler")
    return folder
