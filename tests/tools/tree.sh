# Sourced: `tree NAME SUITE PROGRAM PACKAGE…` makes target/tools/NAME, a minimal tree of a Debian suite made by
# debootstrap, of which only PROGRAM and its libraries are ever run, through the tree's own loader. Does nothing where
# PROGRAM is there. Needs root.sh, and the top of the source tree as working directory.

# The mirror is the one this machine's own apt sources name for Debian, in either format (sources.list(5)).
mirror() {
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        awk 'tolower($1) == "uris:" { for (i = 2; i <= NF; i++) print $i }' "$file"
    done | grep -E '/debian/?$' && return
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -r "$file" ] || continue
        awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; break } }' "$file"
    done | grep -E '/debian/?$'
}

tree() {
    local name=$1 suite=$2 program=$3 keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    local place=$PWD/target/tools/$name packages from log
    shift 3
    packages=$(IFS=,; echo "$*")
    if [ -x "$place/$program" ]; then
        return 0
    fi
    if [ ! -r "$keyring" ]; then
        echo "no $keyring: install debian-archive-keyring" >&2
        return 1
    fi
    from=$(mirror | head -n 1 || true)
    if [ -z "$from" ]; then
        echo "the apt sources of this machine name no Debian mirror (a URI that ends in /debian)" >&2
        return 1
    fi

    mkdir -p target/tools
    log=$place.log
    echo "installing $* of Debian $suite into target/tools/$name (about a minute, log in target/tools/$name.log)"
    # Made beside its place and renamed when complete, so that an interrupted run never looks like an installed one.
    as_root rm -rf "$place" "$place.partial"
    if ! as_root debootstrap --variant=minbase --keyring="$keyring" --include="$packages" \
        "$suite" "$place.partial" "$from" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ]; then
        as_root chown -R "$(id -u):$(id -g)" "$place.partial"
    fi
    mv "$place.partial" "$place"
}
