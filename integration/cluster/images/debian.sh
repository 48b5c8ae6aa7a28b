# Layers of Debian packages, made by mmdebstrap from the machine's own package sources. Sourced.

SUITE=bookworm
# What no server reads.
WITHOUT=(--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
  --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*'
  --dpkgopt='path-exclude=/usr/share/lintian/*')

# The machine's source files that name the suite; without any, mmdebstrap knows Debian's own.
package_sources() { grep -lE "^(deb |Suites:).*\b$SUITE\b" /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null || true; }

# A root of Debian's packages, begun anew in each try.
bootstrap() { # ROOT OPTION...
  rm -rf --one-file-system "$1"
  # shellcheck disable=SC2046 # files
  mmdebstrap --quiet "${WITHOUT[@]}" "${@:2}" "$SUITE" "$1" $(package_sources) >&2
}

# The layer of a minimal Debian with some packages.
layer_of_suite() { # PACKAGE,...
  local work
  work=$(mktemp -d "$IMAGES/work.XXXXXX")
  twice bootstrap "$work/root" --variant=essential --include="$1"
  layer_of_changes "$work/root" /
  rm -rf "$work"
}

# The layer that packages add to another: everything whose inode changed since the other was unpacked.
layer_of_packages() { # BASE LAYER, PACKAGE,...
  local work
  work=$(mktemp -d "$IMAGES/work.XXXXXX")
  twice bootstrap "$work/root" --variant=custom --include="$2" \
    --setup-hook="tar -C \"\$1\" -xf '$IMAGES/layers/$1.tar' && sleep 0.1 && touch '$work/unpacked'"
  layer_of_changes "$work/root" "$work/unpacked"
  rm -rf "$work"
}

layer_of_changes() { # ROOT SINCE
  local tar since=()
  [ "$2" = / ] || since=(-newercm "$2")
  tar=$(mktemp "$IMAGES/layer.XXXXXX")
  (
    cd "$1"
    find . -mindepth 1 \( -path './dev/*' -o -path './proc/*' -o -path './sys/*' -o -path './run/*' -o -path './tmp/*' \
      -o -path './var/lib/apt/*' -o -path './var/cache/*' -o -path './var/log/*' -o -name '*-old' -o -path './etc/machine-id' \) -prune \
      -o "${since[@]}" -print0 | LC_ALL=C sort -z |
      tar --null --no-recursion --numeric-owner --mtime=@$EPOCH -T - -cf "$tar"
  )
  layer_store "$tar"
}

# The upstream version of a package in a root or layer: 7.0.15 of 5:7.0.15-1~deb12u10. It reads to the end: who stops listening ends `tar`
# with an error.
package_version() { # LAYER PACKAGE
  tar -xOf "$IMAGES/layers/$1.tar" ./var/lib/dpkg/status |
    awk -v package="$2" '$1 == "Package:" { here = $2 == package } here && $1 == "Version:" && !said { sub(/^[0-9]+:/, "", $2); sub(/-[^-]*$/, "", $2); print $2; said = 1 }'
}
