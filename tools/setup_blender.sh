#!/usr/bin/env bash
# Blender as a Python module (bpy 4.5, GPL-3), in an environment of its own: it pins an old NumPy, and nothing of recon4d
# imports it. About a minute and 950 MB; safe to run again and again.
#   PYTHON  a Python 3.11, the only one bpy 4.5 is built for (default python3.11, else python3)
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/apt.sh
python=${PYTHON:-$(command -v python3.11 || echo python3)}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
  echo "setup_blender: $("$python" --version) was found, Blender 4.5 as a module needs Python 3.11: set PYTHON=/path/to/python3.11" >&2
  exit 1
}
install_missing setup_blender libegl1 libgl1 libx11-6 libxrender1 libxi6 libxkbcommon0 libsm6 libice6
if ! .venv-blender/bin/python -c 'import bpy' >/dev/null 2>&1; then
  echo "setup_blender: installing Blender into .venv-blender"
  rm -rf .venv-blender
  "$python" -m venv .venv-blender
  .venv-blender/bin/python -m pip install -q --no-compile ${RECON4D_PIP_ARGS:-} "bpy==4.5.*"
  .venv-blender/bin/python -c 'import bpy' >/dev/null || { echo "setup_blender: Blender does not load" >&2; exit 1; }
fi
