#!/usr/bin/env bash
# Empties the test cluster: removes the agent, the custom resources of UPM and every namespace that is not the cluster's own.
# Tests call it before and after; nothing in the cluster is spared.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$HERE/settings.sh"
# shellcheck source=/dev/null
. "$HERE/progress.sh"

SYSTEM=upm-system
OTHERS='kubernetes.io/metadata.name notin (default,kube-system,kube-public,kube-node-lease)'

kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }

helm() { "$BIN/helm" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }

# Removes all objects of a kind. The controllers are gone by now, so nobody else takes the finalizers off.
remove_all() { # KIND
  local namespace name
  kubectl delete "$1" --all --all-namespaces --wait=false >/dev/null
  kubectl get "$1" --all-namespaces --no-headers -o custom-columns=:metadata.namespace,:metadata.name |
    while read -r namespace name; do
      [ "$namespace" != '<none>' ] || namespace=default
      # It may be gone by now.
      kubectl patch "$1" "$name" -n "$namespace" --type=merge -p '{"metadata":{"finalizers":null}}' >/dev/null 2>&1 || true
    done
}

if helm status upm-agent --namespace $SYSTEM >/dev/null 2>&1; then
  helm uninstall upm-agent --namespace $SYSTEM --wait >/dev/null
fi
# helm waits for the Deployment, and its pods end after it: one that still runs would put back what is removed below.
no_agent() { [ -z "$(kubectl -n $SYSTEM get pods -l app.kubernetes.io/name=upm-agent -o name)" ]; }
wait_until 120 "the end of the agent's pods" no_agent
# What a test of the link that was killed leaves behind.
nft delete table inet upm_link_test 2>/dev/null || true
definitions=$(kubectl get crd -o name | sed -n 's|.*/\(.*\.upm\.syntropycloud\.io\)$|\1|p')
for definition in $definitions; do remove_all "$definition"; done
for definition in $definitions; do kubectl delete crd "$definition" --ignore-not-found >/dev/null; done

kubectl get namespaces -l "$OTHERS" -o name | while read -r namespace; do
  # One that is on its way out may be gone by now.
  kubectl delete "$namespace" --ignore-not-found --wait=false >/dev/null
done
deadline=$((SECONDS + 300))
while [ -n "$(kubectl get namespaces -l "$OTHERS" -o name)" ]; do
  [ $SECONDS -lt $deadline ] || fail "these namespaces do not go: $(kubectl get namespaces -l "$OTHERS" -o name | tr '\n' ' ')"
  sleep 0.5
done
