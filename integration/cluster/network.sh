# The host's side of the cluster network. Sourced.

network_up() {
  ip link show "$BRIDGE" >/dev/null 2>&1 && return
  ip link add "$BRIDGE" type bridge
  ip addr add "$HOST_ADDRESS/24" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  # No packet for a pod or a service may take the machine's default route, neither while a node
  # is missing nor after the cluster is gone and a test still runs.
  ip route replace unreachable "$POD_CIDR" metric 9000
  ip route replace "$SERVICE_CIDR" dev "$BRIDGE"
}

network_down() {
  ip link del "$BRIDGE" 2>/dev/null || true
  ip route del unreachable "$POD_CIDR" metric 9000 2>/dev/null || true
  # The rules that kube-proxy made for the host itself.
  local family
  for family in ip ip6; do nft delete table $family kube-proxy 2>/dev/null || true; done
}

# kube-proxy runs in every node and once for the host, so that programs on the host reach services. The host is no node: its kube-proxy
# goes by the name of the first one, because it would wait half a minute for a node of its own name before it begins.
proxy_start() { # NAME [PREFIX...]
  local name=$1
  shift
  # It ends when its configuration file is written to.
  process_alive "$name-proxy" && return
  cat >"$STATE/$name-proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $POD_CIDR
clientConnection: {kubeconfig: $STATE/proxy.kubeconfig}
hostnameOverride: ${name/#host/n1}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
# Zero: leave the machine's settings alone.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
  process_start "$name-proxy" "$@" "$BIN/kube-proxy" --config "$STATE/$name-proxy.yaml"
}

# Waits until services are reached from there: the API server under its ClusterIP.
services_wait() { # NAME [PREFIX...]
  local name=$1 deadline=$((SECONDS + 120))
  shift
  until "$@" curl -sko /dev/null --max-time 5 "https://$SERVICE_API/livez"; do
    process_alive "$name-proxy" || { process_log "$name-proxy"; fail "the kube-proxy of $name ended; its log is $LOGS/$name-proxy.log"; }
    [ $SECONDS -lt $deadline ] || fail "$name does not reach services after 120 s; the log of its kube-proxy is $LOGS/$name-proxy.log"
    sleep 0.2
  done
}
