#!/usr/bin/env bash
# Runs every test there is, and ends with one line that sums them up: `N passed, M failed`. Fails where one failed, where
# a test binary did not finish, and where none ran.
set -uo pipefail
cd "$(dirname "$0")/../.."

mkdir -p target/tools
log=target/tools/test.log
# --no-fail-fast, so that the sum is of everything; doc tests are a second run, because --all-targets leaves them out.
# --show-output, because tests that pass say what they measured: gaps, versions, how often a fault struck.
{
    cargo test --no-fail-fast --all-targets -- --show-output "$@"
    first=$?
    cargo test --no-fail-fast --doc
    second=$?
    echo "cargo exit status: $first $second"
} 2>&1 | tee "$log"

versions=0
tests/tools/versions.sh || versions=1

# `test result: ok. 12 passed; 0 failed; …` of each binary.
read -r passed failed < <(awk '/^test result: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i - 1); if ($i ~ /^failed/) f += $(i - 1) } }
    END { print p + 0, f + 0 }' "$log")
# A binary that aborts, or does not build, prints no result line: it counts as one failure. So does a missing version.
if ! grep -q '^cargo exit status: 0 0$' "$log" && [ "$failed" = 0 ]; then
    failed=1
fi
if [ "$failed" = 0 ] && { [ "$passed" = 0 ] || [ "$versions" != 0 ]; }; then
    failed=1
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
