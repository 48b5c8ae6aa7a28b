# Removing a cluster, also one whose processes have vanished while namespaces, mounts and loop devices stayed
# (a reboot, an ended shell, a kill -9). Sourced.

# Folders that Kubernetes and containerd make at fixed places. Those that were not there before the cluster go with it.
FIXED_PLACES="/var/lib/kubelet /var/lib/cni /var/log/containers /run/containerd /run/netns /opt/containerd /opt/cni /etc/cni"

# What a kubelet sets for the whole machine.
KERNEL_SETTINGS="kernel.panic kernel.panic_on_oops vm.overcommit_memory"

# Notes how the machine was before the cluster.
machine_remember() {
  [ -f "$STATE/kernel-settings" ] && return
  local place
  for place in $FIXED_PLACES; do [ -e "$place" ] || echo "$place"; done >"$STATE/places-made"
  # shellcheck disable=SC2086 # a list of words
  sysctl $KERNEL_SETTINGS >"$STATE/kernel-settings"
}

machine_restore() {
  [ ! -f "$STATE/kernel-settings" ] || sysctl -qp "$STATE/kernel-settings"
  places_remove
}

places_remove() {
  local place
  [ -d /var/log/containers ] && find /var/log/containers -lname "$STATE/*" -delete
  [ -f "$STATE/places-made" ] || return 0
  while read -r place; do
    [ -d "$place" ] || continue
    # `ip netns` mounts its folder on itself; a name in it belongs to somebody else.
    if [ "$place" = /run/netns ] && [ -z "$(ls "$place")" ]; then umount "$place" 2>/dev/null || true; fi
    [ -z "$(mounts_below "$place/")" ] || continue
    case $place in
    # Nobody but a kubelet or a CNI plugin writes there, and there was none before.
    /var/lib/kubelet | /var/lib/cni) rm -rf --one-file-system "$place" ;;
    *) find "$place" -xdev -depth -type d -empty -delete ;;
    esac
  done <"$STATE/places-made"
}

cluster_leftovers() { [ -e "$STATE" ] || [ -e "$RUN" ] || ip link show "$BRIDGE" >/dev/null 2>&1; }

cluster_remove() {
  local n
  cluster_leftovers || return 0
  # shellcheck disable=SC2046 # process ids
  processes_kill $(process_ids '*') $(processes_with "$STATE/" "$RUN/")
  for n in $(seq $MAX_NODES); do
    if [ -e "$STATE/n$n" ] || [ -e "$RUN/n$n" ] || [ -e "/run/netns/upm-n$n" ]; then node_stop "$n"; fi
  done
  mounts_remove "$STATE/" "$RUN/"
  loops_remove
  network_down
  machine_restore
  cgroups_remove ''
  rm -rf --one-file-system "${STATE:?}" "${RUN:?}"
}

# Our programs that were given one of these paths: found also when their file in $RUN is lost.
processes_with() { # PATH...
  local file name path
  for file in /proc/[0-9]*/cmdline; do
    { read -r name <"${file%cmdline}comm"; } 2>/dev/null || continue
    case $name in
    etcd | kube-apiserver | kube-controller | kube-scheduler | kube-proxy | kubelet | coredns | provisioner | containerd | containerd-shim) ;;
    *) continue ;;
    esac
    for path; do
      if tr '\0' ' ' <"$file" 2>/dev/null | grep -qF -- "$path"; then
        file=${file#/proc/}
        echo "${file%/cmdline}"
        break
      fi
    done
  done
}

mounts_below() { # PREFIX
  awk -v prefix="$1" 'index($2, prefix) == 1 { print $2 }' /proc/mounts
}

# Unmounts everything below the prefixes, the deepest first. A mount that is busy goes lazily:
# by now every process that could write to it has ended.
mounts_remove() { # PREFIX...
  local prefix target
  for prefix; do
    while read -r target; do
      printf -v target '%b' "$target"
      umount "$target" 2>/dev/null || umount -l "$target" 2>/dev/null || true
    done < <(mounts_below "$prefix" | tac)
    [ -z "$(mounts_below "$prefix")" ] || fail "something is still mounted below $prefix"
  done
}

# A loop device frees itself with its mount; one whose mount never happened does not.
loops_remove() {
  local device file
  losetup --list --noheadings --output NAME,BACK-FILE | while read -r device file; do
    case $file in "$VOLUMES"/*) losetup --detach "$device" ;; esac
  done
}

# The cgroups of one container, or, without an id, their parent. The kernel lets go of them a moment after
# the last process; the parent may belong to a containerd of somebody else as well, and then stays.
cgroups_remove() { # ID
  local folder attempt
  for folder in /sys/fs/cgroup/k8s.io/$1 /sys/fs/cgroup/*/k8s.io/$1; do
    for attempt in $(seq 20); do
      [ -d "$folder" ] || break
      find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null && break
      [ -n "$1" ] || break
      sleep 0.02
    done
  done
}
