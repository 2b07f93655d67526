"""The result of `evaluate` as plain data and as a table for the terminal."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

# Title, key in DepthScores, how to print it.
DEPTH_COLUMNS = (
    ("AbsRel", "abs_rel", "{:.4f}"),
    ("median", "median_rel", "{:.4f}"),
    ("d<1.25", "delta1", "{:.4f}"),
    ("RMSE m", "rmse", "{:.3f}"),
    ("logRMSE", "rmse_log", "{:.4f}"),
    ("SILog", "silog", "{:.2f}"),
    ("<1 %", "within_1", "{:.1%}"),
    ("<5 %", "within_5", "{:.1%}"),
    ("complete", "completeness", "{:.1%}"),
)


def as_plain(value: object) -> object:
    """Dataclasses as dicts, arrays as lists, numbers that are not finite as None: what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return as_plain(value.tolist())
    if isinstance(value, np.generic):
        return as_plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def format_scores(result: dict[str, object]) -> str:
    """The result of `recon4d.stages.evaluate.evaluate` as lines of text for a person."""
    registered = result["registered"]
    lines = [f"registered   {registered['frames']} of {registered['of']} frames ({registered['share']:.1%})"]
    lines += [f"matched      {what}: {rule}" for what, rule in result["rules"].items()]
    if result.get("trajectory"):
        lines += _trajectory_lines(result["trajectory"])
    if result.get("depth"):
        lines += _depth_lines(result)
    if result.get("benchmark"):
        lines += _benchmark_lines(result["benchmark"])
    if result.get("mask"):
        lines += _mask_lines(result["mask"])
    if result.get("flow"):
        lines += _flow_lines(result["flow"])
    if result.get("cloud"):
        lines += _cloud_lines(result["cloud"])
    lines += [f"note         {note}" for note in result["notes"]]
    return "\n".join(lines)


def _trajectory_lines(scores: dict) -> list[str]:
    ate, moved, turned = scores["ate"], scores["rpe_translation"], scores["rpe_rotation_deg"]
    of_path = f" ({ate['rmse'] / scores['path_length']:.2%} of the path)" if scores["path_length"] > 0 else ""
    return [
        f"trajectory   {scores['poses']} poses on a path of {scores['path_length']:.2f} m; one unit is "
        f"{scores['truth_from_estimate']['scale']:.4g} m by it",
        f"  ATE        {_cm(ate['rmse'])} rmse{of_path}, {_cm(ate['median'])} median, {_cm(ate['max'])} largest",
        f"  RPE        {_cm(moved['rmse'])} and {turned['rmse']:.3f} deg rmse from frame to frame",
    ]


def _depth_lines(result: dict) -> list[str]:
    """One row per scale and group of pixels, the chosen scale first."""
    chosen = result["scale"]
    scales = {chosen: result["scales"][chosen], **result["scales"]}
    named = [f"{name} {value:.5g}" + (" (chosen)" if name == chosen else "") for name, value in scales.items() if value]
    lines = [
        f"depth        stage {result['stage']}, mean over {result['frames']} frames; metres per unit: "
        + ", ".join(named),
        "  " + f"{'scale':<12}{'pixels':<8}" + "".join(f"{title:>9}" for title, _, _ in DEPTH_COLUMNS),
    ]
    for scale in scales:
        for group, scores in result["depth"].get(scale, {}).items():
            cells = [
                "-" if scores[key] is None else pattern.format(scores[key]).replace("%", " %")
                for _, key, pattern in DEPTH_COLUMNS
            ]
            lines.append("  " + f"{scale:<12}{group:<8}" + "".join(f"{cell:>9}" for cell in cells))
    temporal = result.get("temporal")
    if temporal:
        lines.append(
            f"flicker      {temporal['flicker']:.2%} ({1000 * temporal['flicker_m']:.1f} mm) mean, "
            f"{temporal['flicker_median']:.2%} median: standard deviation of a static surface point's error over 5 "
            "frames"
        )
    return lines


def _benchmark_lines(found: dict) -> list[str]:
    """What published tables hold, and the rest of the scores in a second line."""
    scores = found["scores"]
    complete = (
        "" if scores["completeness"] > 0.9999 else f"; {scores['completeness']:.1%} of the true pixels have depth"
    )
    return [
        f"video depth  {found['unit']}, {found['frames']} frames, truth up to {found['max_depth']:g} m, one scale "
        f"({found['gain']:.4g}) and shift ({found['shift']:.4g}) for the clip in disparity",
        f"  AbsRel {scores['abs_rel']:.4f}   d<1.25 {scores['delta1']:.4f}   RMSE {scores['rmse']:.3f} m   log10 "
        f"{scores['log10']:.4f}   SqRel {scores['sq_rel']:.4f}   d<1.25^2 {scores['delta2']:.4f}   d<1.25^3 "
        f"{scores['delta3']:.4f}{complete}",
    ]


def _mask_lines(mask: dict) -> list[str]:
    """One line; a score that nothing determines is a dash."""
    told = {key: "-" if mask[key] is None else f"{mask[key]:.3f}" for key in ("iou", "precision", "recall")}
    alarms = "" if mask["false_alarms"] is None else f"; {mask['false_alarms']:.2%} of the static pixels called moving"
    return [
        f"what moves   IoU {told['iou']}, precision {told['precision']}, recall {told['recall']} over "
        f"{mask['frames']} frames{alarms}"
    ]


def _flow_lines(flow: dict) -> list[str]:
    return [
        f"scene flow   {group}: end-point error {_cm(scores['epe'])}, true motion {_cm(scores['truth_length'])}; "
        f"{scores['strict']:.1%} within 5 cm or 5 %; known for {scores['known']:.1%}"
        for group, scores in flow.items()
        if scores is not None
    ]


def _cloud_lines(cloud: dict) -> list[str]:
    lines = [
        f"cloud        {cloud['points']} points; accuracy {_cm(cloud['accuracy'])} mean, "
        f"{_cm(cloud['accuracy_median'])} median; completeness {_cm(cloud['completeness'])} mean, "
        f"{_cm(cloud['completeness_median'])} median"
    ]
    for at in cloud["at"]:
        lines.append(
            f"  at {_cm(at['distance'])}: precision {at['precision']:.3f}, recall {at['recall']:.3f}, "
            f"F-score {at['f_score']:.3f}"
        )
    return lines


def _cm(metres: float) -> str:
    return f"{100 * metres:.2f} cm"
