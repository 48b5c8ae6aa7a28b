# Progress lines with the seconds since the script began. Sourced.

PROGRESS_START=${PROGRESS_START:-$EPOCHREALTIME}

# The seconds between PROGRESS_START (or the given time) and now, with one decimal place.
seconds_since() {
  local from=${1:-$PROGRESS_START} now=$EPOCHREALTIME tenths
  tenths=$(((${now/[.,]/} - ${from/[.,]/}) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

say() { printf '%7s s  %s\n' "$(seconds_since)" "$*"; }

fail() {
  printf '%7s s  %s\n' "$(seconds_since)" "error: $*" >&2
  exit 1
}

# wait_until SECONDS REASON COMMAND...: polls; on the deadline it says what it waited for.
wait_until() {
  local deadline=$((SECONDS + $1)) reason=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "$reason: not within the deadline"
    sleep 0.2
  done
}

# twice COMMAND...: once more after a pause when it fails, because a mirror or a registry may hiccup. Within it no failure ends the shell: a
# function must return its own.
twice() {
  "$@" && return
  say "failed: $1; once more in 20 s" >&2
  sleep 20
  "$@"
}

# No script ends without saying where.
set -o errtrace
trap 'fail "${BASH_SOURCE[0]##*/}:$LINENO: failed: $BASH_COMMAND"' ERR
