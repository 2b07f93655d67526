#!/usr/bin/env bash
# Builds the HTML player that the package ships, from tools/player: bash tools/build_player.sh [FOLDER]
# Needs Node 18 or newer. Run it after a change there and commit what it writes; a client test compares the two.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-recon4d/view/player}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
cd tools/player
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
  npm ci --no-audit --no-fund --loglevel=error
  touch node_modules/.package-lock.json
fi
node build.mjs "$folder"
