#!/usr/bin/env bash
# Installs the Debian packages that building, testing and the test cluster need; quick when all are there.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/settings.sh"
. "$HERE/progress.sh"

build="build-essential pkg-config ca-certificates curl git jq libmariadb-dev shellcheck"
servers="mariadb-server redis-server redis-tools" # the store's and the cache's tests start their own
clients="chromium python3-venv" # the gateway's tests bring clients of other makes
command -v node >/dev/null && command -v npm >/dev/null || clients+=" nodejs npm"
cluster="containerd runc containernetworking-plugins nftables iptables iproute2 conntrack socat ethtool
  xfsprogs mount kmod procps openssl buildah mmdebstrap docker-registry"

# Docker's own containerd package stands in for Debian's, which would push it off the machine.
installed() {
  dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p'
  if dpkg-query -W -f '${db:Status-Status}' containerd.io 2>/dev/null | grep -q '^installed$'; then
    echo containerd
    echo runc
  fi
}

# shellcheck disable=SC2086 # lists of words
missing=$(comm -23 <(printf '%s\n' $build $servers $clients $cluster | sort -u) <(installed | sort -u))
if [ -z "$missing" ]; then
  say "all Debian packages are installed"
  exit 0
fi
require_root
say "installing" $missing

# Installed servers must not start: a policy of our own while we install, unless the machine has one; and
# not at the next boot either. Tests and the cluster start their own, with their own folders and ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 0755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
# An update that reached some of the mirrors only is no failure to apt; what it missed the install misses. Others may hold dpkg's lock.
packages_install() {
  # shellcheck disable=SC2086 # a list of words
  apt-get update -qq && apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 $missing >/dev/null
}
twice packages_install
if [ -d /run/systemd/system ]; then
  for service in mariadb-server:mariadb redis-server:redis-server containerd:containerd docker-registry:docker-registry; do
    if grep -qx "${service%:*}" <<<"$missing"; then systemctl disable --quiet "${service#*:}"; fi
  done
fi
say "the packages are installed"
