#!/usr/bin/env bash
# `make check`: what must hold before the tests are worth running: format, lints, scripts, charts. Changes nothing.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
# shellcheck source=/dev/null
. "$HERE/cluster/settings.sh"
# shellcheck source=/dev/null
. "$HERE/cluster/progress.sh"
cd "$ROOT"
begin=$SECONDS
phase() { printf '\n== %s (%s s)\n' "$*" $((SECONDS - begin)); }

helm() { KUBECONFIG=/dev/null "$BIN/helm" "$@"; }

# The Kubernetes that charts are rendered for: that of the test cluster.
kubernetes_version() { sed -n 's|.*k8s.io/kubernetes v\([0-9.]*\).*|\1|p' "$HERE/cluster/programs/kubernetes/go.mod" | head -n 1; }

workspace_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml; }

scripts() { git ls-files '*.sh' .ci/run; }

check_scripts() {
  local script
  while read -r script; do
    bash -n "$script" || fail "$script is no valid script"
  done < <(scripts)
  scripts | xargs shellcheck --severity=warning
}

# --- charts ---

chart_versions() { # CHART
  local key version
  version=$(workspace_version)
  for key in version appVersion; do
    grep -qx "$key: $version" "helm/$1/Chart.yaml" || fail "helm/$1/Chart.yaml: $key is not the workspace's $version"
  done
}

# Lints and renders a chart with one set of values; prints the manifests.
render() { # CHART VALUES
  helm lint --strict --quiet --kube-version "$KUBERNETES" --values "$2" "helm/$1" >&2
  helm template "$1" "helm/$1" --namespace default --kube-version "$KUBERNETES" --values "$2" --include-crds
}

# Whether the API server of the test cluster answers; without it charts are rendered only.
cluster_answers() { [ -f "$KUBECONFIG_ADMIN" ] && "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" --request-timeout=3s get --raw /readyz >/dev/null 2>&1; }

admitted() { # MANIFESTS
  "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" apply --dry-run=server --server-side --force-conflicts --validate=strict -f "$1" >/dev/null
}

# refuses CHART VALUES SENTENCE SETTING...: the schema must not accept these values.
refuses() {
  local chart=$1 values=$2 sentence=$3
  shift 3
  if helm template x "helm/$chart" --kube-version "$KUBERNETES" --values "helm/$chart/ci/$values-values.yaml" "${@/#/--set=}" >/dev/null 2>"$WORK/refusal"; then
    fail "$chart accepts $sentence: $*"
  fi
  grep -q "meet the specifications of the schema" "$WORK/refusal" || { cat "$WORK/refusal" >&2; fail "$chart: not the schema refuses $sentence"; }
}

check_refusals() {
  refuses upm-agent hub "a pause without end" hub.longestPauseSeconds=31
  refuses upm-agent hub "an unknown value" hub.endpoint=a:1
  refuses upm-agent hub "an endpoint without a port" 'hub.endpoints={hub.example.org}'
  refuses upm-agent hub "an endpoint with a scheme" 'hub.endpoints={https://hub.example.org:7443}'
  refuses upm-agent hub "no endpoint" 'hub.endpoints=null'
  refuses upm-agent hub "a pin that is no digest" hub.caPin=abc
  refuses upm-agent hub "an image without a tag" image.reference=upm-agent
  refuses upm-agent hub "no unit agent" unitAgent.image=
  refuses upm-agent hub "a prefix that would run into the name" images.prefix=registry.example.org
  refuses upm-agent hub "no replica" replicas=0
  refuses upm-agent hub "a hub and none" standalone=true
  refuses upm-agent hub "commands in a namespace that is no project's" 'tunnels.exec.namespaces={kube-system}'
  refuses upm-agent hub "a tunnel that is neither on nor off" tunnels.files.enabled=maybe
  refuses upm-agent standalone "a foreign account without a name" serviceAccount.name=
  refuses upm-agent hub "a password in the collector's address" telemetry.otlpEndpoint=http://user:password@collector:4317
  refuses upm-platform mysql "an unknown module" modules.postgres.replicas=1
  refuses upm-platform mysql "a store's URL in the values" store.url=mysql://upm:password@db
  refuses upm-platform mysql "MySQL without its Secret" store.existingSecret=
  refuses upm-platform mysql "several replicas without Redis" cache.existingSecret=
  refuses upm-platform sqlite "several replicas on SQLite" modules.redis.replicas=2
  refuses upm-platform sqlite "several replicas of all on SQLite" defaults.replicas=2
  refuses upm-platform sqlite "a module on SQLite that scales" modules.hub.autoscaling.enabled=true
  refuses upm-platform sqlite "SQLite with a Secret" store.existingSecret=upm-store
  refuses upm-platform mysql "no address for agents" 'hub.agentEndpoints=null'
  refuses upm-platform mysql "a Job without an image" identities.issue.kubectlImage=
  refuses upm-platform mysql "a rate of nothing" gateway.ratePerAddress.perSecond=0
  refuses upm-platform mysql "a rate that lets nobody begin" gateway.ratePerAddress.burst=0
  refuses upm-platform sqlite "half a rate" gateway.ratePerPrincipal.perSecond=20
  refuses upm-platform mysql "an origin with a path" 'gateway.allowedOrigins={https://ui.example.com/app}'
  refuses upm-platform mysql "an origin without a scheme" 'gateway.allowedOrigins={ui.example.com}'
  refuses upm-platform mysql "bodies that the gateway cannot hold" gateway.maxBodyBytes=67108865
  refuses upm-platform mysql "bodies of no size" gateway.maxBodyBytes=0
  refuses upm-platform mysql "a file for the access log" gateway.accessLog=/var/log/access
}

check_charts() {
  local chart values manifests
  for chart in upm-agent upm-platform; do
    chart_versions $chart
    for values in "helm/$chart"/ci/*-values.yaml; do
      manifests=$WORK/$chart-$(basename "$values")
      render $chart "$values" >"$manifests"
      if [ $ANSWERS = 1 ]; then admitted "$manifests" || fail "the API server does not take $chart with $values"; fi
      say "$chart with $(basename "$values"): $(grep -c '^kind:' "$manifests") objects"
    done
  done
  check_refusals
}

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
KUBERNETES=$(kubernetes_version)

phase "Scripts"
check_scripts

phase "Charts"
"$HERE/cluster/programs.sh" helm
ANSWERS=0
if cluster_answers; then ANSWERS=1; else say "the test cluster is not up: manifests are rendered, but shown to no API server"; fi
check_charts
[ "${1:-}" != charts ] || exit 0

phase "Browser UI: format, lints, types"
"$HERE/ui.sh" packages
npm --prefix gateway/ui run --silent check

# That generated files are fresh is asserted by tests of the crates that generate them.
phase "Format"
cargo fmt --all --check

phase "Clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings
phase "Done"
