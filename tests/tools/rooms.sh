#!/usr/bin/env bash
# Counts the rooms of a tree (default: this one), the arrows between them and those that are part of a circle:
# `tests/tools/rooms.sh [DIRECTORY]`.
set -uo pipefail
tree=$(cd "${1:-$(dirname "$0")/../..}" && pwd)
cd "$(dirname "$0")/../.."
HERDGATE_TREE=$tree cargo test --quiet --test tidy no_import_circle -- --nocapture | grep -E ' rooms, | → '
exit 0
