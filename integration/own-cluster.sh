#!/usr/bin/env bash
# Shows that `make up` and `make down` do what README says on a cluster of one's own: the test cluster plays it, with a registry from
# Debian's package beside it. Empties the test cluster, before and after.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
# shellcheck source=/dev/null
. "$HERE/cluster/settings.sh"
# shellcheck source=/dev/null
. "$HERE/cluster/progress.sh"
# shellcheck source=/dev/null
. "$HERE/cluster/pki.sh"

WORK=$ROOT/target/own-cluster
export UPM_HOME=$WORK/home UPM_API_ADDRESS=127.0.0.1:18180 UPM_AGENT_PORT=17543
export UPM_KUBECONFIG=$WORK/kubeconfig UPM_REGISTRY=$HOST_ADDRESS:5001 UPM_HUB_ADDRESS=$HOST_ADDRESS:17543
export KUBECONFIG=$WORK/happens-to-be-set

kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }

registry_up() {
  certificate registry /CN=registry "IP:$HOST_ADDRESS"
  cat >"$WORK/registry.yaml" <<END
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $WORK/registry}}
http: {addr: "$UPM_REGISTRY", tls: {certificate: $PKI/registry.crt, key: $PKI/registry.key}}
END
  docker-registry serve "$WORK/registry.yaml" >"$WORK/registry.log" 2>&1 &
  REGISTRY=$!
  local hosts=$STATE/registries/$UPM_REGISTRY
  mkdir -p "$hosts"
  printf '[host."https://%s"]\n  capabilities = ["pull", "resolve"]\n  ca = "%s"\n' "$UPM_REGISTRY" "$PKI/ca.crt" >"$hosts/hosts.toml"
  # For Go programs, and for curl, which may have been told another one.
  export SSL_CERT_FILE=$PKI/ca.crt CURL_CA_BUNDLE=$PKI/ca.crt
  wait_until 60 "the registry" curl -sf -o /dev/null "https://$UPM_REGISTRY/v2/"
}

# What must not change when `make up` runs again.
state() { kubectl get pods,unitsets,redisreplications --all-namespaces -o custom-columns=:kind,:metadata.name,:metadata.uid,:metadata.generation --no-headers; }

# That, once controllers have written what they still had to write.
settled() {
  local before now deadline=$((SECONDS + 120))
  now=$(state)
  while
    before=$now
    sleep 5
    now=$(state)
    [ "$now" != "$before" ]
  do
    [ $SECONDS -lt $deadline ] || fail "the cluster does not come to rest"
  done
  echo "$now"
}

gone() { ! kubectl get "$@" >/dev/null 2>&1; }

no_volumes() { [ -z "$(kubectl get pv --no-headers 2>/dev/null)" ]; }

# Also when this script fails nothing of it runs on: the next one would take it for its own.
ended() {
  kill "${REGISTRY:-}" 2>/dev/null || true
  if [ -f "$UPM_HOME/upm.pid" ]; then kill "$(cat "$UPM_HOME/upm.pid")" 2>/dev/null || true; fi
}

rm -rf "$WORK"
mkdir -p "$WORK"
cp "$KUBECONFIG_ADMIN" "$UPM_KUBECONFIG"
trap ended EXIT
registry_up
"$HERE/cluster/empty.sh"

say "make up"
"$HERE/up.sh" --built | tee "$WORK/first"

first=$(settled)
kubectl get pods --all-namespaces -o jsonpath='{.items[*].spec.containers[*].image}' | tr ' ' '\n' | grep -q "^$UPM_REGISTRY/redis:" ||
  fail "the servers do not run the registry's image"
[ "$(stat -c %a "$UPM_HOME/admin-password" "$UPM_HOME/login.json" | sort -u)" = 600 ] || fail "others can read the login"

say "make up, again"
"$HERE/up.sh" --built | tee "$WORK/second"
[ "$(state)" = "$first" ] || fail "the second \`make up\` changed something: $(diff <(echo "$first") <(state))"
# How far a replica is behind is another number at each look: the sixth column of its line.
ready() { sed -n '/^== Ready/,$p' "$WORK/$1" | sed 1d | awk '$1 ~ /^demo-[0-9]+$/ { $6 = "some" } { print }'; }
diff <(ready first) <(ready second) || fail "the second \`make up\` does not print the same"

say "make down, while somebody else has a UnitSet"
kubectl create namespace somebody-else >/dev/null
kubectl apply -f - >/dev/null <<END
apiVersion: upm.syntropycloud.io/v1alpha2
kind: UnitSet
metadata: {name: theirs, namespace: somebody-else}
spec: {type: redis, version: 7.0.15, units: 1, startup: false}
END
"$HERE/down.sh"
for thing in "namespace demo" "namespace upm-system" "crd projects.upm.syntropycloud.io" "crd redisreplications.upm.syntropycloud.io" \
  "clusterrole upm-agent" "validatingadmissionpolicy upm-agent"; do
  # shellcheck disable=SC2086 # kind and name
  wait_until 60 "the end of $thing after \`make down\`" gone $thing
done
wait_until 60 "the end of the volumes after \`make down\`" no_volumes
[ ! -e "$UPM_HOME" ] || fail "$UPM_HOME is still there after \`make down\`"
kubectl -n somebody-else get unitset theirs >/dev/null || fail "\`make down\` took somebody else's UnitSet"
"$HERE/cluster/empty.sh"
say "\`make up\` and \`make down\` do what they say on a cluster of one's own"
