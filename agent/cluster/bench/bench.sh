#!/usr/bin/env bash
# `make bench-agents`: one hub and AGENTS agents (10000) with INTENTS intents each (100), on loopback, in processes of their own.
# SCENES chooses from idle,apply,fanout,resume,status,isolation,storm,memory and agent (the agent's program on an API server of its own,
# left out where the programs of the test cluster are not built). Prints `name value unit`; what goes on is told on stderr.
# AGENTS=200 takes some three minutes (SCENES=idle,apply,storm one and a half); AGENTS=10000 needs about 2 GiB of disk and 4 GiB of memory.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../../.." && pwd)
CARGO=${CARGO:-cargo}
export AGENTS=${AGENTS:-10000}

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

DEFAULT=idle,apply,fanout,resume,status,isolation,storm,memory
if [ -x "${UPM_TEST_BIN:-$HOME/.cache/upm/bin}/kube-apiserver" ]; then DEFAULT=$DEFAULT,agent; fi
export SCENES=${SCENES:-$DEFAULT}
export BENCH_AGENT=$ROOT/target/small/upm-agent
run=()
cd "$ROOT"
$CARGO build --release --locked -p upm-agent --example fleet
case ",$SCENES," in *,agent,*)
  run=("$HERE/real.sh")
  $CARGO build --profile small --locked -p upm-agent --bin upm-agent
  ;;
esac

# A socket for each agent, on either side, and some for everything else.
files=$((AGENTS + 8192))
if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt "$files" ]; then
  ulimit -n "$files" || {
    echo "$files open files are needed; the limit is $(ulimit -Hn)" >&2
    exit 1
  }
fi
"${run[@]}" "$ROOT/target/release/examples/fleet" run "$WORK"
