"""Package metadata of recon4d. Install with pip; see README.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'"(.+)"', (HERE / "recon4d" / "_version.py").read_text(encoding="utf-8")).group(1)

# nvdiffrast (CUDA only, research licence) is on no package index: tools and third_party/README.md say how to get it.
EXTRAS = {
    "exr": ["OpenEXR>=3.3"],
    "usd": ["usd-core>=24.11"],
    "las": ["laspy[lazrs]>=2.5"],
    "viewer": ["viser>=1.1"],
    "gpu": ["ninja"],
    "onnx": ["onnxruntime>=1.17"],
    "record3d": ["pyliblzfse>=0.4"],  # for the rare blocks of LZFSE that we do not unpack ourselves; needs a C compiler
    "fill": ["ftfy>=6"],  # for the text encoder of WanVACE
    "dev": [
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "ruff>=0.6",
        "plyfile>=1.0",
        "OpenEXR>=3.3",
        "usd-core>=24.11",
        "laspy[lazrs]>=2.5",
        "viser>=1.1",
        "onnxruntime>=1.17",
        "onnx>=1.16",
    ],
}
EXTRAS["all"] = sorted({name for extra, names in EXTRAS.items() for name in names if extra != "record3d"})

setup(
    name="recon4d",
    version=VERSION,
    description="From an ordinary handheld video to a metric 4D scene",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["recon4d", "recon4d.*"]),
    package_data={"recon4d": ["py.typed", "view/player/*", "formats/blender/*.py"]},
    install_requires=[
        "torch>=2.4",
        "diffusers>=0.35",
        "transformers>=5",
        "accelerate>=1",
        "safetensors>=0.4",
        "open3d>=0.19",
        "pycolmap>=4.0",
        "numpy>=1.26",
        "scipy>=1.11",
        "trimesh>=4.4",
        "numba>=0.60",
        "av>=13",
        "opencv-python-headless>=4.8",
        "pillow>=10",
        "tyro>=0.9",
        "rich>=13",
        "tomli>=2; python_version < '3.11'",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["recon4d=recon4d.cli:main"]},
)
