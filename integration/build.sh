#!/usr/bin/env bash
# Builds the programs: the platform and the agent for this machine, the unit agent statically, so that it runs in any image.
# Arguments choose other targets for the first two: `make test` builds its tests along with them, as one graph with one set of features.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
integration/ui.sh # the gateway takes it in
[ $# -gt 0 ] || set -- -p upm -p upm-agent
cargo build --locked "$@"
# A target of its own keeps these flags, and so the artifacts, apart from everything else.
RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked -p upm-unit-agent --target x86_64-unknown-linux-gnu
