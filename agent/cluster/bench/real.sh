#!/usr/bin/env bash
# real.sh COMMAND...: runs a command with BENCH_KUBECONFIG naming the administrator's file of a real API server: one of its own on loopback,
# with etcd, the agent's kinds and its namespace. The programs are those of the test cluster (integration/cluster/programs.sh).
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
BIN=${UPM_TEST_BIN:-$HOME/.cache/upm/bin}
ETCD=18610 PEER=18611 API=18612

WORK=$(mktemp -d)
PIDS=()
ended() {
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait "${PIDS[@]}" 2>/dev/null || true
  rm -rf "$WORK"
}
trap ended EXIT

TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
(
  umask 077
  openssl ecparam -name prime256v1 -genkey -noout -out "$WORK/sa.key"
  openssl ec -in "$WORK/sa.key" -pubout -out "$WORK/sa.pub" 2>/dev/null
  echo "$TOKEN,bench,bench,system:masters" >"$WORK/tokens"
  cat >"$WORK/kubeconfig" <<END
apiVersion: v1
kind: Config
current-context: bench
clusters: [{name: bench, cluster: {server: "https://127.0.0.1:$API", insecure-skip-tls-verify: true}}]
users: [{name: bench, user: {token: "$TOKEN"}}]
contexts: [{name: bench, context: {cluster: bench, user: bench}}]
END
)
cd "$WORK"
"$BIN/etcd" --data-dir etcd --unsafe-no-fsync --log-level warn \
  --listen-client-urls http://127.0.0.1:$ETCD --advertise-client-urls http://127.0.0.1:$ETCD \
  --listen-peer-urls http://127.0.0.1:$PEER --initial-advertise-peer-urls http://127.0.0.1:$PEER \
  --initial-cluster default=http://127.0.0.1:$PEER >etcd.log 2>&1 &
PIDS+=($!)
"$BIN/kube-apiserver" --etcd-servers http://127.0.0.1:$ETCD --cert-dir certificates \
  --bind-address 127.0.0.1 --secure-port $API --endpoint-reconciler-type none \
  --token-auth-file tokens --authorization-mode RBAC --service-cluster-ip-range 10.0.0.0/24 \
  --service-account-issuer https://kubernetes.default.svc --service-account-key-file sa.pub \
  --service-account-signing-key-file sa.key --disable-admission-plugins ServiceAccount >apiserver.log 2>&1 &
PIDS+=($!)
kubectl() { "$BIN/kubectl" --kubeconfig "$WORK/kubeconfig" "$@"; }
for _ in $(seq 120); do
  if kubectl get --raw /readyz >/dev/null 2>&1; then break; fi
  sleep 0.5
done
kubectl get --raw /readyz >/dev/null
kubectl apply --server-side -f "$ROOT/helm/upm-agent/crds" >/dev/null
kubectl create namespace upm-system >/dev/null
BENCH_KUBECONFIG=$WORK/kubeconfig "$@"
