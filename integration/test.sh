#!/usr/bin/env bash
# `make test`: all tests, from a bare clone. Unit tests first, then the integration tests on the real cluster.
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

export UPM_TEST_BIN=$BIN # some unit tests start an API server of their own

phase "Programs of the test cluster"
"$HERE/cluster/programs.sh"

phase "Build"
"$HERE/build.sh" --workspace --all-targets

cluster_up() {
  phase "Test cluster and images"
  "$HERE/cluster/cluster.sh" up
  images_ready
  export UPM_TEST_KUBECONFIG=$KUBECONFIG_ADMIN
  export UPM_TEST_AGENT_IMAGE=$AGENT_IMAGE
  export UPM_TEST_UNIT_AGENT_IMAGE=$UNIT_AGENT_IMAGE
  export UPM_TEST_IMAGE_PREFIX=$IMAGE_PREFIX
  export UPM_TEST_HOST_ADDRESS=$HOST_ADDRESS
}

case ${1:-all} in
  all) ;;
  ledger)
    export NODES=3
    cluster_up
    phase "A gigabyte, and faults of the cluster, under writers"
    cargo test --locked --workspace --test integration -- --test-threads=1 --ignored road::large road::cluster_faults
    "$HERE/cluster/cluster.sh" down # the tests of every day have one node
    exit
    ;;
  *) fail "usage: test.sh [ledger]" ;;
esac

phase "Unit tests"
cargo test --locked --workspace --exclude upm-integration

phase "Browser UI: unit tests"
npm --prefix gateway/ui test --silent

phase "Clients and checkers of other makes before the gateway"
for part in conformance openapi clients envoy; do "$ROOT/gateway/stock/$part.sh" --built; done

cluster_up

phase "Integration tests"
cargo test --locked --workspace --test integration -- --test-threads=1 --skip road::serve
phase "Integration test with every module as a process of its own"
cargo test --locked --workspace --test integration -- --test-threads=1 road::serve
"$HERE/cluster/empty.sh"
phase "make up and make down on a cluster of one's own"
"$HERE/own-cluster.sh"
phase "Done"
