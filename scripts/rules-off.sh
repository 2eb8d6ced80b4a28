#!/usr/bin/env bash
# Takes each rule out of the code, one at a time, and sees that its test fails: a test that
# cannot fail proves nothing.
#
# Usage: scripts/rules-off.sh [WORD]   only the patches of tests/rules-off whose name has WORD
#
# Works on a copy of the last commit, never on your tree. Takes about half a minute a patch.
set -euo pipefail
cd "$(dirname "$0")/.."

word=${1:-}
export CARGO_TARGET_DIR="$PWD/target/rules-off"
# Always the same place: what was compiled there is good for the next run.
copy="$CARGO_TARGET_DIR/tree"
remove() { git worktree remove --force "$copy" 2>/dev/null || true; }
trap remove EXIT
remove
git worktree add --quiet --detach "$copy" HEAD
cd "$copy"

# 100 is the test runner's exit code for "tests ran, and some failed".
readonly TESTS_FAILED=100
held=0 wrong=0
for patch in tests/rules-off/*"$word"*.patch; do
    name=$(basename "$patch" .patch)
    read -r _ _ _ package filter <"$patch"
    git apply "$patch" || { echo "BROKEN    $name: the patch does not apply any more"; wrong=$((wrong + 1)); continue; }
    log="$CARGO_TARGET_DIR/$name.log"
    mkdir -p "$CARGO_TARGET_DIR"
    status=0
    {
        # Tests of whole processes run the program, not the libraries.
        if [ "$package" = gavel-tests ]; then
            cargo build --quiet --locked -p gavel-cli --features gavel-cli/crash-points
        fi
        cargo nextest run --locked -p "$package" -E "$filter"
    } >"$log" 2>&1 || status=$?
    case $status in
        "$TESTS_FAILED") echo "fails     $name: $filter"; held=$((held + 1)) ;;
        0) echo "SURVIVED  $name: $filter passes without it"; wrong=$((wrong + 1)) ;;
        *) echo "BROKEN    $name: see $log"; wrong=$((wrong + 1)) ;;
    esac
    git apply --reverse "$patch"
done
echo "rules off: $held noticed, $wrong not"
[ "$wrong" -eq 0 ] && [ "$held" -gt 0 ]
