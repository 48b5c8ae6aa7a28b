#!/usr/bin/env bash
# Clients of other makes against the gateway as one starts it by hand: curl, grpcurl, Python's grpcio, and, in Chromium, connect-web,
# grpc-web, WebSocket, EventSource and the page /docs; then input of nobody's make. Prints a line for each case.
# `--built` takes the programs as they lie under target/.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$HERE/tools.sh"
build "$@"
"$ROOT/integration/cluster/programs.sh" grpcurl
GRPCURL=$BIN/grpcurl
GRPCURL_VERSION="grpcurl $(sed -n 's/.*fullstorydev\/grpcurl v\([0-9.]*\).*/\1/p' "$ROOT/integration/cluster/programs/grpcurl/go.mod" | head -n 1)"
CURL_VERSION=$(curl --version | head -n 1 | cut -d' ' -f1,2)
start_gateway

# ok CLIENT SENTENCE: the last answer was right.
ok() { printf 'client %s, %s: ok\n' "$1" "$2"; }

# is WANTED FOUND WHAT
is() { [ "$1" = "$2" ] || fail "$3: wanted $1, found $2"; }

has() { grep -qF -- "$1" <<<"$2" || fail "$3: no $1 in: ${2:0:2000}"; }

# --- curl ---

# ask ARGUMENTS... PATH: STATUS, HEADERS and BODY.
ask() {
  local path=${!#}
  STATUS=$(curl --silent --show-error --max-time 60 --dump-header "$WORK/headers" --output "$WORK/body" --write-out '%{http_code}' \
    "${@:1:$#-1}" "http://$GATEWAY$path")
  HEADERS=$(tr -d '\r' <"$WORK/headers" | tr '[:upper:]' '[:lower:]')
  BODY=$(tr -d '\0' <"$WORK/body")
}

curl_cases() {
  local version=$1 json=(--header 'content-type: application/json')
  c() { ask "$version" "$@"; }
  c /v1/notes/7
  is 200 "$STATUS" "GET" && is '"9007199254740993"' "$(jq .size <<<"$BODY")" "a number of 64 bits" && has 'x-served-by: echo' "$HEADERS" "metadata"
  ok "$NAME" "GET, number of 64 bits, metadata"
  c "${json[@]}" --data '{"title": "über"}' '/v1/notes?noteId=curl'
  is 200 "$STATUS" "POST" && is 'notes/curl über' "$(jq -r '.name + " " + .title' <<<"$BODY")" "POST"
  c /v1/notes
  is true "$(jq '[.notes[].name] | contains(["notes/curl"])' <"$WORK/body")" "list"
  ok "$NAME" "POST and list"
  c --head /v1/notes/7
  is 200 "$STATUS" "HEAD" && has 'content-length: ' "$HEADERS" "HEAD"
  c --request DELETE /v1/notes/7
  is 405 "$STATUS" "DELETE" && has 'allow: get, head' "$HEADERS" "405"
  ok "$NAME" "HEAD, 405 with Allow"
  c /v1/notes/none
  is 404 "$STATUS" "an error" && is NOT_FOUND "$(jq -r .error.status <<<"$BODY")" "its status"
  c '/v1/behave?code=9&details=true'
  is 400 "$STATUS" "an error" && is AS_YOU_SAID "$(jq -r '.error.details[0].reason' <<<"$BODY")" "its details"
  c "${json[@]}" --data '{"titel": 1}' /v1/notes
  is 400 "$STATUS" "an unknown field" && has titel "$BODY" "its path"
  c '/v1/notes?color=red'
  is 400 "$STATUS" "an unknown parameter"
  ok "$NAME" "errors with details and with paths"
  c '/v1/notes:watch?count=1000'
  is 1000 "$(jq -s length <<<"$BODY")" "lines" && has 'content-type: application/x-ndjson' "$HEADERS" "lines"
  c --header 'accept: application/json' '/v1/notes:watch?count=1000'
  is 1000 "$(jq length <<<"$BODY")" "an array"
  c --header 'accept: text/event-stream' --header 'last-event-id: 990' '/v1/notes:watch?count=1000'
  is 10 "$(grep -c '^data: ' <<<"$BODY")" "events after the 990th" && has 'id: 1000' "$BODY" "ids"
  c '/v1/notes:watch?count=3&fail=true'
  is ABORTED "$(jq -rs '.[3].error.status' <<<"$BODY")" "the error at the end of a stream"
  ok "$NAME" "server stream as lines, array, events that go on, error at its end"
  yes '{"title": "a line"}' 2>/dev/null | head -n 100 >"$WORK/lines" || true
  c --header 'content-type: application/x-ndjson' --header 'expect:' --request POST --upload-file - /v1/notes:collect <"$WORK/lines"
  is 100 "$(jq .count <<<"$BODY")" "client stream"
  ok "$NAME" "client stream of lines"
  head -c 3000000 /dev/urandom >"$WORK/file"
  c --header 'content-type: text/x-file' --header 'expect:' --upload-file "$WORK/file" /v1/files/1
  is '3000000 text/x-file' "$(jq -r '.bytes + " " + .contentType' <<<"$BODY")" "bytes up"
  c /v1/files/1:parts
  is "part 2 of files/1" "$(tail -n 1 <<<"$BODY")" "bytes down" && has 'content-type: text/x-notes' "$HEADERS" "bytes down"
  ok "$NAME" "3 MB of bytes up, parts down"
  jq -n '{title: ("x" * 3000000)}' >"$WORK/big"
  c "${json[@]}" --header 'expect:' --data-binary "@$WORK/big" '/v1/notes?noteId=big'
  is 3000000 "$(jq '.title | length' <"$WORK/body")" "a big message"
  jq -n '{title: ("x" * 5000000)}' >"$WORK/big"
  c "${json[@]}" --data-binary "@$WORK/big" '/v1/notes?noteId=big'
  is 413 "$STATUS" "a message that is too big"
  ok "$NAME" "3 MB message, 413 for 5 MB"
  for coding in gzip br zstd; do
    if ! curl --version | grep -qw "${coding/br/brotli}" && [ $coding != gzip ]; then continue; fi
    c --compressed --header "accept-encoding: $coding" '/v1/notes:watch?count=1000'
    is 1000 "$(jq -s length <<<"$BODY")" $coding && has "content-encoding: $coding" "$HEADERS" $coding
  done
  gzip --stdout >"$WORK/zipped" <<<'{"title": "zipped"}'
  c "${json[@]}" --header 'content-encoding: gzip' --data-binary "@$WORK/zipped" '/v1/notes?noteId=zip'
  is zipped "$(jq -r .title <<<"$BODY")" "a compressed body"
  ok "$NAME" "compression both ways"
  c --header 'x-server-timeout: 0.3' '/v1/behave?sleepMs=60000'
  is 504 "$STATUS" "a deadline" && is DEADLINE_EXCEEDED "$(jq -r .error.status <<<"$BODY")" "a deadline"
  c --header 'x-note: a value' /v1/behave
  is 'a value' "$(jq -r '.metadata["x-note"]' <<<"$BODY")" "metadata"
  ok "$NAME" "deadline, metadata"
}
for version in --http1.1 --http2-prior-knowledge; do
  NAME="$CURL_VERSION $version"
  curl_cases "$version"
done

# --- grpcurl, which knows the API from the gateway's reflection only ---

# call METHOD JSON ARGUMENTS...: OUTPUT and CODE.
call() {
  CODE=0
  OUTPUT=$("$GRPCURL" -plaintext -max-time 60 "${@:3}" -d "$2" "$GATEWAY" "$1" 2>&1) || CODE=$?
}

grpcurl_cases() {
  has demo.echo.Echo "$("$GRPCURL" -plaintext "$GATEWAY" list)" "list"
  has 'rpc Chat ( stream .demo.echo.Note )' "$("$GRPCURL" -plaintext "$GATEWAY" describe demo.echo.Echo)" "describe"
  ok "$NAME" "reflection"
  call demo.echo.Echo/GetNote '{"name": "notes/7"}'
  is 0 $CODE "unary" && is '"9007199254740993"' "$(jq .size <<<"$OUTPUT")" "unary"
  call demo.echo.Echo/WatchNotes '{"count": 100}'
  is 100 "$(jq -s length <<<"$OUTPUT")" "server stream"
  call demo.echo.Echo/CollectNotes '{"title": "a"} {"title": "b"}'
  is 2 "$(jq .count <<<"$OUTPUT")" "client stream"
  call demo.echo.Echo/Chat '{"title": "a"} {"title": "b"}'
  is 're: a re: b' "$(jq -r .title <<<"$OUTPUT" | xargs)" "both streams"
  ok "$NAME" "unary and all streams"
  call demo.echo.Echo/GetNote '{"name": "notes/none"}'
  is 69 $CODE "an error" && has 'Code: NotFound' "$OUTPUT" "an error" && has 'there is no such note' "$OUTPUT" "an error"
  call demo.echo.Echo/Behave '{"code": 9, "details": true}' -format-error
  has AS_YOU_SAID "$(jq -r '.details[0] | .reason // (."@value" | @base64d)' <<<"$OUTPUT" 2>/dev/null || echo "$OUTPUT")" "details"
  ok "$NAME" "errors, details"
  call demo.echo.Echo/Behave '{"sleepMs": 60000}' -max-time 5
  has 'DeadlineExceeded' "$OUTPUT" "a deadline"
  call demo.echo.Echo/Behave '{}' -H 'x-note: a value'
  is 'a value' "$(jq -r '.metadata["x-note"]' <<<"$OUTPUT")" "metadata"
  call demo.echo.Echo/WatchNotes '{"count": 2, "fail": true}' -v
  has 'x-notes-sent: 2' "$OUTPUT" "trailers"
  ok "$NAME" "deadline, metadata, trailers"
  call grpc.health.v1.Health/Check '{}'
  is SERVING "$(jq -r .status <<<"$OUTPUT")" "health"
  ok "$NAME" "health"
}
NAME=$GRPCURL_VERSION
grpcurl_cases

# --- Python ---
made_once grpcio python_install grpcio==1.85.1 grpcio-status==1.85.1
"$REPLY/bin/python" "$HERE/grpcio_client.py" "$GATEWAY" "$WORK/api.pb"

# --- the browser ---
made_once browser npm_install @connectrpc/connect@2.2.0 @connectrpc/connect-web@2.2.0 @bufbuild/protobuf@2.17.0 grpc-web@2.1.1 \
  esbuild@0.28.2 playwright-core@1.56.1
cp "$HERE"/browser.mjs "$HERE"/page.mjs "$WORK"
ln -s "$REPLY/node_modules" "$WORK/node_modules"
SCREENSHOTS=${SCREENSHOTS:-} node "$WORK/browser.mjs" "$GATEWAY" "$WORK/api.pb"

# --- the gateway with what else its README says: descriptors by reflection, workers, metrics, access log, rates ---
"$UPM" serve gateway --listen 127.0.0.1:0 --anonymous --workers 2 --upstream "demo.echo.Echo=http://$ECHO" --admin-listen 127.0.0.1:0 \
  --access-log "$WORK/access" --rate-per-address 0.001:3 >"$WORK/reflecting.log" 2>&1 &
PIDS+=($!)
address_in "$WORK/reflecting.log"
for wanted in 200 200 200 429; do
  is $wanted "$(curl --silent --max-time 60 --output /dev/null --write-out '%{http_code}' "http://$REPLY/v1/notes/7")" "a request by reflection"
done
wait_until 30 "the access log" grep -q '"status":429' "$WORK/access"
ok "$CURL_VERSION" "gateway by reflection, rate of an address, access log"

# --- nobody ---
python3 "$HERE/malformed.py" "$GATEWAY" "$GATEWAY_PID" 10000
if grep -q panicked "$WORK/gateway.log"; then fail "the gateway panicked"; fi
say "all clients are content"
