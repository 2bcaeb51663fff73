#!/usr/bin/env bash
# Installs a HAProxy of version 3.1 or newer into target/tools/sid: a minimal Debian sid tree made by debootstrap, of
# which only HAProxy and its libraries are ever run, through the tree's own loader. Does nothing where it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/tools/root.sh

tree=$PWD/target/tools/sid
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

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

if [ -x "$tree/usr/sbin/haproxy" ]; then
    exit 0
fi
if [ ! -r "$keyring" ]; then
    echo "no $keyring: install debian-archive-keyring" >&2
    exit 1
fi
from=$(mirror | head -n 1 || true)
if [ -z "$from" ]; then
    echo "the apt sources of this machine name no Debian mirror (a URI that ends in /debian)" >&2
    exit 1
fi

mkdir -p target/tools
log=$PWD/target/tools/sid.log
echo "installing HAProxy of Debian sid into target/tools/sid (about a minute, log in target/tools/sid.log)"
# Made beside its place and renamed when complete, so that an interrupted run never looks like an installed one.
as_root rm -rf "$tree" "$tree.partial"
if ! as_root debootstrap --variant=minbase --keyring="$keyring" --include=haproxy sid "$tree.partial" "$from" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    as_root chown -R "$(id -u):$(id -g)" "$tree.partial"
fi
mv "$tree.partial" "$tree"
