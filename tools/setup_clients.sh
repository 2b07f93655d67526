#!/usr/bin/env bash
# The programs that open our files in the client tests: Blender, Chromium, Node with the Khronos glTF validator and what
# builds the player. Run after tools/bootstrap.sh; safe to run again and again.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/apt.sh
chromium() { .venv/bin/python tests/clients.py; } # its path, or a sentence on stderr and an error
wanted=""
# Ubuntu's package of that name is a pointer to a snap, which does not run in containers and sees no hidden folders.
if ! chromium >/dev/null 2>&1 && grep -qs '^ID=debian' /etc/os-release; then wanted="chromium"; fi
command -v node >/dev/null 2>&1 || wanted="$wanted nodejs"
command -v npm >/dev/null 2>&1 || wanted="$wanted npm"
install_missing setup_clients $wanted
for program in node npm; do
  command -v $program >/dev/null 2>&1 || { echo "setup_clients: $program is missing: install Node 18 or newer" >&2; exit 1; }
done
node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' || {
  echo "setup_clients: Node $(node --version) was found, 18 or newer is needed: install it from https://nodejs.org" >&2
  exit 1
}
for folder in tools/clients tools/player; do
  if [ ! "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]; then
    (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json)
  fi
done
.venv/bin/python -c 'import playwright' 2>/dev/null || .venv/bin/python -m pip install -q --no-compile -c constraints-cpu.txt ${RECON4D_PIP_ARGS:-} playwright
bash tools/setup_blender.sh
chromium >/dev/null
