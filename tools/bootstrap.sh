#!/usr/bin/env bash
# Everything a fresh machine needs to run recon4d from this checkout; safe to run again and again.
#   RECON4D_PIP_ARGS  extra arguments for pip install
#   PYTHON            the Python to build the environment from (default python3)
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

source tools/apt.sh

# open3d links these four; python3-venv makes the environment.
libraries="libegl1 libgl1 libx11-6 libusb-1.0-0"
if command -v dpkg-query >/dev/null 2>&1; then
  "$python" -c 'import ensurepip, venv' 2>/dev/null || libraries="$libraries python3-venv"
  install_missing setup $libraries
elif [ "$(uname -s)" = Darwin ]; then
  command -v "$python" >/dev/null 2>&1 || { echo "setup: Python was not found: install Python 3.11 (brew install python@3.11 libusb) and run make again" >&2; exit 1; }
else
  echo "setup: this is no Debian or Ubuntu: if 'import open3d' fails below, install the libraries EGL, OpenGL (libGL), X11 and libusb-1.0 with your package manager" >&2
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "setup: $("$python" --version) was found, recon4d needs Python 3.10 or newer: set PYTHON=/path/to/python3.11" >&2; exit 1; }
[ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv; "$python" -m venv .venv; }

stamp=.venv/.recon4d-stamp
want=$(cat setup.py pyproject.toml constraints-cpu.txt tools/bootstrap.sh | cksum)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$want" ]; then
  echo "setup: installing Python packages into .venv (the first time about 1 GB, with a CUDA build of torch 3.7 GB)"
  .venv/bin/python -m pip install -q --no-compile -c constraints-cpu.txt ${RECON4D_PIP_ARGS:-} -e ".[dev]"
  .venv/bin/python -c 'import open3d' || { echo "setup: open3d does not load: the system libraries named above are missing" >&2; exit 1; }
  echo "$want" > "$stamp"
fi
