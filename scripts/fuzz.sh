#!/usr/bin/env bash
# Runs every fuzz target of fuzz/ for FUZZ_SECONDS each, one after the other, or those that are
# named as arguments. A crash ends the run, and its input stays in fuzz/artifacts/.
#
# New inputs go to fuzz/corpus/, which is not checked in; fuzz/seeds/ is, and is only read.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

readonly SECONDS_EACH=${FUZZ_SECONDS:-60}
# Panics are what is looked for. Gavel has no unsafe code; FUZZ_SANITIZER=address also watches that
# of its dependencies, and makes the build need the nightly toolchain.
readonly SANITIZER=${FUZZ_SANITIZER:-none}

die() {
    printf 'fuzz: %s\n' "$*" >&2
    exit 1
}

main() {
    check_tools
    [ "$#" -gt 0 ] || set -- targets/*.rs
    local target
    for target in "$@"; do
        run_target "$(basename "$target" .rs)"
    done
}

check_tools() {
    command -v cargo-fuzz >/dev/null ||
        die "needs cargo-fuzz and a C++ compiler: cargo install cargo-fuzz --locked"
    [ "$SANITIZER" = none ] || rustup toolchain list | grep -q '^nightly' ||
        die "FUZZ_SANITIZER=$SANITIZER needs a nightly toolchain: rustup toolchain install nightly"
}

run_target() {
    local target=$1 dictionary=dictionaries/$1.dict
    local flags=(-max_total_time="$SECONDS_EACH" -timeout=10 -max_len=4096 -print_final_stats=1)
    [ ! -f "$dictionary" ] || flags+=(-dict="$dictionary")
    mkdir -p "corpus/$target"
    printf 'fuzz: %s for %s seconds\n' "$target" "$SECONDS_EACH"
    cargo_fuzz run --fuzz-dir . --sanitizer "$SANITIZER" "$target" \
        "corpus/$target" "seeds/$target" -- "${flags[@]}"
}

cargo_fuzz() {
    if [ "$SANITIZER" = none ]; then
        cargo fuzz "$@"
    else
        cargo +nightly fuzz "$@"
    fi
}

main "$@"
