"""What the numbers of the depth models of the transformers library mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recon4d.errors import OptionsError
from recon4d.scene.depth import DepthKind

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def kind_of(config: PretrainedConfig) -> DepthKind | None:
    """The kind of the numbers a model gives, by its architecture; None where that does not tell.

    Source: the heads of transformers 5.23, ``models/*/modeling_*.py``, and what their papers train on.
    """
    rule = RULES.get(config.model_type)
    return rule(config) if callable(rule) else rule


def _depth_anything(config: PretrainedConfig) -> DepthKind:
    """Inverse depth up to scale and shift from a ReLU; metres from a sigmoid times ``max_depth``."""
    metric = getattr(config, "depth_estimation_type", "relative") == "metric"
    return DepthKind.METRIC_Z if metric else DepthKind.AFFINE_DISPARITY


def _dpt(config: PretrainedConfig) -> DepthKind:
    """MiDaS and DPT give inverse depth up to scale and shift; those on DINOv2 were trained in metres, on NYU or KITTI.

    Source: Ranftl et al., ICCV 2021; Oquab et al., TMLR 2024, section 7.4.
    """
    backbone = getattr(config, "backbone_config", None)
    on_dino = getattr(backbone, "model_type", None) == "dinov2"
    return DepthKind.METRIC_Z if on_dino else DepthKind.AFFINE_DISPARITY


def _depth_pro(config: PretrainedConfig) -> DepthKind:
    """z = width / (focal length * inverse depth): metres with the field of view, else up to its focal length.

    Source: Bochkovskii et al., ICLR 2025, section 3.1.
    """
    return DepthKind.METRIC_Z if getattr(config, "use_fov_model", False) else DepthKind.SCALE_FREE_Z


RULES = {
    "depth_anything": _depth_anything,
    "dpt": _dpt,
    "depth_pro": _depth_pro,
    "zoedepth": DepthKind.METRIC_Z,  # bins in metres; Bhat et al., 2023
    "glpn": DepthKind.METRIC_Z,  # sigmoid times max_depth metres; Kim et al., 2022
    "tipsv2_dpt": DepthKind.METRIC_Z,  # bins between min_depth and max_depth metres
    # What is known and still has no rule: prompt_depth_anything gives metres only with a lidar's prompt, which nobody
    # gives here; chmv2 gives the height of trees in aerial pictures.
}


def kind_or_refuse(config: PretrainedConfig, told: DepthKind | None) -> DepthKind:
    """The kind as told, or as the architecture tells. Raises OptionsError where neither does."""
    kind = told or kind_of(config)
    if kind is None:
        raise OptionsError(
            f"depth: nothing says what the numbers of a '{config.model_type}' model mean: name --depth.kind "
            f"({', '.join(kind.value for kind in DepthKind)})"
        )
    return kind
