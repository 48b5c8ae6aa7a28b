# The cluster's processes on the host: each one a session of its own, known by a file $RUN/NAME.pid
# that holds the process id and its start time (a process id alone may by now belong to another). Sourced.

# The start time of a process; nothing when it has ended, also when nobody has collected it yet.
process_birth() {
  local stat
  # Not $(<file): where the file is missing, that ends the shell in spite of the `||`.
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  stat=${stat##*) }
  # shellcheck disable=SC2086 # the fields of proc(5), from the third on
  set -- $stat
  [ "$1" = Z ] || [ "$1" = X ] || echo "${20}"
}

process_alive() { # NAME
  local pid birth
  { read -r pid birth <"$RUN/$1.pid"; } 2>/dev/null || return 1
  [ -n "$birth" ] && [ "$(process_birth "$pid")" = "$birth" ]
}

# Starts NAME unless it runs. File descriptor 9 is the lock of the calling script: it must not live on in a child.
process_start() { # NAME COMMAND...
  local name=$1
  shift
  process_alive "$name" && return
  setsid "$@" >>"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
  echo "$! $(process_birth $!)" >"$RUN/$name.pid"
  disown $!
}

# The ids of our processes whose name matches a glob, by their files.
process_ids() { # GLOB
  local file pid birth
  for file in "$RUN"/$1.pid; do
    { read -r pid birth <"$file"; } 2>/dev/null || continue
    [ "$(process_birth "$pid")" = "$birth" ] && echo "$pid"
  done
  return 0
}

# Ends processes at once and waits until each is gone: whoever starts anew must find ports and mounts free.
processes_kill() { # PID...
  [ $# -gt 0 ] || return 0
  local pid deadline=$((SECONDS + 20))
  kill -KILL "$@" 2>/dev/null || true
  for pid; do
    while [ -n "$(process_birth "$pid")" ]; do
      [ $SECONDS -lt $deadline ] || fail "process $pid does not end"
      sleep 0.05
    done
  done
}

# The last lines of a process's log, for an error message.
process_log() { tail -n "${2:-15}" "$LOGS/$1.log" 2>/dev/null | sed "s/^/  $1: /" >&2; }
