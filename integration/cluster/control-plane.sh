# etcd, the API server, the controllers, the scheduler, DNS and the storage provisioner, all on the host. Sourced.

# Never the KUBECONFIG of the caller's shell.
kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }

# Whether the parts that hold the cluster's state run. The others can be started again beside them.
control_plane_alive() { process_alive etcd && process_alive apiserver && api_ready; }

api_ready() { kubectl get --raw /readyz --request-timeout=5s >/dev/null 2>&1; }

# Starts what takes longest; nothing here needs the API.
control_plane_start() {
  # The state is worth nothing after a power cut, so it need not be flushed.
  process_start etcd "$BIN/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790 \
    --listen-peer-urls http://127.0.0.1:23800
  # Names of nodes resolve nowhere: exec and logs must use addresses.
  process_start apiserver "$BIN/kube-apiserver" --etcd-servers http://127.0.0.1:23790 \
    --bind-address "$HOST_ADDRESS" --advertise-address "$HOST_ADDRESS" --secure-port "$API_PORT" \
    --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" --client-ca-file "$PKI/ca.crt" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$PKI/sa.pub" --service-account-signing-key-file "$PKI/sa.key" \
    --service-cluster-ip-range "$SERVICE_CIDR" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --allow-privileged --kubelet-preferred-address-types InternalIP --kubelet-certificate-authority "$PKI/ca.crt" \
    --kubelet-client-certificate "$PKI/kubelet-client.crt" --kubelet-client-key "$PKI/kubelet-client.key"
}

control_plane_wait() {
  local deadline=$((SECONDS + 180)) name
  until api_ready; do
    for name in etcd apiserver; do
      process_alive $name || { process_log $name; fail "$name ended; its log is $LOGS/$name.log"; }
    done
    [ $SECONDS -lt $deadline ] || { process_log apiserver; fail "the API server is not ready after 180 s"; }
    sleep 0.1
  done
}

# Starts the parts that need the API.
control_plane_complete() {
  process_start controller-manager "$BIN/kube-controller-manager" --kubeconfig "$STATE/controller-manager.kubeconfig" \
    --authentication-kubeconfig "$STATE/controller-manager.kubeconfig" \
    --authorization-kubeconfig "$STATE/controller-manager.kubeconfig" --bind-address 127.0.0.1 \
    --service-account-private-key-file "$PKI/sa.key" --root-ca-file "$PKI/ca.crt" --use-service-account-credentials \
    --cluster-cidr "$POD_CIDR" --allocate-node-cidrs=false --leader-elect=false --node-monitor-grace-period=20s \
    --flex-volume-plugin-dir "$STATE/plugins"
  process_start scheduler "$BIN/kube-scheduler" --kubeconfig "$STATE/scheduler.kubeconfig" \
    --authentication-kubeconfig "$STATE/scheduler.kubeconfig" --authorization-kubeconfig "$STATE/scheduler.kubeconfig" \
    --bind-address 127.0.0.1 --leader-elect=false
  if [ ! -f "$STATE/Corefile" ]; then
    local manifest
    for manifest in "$HERE"/manifests/*.yaml; do
      sed "s/@SERVICE_DNS@/$SERVICE_DNS/; s/@HOST_ADDRESS@/$HOST_ADDRESS/" "$manifest" | kubectl apply -f - >/dev/null
    done
    corefile >"$STATE/Corefile"
  fi
  process_start coredns "$BIN/coredns" -conf "$STATE/Corefile"
  process_start provisioner "$BIN/provisioner" --kubeconfig "$STATE/provisioner.kubeconfig" --volumes "$VOLUMES"
  proxy_start host
}

corefile() {
  cat <<END
cluster.local:53 {
  bind $HOST_ADDRESS
  errors
  kubernetes cluster.local {
    kubeconfig $STATE/coredns.kubeconfig
    pods disabled
  }
  cache 5
}
END
}
