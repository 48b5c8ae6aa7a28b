#!/usr/bin/env bash
# The OpenAPI documents of the gateway pass Redocly's strict rules; clients that openapi-typescript makes of them compile and work.
# `--built` takes the programs as they lie under target/.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$HERE/tools.sh"
build "$@"
made_once redocly npm_install @redocly/cli@1.34.20
REDOCLY=$REPLY/node_modules/.bin/redocly
made_once openapi npm_install openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3 esbuild@0.28.2
ln -s "$REPLY/node_modules" "$WORK/node_modules"
TOOL=$REPLY/node_modules/.bin
start_gateway
start_platform

cd "$WORK"
for api in echo platform; do
  # The licence of an API that is not ours is nothing a gateway could know.
  if [ $api = echo ]; then address=$GATEWAY but=(--skip-rule info-license); else address=$PLATFORM but=(); fi
  curl --silent --show-error --fail --max-time 60 --output $api.json "http://$address/openapi.json"
  REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true "$REDOCLY" lint --extends recommended-strict --max-problems 1000 "${but[@]}" $api.json >$api-lint.log 2>&1 || fail "Redocly finds fault with the document of $api"
  say "client Redocly, the document of $api in strict mode: ok"
  "$TOOL/openapi-typescript" $api.json --output $api.d.ts >/dev/null 2>$api-types.log || fail "no types from the document of $api"
  cp "$HERE/${api}_client.ts" .
done
cat >tsconfig.json <<'TS'
{"compilerOptions": {"strict": true, "noEmit": true, "target": "es2022", "module": "esnext", "moduleResolution": "bundler",
  "noUncheckedIndexedAccess": true, "skipLibCheck": false, "lib": ["es2022", "dom", "dom.iterable"], "types": []},
  "files": ["echo_client.ts", "platform_client.ts"]}
TS
"$TOOL/tsc" --project . >types.log || { cat types.log >&2; fail "the generated clients do not compile"; }
say "client openapi-typescript, both documents compile in strict mode: ok"
for api in echo platform; do
  "$TOOL/esbuild" ${api}_client.ts --bundle --platform=node --format=esm --outfile=${api}_client.mjs --log-level=error
done
node echo_client.mjs "http://$GATEWAY"
TOKEN=$(cat "$WORK/platform/setup-token") node platform_client.mjs "http://$PLATFORM"
