# Where the test cluster lives and which addresses it uses. Sourced by the other scripts.
# All clones on a machine share one cluster: nothing below depends on the folder of the checkout.

export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

CACHE=${UPM_CACHE:-$HOME/.cache/upm} # what is slow to make: built programs and images
BIN=$CACHE/bin
STATE=/var/lib/upm-testbed # disks: etcd, images, volumes, keys, logs
RUN=/run/upm-testbed       # process ids and sockets
VOLUMES=$STATE/volumes
LOGS=$STATE/log
LOCK=/run/lock/upm-testbed.lock
KUBECONFIG_ADMIN=$STATE/admin.kubeconfig

# One bridge that leads nowhere else. Pods of node N are in $POD_NET.N.0/24; the host is .1 of the
# node network: there the API server and DNS listen, and whatever pods shall reach on the host.
BRIDGE=upm0
NODE_NET=10.77.0
POD_NET=10.78
HOST_ADDRESS=$NODE_NET.1
POD_CIDR=$POD_NET.0.0/16
SERVICE_CIDR=10.79.0.0/16
SERVICE_API=10.79.0.1
SERVICE_DNS=10.79.0.10
API_PORT=6443
MAX_NODES=9

require_root() {
  [ "$(id -u)" = 0 ] || fail "the test cluster needs root: it makes network namespaces, mounts and containers"
}
