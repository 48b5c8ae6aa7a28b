#!/usr/bin/env bash
# Shows that the running cluster does what tests rely on: pods, volumes that grow, services, DNS, isolation.
# Works in a namespace of its own and removes it.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in settings progress; do
  # shellcheck source=/dev/null
  . "$HERE/$part.sh"
done

NAMESPACE=cluster-check-$$
kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" --namespace "$NAMESPACE" "$@"; }
in_pod() { kubectl exec server -- "$@"; }

# check SENTENCE COMMAND...: the command must succeed within 30 s.
check() {
  local sentence=$1
  shift
  (wait_until 30 "$sentence" "$@") >/dev/null 2>&1 || fail "not true: $sentence"
  say "$sentence"
}

server_apply() {
  kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: $1}}}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{port: 6379}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 5
  securityContext: {runAsUser: 1001, runAsGroup: 1001, fsGroup: 1001}
  containers:
  - name: redis
    image: $IMAGE
    imagePullPolicy: Never
    args: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --dir, /data, --appendonly, "yes"]
    readinessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /data}]
    resources: {limits: {memory: 64Mi}}
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
END
  check "${2:-a pod with a volume of $1 is Ready}" kubectl wait --for=condition=Ready pod/server --timeout=30s
}

megabytes() { in_pod df --output=size -BM /data | tail -n 1 | tr -dc 0-9; }
larger_than() { [ "$(megabytes)" -gt "$1" ]; }
answers() { [ "$(redis-cli -h "$ADDRESS" get key)" = value ]; }
fills_up() { { in_pod dd if=/dev/zero of=/data/fill bs=1M 2>&1 || true; } | grep -q 'No space left'; }
unreachable() { ! in_pod timeout 5 bash -c 'echo >/dev/tcp/192.0.2.1/80' 2>/dev/null; }
volume_gone() {
  ! kubectl get "pv/$VOLUME" 2>/dev/null && [ -z "$(find "$VOLUMES" -name "$VOLUME")" ] && ! losetup -a | grep -q "$VOLUME"
}

require_root
IMAGE=$("$HERE/images/images.sh" load redis 2>/dev/null)
kubectl create namespace "$NAMESPACE" >/dev/null 2>&1 || true
trap '"$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" delete namespace "$NAMESPACE" --wait=false >/dev/null 2>&1' EXIT
server_apply 300Mi
ADDRESS=$(kubectl get service server -o jsonpath='{.spec.clusterIP}')
VOLUME=$(kubectl get pvc data -o jsonpath='{.spec.volumeName}')
check "the host reaches the pod through its service" redis-cli -h "$ADDRESS" set key value
check "a pod resolves the name of a service" in_pod getent hosts "server.$NAMESPACE.svc.cluster.local"
check "a pod resolves a short name" in_pod getent hosts server
check "a pod reaches the API server" in_pod bash -c 'echo >/dev/tcp/kubernetes.default.svc/443'
check "a pod reaches nothing outside of the machine" unreachable
kubectl patch pvc data -p '{"spec":{"resources":{"requests":{"storage":"600Mi"}}}}' >/dev/null
check "the volume grows while the pod uses it" larger_than 500
check "a full volume is a real ENOSPC" fills_up
in_pod rm /data/fill
kubectl delete pod server >/dev/null
server_apply 600Mi "the pod is Ready again after its deletion"
check "its data are still there" answers
kubectl delete pod server >/dev/null
kubectl delete pvc data >/dev/null
check "the volume goes with its claim" volume_gone
