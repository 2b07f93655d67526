"""Package metadata of recon4d. Install with pip; see README.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'"(.+)"', (HERE / "recon4d" / "_version.py").read_text(encoding="utf-8")).group(1)

# nvdiffrast (CUDA only, research licence) is on no package index: tools and third_party/README.md say how to get it.
EXTRAS = {
    "exr": ["OpenEXR>=3.2"],
    "gpu": ["ninja"],
    "onnx": ["onnxruntime>=1.17"],
    "dev": [
        "pytest>=8",
        "pytest-timeout>=2.3",
        "hypothesis>=6.100",
        "ruff>=0.6",
        "plyfile>=1.0",
        "onnxruntime>=1.17",
        "onnx>=1.16",
    ],
}
EXTRAS["all"] = sorted({name for names in EXTRAS.values() for name in names})

setup(
    name="recon4d",
    version=VERSION,
    description="From an ordinary handheld video to a metric 4D scene",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["recon4d", "recon4d.*"]),
    package_data={"recon4d": ["py.typed"]},
    install_requires=[
        "torch>=2.4",
        "diffusers>=0.31",
        "transformers>=4.44",
        "accelerate>=0.33",
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
