#!/usr/bin/env bash
# `make up`: from a bare machine to a running Redis service. Running it again changes nothing and prints the same.
#
# On a cluster of your own: UPM_KUBECONFIG (its kubeconfig), UPM_REGISTRY (a registry that its nodes and this machine reach)
# and UPM_HUB_ADDRESS (host:port under which its pods reach the hub on this machine). A KUBECONFIG that happens to be set is ignored.
# `up.sh --built`: takes the programs as they lie under target/.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
# shellcheck source=/dev/null
. "$HERE/installation.sh"

begin=$SECONDS
phase() { printf '\n== %s (%s s)\n' "$*" $((SECONDS - begin)); }

phase "Packages and programs"
"$HERE/cluster/packages.sh"
"$HERE/cluster/programs.sh"

if [ "${1:-}" != --built ]; then
  phase "Build"
  "$HERE/build.sh"
fi

if own_cluster; then
  phase "Cluster: $UPM_KUBECONFIG"
  kubectl version >/dev/null || fail "the cluster of $UPM_KUBECONFIG does not answer"
else
  phase "Test cluster"
  "$HERE/cluster/cluster.sh" up
fi

phase "Images"
images_ready

phase "Platform"
platform_up
sign_in

phase "Agent"
agent_up

phase "Redis service $SERVICE"
service_up

phase "Ready"
summary
