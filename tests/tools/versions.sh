#!/usr/bin/env bash
# Prints the versions of what the end-to-end tests run on. Fails where one is missing or too old.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin

tree=$PWD/target/tools/sid
newer=("$tree/lib64/ld-linux-x86-64.so.2" --library-path "$tree/usr/lib/x86_64-linux-gnu" "$tree/usr/sbin/haproxy")
failed=0

# show NAME PATTERN COMMAND…: the first line of output, which must match.
show() {
    local name=$1 pattern=$2 line
    shift 2
    line=$("$@" 2>&1 | head -n 1) || true
    if [[ $line =~ $pattern ]]; then
        printf '%-22s %s\n' "$name" "$line"
    else
        printf '%-22s missing (make tools): %s\n' "$name" "${line:-no output}" >&2
        failed=1
    fi
}

clients='from importlib.metadata import version; print("openai", version("openai"), "ollama", version("ollama"))'
show 'HAProxy of Debian' '^HAProxy version ' haproxy -v
show 'HAProxy 3.1 or newer' '^HAProxy version (3\.[1-9]|3\.[1-9][0-9]|[4-9])' "${newer[@]}" -v
show 'nginx of Debian' '^nginx version: ' nginx -v
show 'promtool' '^promtool, version ' promtool --version
show 'Python clients' '^openai .* ollama ' target/tools/venv/bin/python -c "$clients"
show 'rustc' '^rustc ' rustc --version
exit $failed
