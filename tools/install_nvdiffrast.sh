#!/usr/bin/env bash
# Build nvdiffrast, the CUDA backend of recon4d.render, into .venv (or into the Python named by PYTHON).
# It is on no package index. Its licence allows research and evaluation only: read it before you use it.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v0.4.0
python=${PYTHON:-.venv/bin/python}

stop() { echo "install_nvdiffrast: $1" >&2; exit 1; }
[ -x "$python" ] || command -v "$python" >/dev/null 2>&1 || stop "there is no $python: run tools/bootstrap.sh first"
"$python" -c 'import torch' 2>/dev/null || stop "$python has no PyTorch: run tools/bootstrap.sh first"
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
  stop "PyTorch sees no CUDA device; a CUDA build of torch and an NVIDIA GPU are needed, the backend 'cpu' needs neither"
command -v git >/dev/null 2>&1 || stop "git is missing"
command -v c++ >/dev/null 2>&1 || stop "a C++ compiler is missing (Debian: apt-get install g++)"
command -v nvcc >/dev/null 2>&1 || stop "nvcc is missing: install the CUDA toolkit that matches torch $("$python" -c 'import torch; print(torch.version.cuda)')"
of_torch=$("$python" -c 'import torch; print(torch.version.cuda.split(".")[0])')
nvcc --version | grep -q "release $of_torch\." || stop "nvcc is of another CUDA than torch, which was built with $of_torch: $(nvcc --version | grep release)"

"$python" -m pip install -q setuptools wheel ninja
"$python" -m pip install --no-build-isolation "git+https://github.com/NVlabs/nvdiffrast.git@$version"
"$python" -c 'import nvdiffrast.torch as dr; dr.RasterizeCudaContext(); print("install_nvdiffrast: nvdiffrast is ready")'
