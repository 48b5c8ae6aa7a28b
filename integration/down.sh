#!/usr/bin/env bash
# `make down`: removes what `make up` made, and nothing else. On a cluster of your own it removes the demo service, the agent and
# its permissions; custom resource definitions stay while any instance exists.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
# shellcheck source=/dev/null
. "$HERE/installation.sh"

# Removes the CRDs that have no instance left.
crds_remove() {
  local file name
  for file in "$ROOT"/helm/upm-agent/crds/*.yaml; do
    name=$(sed -n 's/^  name: //p' "$file" | head -n 1)
    kubectl get crd "$name" >/dev/null 2>&1 || continue
    if [ -n "$(kubectl get "$name" --all-namespaces --no-headers 2>/dev/null)" ]; then
      say "$name stays: it has instances"
    else
      kubectl delete crd "$name" >/dev/null
    fi
  done
}

if own_cluster; then
  if [ -d "$HOME_UPM/data" ]; then
    platform_up # it may have ended; only it knows what it made
    sign_in
    say "deleting the service"
    "$UPM" redis delete $SERVICE --project $PROJECT --policy delete-data --allow-missing
    say "removing the cluster from the platform"
    "$UPM" cluster delete $CLUSTER --allow-missing
  fi
  if helm status upm-agent --namespace $SYSTEM >/dev/null 2>&1; then
    # The agent is still there: it removes the project's namespace unless there is something in it.
    if kubectl get projects.upm.syntropycloud.io $PROJECT >/dev/null 2>&1; then
      kubectl delete projects.upm.syntropycloud.io $PROJECT --timeout=180s >/dev/null
    fi
    say "removing the agent"
    helm uninstall upm-agent --namespace $SYSTEM --wait >/dev/null
    kubectl -n $SYSTEM delete secret upm-agent-join upm-agent-identity --ignore-not-found >/dev/null
    kubectl -n $SYSTEM delete configmaps,podtemplates -l app.kubernetes.io/managed-by=upm >/dev/null
    kubectl delete namespace -l "kubernetes.io/metadata.name=$SYSTEM,$MADE_HERE" >/dev/null
  fi
  crds_remove
else
  "$HERE/cluster/cluster.sh" down
fi
say "stopping the platform"
platform_stop
rm -rf "$HOME_UPM"
say "done"
