#!/usr/bin/env bash
# Installs what the end-to-end tests and the demo need and this machine lacks: Debian's haproxy and nginx; and, unless
# called with `proxies` (the demo needs no more), Debian's redis-server and prometheus (for promtool), HAProxy of Debian sid (sid.sh)
# and a Python environment with the stock `openai` and `ollama` clients. Quick where all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/tools/root.sh

has() { [ -x "/usr/sbin/$1" ] || command -v "$1" >/dev/null; }

missing=()
has haproxy || missing+=(haproxy)
has nginx || missing+=(nginx-light)
if [ "${1:-all}" = all ]; then
    has redis-server || missing+=(redis-server)
    has promtool || missing+=(prometheus)
    if [ ! -x target/tools/sid/usr/sbin/haproxy ]; then
        has debootstrap || missing+=(debootstrap)
        [ -r /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    fi
    [ -x target/tools/venv/bin/python ] || python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
fi

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "missing: ${missing[*]}; install them (there is no apt-get here)" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    # Packages must not start their services: policy-rc.d (Debian Policy 9.11.3) says no while ours are installed, and an
    # existing one is left as it is. systemd units that the package enabled are disabled again.
    guard=/usr/sbin/policy-rc.d
    made=
    if [ ! -e "$guard" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null
        as_root chmod 755 "$guard"
        made=1
    fi
    undo() { [ -z "$made" ] || as_root rm -f "$guard"; }
    trap undo EXIT
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
    for package in "${missing[@]}"; do
        service=${package%-light}
        case $service in
        haproxy | nginx | redis-server | prometheus)
            if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
                as_root systemctl disable --quiet "$service"
            fi
            ;;
        esac
    done
fi

[ "${1:-all}" = all ] || exit 0

tests/tools/sid.sh

if ! target/tools/venv/bin/python -c 'import ollama, openai' 2>/dev/null; then
    echo "installing the Python clients openai and ollama into target/tools/venv"
    rm -rf target/tools/venv
    python3 -m venv target/tools/venv
    target/tools/venv/bin/pip install --quiet --disable-pip-version-check openai ollama
fi
