"""Depth that the sensor of an RGB-D recording measured, brought to the colour camera."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recon4d.errors import DepthError
from recon4d.scene.depth import DepthKind, DepthMap, Provenance
from recon4d.stages.depth_frames import DepthFrames
from recon4d.workspace import StagePart, Workspace

if TYPE_CHECKING:
    from recon4d.formats.rgbd import RgbdCalibration, SensorPicture
    from recon4d.stages.depth_options import DepthOptions


@dataclass(frozen=True)
class SensorDepth:
    """What of the depth options concerns depth/sensor: nothing, the recording says it all."""

    version: ClassVar[int] = 1

    @classmethod
    def of(cls, options: DepthOptions) -> SensorDepth:
        return cls()

    def check(self) -> None:
        """There is nothing to refuse before the frames are made."""

    def extra_key(self, before: Mapping[str, object] | None = None) -> object:
        return None

    def make(self, workspace: Workspace, part: StagePart) -> dict[str, object]:
        return make_sensor_depth(workspace, part)


def make_sensor_depth(workspace: Workspace, part: StagePart) -> dict[str, object]:
    """Write the sensor's depth of every posed frame to the part and return the summary.

    Raises:
        DepthError: the frames have no sensor depth, or one of them none that falls into its picture.
    """
    from recon4d.formats.sensor_depth import CAMERAS, FOLDER, read_cameras, read_sensor_picture

    folder = workspace.unit_dir("frames") / FOLDER
    if not (folder / CAMERAS).is_file():
        raise DepthError(
            "depth: sensor: the frames bring no sensor depth: give recon4d run an RGB-D recording as INPUT (a TUM or "
            "ScanNet-like folder, color/ and depth/ with a calibration.json, or a Record3D .r3d), or depth files with "
            "--depth.path and --depth.sensor"
        )
    calibration = read_cameras(folder)
    frames = DepthFrames(workspace, part)
    for name in part.pending(frames.names, "reading sensor depth"):
        picture = read_sensor_picture(folder, name)
        if picture is None:
            raise DepthError(f"depth: sensor: frame {name} has no sensor depth: run recon4d frames again")
        depth = depth_in_picture(picture, calibration)
        if not depth.valid.any():
            raise DepthError(
                f"depth: sensor: the sensor saw nothing in frame {name}, too near or too far: leave it out with "
                "--frames.start, --frames.end or another --frames.stride"
            )
        frames.write(name, depth)
    remark = (
        "depth covers the colour pictures as recorded"
        if calibration.is_registered
        else f"depth is brought to the colour camera ({calibration.source})"
    )
    part.progress.say(f"  {remark}")
    return {
        "kind": DepthKind.METRIC_Z.value,
        "sensor": True,
        "frames": len(frames.names),
        "windows": 0,
        "remarks": [remark],
    }


def depth_in_picture(picture: SensorPicture, calibration: RgbdCalibration) -> DepthMap:
    """What the sensor saw, as the colour camera sees it: metric z on a grid that covers the colour picture.

    Raises:
        DepthError: the picture is not the depth camera's.
    """
    from recon4d.geometry.depth_registration import registered

    metres, confidence = picture.metres, picture.confidence
    if not calibration.is_registered:
        if metres.shape != calibration.depth.shape:
            raise DepthError(
                f"depth: sensor: depth is {metres.shape[1]}x{metres.shape[0]}, its camera {calibration.depth.width}x"
                f"{calibration.depth.height}: run recon4d frames again"
            )
        moved = registered(metres, calibration.depth, calibration.color, calibration.color_from_depth)
        metres = moved.values
        confidence = None if confidence is None else moved.carried(confidence)
    valid = metres > 0
    chance = valid.astype(np.float32) if confidence is None else np.where(valid, confidence, np.float32(0))
    return DepthMap(
        DepthKind.METRIC_Z, metres, valid, chance, np.full(metres.shape, Provenance.MEASURED, dtype=np.uint8)
    )
