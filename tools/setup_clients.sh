#!/usr/bin/env bash
# The programs that open our files in the client tests: Blender, Chromium, Node with the Khronos glTF validator and what
# builds the player. Run after tools/bootstrap.sh; safe to run again and again.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/apt.sh
wanted=""
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || wanted="chromium"
command -v node >/dev/null 2>&1 || wanted="$wanted nodejs"
command -v npm >/dev/null 2>&1 || wanted="$wanted npm"
install_missing setup_clients $wanted
for program in node npm; do
  command -v $program >/dev/null 2>&1 || { echo "setup_clients: $program is missing: install Node 18 or newer" >&2; exit 1; }
done
for folder in tools/clients tools/player; do
  if [ ! "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]; then
    (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json)
  fi
done
.venv/bin/python -c 'import playwright' 2>/dev/null || .venv/bin/python -m pip install -q --no-compile ${RECON4D_PIP_ARGS:-} "playwright>=1.40"
bash tools/setup_blender.sh
