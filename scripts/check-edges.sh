#!/usr/bin/env bash
# Checks that the crates depend on each other only as the architecture allows, and that the core
# (protocol/) reaches nothing that has a clock, a socket, a file or randomness.
#
# Reads `cargo tree` (cargo metadata without needing a JSON tool). Changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

# CRATE: what it may use. `+` marks an edge that only the feature `embedded` may switch on.
readonly ALLOWED='
gavel-protocol:
local-postgres:
gavel-wire: gavel-protocol
gavel-tls: gavel-protocol
gavel-spans:
gavel-migrations: gavel-protocol gavel-tls
gavel-participant: gavel-protocol gavel-wire gavel-tls gavel-spans gavel-migrations
gavel-coordinator: gavel-protocol gavel-wire gavel-tls gavel-spans gavel-participant
gavel-client: gavel-protocol gavel-wire gavel-tls +gavel-spans +gavel-coordinator +gavel-participant
gavel-demo: gavel-client gavel-protocol gavel-devkit
gavel-sim: gavel-protocol
gavel-devkit: gavel-migrations gavel-tls local-postgres
gavel-chaos: gavel-client gavel-protocol gavel-devkit local-postgres
gavel-cli: gavel-tls gavel-spans gavel-chaos gavel-devkit gavel-protocol gavel-wire gavel-migrations gavel-participant gavel-coordinator gavel-client gavel-demo local-postgres
gavel-tests: *
gavel-bench: *
'
# Nothing may use these, not even tests.
readonly NOBODY_USES='gavel-tests gavel-bench gavel-sim'
# All that the core may be built on, with what those crates need themselves. A new name here needs
# a reason in the commit message: the core stays a function of its arguments.
readonly CORE_USES='block-buffer cfg-if cpufeatures crypto-common digest generic-array
libc proc-macro2 quote serde serde_core serde_derive sha2 syn thiserror thiserror-impl typenum
unicode-ident uuid version_check'
# Reached through uuid's feature v7, which the rest of the workspace switches on; that the core does
# not call it is checked by protocol/clippy.toml.
readonly CORE_SEES_ONLY='getrandom rand rand_core'

failures=0
fail() {
    printf 'check-edges: %s\n' "$*" >&2
    failures=$((failures + 1))
}

main() {
    local crate
    for crate in $(workspace_crates); do
        check_crate "$crate"
    done
    check_core
    [ "$failures" -eq 0 ] || exit 1
    echo "check-edges: every crate edge is allowed, and the core is pure"
}

workspace_crates() { cargo tree --workspace --depth 0 --prefix none --format '{p}' | sed '/^$/d' | cut -d ' ' -f 1 | sort -u; }

# uses CRATE KINDS [FLAGS...] : the workspace's crates that CRATE names as dependencies.
uses() {
    local crate=$1 kinds=$2
    shift 2
    cargo tree -p "$crate" --depth 1 --edges "$kinds" --prefix none --format '{p}' "$@" |
        tail -n +2 | cut -d ' ' -f 1 | sort -u | grep -E '^(gavel-|local-postgres$)' || true
}

check_crate() {
    local crate=$1 allowed used
    allowed=$(sed -n "s/^$crate: *//p" <<<"$ALLOWED")
    grep -q "^$crate:" <<<"$ALLOWED" || fail "$crate is not in the table of allowed edges (scripts/check-edges.sh)"
    for used in $(uses "$crate" normal,build); do
        is_listed "$used" "$allowed" || fail "$crate may not use $used"
    done
    for used in $(uses "$crate" normal,build --all-features); do
        is_listed "$used" "${allowed//+/}" || fail "$crate may not use $used, not even behind a feature"
    done
    for used in $(uses "$crate" all --all-features); do
        ! is_listed "$used" "$NOBODY_USES" || [ "$used" = "$crate" ] || fail "$crate may not use $used: nothing does"
    done
}

is_listed() { [ "$2" = '*' ] || [[ " $2 " == *" $1 "* ]]; }

check_core() {
    local known used
    known="${CORE_USES//$'\n'/ } $CORE_SEES_ONLY"
    for used in $(cargo tree -p gavel-protocol --edges normal --prefix none --format '{p}' | tail -n +2 | cut -d ' ' -f 1 | sort -u); do
        is_listed "$used" "$known" || fail "the core may not use $used"
    done
}

main
