#!/usr/bin/env bash
# The project's test cluster: a real Kubernetes of one to nine nodes on this machine. See README.md.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in settings progress process pki network node-config node control-plane cleanup; do
  # shellcheck source=/dev/null
  . "$HERE/$part.sh"
done

usage() {
  cat <<END
usage: cluster.sh COMMAND
  up                      start the cluster, or mend what is missing (NODES=1..$MAX_NODES; without it: what exists, or 1)
  down                    remove it with everything in it
  status                  processes and nodes; exit code 0 if all is well
  kubectl ARGUMENTS...    kubectl as the cluster's administrator
  node stop|start N       cut the power of node N (everything in it ends, its disk stays), and switch it on again
  node cut|heal N         cut node N's network, and join it again
  freeze|thaw NAME        stop a process (apiserver, n1-kubelet, …) without ending it, and let it go on
The administrator's kubeconfig is $KUBECONFIG_ADMIN.
END
}

# One change at a time, from whichever clone.
lock() {
  while true; do
    exec 9>"$LOCK"
    if ! flock -n 9; then
      say "another call of cluster.sh is at work; waiting for it"
      flock -w 300 9 || fail "the other call of cluster.sh did not end within 300 s"
    fi
    [ "$LOCK" -ef /proc/self/fd/9 ] && return # else `down` has removed the file that we waited for
  done
}

up() {
  local wanted exists n
  lock
  for n in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl kube-proxy coredns provisioner; do
    [ -x "$BIN/$n" ] || fail "$n is not built yet: run programs.sh"
  done
  wanted=${NODES:-}
  exists=$(node_numbers | wc -l)
  if cluster_leftovers && ! control_plane_alive; then
    say "a dead cluster was found: removing what is left of it"
    wanted=${wanted:-$exists}
    cluster_remove
    exists=0
  fi
  [ "${wanted:-0}" != 0 ] || wanted=$((exists > 0 ? exists : 1))
  [[ $wanted =~ ^[1-9]$ ]] || fail "NODES must be 1 to $MAX_NODES, not '$wanted'"
  [ "$exists" -le "$wanted" ] || wanted=$exists # a node is never taken away from someone who uses it
  if healthy "$wanted"; then
    services_reached
    say "the cluster is up: $(nodes_ready) node(s), kubeconfig $KUBECONFIG_ADMIN"
    return
  fi
  mkdir -p "$STATE" "$RUN" "$LOGS" "$VOLUMES"
  machine_remember
  ulimit -n "$(ulimit -Hn)" # containerd and etcd need more than the usual 1024
  network_up
  pki_up
  if ! control_plane_alive; then say "starting etcd and the API server"; fi
  control_plane_start
  for n in $(seq "$wanted"); do
    node_runs "$n" && continue
    say "starting node n$n"
    node_stop "$n"
    node_start "$n"
  done
  control_plane_wait
  say "the API server is ready"
  control_plane_complete
  for n in $(seq "$wanted"); do
    node_heal "$n"
    node_join "$n"
  done
  "$HERE/images/images.sh" load pause >/dev/null
  wait_nodes "$wanted"
  services_reached
  say "the cluster is up: $wanted node(s), kubeconfig $KUBECONFIG_ADMIN"
}

# Waits until services are reached from the host and from every node.
services_reached() {
  local n
  services_wait host
  for n in $(node_numbers); do services_wait "n$n" nsenter --net="/run/netns/upm-n$n"; done
}

# Every process alive, and so many nodes Ready.
healthy() { # NODES
  local name n
  for name in etcd apiserver controller-manager scheduler coredns provisioner host-proxy; do
    process_alive $name || return 1
  done
  for n in $(seq "$1"); do node_alive "$n" || return 1; done
  [ "$(nodes_ready)" = "$1" ]
}

# How many nodes are Ready.
nodes_ready() {
  kubectl get nodes --request-timeout=5s \
    -o jsonpath='{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' 2>/dev/null | grep -c True || true
}

wait_nodes() { # COUNT
  local deadline=$((SECONDS + 180)) n
  until [ "$(nodes_ready)" -ge "$1" ]; do
    for n in $(node_numbers); do
      process_alive "n$n-kubelet" || { process_log "n$n-kubelet"; fail "the kubelet of n$n ended; its log is $LOGS/n$n-kubelet.log"; }
    done
    [ $SECONDS -lt $deadline ] || { kubectl get nodes >&2; fail "$1 node(s) should be Ready, but are not after 180 s"; }
    sleep 0.2
  done
}

down() {
  lock
  if ! cluster_leftovers; then
    say "there is no cluster"
  else
    say "removing the cluster"
    cluster_remove
    say "the cluster is gone"
  fi
  rm -f "$LOCK"
}

status() {
  local file name bad=0
  if [ ! -d "$STATE" ]; then
    echo "there is no cluster"
    return 3
  fi
  for file in "$RUN"/*.pid; do
    name=${file##*/}
    name=${name%.pid}
    if process_alive "$name"; then
      printf '%-20s running\n' "$name"
    else
      printf '%-20s ENDED, see %s\n' "$name" "$LOGS/$name.log"
      bad=1
    fi
  done
  kubectl get nodes --request-timeout=5s || bad=1
  return $bad
}

node() { # stop|start|cut|heal N
  local n=${2:-}
  [[ $n =~ ^[1-9]$ ]] && [ -d "$STATE/n$n" ] || fail "there is no node '$n'; there are: $(node_numbers | tr '\n' ' ')"
  case $1 in
  stop)
    lock
    node_stop "$n"
    ;;
  start)
    lock
    node_runs "$n" || { node_stop "$n" && node_start "$n"; }
    node_join "$n"
    ;;
  cut) node_cut "$n" ;;
  heal) node_heal "$n" ;;
  *) usage >&2 && exit 2 ;;
  esac
}

freeze() { signal_process STOP "$1"; }
thaw() { signal_process CONT "$1"; }

signal_process() { # SIGNAL NAME
  local pid
  pid=$(process_ids "$2")
  [[ -n $2 && $pid =~ ^[0-9]+$ ]] || fail "there is no process '$2'; \`status\` lists them"
  kill "-$1" "$pid"
}

require_root
case ${1:-} in
up | down | status) "$1" ;;
kubectl) exec "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "${@:2}" ;;
node) node "${2:-}" "${3:-}" ;;
freeze | thaw) "$1" "${2:-}" ;;
*) usage >&2 && exit 2 ;;
esac
