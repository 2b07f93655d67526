# Sourced by the set-up scripts: install those of the named Debian packages that are missing, or say which they are.
install_missing() { # install_missing WHO PACKAGE...
  local who=$1 missing="" package sudo=""
  shift
  command -v dpkg-query >/dev/null 2>&1 || return 0
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "$who: these system packages are missing and need root: apt-get install$missing" >&2; return 1; }
    sudo=sudo
  fi
  echo "$who: installing system packages:$missing"
  $sudo apt-get update -qq
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
