#!/usr/bin/env bash
# Takes something out of the code, one patch at a time, and sees that it is noticed: a test that
# cannot fail proves nothing.
#
# Usage: scripts/rules-off.sh [WORD [FOLDER]]   only the patches of FOLDER whose name has WORD
#
# The first line of a patch says by what:
#   Must fail: -p PACKAGE FILTER           tests (tests/rules-off, the default)
#   Must break: I1 I4 under NEMESIS,…      a run of `gavel chaos`, in one of these invariants at
#                                          least (chaos/holes); CHAOS_SECONDS=30 long
#
# Works on a copy of the last commit, never on your tree. Takes half a minute to two a patch.
set -euo pipefail
cd "$(dirname "$0")/.."

word=${1:-} folder=${2:-tests/rules-off}
export CARGO_TARGET_DIR="$PWD/target/rules-off"
# Always the same place: what was compiled there is good for the next run.
copy="$CARGO_TARGET_DIR/tree"
# The servers of chaos may run as another user, who must reach it.
scratch=$(mktemp -d)
chmod 755 "$scratch"
remove() {
    git worktree remove --force "$copy" 2>/dev/null || true
    rm -rf -- "$scratch/run"
}
trap 'remove; rmdir "$scratch"' EXIT
remove
git worktree add --quiet --detach "$copy" HEAD
cd "$copy"

# 100 is the test runner's exit code for "tests ran, and some failed".
readonly TESTS_FAILED=100

# Runs the tests of a patch; says "fails", "SURVIVED" or "BROKEN", and what was tried.
run_tests() { # PATCH LOG
    local package filter status=0
    read -r _ _ _ package filter <"$1"
    {
        # Tests of whole processes run the program, not the libraries.
        if [ "$package" = gavel-tests ]; then
            cargo build --quiet --locked -p gavel-cli --features gavel-cli/crash-points
        fi
        cargo nextest run --locked -p "$package" -E "$filter"
    } >"$2" 2>&1 || status=$?
    case $status in
        "$TESTS_FAILED") echo "fails $filter" ;;
        0) echo "SURVIVED $filter passes without it" ;;
        *) echo "BROKEN see $2" ;;
    esac
}

# Runs chaos for a patch; the same words.
run_chaos() { # PATCH LOG
    local header expected nemeses broken seconds status=0
    read -r header <"$1"
    expected=${header#Must break: } nemeses=${header##* under }
    expected=${expected%% under *}
    seconds=$(date +%s)
    {
        cargo build --quiet --locked -p gavel-cli && seconds=$(date +%s) &&
        "$CARGO_TARGET_DIR/debug/gavel" chaos --seconds "${CHAOS_SECONDS:-30}" --nemesis "$nemeses" \
            --data "$scratch/run" --report "${2%.log}.html"
    } >"$2" 2>&1 || status=$?
    seconds=$(($(date +%s) - seconds))
    rm -rf -- "$scratch/run"
    broken=$(sed -nE 's/^(I[0-9]+) .* BROKEN .*/\1/p' "$2" | tr '\n' ' ')
    if [ -z "$broken" ]; then
        # Without a verdict it was not built, or did not run to its end.
        if grep -qE '^I1 ' "$2"; then echo "SURVIVED $nemeses broke nothing, in $seconds s"
        else echo "BROKEN see $2"; fi
    elif grep -qwE "${expected// /|}" <<<"$broken"; then
        echo "fails ${broken% } under $nemeses, in $seconds s"
    else
        echo "SURVIVED $nemeses broke ${broken% }, not $expected"
    fi
}

compgen -G "$folder/*$word*.patch" >/dev/null || { echo "$folder has no patch with \"$word\""; exit 2; }
held=0 wrong=0
mkdir -p "$CARGO_TARGET_DIR"
for patch in "$folder"/*"$word"*.patch; do
    name=$(basename "$patch" .patch)
    log="$CARGO_TARGET_DIR/$name.log"
    if ! git apply "$patch"; then
        found="BROKEN the patch does not apply any more"
    elif grep -q '^Must break: ' <(head -n 1 "$patch"); then
        found=$(run_chaos "$patch" "$log")
    else
        found=$(run_tests "$patch" "$log")
    fi
    read -r verdict what <<<"$found"
    if [ "$verdict" = fails ]; then held=$((held + 1)); else wrong=$((wrong + 1)); fi
    printf '%-9s %s: %s\n' "$verdict" "$name" "$what"
    git checkout --quiet -- .
done
echo "$folder: $held noticed, $wrong not"
[ "$wrong" -eq 0 ] && [ "$held" -gt 0 ]
