# What `make up` makes and `make down` removes: the platform on this machine, the agent in a cluster, one Redis service.
# Sourced by up.sh and down.sh.

# shellcheck source=/dev/null
. "$HERE/cluster/settings.sh"
# shellcheck source=/dev/null
. "$HERE/cluster/progress.sh"

HOME_UPM=${UPM_HOME:-$HOME/.local/share/upm} # the platform's data, its log, the login
export UPM_CONFIG=$HOME_UPM/login.json
PID=$HOME_UPM/upm.pid
LOG=$HOME_UPM/upm.log
ADMIN=admin
ADMIN_PASSWORD=$HOME_UPM/admin-password
API=${UPM_API_ADDRESS:-127.0.0.1:8080}
AGENT_PORT=${UPM_AGENT_PORT:-7443}
PROJECT=demo
SERVICE=demo
CLUSTER=local
SYSTEM=upm-system
MADE_HERE=app.kubernetes.io/managed-by=upm-make-up # label of a namespace that was not there before
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
UPM=$TARGET/debug/upm
UNIT_AGENT=$TARGET/x86_64-unknown-linux-gnu/debug/upm-unit-agent

own_cluster() { [ -n "${UPM_KUBECONFIG:-}" ]; }

kubeconfig() { if own_cluster; then echo "$UPM_KUBECONFIG"; else echo "$KUBECONFIG_ADMIN"; fi; }

kubectl() { "$BIN/kubectl" --kubeconfig "$(kubeconfig)" "$@"; }

helm() { "$BIN/helm" --kubeconfig "$(kubeconfig)" "$@"; }

# Where the agent finds the hub.
hub_address() {
  if own_cluster; then
    [ -n "${UPM_HUB_ADDRESS:-}" ] || fail "set UPM_HUB_ADDRESS to the host:port under which the cluster's pods reach this machine's port $AGENT_PORT"
    echo "$UPM_HUB_ADDRESS"
  else
    echo "$HOST_ADDRESS:$AGENT_PORT"
  fi
}

# --- images: the agent's and the unit agent's follow from their programs, Redis' from Debian ---

images_ready() {
  AGENT_IMAGE=$("$HERE/cluster/images/images.sh" binary upm-agent "$TARGET/debug/upm-agent" | tail -n 1)
  UNIT_AGENT_IMAGE=$("$HERE/cluster/images/images.sh" binary upm-unit-agent "$UNIT_AGENT" none | tail -n 1)
  "$HERE/cluster/images/images.sh" load redis >/dev/null
  IMAGE_PREFIX=upm.local/
  if own_cluster; then
    [ -n "${UPM_REGISTRY:-}" ] || fail "set UPM_REGISTRY to a registry that the cluster's nodes reach"
    "$HERE/cluster/images/images.sh" push "$UPM_REGISTRY" "$AGENT_IMAGE" "$UNIT_AGENT_IMAGE" redis
    AGENT_IMAGE=$UPM_REGISTRY/${AGENT_IMAGE#*/}
    UNIT_AGENT_IMAGE=$UPM_REGISTRY/${UNIT_AGENT_IMAGE#*/}
    IMAGE_PREFIX=$UPM_REGISTRY/
  fi
}

# --- platform ---

# Whether the process of the pid file is ours: a number that was given to another process is not.
platform_runs() {
  [ -f "$PID" ] && [ "$(readlink "/proc/$(cat "$PID")/exe" 2>/dev/null | sed 's/ (deleted)$//')" = "$UPM" ]
}

# Whether the running process is of the program that lies there now.
platform_current() { platform_runs && [ "/proc/$(cat "$PID")/exe" -ef "$UPM" ]; }

platform_up() {
  if platform_runs && ! platform_current; then
    say "the program was built anew: restarting the platform"
    platform_stop
  fi
  if ! platform_runs; then
    mkdir -p "$HOME_UPM"
    chmod 0700 "$HOME_UPM"
    setsid "$UPM" dev --data "$HOME_UPM/data" --listen "$API" --agent-listen "0.0.0.0:$AGENT_PORT" \
      --agent-address "$(hub_address)" >>"$LOG" 2>&1 </dev/null &
    echo $! >"$PID"
  fi
  local deadline=$((SECONDS + 180))
  until curl -sf "http://$API/healthz" >/dev/null; do
    # Not platform_runs: the process may not have come to its program yet.
    kill -0 "$(cat "$PID")" 2>/dev/null || { tail -n 20 "$LOG" >&2; fail "the platform ended; its log is $LOG"; }
    [ $SECONDS -lt $deadline ] || fail "the platform does not answer at $API after 180 s; its log is $LOG"
    sleep 0.2
  done
  say "the platform answers at http://$API"
}

platform_stop() {
  platform_runs || return 0
  local pid deadline=$((SECONDS + 40))
  pid=$(cat "$PID")
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || { kill -9 "$pid"; break; }
    sleep 0.1
  done
  rm -f "$PID"
}

# The first start makes the administrator; later ones log in again when the login has ended.
sign_in() {
  log_in
  wait_until 120 "all modules know the administrator" modules_know_us
}

# Each module decides by a policy of its own, which comes within moments of its start, and of a change. `redis list` may not find the project.
modules_know_us() {
  local status=0
  { "$UPM" cluster list && "$UPM" agent list; } >/dev/null 2>&1 || return
  "$UPM" redis list --project $PROJECT >/dev/null 2>&1 || status=$?
  [ $status = 0 ] || [ $status = 3 ]
}

log_in() {
  if [ ! -f "$ADMIN_PASSWORD" ]; then
    (umask 077 && head -c 24 /dev/urandom | base64 | tr -d '\n' >"$ADMIN_PASSWORD")
  fi
  if "$UPM" whoami >/dev/null 2>&1; then
    return
  elif [ -f "$HOME_UPM/data/setup-token" ]; then
    "$UPM" setup --server "http://$API" --user $ADMIN --password-file "$ADMIN_PASSWORD" --token-file "$HOME_UPM/data/setup-token"
    say "made the administrator"
  else
    "$UPM" login --server "http://$API" --user $ADMIN --password-file "$ADMIN_PASSWORD"
  fi
}

# --- agent ---

agent_up() {
  "$UPM" project get $PROJECT >/dev/null 2>&1 || "$UPM" project create $PROJECT >/dev/null
  if ! kubectl get namespace $SYSTEM >/dev/null 2>&1; then
    kubectl create namespace $SYSTEM >/dev/null
    kubectl label namespace $SYSTEM $MADE_HERE >/dev/null
  fi
  local state pin
  state=$("$UPM" cluster get $CLUSTER -o json 2>/dev/null | json_field state || true)
  # An agent without its identity has to join again; one with another platform's identity as well.
  kubectl -n $SYSTEM get secret upm-agent-identity >/dev/null 2>&1 || state=
  case $state in
  HEALTHY | UNHEALTHY | UNREACHABLE) ;;
  *)
    kubectl -n $SYSTEM delete secret upm-agent-identity --ignore-not-found >/dev/null
    # Standard input carries the token: a process list must not show it.
    local answer
    answer=$("$UPM" cluster join $CLUSTER --auto-approve -o json)
    pin=$(json_field caPin <<<"$answer")
    json_field token <<<"$answer" | tr -d '\n' |
      kubectl -n $SYSTEM create secret generic upm-agent-join --from-file=token=/dev/stdin --dry-run=client -o yaml |
      kubectl apply -f - >/dev/null
    echo "$pin" >"$HOME_UPM/ca-pin"
    ;;
  esac
  kubectl apply --server-side --force-conflicts -f "$ROOT/helm/upm-agent/crds" >/dev/null
  helm upgrade --install upm-agent "$ROOT/helm/upm-agent" --namespace $SYSTEM --wait --timeout 5m \
    --set "hub.endpoints={$(hub_address)}" --set "hub.caPin=$(cat "$HOME_UPM/ca-pin")" \
    --set "image.reference=$AGENT_IMAGE" --set "unitAgent.image=$UNIT_AGENT_IMAGE" --set "images.prefix=$IMAGE_PREFIX" >/dev/null
  local deadline=$((SECONDS + 180))
  until [ "$("$UPM" cluster get $CLUSTER -o json | json_field state)" = HEALTHY ]; do
    [ $SECONDS -lt $deadline ] || { "$UPM" cluster list >&2; kubectl -n $SYSTEM logs -l app.kubernetes.io/name=upm-agent --tail=20 >&2; fail "the cluster is not healthy after 180 s"; }
    sleep 0.5
  done
  say "the agent is connected"
}

# One text field of a JSON object at the top level, or one below; nothing else on this machine reads JSON for sure.
json_field() { sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" | head -n 1 | sed 's/\\"/"/g'; }

# --- service ---

# The REST form, as a user of curl would do it. The members are small: the test cluster is one machine, and what README.md creates next must fit too. The token goes through a file, so that no process list shows it.
rest() { # METHOD PATH [BODY]
  local headers status
  headers=$(mktemp "$HOME_UPM/headers.XXXXXX")
  chmod 0600 "$headers"
  sed -n 's/^ *"access_token": "\(.*\)",$/Authorization: Bearer \1/p' "$UPM_CONFIG" >"$headers"
  status=0
  curl -sS --fail-with-body -X "$1" -H @"$headers" -H 'Content-Type: application/json' ${3:+--data "$3"} "http://$API$2" || status=$?
  rm -f "$headers"
  return $status
}

service_up() {
  local operation
  "$UPM" whoami >/dev/null # renews a token that is about to end
  if "$UPM" redis get $SERVICE --project $PROJECT >/dev/null 2>&1; then
    say "the service exists"
  else
    operation=$(rest POST "/v1/projects/$PROJECT/redisServices?redisServiceId=$SERVICE" '{"spec": {"members": 3, "cpu": "100m"}}' | grep -o '"name": *"operations/[^"]*"' | head -n 1 | cut -d'"' -f4)
    [ -n "$operation" ] || fail "the platform did not accept the service"
    say "operation $operation"
    "$UPM" operation watch "$operation"
  fi
  # What is shown is how it is, and not a moment of its birth; one that is ill is shown as well.
  local deadline=$((SECONDS + 60))
  until service_ready || [ $SECONDS -ge $deadline ]; do sleep 0.5; done
}

service_ready() { [ "$("$UPM" redis get $SERVICE --project $PROJECT -o json | json_field state)" = READY ]; }

summary() {
  echo "UI:        http://$API/ (user $ADMIN, password in $ADMIN_PASSWORD)"
  echo
  "$UPM" redis get $SERVICE --project $PROJECT
  echo
  "$UPM" redis connect $SERVICE --project $PROJECT
  cat <<END

API:       http://$API (REST, gRPC and gRPC-Web; OpenAPI at /openapi.json)
Login:     user $ADMIN, password in $ADMIN_PASSWORD; the command line's login is $UPM_CONFIG (export UPM_CONFIG=$UPM_CONFIG)
Cluster:   kubectl --kubeconfig $(kubeconfig)
Log:       $LOG
END
}
