# Images in the nodes. Sourced.

# Brings an image into the nodes that do not have it, into all at once.
image_load() { # FOLDER
  local reference sum n socket imports=()
  read -r reference sum <"$1/reference"
  for socket in "$RUN"/n[1-9]/containerd.sock; do
    [ -S "$socket" ] || continue
    n=${socket#"$RUN"/}
    n=${n%/*}
    [ "$(node_images "$socket" "name==$reference" | cut -d' ' -f2)" = "$sum" ] && continue
    image_import "$1" "$socket" &
    imports+=("$!:$n")
  done
  for n in "${imports[@]}"; do
    wait "${n%:*}" || fail "$reference cannot be brought into ${n#*:}"
    say "$reference is in ${n#*:}" >&2
  done
}

# Without the layers that the node has of other images.
image_import() { # FOLDER SOCKET
  local present
  present=$(ctr -a "$2" -n k8s.io content ls -q | sed 's|sha256:|./blobs/sha256/|')
  tar -C "$1" --exclude=./reference --exclude-from=<(echo "$present") -cf - . |
    ctr -a "$2" -n k8s.io images import - >/dev/null
}

# A node's images that match a filter, a line each: reference, digest.
node_images() { # SOCKET FILTER
  ctr -a "$1" -n k8s.io images ls "$2" | awk 'NR > 1 { print $1, $3 }'
}
