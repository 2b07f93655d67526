"""Tiny depth models of the real classes of the transformers library, with random weights, saved as the hub has them."""

from __future__ import annotations

import json
from pathlib import Path

NAMES = ("depth_anything", "depth_anything_metric", "dpt", "dpt_dinov2", "glpn", "zoedepth", "depth_pro")


def save_tiny(folder: Path, name: str, seed: int = 0) -> Path:
    """Save one of `NAMES`, or prompt_depth_anything, into a folder."""
    import torch

    model, settings = _made(name)
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():  # as they start, they hardly tell one picture from another
            tensor.copy_(torch.randn_like(tensor) * (0.3 if tensor.ndim > 1 else 0.1))
        if name == "depth_pro":
            model.fov_model.head.layers[-1].bias.fill_(60.0)  # degrees
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def _settings(name: str, side: int, **more: object) -> dict[str, object]:
    half = [0.5, 0.5, 0.5]
    common = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    own = {"image_processor_type": name, "image_mean": half, "image_std": half, "resample": 2}
    return common | own | {"size": {"height": side, "width": side}} | more


def _old_settings() -> dict[str, object]:
    """As those of 2022 wrote them, Intel/dpt-large for one."""
    settings = _settings("", 32) | {"feature_extractor_type": "DPTFeatureExtractor", "size": 32}
    return {key: value for key, value in settings.items() if key != "image_processor_type"}


def _dino(reshaped: bool = False, **more: object):
    import transformers

    usual = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    out = {"out_indices": [1, 2, 3, 4], "reshape_hidden_states": reshaped, "apply_layernorm": True}
    return transformers.Dinov2Config(**usual | {"image_size": 28, "patch_size": 14} | out | more)


def _made(name: str):
    """A model and the settings of what feeds it."""
    import transformers as lib

    neck = {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8}
    patches = {"keep_aspect_ratio": True, "ensure_multiple_of": 14}
    if name in ("depth_anything", "depth_anything_metric", "prompt_depth_anything"):
        metric = {"depth_estimation_type": "metric", "max_depth": 20} if name.endswith("metric") else {}
        prompted = name.startswith("prompt")
        kind = "PromptDepthAnything" if prompted else "DepthAnything"
        own = {"backbone_config": _dino(), "patch_size": 14, "reassemble_hidden_size": 16, "head_hidden_size": 4}
        config = getattr(lib, f"{kind}Config")(**own | neck | metric)
        processor = f"{'PromptDepthAnything' if prompted else 'DPT'}ImageProcessor"
        return getattr(lib, f"{kind}ForDepthEstimation")(config), _settings(processor, 56, **patches)
    if name == "dpt":
        sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
        config = lib.DPTConfig(**sizes, image_size=32, patch_size=16, backbone_out_indices=[0, 1, 2, 3], **neck)
        return lib.DPTForDepthEstimation(config), _old_settings()
    if name == "dpt_dinov2":
        config = lib.DPTConfig(backbone_config=_dino(), **neck)
        pads = {"do_resize": False, "do_pad": True, "size_divisor": 14}
        return lib.DPTForDepthEstimation(config), _settings("DPTImageProcessor", 56) | pads
    if name == "glpn":
        blocks = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}
        config = lib.GLPNConfig(**blocks, decoder_hidden_size=8, max_depth=80)
        return lib.GLPNForDepthEstimation(config), _settings("GLPNImageProcessor", 32, size_divisor=32)
    if name == "zoedepth":
        sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
        stages = {"out_features": [f"stage{i}" for i in (1, 2, 3, 4)], "reshape_hidden_states": False}
        beit = lib.BeitConfig(**sizes, **stages, image_size=64, patch_size=16, use_relative_position_bias=True)
        bins = {"bottleneck_features": 8, "num_relative_features": 4, "bin_embedding_dim": 8}
        config = lib.ZoeDepthConfig(backbone_config=beit, **neck, **bins, num_attractors=[4, 2, 2, 1])
        pads = {"do_pad": True, "keep_aspect_ratio": True, "ensure_multiple_of": 32}
        return lib.ZoeDepthForDepthEstimation(config), _settings("ZoeDepthImageProcessor", 64, **pads)
    assert name == "depth_pro"
    encoder = {"image_size": 16, "patch_size": 4, "out_indices": None}
    scaled = {"ratios": [0.5, 1.0], "overlap_ratios": [0.0, 0.2], "feature_dims": [8, 8]}
    config = lib.DepthProConfig(
        fusion_hidden_size=16,
        patch_size=16,
        intermediate_hook_ids=[3, 2],
        intermediate_feature_dims=[8, 8],
        **{f"scaled_images_{key}": value for key, value in scaled.items()},
        merge_padding_value=1,
        use_fov_model=True,
        **{f"{part}_model_config": _dino(**encoder) for part in ("image", "patch", "fov")},
    )
    return lib.DepthProForDepthEstimation(config), _settings("DepthProImageProcessor", 64)
