# A node: a network namespace with its own containerd, kubelet and kube-proxy. Sourced.
# Its disk is $STATE/nN and outlives a power cut; its memory is $RUN/nN and does not.

node_ip() { echo "$NODE_NET.$((10 + $1))"; }

# The numbers of the nodes that exist, running or not.
node_numbers() {
  local folder
  for folder in "$STATE"/n[1-9]; do [ -d "$folder" ] && echo "${folder##*/n}"; done
  return 0
}

# Runs a command in a node's network. Not `ip netns exec`: that mounts /sys anew, which hides the
# cgroup mounts from the kubelet.
in_node() { # N COMMAND...
  local net=/run/netns/upm-n$1
  shift
  nsenter --net="$net" "$@"
}

# Whether the node has its network and its container runtime: what else is missing can be started beside them.
node_runs() { [ -e "/run/netns/upm-n$1" ] && process_alive "n$1-containerd"; } # N

node_alive() { node_runs "$1" && process_alive "n$1-kubelet" && process_alive "n$1-proxy"; } # N

# Network and container runtime. What is left of an earlier run of the node must be cleaned before (node_stop).
node_start() { # N
  local n=$1 disk=$STATE/n$1
  mkdir -p "$disk"/{containerd,kubelet,cni,log,opt,plugins} "$RUN/n$n"
  node_network_up "$n"
  node_cni_config "$n" >"$disk/cni/10-upm.conflist"
  node_containerd_config "$n" >"$disk/containerd.toml"
  process_start "n$n-containerd" nsenter --net="/run/netns/upm-n$n" containerd --config "$disk/containerd.toml"
}

# kubelet and kube-proxy; they need the API.
node_join() { # N
  local n=$1 disk=$STATE/n$1
  node_alive "$n" && return
  [ -f "$PKI/n$n.crt" ] || certificate "n$n" "/O=system:nodes/CN=system:node:n$n" "DNS:n$n,IP:$(node_ip "$n")"
  kubeconfig "$disk/kubeconfig" "n$n"
  node_kubelet_config "$n" >"$disk/kubelet.yaml"
  process_start "n$n-kubelet" nsenter --net="/run/netns/upm-n$n" "$BIN/kubelet" --config "$disk/kubelet.yaml" \
    --kubeconfig "$disk/kubeconfig" --root-dir "$disk/kubelet" --hostname-override "n$n" --node-ip "$(node_ip "$n")" \
    --node-labels "topology.kubernetes.io/zone=z$n"
  proxy_start "n$n" nsenter --net="/run/netns/upm-n$n"
}

node_network_up() { # N
  local n=$1 ns=upm-n$1 ip peer
  ip=$(node_ip "$n")
  ip netns add "$ns"
  ip link add "ve$n" type veth peer name eth0 netns "$ns"
  ip link set "ve$n" master "$BRIDGE" up
  ip -n "$ns" link set lo up
  ip -n "$ns" addr add "$ip/24" dev eth0
  ip -n "$ns" link set eth0 up
  # Nodes reach each other's pods directly, so the host need not forward packets; and nothing else:
  # no packet of a pod ever leaves the machine.
  ip -n "$ns" route add unreachable default
  ip -n "$ns" route add unreachable "$POD_CIDR" metric 9000
  ip -n "$ns" route add "$SERVICE_CIDR" dev eth0
  for peer in $(seq $MAX_NODES); do
    [ "$peer" = "$n" ] || ip -n "$ns" route add "$POD_NET.$peer.0/24" via "$(node_ip "$peer")"
  done
  ip route replace "$POD_NET.$n.0/24" via "$ip"
  in_node "$n" sysctl -qw net.ipv4.ip_forward=1
}

# Cuts a node off, or joins it again; its processes and pods go on running.
node_cut() { ip link set "ve$1" down; }
node_heal() { ip link set "ve$1" up; }

# A power cut: everything that runs in the node ends at once, its disk stays.
node_stop() { # N
  local n=$1 bundle address strays
  # shellcheck disable=SC2046 # process ids
  processes_kill $(process_ids "n$n-*")
  # Until none is left: one may have begun while we looked.
  for _ in 1 2 3 4 5; do
    strays=$(node_strays "$n")
    [ -n "$strays" ] || break
    # shellcheck disable=SC2086 # process ids
    processes_kill $strays
  done
  # The sockets of shims lie outside of our folders.
  for bundle in "$RUN/n$n"/containerd/io.containerd.runtime.v2.task/*/*; do
    [ -f "$bundle/address" ] || continue
    address=$(cat "$bundle/address")
    rm -f "${address#unix://}"
    cgroups_remove "${bundle##*/}"
  done
  mounts_remove "$STATE/n$n/" "$RUN/n$n/"
  ip netns del "upm-n$n" 2>/dev/null || true
  ip link del "ve$n" 2>/dev/null || true
  rm -rf --one-file-system "${RUN:?}/n$n" "$RUN/n$n"-*.pid
}

# Processes of a node that no file names: shims, what runs in containers, and daemons whose file was lost.
node_strays() { # N
  local n=$1
  # A container's root is an overlay on the node's disk. (grep, because some awks end at a process that just vanished.)
  grep -lE "^[0-9]+ [0-9]+ [0-9:]+ / / .*=$STATE/n$n/" /proc/[0-9]*/mountinfo 2>/dev/null | cut -d/ -f3 || true
  processes_with "$RUN/n$n/" "$STATE/n$n/" "$STATE/n$n-"
}
