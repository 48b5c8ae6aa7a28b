#!/usr/bin/env bash
# `cargo test` with these arguments. Tests that fail are run once more, alone: one that passes then is flaky. It is named in the file
# target/flaky (UPM_FLAKY), and the run goes on. Many that fail at once are no flakes, and neither is a process that ends without a result.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$HERE/cluster/progress.sh"

FLAKY=${UPM_FLAKY:-target/flaky}
AT_MOST=5 # tests that are run once more
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT

# What selects packages; what selects targets is replaced when a test is run once more.
packages=()
targets=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
  --lib | --bins | --tests) targets+=("$1") ;;
  --test)
    targets+=("$1" "$2")
    shift
    ;;
  *) packages+=("$1") ;;
  esac
  shift
done

# Runs what the arguments say; what it prints is in $LOG as well.
tests() { CARGO_TERM_COLOR=never cargo test --no-fail-fast "$@" 2>&1 | tee "$LOG"; }

if tests "${packages[@]}" "${targets[@]}" "$@"; then exit 0; fi

# The tests of each target that failed, a line for a target: the last list of failures before its result.
names() {
  awk '/^failures:$/ { list = ""; next }
    /^    [^ ]+$/ { list = list " " $1 }
    /^test result: FAILED/ { print substr(list, 2) }' "$LOG"
}

# Those targets as cargo names them, in the same order.
failed_targets() { sed -n '/^error: [0-9]* targets\{0,1\} failed:$/,$s/^    `\(.*\)`$/\1/p' "$LOG"; }

mapfile -t failed < <(names)
mapfile -t where < <(failed_targets)
count=$(wc -w <<<"${failed[*]:-}")
[ "$count" -gt 0 ] && [ ${#failed[@]} = ${#where[@]} ] || fail "not only tests failed: see above"
[ "$count" -le $AT_MOST ] || fail "$count tests failed"

for n in "${!failed[@]}"; do
  # shellcheck disable=SC2206 # words: -p PACKAGE --lib; without the package where there is only one
  target=(${where[n]})
  package=
  if [ "${target[0]}" = -p ]; then
    package="${target[1]} "
    target=("${target[@]:2}")
  fi
  # Names of tests have no spaces.
  for name in ${failed[n]}; do
    say "once more, alone: $package$name"
    # With the same packages, since others would mean other features, and so a build of everything.
    tests "${packages[@]}" "${target[@]}" -- --test-threads=1 --include-ignored --exact "$name" || fail "$name failed twice"
    grep -q '^test result: ok\. [1-9]' "$LOG" || fail "$name was not found once more"
    mkdir -p "$(dirname "$FLAKY")"
    echo "FLAKY $package$name" | tee -a "$FLAKY"
  done
done
