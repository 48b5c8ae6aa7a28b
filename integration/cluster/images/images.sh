#!/usr/bin/env bash
# Builds the images of the test cluster and brings them into its nodes; only what is missing. See ../README.md.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in ../settings ../progress oci debian nodes; do
  # shellcheck source=/dev/null
  . "$HERE/$part.sh"
done

usage() {
  cat <<END
usage: images.sh COMMAND
  load NAME...                pause, base, redis: builds what is missing, imports it into the nodes that lack it, and
                              prints the references
  binary NAME FILE [BASE]     an image of one program: FILE as /usr/local/bin/NAME on the image BASE (base), or, with
                              BASE "none", alone as /NAME; prints its reference upm.local/NAME:sha-HASH, which follows
                              from the file; nodes keep the newest three
  push REGISTRY NAME|REFERENCE...  copies images to a registry under the same name and tag; prints the references
END
}

# --- images that change seldom: NAME-KEY, the key being a hash of what goes into them ---

reference_of() {
  case $1 in
  pause) echo upm.local/pause:1 ;;
  base) echo upm.local/base:$SUITE ;;
  redis) echo upm.local/redis:7.0.15 ;;
  *) fail "there is no image '$1'; there are: pause base redis" ;;
  esac
}

packages_of() {
  case $1 in
  base) echo ca-certificates ;;
  redis) echo redis-server,redis-tools ;;
  esac
}

key_of() {
  {
    cat "$HERE/oci.sh" "$HERE/debian.sh"
    case $1 in
    pause) cat "$HERE/pause.c" ;;
    base) packages_of base ;;
    *) key_of base && packages_of "$1" ;;
    esac
  } | sha256sum | cut -c1-12
}

# Builds an image unless it is there, and prints its folder.
image_build() { # NAME
  local name=$1 folder begin=$EPOCHREALTIME
  folder=$IMAGES/$name-$(key_of "$name")
  if [ ! -d "$folder" ]; then
    say "building $(reference_of "$name")" >&2
    mkdir -p "$IMAGES"
    "build_$name" "$folder"
    say "built $(reference_of "$name") in $(seconds_since "$begin") s" >&2
    cache_forget
  fi
  touch "$folder"
  echo "$folder"
}

build_pause() { # FOLDER
  local root
  root=$(mktemp -d "$IMAGES/work.XXXXXX")
  cc -O2 -static -s -o "$root/pause" "$HERE/pause.c"
  chmod 0755 "$root"
  image_write "$1" "$(reference_of pause)" '{"Entrypoint":["/pause"],"User":"65535:65535"}' "$(layer_of_folder "$root")"
  rm -r "$root"
}

PATH_ENV='"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"'

build_base() { # FOLDER
  image_write "$1" "$(reference_of base)" "{\"Env\":[$PATH_ENV],\"Cmd\":[\"/bin/sh\"]}" "$(layer_of_suite "$(packages_of base)")"
}

build_redis() { # FOLDER
  local base layer version reference
  base=$(only_layer "$(image_build base)")
  layer=$(layer_of_packages "$base" "$(packages_of redis)")
  reference=$(reference_of redis)
  version=$(package_version "$layer" redis-server)
  [ "$version" = "${reference##*:}" ] || fail "Debian has Redis $version now, not ${reference##*:}: name it so in images.sh"
  image_write "$1" "$reference" "{\"Env\":[$PATH_ENV],\"Cmd\":[\"redis-server\"]}" "$base" "$layer"
}

# The layer of an image that has one.
only_layer() { # FOLDER
  local blob
  for blob in "$1"/blobs/sha256/*; do
    [ -f "$IMAGES/layers/${blob##*/}.tar" ] && echo "${blob##*/}" && return
  done
}

# --- images of one program: they change with every build and must be ready in seconds ---

binary() { # NAME FILE [BASE]
  local name=$1 file=$2 base=${3:-base} hash reference folder root place config layers=()
  [ -f "$file" ] || fail "there is no file $file"
  hash=$( (sha256sum <"$file" && echo "$base" && { [ "$base" = none ] || key_of "$base"; }) | sha256sum | cut -c1-12)
  reference=upm.local/$name:sha-$hash
  folder=$IMAGES/$name-sha-$hash
  if [ ! -d "$folder" ]; then
    mkdir -p "$IMAGES"
    root=$(mktemp -d "$IMAGES/work.XXXXXX")
    chmod 0755 "$root"
    place=/$name
    if [ "$base" != none ]; then
      place=/usr/local/bin/$name
      layers=("$(only_layer "$(image_build "$base")")")
    fi
    mkdir -p "$root${place%/*}"
    # Debug information is most of a debug build, and no container needs it; names of functions stay.
    strip --strip-debug -o "$root$place" "$file"
    chmod 0755 "$root$place"
    config="{\"Env\":[$PATH_ENV],\"Entrypoint\":[\"$place\"]}"
    image_write "$folder" "$reference" "$config" "${layers[@]}" "$(layer_of_folder "$root")"
    rm -r "$root"
  fi
  touch "$folder"
  image_load "$folder"
  forget_old "$name"
  echo "$reference"
}

# Keeps the newest images of a program, in the cache and in the nodes, and those that containers use.
forget_old() { # NAME
  local keep=3 kept folder socket reference
  kept=$(ls -dt "$IMAGES/$1"-sha-* | head -n $keep | sed "s|.*/$1-|upm.local/$1:|")
  ls -dt "$IMAGES/$1"-sha-* | tail -n +$((keep + 1)) | while read -r folder; do rm -rf "$folder"; done
  layers_forget
  for socket in "$RUN"/n[1-9]/containerd.sock; do
    [ -S "$socket" ] || continue
    node_images "$socket" "name~=^upm.local/$1:sha-" | while read -r reference _; do
      grep -qxF "$reference" <<<"$kept" && continue
      [ -z "$(ctr -a "$socket" -n k8s.io containers ls "image==$reference" -q)" ] || continue
      ctr -a "$socket" -n k8s.io images rm "$reference" >/dev/null
    done
  done
}

# Images that no clone has used for a month.
cache_forget() {
  find "$IMAGES" -mindepth 1 -maxdepth 1 -type d -name '*-*' -mtime +30 -exec rm -rf {} +
  layers_forget
}

# Removes layers of no image: their only name is the one in the store.
layers_forget() { find "$IMAGES/layers" -name '*.tar' -links 1 -delete; }

# Where the digest of what was pushed is kept.
pushed_record() { echo "$IMAGES/pushed/$(basename "$1")@${2//\//-}"; } # FOLDER REGISTRY

# Whether the registry has exactly what was pushed from this folder. One that wants a login does not say; then it is pushed again.
pushed() { # FOLDER REGISTRY NAME:TAG
  local record place=$2/${3%:*}
  record=$(pushed_record "$1" "$2")
  [ -f "$record" ] || return 1
  curl -sfI --max-time 5 -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
    -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
    "https://${place%%/*}/v2/${place#*/}/manifests/${3##*:}" | tr -d '\r' | grep -qi "^docker-content-digest: $(cat "$record")\$"
}

push() { # REGISTRY NAME|REFERENCE...
  local registry=$1 folder reference image work
  shift
  work=$(mktemp -d "$IMAGES/work.XXXXXX")
  # A store of its own, so that nothing stays.
  local -a buildah=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs)
  for reference; do
    case $reference in
    upm.local/*:sha-*) folder=$IMAGES/$(sed 's|upm.local/||; s|:|-|' <<<"$reference") ;;
    *) folder=$(image_build "$reference") ;;
    esac
    [ -d "$folder" ] || fail "there is no image $reference"
    read -r reference _ <"$folder/reference"
    if pushed "$folder" "$registry" "${reference#upm.local/}"; then
      echo "$registry/${reference#upm.local/}"
      continue
    fi
    # An archive and not the layout itself: for that buildah would make up a name from the folder's.
    tar -C "$folder" --exclude=./reference -cf "$work/archive" .
    image=$("${buildah[@]}" pull --quiet "oci-archive:$work/archive")
    "${buildah[@]}" push --quiet --digestfile "$work/digest" "$image" "docker://$registry/${reference#upm.local/}"
    mkdir -p "$IMAGES/pushed"
    cp "$work/digest" "$(pushed_record "$folder" "$registry")"
    echo "$registry/${reference#upm.local/}"
  done
  rm -rf "$work"
}

require_root
mkdir -p "$IMAGES"
exec 7>"$IMAGES/.lock"
flock 7
rm -rf --one-file-system "$IMAGES"/{work,layer}.?????? # of a call that was interrupted
case ${1:-} in
load)
  shift
  for name; do
    image_load "$(image_build "$name")"
    reference_of "$name"
  done
  ;;
binary) binary "${@:2}" ;;
push) push "${@:2}" ;;
*) usage >&2 && exit 2 ;;
esac
