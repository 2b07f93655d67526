"""recon4d: from an ordinary handheld video to a metric 4D scene.

In a notebook::

    import recon4d

    scene = recon4d.run("clip.mp4", "scene")
    cloud = scene.static_cloud()          # numpy arrays
    depth = scene.scene_depth("000000")   # z-depth of one frame
"""

from __future__ import annotations

import importlib

from recon4d._version import __version__

# Imported on first use: `import recon4d` loads none of the heavy packages.
_EXPORTS = {
    "run": "recon4d.pipeline",
    "Options": "recon4d.pipeline",
    "FramesOptions": "recon4d.stages.frames",
    "PosesOptions": "recon4d.stages.poses",
    "DepthOptions": "recon4d.stages.depth_options",
    "AlignOptions": "recon4d.stages.align",
    "MetricOptions": "recon4d.stages.metres",
    "MeshOptions": "recon4d.stages.mesh",
    "MotionOptions": "recon4d.stages.motion",
    "RefineOptions": "recon4d.stages.refine",
    "FuseOptions": "recon4d.stages.fuse",
    "ExportOptions": "recon4d.stages.export_options",
    "Gates": "recon4d.evaluation.gates",
    "check": "recon4d.stages.check",
    "write_report": "recon4d.stages.report",
    "Workspace": "recon4d.workspace",
    "Recon4dError": "recon4d.errors",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'recon4d' has no attribute '{name}'")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
