#!/usr/bin/env bash
# Builds the browser UI into gateway/ui/dist, from where the gateway's build takes it. Does nothing when its sources are those of last time.
# Without Node it says so and goes on: the gateway builds without the UI as well.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT/gateway/ui"

if ! command -v npm >/dev/null; then
  echo "npm is not installed: the programs are built without the browser UI" >&2
  exit 0
fi

# What the result follows from: the sources, the packages, the API.
digest() {
  {
    find . -type f -not -path './node_modules/*' -not -path './dist/*' -not -path './src/api/gen/*' -not -path './e2e/*' -print0
    find "$ROOT/proto" -type f -name '*.proto' -print0
  } | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}

# The packages, as the lock file has them.
packages() {
  local wanted
  wanted=$(sha256sum package-lock.json | cut -d' ' -f1)
  [ "$(cat node_modules/.lock-digest 2>/dev/null)" != "$wanted" ] || return 0
  # A package that wants to run a script at its installation does so only when that is needed: none of ours does.
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  echo "$wanted" >node_modules/.lock-digest
}

if [ "${1:-}" = packages ]; then
  packages
  exit 0
fi
now=$(digest)
if [ -f dist/index.html ] && [ "$(cat dist/.digest 2>/dev/null)" = "$now" ]; then
  exit 0
fi
packages
npm run --silent build
echo "$now" >dist/.digest
