# Programs and libraries of other makes, as package managers bring them: each list once, in ~/.cache/upm/tools. Sourced.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=/dev/null
. "$ROOT/integration/cluster/settings.sh"
# shellcheck source=/dev/null
. "$ROOT/integration/cluster/progress.sh"

TOOLS=$CACHE/tools
mkdir -p "$TOOLS"

# made_once NAME COMMAND LIST...: runs `COMMAND FOLDER LIST...` unless that was done for this list; the folder is in REPLY.
made_once() {
  local name=$1 command=$2 begin=$EPOCHREALTIME
  shift 2
  REPLY=$TOOLS/$name-$(printf '%s\n' "$command" "$@" | sha256sum | cut -c1-12)
  exec 7>"$TOOLS/.lock"
  flock 7
  if [ ! -d "$REPLY" ]; then
    say "$name: fetching $*"
    twice fetched "$command" "$REPLY.partial" "$@" || fail "$name could not be had"
    mv "$REPLY.partial" "$REPLY"
    say "$name: there after $(seconds_since "$begin") s"
  fi
  touch "$REPLY"
  exec 7>&-
}

# fetched COMMAND FOLDER LIST...: in a folder that is empty in each try.
fetched() {
  rm -rf "$2"
  mkdir -p "$2"
  "$1" "${@:2}"
}

# A folder with node_modules. Scripts of packages are not run.
npm_install() { # FOLDER PACKAGE@VERSION...
  command -v npm >/dev/null || fail "npm is needed: packages.sh installs it"
  echo '{"private": true}' >"$1/package.json"
  (cd "$1" && npm install --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error "${@:2}" >&2)
}

# A virtual environment of Python; call its bin/python.
python_install() { # FOLDER PACKAGE==VERSION...
  python3 -m venv "$1" && "$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}" >&2
}

# Libraries of another release of Debian than the machine's, unpacked and not installed; from the archive that the machine uses.
debian_unpack() { # FOLDER RELEASE PACKAGE...
  local folder=$1 release=$2 archive
  shift 2
  # shellcheck disable=SC2016 # apt's own variables
  archive=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Identifier: Packages' | awk '$2 !~ /-/ {print $1; exit}')
  [ -n "$archive" ] || fail "apt knows no archive of Debian"
  mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
  : >"$folder/apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $release main" >"$folder/apt/sources.list"
  local apt=(apt-get -qq -o Dir::Etc::sourcelist="$folder/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$folder/apt/lists" -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder/apt/cache"
    -o APT::Sandbox::User=root -o Acquire::Languages=none)
  "${apt[@]}" update >&2 || return 1
  (cd "$folder" && "${apt[@]}" download "$@" >&2) || return 1
  local package
  for package in "$folder"/*.deb; do
    dpkg -x "$package" "$folder" || return 1
    rm "$package"
  done
  rm -rf "$folder/apt"
}

# --- programs that run for as long as the script ---

WORK=$(mktemp -d)
PIDS=()
ended() {
  local status=$?
  if [ ${#PIDS[@]} -gt 0 ]; then
    kill "${PIDS[@]}" 2>/dev/null || true
    wait "${PIDS[@]}" 2>/dev/null || true
  fi
  [ $status = 0 ] || tail -n 20 "$WORK"/*.log >&2 2>/dev/null || true
  rm -rf "$WORK"
}
trap ended EXIT

# Where a program says in its log that it listens; in REPLY.
address_in() { # LOG
  touch "$1"
  wait_until 120 "an address in ${1##*/}" grep -qE 'is up.*127\.0\.0\.1:[0-9]+|127\.0\.0\.1:[0-9]+.*is up' "$1"
  REPLY=$(grep -E 'is up' "$1" | grep -oE '127\.0\.0\.1:[0-9]+' | head -n 1)
}

UPM=${CARGO_TARGET_DIR:-$ROOT/target}/debug/upm

# Our server of tests, and the gateway before it as one starts it by hand. In ECHO, GATEWAY and GATEWAY_PID.
start_gateway() {
  "${CARGO_TARGET_DIR:-$ROOT/target}/debug/examples/echo" "$WORK" >"$WORK/echo.log" 2>&1 &
  PIDS+=($!)
  wait_until 120 "the server" test -s "$WORK/address"
  ECHO=$(cat "$WORK/address")
  "$UPM" serve gateway --listen 127.0.0.1:0 --anonymous --allowed-origin '*' --descriptors "$WORK/api.pb" \
    --upstream "demo.echo.Echo=http://$ECHO" >"$WORK/gateway.log" 2>&1 &
  GATEWAY_PID=$!
  PIDS+=("$GATEWAY_PID")
  address_in "$WORK/gateway.log"
  GATEWAY=$REPLY
}

# The whole platform in one process, with nothing in it. In PLATFORM.
start_platform() {
  "$UPM" dev --data "$WORK/platform" --listen 127.0.0.1:0 --agent-listen 127.0.0.1:0 >"$WORK/platform.log" 2>&1 &
  PIDS+=($!)
  address_in "$WORK/platform.log"
  PLATFORM=$REPLY
  wait_until 120 "the setup token" test -s "$WORK/platform/setup-token"
}

# `--built`: the programs are taken as they lie under target/.
build() {
  if [ "${1:-}" != --built ]; then
    (cd "$ROOT" && ${CARGO:-cargo} build --locked -p upm -p upm-gateway -p upm-transcode --bins --examples)
  fi
}
