#!/usr/bin/env bash
# Builds the cluster's Go programs from their modules, each group once per version: what is built lies in
# ~/.cache/upm/programs/GROUP-HASH, and ~/.cache/upm/bin links to it. Without arguments: all groups.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/settings.sh"
. "$HERE/progress.sh"

# The order is that of use: the cluster first, what only tests and people need last.
GROUPS_ALL="etcd kubernetes coredns provisioner helm grpcurl"

# A group's packages, as `go build` wants them.
packages() {
  case $1 in
  etcd) echo go.etcd.io/etcd/server/v3 ;;
  kubernetes) printf 'k8s.io/kubernetes/cmd/%s\n' kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl kube-proxy ;;
  coredns | provisioner) echo . ;;
  helm) echo helm.sh/helm/v3/cmd/helm ;;
  grpcurl) echo github.com/fullstorydev/grpcurl/cmd/grpcurl ;;
  *) fail "there is no program '$1'; there are: $GROUPS_ALL" ;;
  esac
}

# A group's only program, where `go build` would not name it so.
output() {
  case $1 in
  kubernetes) ;;
  *) echo "$1" ;;
  esac
}

# The linker would leave out what a debugger reads: then it need not be made, which saves a sixth of the compiler's time.
COMPILE_FLAGS=-dwarf=false

link_flags() {
  local flags="-s -w" version
  if [ "$1" = kubernetes ]; then
    version=$(sed -n 's|.*k8s.io/kubernetes v\([0-9.]*\).*|\1|p' "$HERE/programs/kubernetes/go.mod")
    local variable=k8s.io/component-base/version
    flags+=" -X $variable.gitVersion=v$version -X $variable.gitMajor=${version%%.*} -X $variable.gitMinor=$(cut -d. -f2 <<<"$version")"
  fi
  echo "$flags"
}

# Changes with everything that goes into the programs.
version_hash() {
  (
    cd "$HERE/programs/$1"
    find . -type f \( -name 'go.*' -o -name '*.go' \) | LC_ALL=C sort | xargs sha256sum
    packages "$1"
    link_flags "$1"
    echo "$COMPILE_FLAGS"
    echo "$GO_VERSION"
  ) | sha256sum | cut -c1-12
}

# Fetches what packages are made of; prints how many there are with all that they need.
fetch() { # LOG PACKAGE...
  local found
  found=$(go list -mod=readonly -deps "${@:2}" 2>"$1") && wc -l <<<"$found"
}

# Builds one group, with a line of progress every 15 s.
build() { # GROUP TARGET
  local group=$1 target=$2 partial=$2.partial log=$2.log begin=$EPOCHREALTIME total pid out
  mkdir -p "$partial"
  out=$(output "$group")
  cd "$HERE/programs/$group"
  # shellcheck disable=SC2046 # package paths
  set -- $(packages "$group")
  say "$group: fetching modules"
  total=$(twice fetch "$log" "$@") || { cat "$log" >&2; fail "$group: its modules could not be had"; }
  say "$group: compiling $total packages"
  go build -v -mod=readonly -trimpath -gcflags "all=$COMPILE_FLAGS" -ldflags "$(link_flags "$group")" -o "$partial/$out" "$@" >"$log" 2>&1 &
  pid=$!
  trap 'kill $pid 2>/dev/null || true' EXIT
  local ticks=0
  while kill -0 $pid 2>/dev/null; do
    sleep 0.5
    ticks=$((ticks + 1))
    [ $((ticks % 30)) -ne 0 ] || say "$group: $(wc -l <"$log") of $total packages, $(seconds_since "$begin") s"
  done
  wait $pid || { tail -n 30 "$log" >&2; fail "$group: go build failed"; }
  trap - EXIT
  mv "$partial" "$target"
  rm -f "$log"
  say "$group: built in $(seconds_since "$begin") s"
}

command -v go >/dev/null || fail "Go is needed to build the test cluster"
export CGO_ENABLED=${CGO_ENABLED:-1}
GO_VERSION=$(cd "$HERE/programs/etcd" && go env GOVERSION)
mkdir -p "$BIN" "$CACHE/programs"
exec 8>"$CACHE/programs/.lock"
flock 8
built=0
for group in ${*:-$GROUPS_ALL}; do
  packages "$group" >/dev/null
  target=$CACHE/programs/$group-$(version_hash "$group")
  if [ ! -d "$target" ]; then
    rm -rf "$target.partial"
    (build "$group" "$target")
    built=1
  fi
  touch "$target"
  for program in "$target"/*; do
    [ "$BIN/${program##*/}" -ef "$program" ] || ln -sfn "$program" "$BIN/${program##*/}"
  done
done
# What no clone has used for a month.
find "$CACHE/programs" -mindepth 1 -maxdepth 1 -type d -mtime +30 -exec rm -rf {} +
[ $built = 1 ] || say "the cluster's programs are built"
