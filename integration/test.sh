#!/usr/bin/env bash
# `make test`: all tests, from a bare clone. Unit tests first, then the integration tests on the real cluster.
# `test.sh only WORD`, which is `make test ONLY=WORD`: the Rust tests with this word in their names; the cluster is needed only for its own.
# `test.sh ledger`, which is `make ledger`: only the tests that take long and much memory.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
# shellcheck source=/dev/null
. "$HERE/installation.sh"
cd "$ROOT"
begin=$SECONDS
phase() { printf '\n== %s (%s s)\n' "$*" $((SECONDS - begin)); }

# The integration tests empty the cluster first: not under a service that somebody made there.
if [ -d "$HOME_UPM/data" ] && [ -f "$KUBECONFIG_ADMIN" ] && ! own_cluster; then
  fail "the test cluster is in use by \`make up\`: \`make down\` removes it"
fi
case ${1:-all} in
all | ledger) ONLY='' ;;
only) ONLY=${2:?which tests} ;;
*) fail "usage: test.sh [ledger | only WORD]" ;;
esac

export UPM_TEST_BIN=$BIN # some unit tests start an API server of their own
export UPM_FLAKY=$ROOT/target/flaky
UNIT=(--locked --workspace --lib --test fresh) # `fresh` is codegen's
INTEGRATION=(--locked --workspace --test integration)
BESIDE=4 # tests side by side: each waits most of its time
mkdir -p "$ROOT/target"
said=$(mktemp) # what runs in the background prints
trap 'rm -f "$said"; kill $(jobs -p) 2>/dev/null || true' EXIT
: >"$UPM_FLAKY"

# The same packages in each call: others would mean other features of what they need, and so a build of everything. Examples that no test runs are left to `make check`.
everything_built() {
  phase "Programs of the test cluster"
  "$HERE/cluster/programs.sh"
  phase "Build"
  "$HERE/build.sh" --workspace --lib --bins --tests --example conformance --example echo
}

# Images of servers come over the network: while compilers work.
images_begin() {
  "$HERE/cluster/images/images.sh" load base redis >/dev/null &
  IMAGES_BUILT=$!
}

# Three nodes, though they share this machine: each has room for pods that come back to their volumes while other tests make theirs.
cluster_up() {
  phase "Test cluster and images"
  [ -z "${IMAGES_BUILT:-}" ] || wait "$IMAGES_BUILT" || fail "the images of servers cannot be built"
  NODES=${NODES:-3} "$HERE/cluster/cluster.sh" up
  images_ready
  export UPM_TEST_KUBECONFIG=$KUBECONFIG_ADMIN
  export UPM_TEST_AGENT_IMAGE=$AGENT_IMAGE
  export UPM_TEST_UNIT_AGENT_IMAGE=$UNIT_AGENT_IMAGE
  export UPM_TEST_IMAGE_PREFIX=$IMAGE_PREFIX
  export UPM_TEST_HOST_ADDRESS=$HOST_ADDRESS
}

unit_tests() { # ARGUMENT OF THE TESTS...
  phase "Unit tests"
  "$HERE/once-more.sh" "${UNIT[@]}" -- "$@"
}

integration_tests() { # ARGUMENT OF THE TESTS...
  phase "Integration tests"
  "$HERE/once-more.sh" "${INTEGRATION[@]}" -- --test-threads=$BESIDE --skip road::serve "$@"
}

# It replaces the platform of the others.
served_tests() { # WORD
  phase "Integration tests with every module as a process of its own"
  "$HERE/once-more.sh" "${INTEGRATION[@]}" -- --test-threads=1 "$@"
}

unit_tests_of_the_ui() {
  phase "Browser UI: unit tests"
  npm --prefix gateway/ui test --silent
}

clients_of_other_makes() {
  phase "Clients and checkers of other makes before the gateway"
  for part in conformance openapi clients envoy; do "$ROOT/gateway/stock/$part.sh" --built; done
}

# What needs neither the cluster nor a quiet machine, beside tests that mostly wait for the end of an outage.
beside_the_served_tests() {
  unit_tests_of_the_ui
  clients_of_other_makes
}

# Names of tests with the word in them.
listed() { cargo test "$@" -- --list "$ONLY" | sed -n 's/: test$//p'; }

# What only passed when it was run once more.
flaky() {
  local count
  count=$(wc -l <"$UPM_FLAKY")
  [ "$count" = 0 ] || { phase "Flaky tests: $count"; cat "$UPM_FLAKY"; }
}

if [ "${1:-all}" = ledger ]; then
  everything_built
  cluster_up
  phase "A gigabyte, and faults of the cluster, under writers"
  cargo test "${INTEGRATION[@]}" -- --test-threads=1 --ignored road::large road::cluster_faults
  "$HERE/cluster/cluster.sh" down # its nodes were stopped and cut off
  exit
fi

if [ -n "$ONLY" ]; then
  everything_built
  unit=$(listed "${UNIT[@]}")
  of_integration=$(listed "${INTEGRATION[@]}")
  [ -n "$unit$of_integration" ] || fail "no test has $ONLY in its name"
  mapfile -t served < <(grep '^road::serve::' <<<"$of_integration" || true)
  mapfile -t others < <(grep -v '^road::serve::\|^$' <<<"$of_integration" || true)
  [ -z "$unit" ] || unit_tests "$ONLY"
  if grep -q '^road::' <<<"$of_integration"; then cluster_up; fi
  [ ${#others[@]} = 0 ] || integration_tests --exact "${others[@]}"
  [ ${#served[@]} = 0 ] || served_tests --exact "${served[@]}"
  flaky
  exit
fi

images_begin
everything_built
unit_tests
cluster_up
integration_tests

(beside_the_served_tests) >"$said" 2>&1 &
beside=$!
served_tests road::serve && passed=1 || passed=0
wait $beside && fine=1 || fine=0
cat "$said"
[ $passed = 1 ] || fail "the platform of many processes fails its tests"
[ $fine = 1 ] || fail "the browser UI, or the gateway before clients of other makes, fails its tests"
"$HERE/cluster/empty.sh"

phase "make up and make down on a cluster of one's own"
"$HERE/own-cluster.sh"
flaky
phase "Done"
