# OCI image layouts, written without a container engine. Sourced.
#
# $IMAGES/layers/DIGEST.tar   a layer; several images share one
# $IMAGES/NAME-KEY/           an image: an OCI layout whose blobs are hard links to its layers

IMAGES=$CACHE/images
# The same inputs give the same bytes, and so the same digests.
EPOCH=1700000000

digest() { sha256sum "$1" | cut -d' ' -f1; }

# Stores a tar as a layer and prints its digest.
layer_store() { # TAR (is moved)
  local sum
  sum=$(digest "$1")
  mkdir -p "$IMAGES/layers"
  mv "$1" "$IMAGES/layers/$sum.tar"
  echo "$sum"
}

# A layer of the files below a folder, owned by root.
layer_of_folder() { # FOLDER
  local tar
  tar=$(mktemp "$IMAGES/layer.XXXXXX")
  tar -C "$1" --sort=name --mtime=@$EPOCH --owner=0 --group=0 --numeric-owner -cf "$tar" .
  layer_store "$tar"
}

# Writes a layout. CONFIG is the image's `config` object as JSON: Entrypoint, Env, User …
image_write() { # FOLDER REFERENCE CONFIG LAYER...
  local folder=$1 reference=$2 config=$3 partial=$1.partial layer ids='' layers='' blobs sum manifest
  shift 3
  rm -rf "$partial"
  blobs=$partial/blobs/sha256
  mkdir -p "$blobs"
  for layer; do
    ln "$IMAGES/layers/$layer.tar" "$blobs/$layer"
    ids+=${ids:+,}\"sha256:$layer\"
    layers+=${layers:+,}$(descriptor layer.v1.tar "$layer" "$blobs")
  done
  sum=$(blob_write "$blobs" "{\"created\":\"$(date -u -d @$EPOCH +%FT%TZ)\",\"architecture\":\"$(dpkg --print-architecture)\",\"os\":\"linux\",\
\"config\":$config,\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$ids]}}")
  manifest=$(blob_write "$blobs" "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
\"config\":$(descriptor config.v1+json "$sum" "$blobs"),\"layers\":[$layers]}")
  echo '{"imageLayoutVersion":"1.0.0"}' >"$partial/oci-layout"
  # containerd reads the name from the first annotation, other tools from the second.
  echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[\
$(descriptor manifest.v1+json "$manifest" "$blobs" ",\"annotations\":{\"io.containerd.image.name\":\"$reference\",\
\"org.opencontainers.image.ref.name\":\"$reference\"}")]}" >"$partial/index.json"
  echo "$reference sha256:$manifest" >"$partial/reference"
  rm -rf "$folder"
  mv "$partial" "$folder"
}

# Writes a JSON document as a blob and prints its digest.
blob_write() { # BLOBS JSON
  local sum
  sum=$(printf %s "$2" | sha256sum | cut -d' ' -f1)
  printf %s "$2" >"$1/$sum"
  echo "$sum"
}

descriptor() { # TYPE DIGEST BLOBS [MORE FIELDS]
  printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d%s}' "$1" "$2" "$(stat -c %s "$3/$2")" "${4:-}"
}
