"""`recon4d doctor`: what is installed, what it is for, under which licence, and the line that installs the rest."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One dependency as its users see it."""

    distribution: str
    module: str
    purpose: str
    licence: str
    install: str


REQUIRED = (
    Package("torch", "torch", "depth models, gradients, GPU", "BSD-3", "pip install torch"),
    Package("diffusers", "diffusers", "DepthCrafter's pipeline", "Apache-2.0", "pip install diffusers"),
    Package("transformers", "transformers", "depth models", "Apache-2.0", "pip install transformers"),
    Package("accelerate", "accelerate", "models larger than the GPU", "Apache-2.0", "pip install accelerate"),
    Package("safetensors", "safetensors", "weights of models", "Apache-2.0", "pip install safetensors"),
    Package("open3d", "open3d", "background mesh, readers", "MIT", "pip install open3d"),
    Package("pycolmap", "pycolmap", "structure from motion", "BSD-3", "pip install pycolmap"),
    Package("numpy", "numpy", "arrays", "BSD-3", "pip install numpy"),
    Package("scipy", "scipy", "solvers", "BSD-3", "pip install scipy"),
    Package("numba", "numba", "fast kernels", "BSD-2", "pip install numba"),
    Package("trimesh", "trimesh", "meshes for notebooks", "MIT", "pip install trimesh"),
    Package("av", "av", "video", "BSD-3 (FFmpeg inside: GPL)", "pip install av"),
    Package("opencv-python-headless", "cv2", "pictures", "Apache-2.0", "pip install opencv-python-headless"),
    Package("pillow", "PIL", "photographs", "MIT-CMU", "pip install pillow"),
    Package("tyro", "tyro", "command line", "MIT", "pip install tyro"),
    Package("rich", "rich", "progress", "MIT", "pip install rich"),
)
OPTIONAL = (
    Package("OpenEXR", "OpenEXR", "EXR files", "BSD-3", "pip install 'recon4d[exr]'"),
    Package("usd-core", "pxr", "USD files", "TOST-1.0, much like Apache-2.0", "pip install 'recon4d[usd]'"),
    Package("laspy", "laspy", "LAS and LAZ files", "BSD-2", "pip install 'recon4d[las]'"),
    Package("lazrs", "lazrs", "packed LAZ files", "MIT", "pip install 'recon4d[las]'"),
    Package("viser", "viser", "recon4d view", "Apache-2.0", "pip install 'recon4d[viewer]'"),
    Package("onnxruntime", "onnxruntime", "depth, flow and other models (.onnx)", "MIT", "pip install 'recon4d[onnx]'"),
    Package("ftfy", "ftfy", "the text encoder of Wan, which fills videos", "Apache-2.0", "pip install 'recon4d[fill]'"),
    Package("pyliblzfse", "liblzfse", "rare .r3d recordings", "MIT", "pip install 'recon4d[record3d]'"),
    Package(
        "nvdiffrast",
        "nvdiffrast",
        "rasterising on CUDA",
        "NVIDIA, research use only",
        "see third_party/README.md",
    ),
)


def examine() -> tuple[str, bool]:
    """The report, and whether everything required is there and loads."""
    lines = [
        f"recon4d {importlib.metadata.version('recon4d')}, Python {platform.python_version()}, {platform.platform()}",
        f"cores: {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}, "
        f"free disk here: {shutil.disk_usage('.').free / 1e9:.0f} GB",
        "required:",
    ]
    healthy = True
    for package in REQUIRED:
        line, fine = _check(package)
        lines.append(line)
        healthy = healthy and fine
    lines.append("optional:")
    lines += [_check(package)[0] for package in OPTIONAL]
    lines += ["backends:", *_backends()]
    lines += [
        "depth models in the cache of the Hugging Face hub (none is used unless it is asked for):",
        *depth_models(),
    ]
    lines.append("all that is required is here" if healthy else "something required is missing: see the lines above")
    return "\n".join(lines), healthy


def _check(package: Package) -> tuple[str, bool]:
    """A line about one package: it is imported, since an installed package may still lack a system library."""
    try:
        module = importlib.import_module(package.module)
    except ModuleNotFoundError:
        return f"  --  {package.distribution:<24} {package.purpose} ({package.licence}): {package.install}", False
    except Exception as error:  # whatever a broken package raises is what the user must read
        return f"  !!  {package.distribution:<24} is installed but does not load: {error}", False
    try:
        version = importlib.metadata.version(package.distribution)
    except importlib.metadata.PackageNotFoundError:  # the module of another build, such as onnxruntime-gpu
        version = str(getattr(module, "__version__", ""))
    return f"  ok  {package.distribution:<24} {version:<12} {package.purpose} ({package.licence})", True


def depth_models() -> list[str]:
    """A line about each usual depth model: whether its weights are here, and under which terms."""
    from recon4d.depth.model_terms import USUAL, terms_of

    lines = []
    for name in USUAL:
        terms = terms_of(name)
        allowed = {True: "", False: ", not for commercial use", None: f", {terms.note}"}[terms.commercial_use]
        lines.append(f"  {'ok' if _in_cache(name) else '--'}  {name:<56} {terms.licence}{allowed}")
    return lines


def _in_cache(name: str) -> bool:
    """Whether weights of a repository lie in the hub's cache on this machine."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    return any(folder.rglob("*.safetensors"))


def _backends() -> list[str]:
    lines = []
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            lines.append(f"  torch: CUDA on {torch.cuda.get_device_name(0)}")
        else:
            lines.append(
                f"  torch: CPU (build {torch.__version__}); everything runs, a CUDA device only makes it faster"
            )
    if importlib.util.find_spec("pycolmap") is not None:
        import pycolmap

        lines.append(f"  COLMAP {pycolmap.__version__}: {'CUDA' if pycolmap.has_cuda else 'CPU'}")
    return lines
