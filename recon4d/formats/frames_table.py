"""`frames/frames.csv`: which picture came from where and when."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from recon4d.errors import WorkspaceError
from recon4d.scene.recording import Frame, Recording

COLUMNS = ("name", "source_index", "source_name", "timestamp_s", "shot")


def write_frames_table(path: Path, frames: Sequence[Frame]) -> None:
    """Write `frames.csv`; times with nanoseconds."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for frame in frames:
            writer.writerow([frame.name, frame.source_index, frame.source_name, f"{frame.timestamp_s:.9f}", frame.shot])


def read_recording(folder: Path) -> Recording:
    """The recording in a `frames/` folder. Raises WorkspaceError when a picture of the table is missing."""
    with open(folder / "frames.csv", newline="", encoding="utf-8") as file:
        frames = tuple(
            Frame(
                row["name"], int(row["source_index"]), row["source_name"], float(row["timestamp_s"]), int(row["shot"])
            )
            for row in csv.DictReader(file)
        )
    pictures, masks = [], []
    for frame in frames:
        found = [path for suffix in (".jpg", ".png") if (path := folder / f"{frame.name}{suffix}").exists()]
        if not found:
            raise WorkspaceError(f"frames: the picture of frame {frame.name} is missing in {folder}: run frames again")
        pictures.append(found[0])
        mask = folder / "mask" / f"{frame.name}.png"
        masks.append(mask if mask.exists() else None)
    return Recording(frames, tuple(pictures), tuple(masks))
