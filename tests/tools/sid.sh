#!/usr/bin/env bash
# Installs a HAProxy of version 3.1 or newer into target/tools/sid: Debian sid's. Does nothing where it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/tools/root.sh
. tests/tools/tree.sh

tree sid sid usr/sbin/haproxy haproxy
