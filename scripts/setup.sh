#!/usr/bin/env bash
# Finds what Gavel needs on this machine and installs only what is missing.
#
#   scripts/setup.sh run     what `make build` and `make demo` need: PostgreSQL, a C linker, Rust
#   scripts/setup.sh test    also what `make test` and `make verify` need: cargo-nextest, cargo-deny, Prometheus
#
# Safe to run again: what is there is left alone. It installs with apt-get (as root, or through
# sudo) on Debian and Ubuntu, and with Homebrew on macOS. Where it cannot, it says what to type.
set -euo pipefail

readonly OLDEST_POSTGRES=15
# Installed where the distribution's own PostgreSQL is too old (Ubuntu 22.04 has 14).
readonly POSTGRES_FROM_PGDG=17

main() {
    case "${1:-run}" in
        run | test) ;;
        *) stop "unknown argument: $1" "scripts/setup.sh run" "scripts/setup.sh test" ;;
    esac
    check_linker
    check_postgres
    check_rust
    if [ "${1:-run}" = test ]; then check_nextest; check_deny; check_prometheus; fi
}

say() { printf 'setup: %s\n' "$*"; }

# stop MESSAGE COMMAND... : what is wrong, and what to type.
stop() {
    printf 'setup: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf 'setup: type this, then run the same command again:\n' >&2
    [ $# -eq 0 ] || printf '    %s\n' "$@" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

is_macos() { [ "$(uname -s)" = Darwin ]; }

# ---------------------------------------------------------------- linker

check_linker() {
    if has cc; then
        say "C linker: $(command -v cc)"
    elif is_macos; then
        stop "no C linker, which Rust needs" "xcode-select --install"
    else
        say "C linker: missing, installing gcc"
        apt_install "gcc libc6-dev" gcc libc6-dev
    fi
    has make || apt_install make make
}

# ---------------------------------------------------------------- PostgreSQL

# Prints the folder of a usable server. The same places, in the same order, as the crate
# local-postgres looks at.
find_postgres() {
    local folder
    if [ -n "${PG_BIN_DIR:-}" ]; then
        is_usable_postgres "$PG_BIN_DIR" && echo "$PG_BIN_DIR"
        return
    fi
    while read -r folder; do
        if is_usable_postgres "$folder"; then
            echo "$folder"
            return
        fi
    done < <(postgres_candidates)
    return 1
}

postgres_candidates() {
    local parent
    for parent in /usr/lib/postgresql /opt/homebrew/opt /usr/local/opt; do
        if [ -d "$parent" ]; then
            find "$parent" -mindepth 1 -maxdepth 1 | sed 's/$/\/bin/' | sort -rV
        fi
    done
    # Debian has a pg_config that only complains until a server package is there.
    pg_config --bindir 2>/dev/null || true
    printf '%s\n' "$PATH" | tr ':' '\n'
}

is_usable_postgres() {
    [ -x "$1/initdb" ] && [ -x "$1/postgres" ] && [ "$(postgres_major "$1")" -ge "$OLDEST_POSTGRES" ]
}

postgres_major() {
    local version
    version=$("$1/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/p')
    echo "${version:-0}"
}

check_postgres() {
    local folder
    if folder=$(find_postgres); then
        say "PostgreSQL: $("$folder/postgres" --version) in $folder"
        return
    fi
    [ -z "${PG_BIN_DIR:-}" ] ||
        stop "PG_BIN_DIR=$PG_BIN_DIR holds no PostgreSQL server $OLDEST_POSTGRES or newer" "unset PG_BIN_DIR"
    say "PostgreSQL: no server $OLDEST_POSTGRES or newer, installing one"
    if is_macos; then
        brew_install postgresql@17
    else
        apt_install_postgres
    fi
    folder=$(find_postgres) || stop "PostgreSQL was installed, but no server $OLDEST_POSTGRES or newer is there" \
        "PG_BIN_DIR=/folder/with/initdb make demo"
    say "PostgreSQL: $("$folder/postgres" --version) in $folder"
}

apt_install_postgres() {
    local package=postgresql
    apt_install postgresql postgresql-common
    if [ "$(distribution_postgres)" -lt "$OLDEST_POSTGRES" ]; then
        package=postgresql-$POSTGRES_FROM_PGDG
        say "this distribution has PostgreSQL $(distribution_postgres) only; adding apt.postgresql.org for $package"
        apt_install "$package" ca-certificates gnupg
        as_root /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y >&2 ||
            stop "cannot add apt.postgresql.org, see above (is it reachable from here?)" \
                "/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y" "apt-get install $package"
    fi
    without_main_cluster apt_install "$package" "$package"
}

# Major version that the distribution would install.
distribution_postgres() {
    apt-cache policy postgresql | sed -n 's/^ *Candidate: \([0-9]*\).*/\1/p'
}

# Debian's package creates and starts a server of its own. Nobody asked for one, so that is off
# while we install, and afterwards as it was.
without_main_cluster() {
    local conf=/etc/postgresql-common/createcluster.conf result=0
    as_root cp -p "$conf" "$conf.before-setup"
    as_root sh -c "echo 'create_main_cluster = false' >>$conf"
    # A subshell, so that giving up inside does not skip the line after it.
    ("$@") || result=$?
    as_root mv "$conf.before-setup" "$conf"
    return "$result"
}

# ---------------------------------------------------------------- Rust

check_rust() {
    if ! has cargo; then
        [ ! -x "$HOME/.cargo/bin/cargo" ] ||
            stop "Rust is installed, but not on PATH" ". \"\$HOME/.cargo/env\""
        stop "Rust is missing (its version is in rust-toolchain.toml; rustup fetches that by itself)" \
            "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" ". \"\$HOME/.cargo/env\""
    fi
    say "Rust: $(cargo --version)"
}

check_nextest() {
    if ! cargo nextest --version >/dev/null 2>&1; then
        say "cargo-nextest: missing, building it (some minutes)"
        cargo install --locked cargo-nextest
    fi
    say "cargo-nextest: $(cargo nextest --version | head -n 1)"
}

check_deny() {
    if ! cargo deny --version >/dev/null 2>&1; then
        say "cargo-deny: missing, building it (a minute or two)"
        # It runs for a second: not worth the minutes that optimising it takes.
        CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off cargo install --locked cargo-deny
    fi
    say "cargo-deny: $(cargo deny --version)"
}

# ---------------------------------------------------------------- Prometheus

# Alerts are tested in a real one. Only its program is unpacked, where `cargo clean` removes it: the
# package would start a service on this machine.
check_prometheus() {
    local tools=${CARGO_TARGET_DIR:-target}/tools
    if has prometheus || [ -x "$tools/prometheus/usr/bin/prometheus" ]; then
        say "Prometheus: there"
    elif is_macos; then
        brew_install prometheus
    else
        say "Prometheus: missing, unpacking it into $tools"
        has apt-get || stop "cannot unpack Prometheus: this machine has no apt-get. Install its program \`prometheus\`"
        update_package_lists
        mkdir -p "$tools"
        (cd "$tools" && apt-get download -q prometheus >&2 && dpkg-deb -x prometheus_*.deb prometheus) ||
            stop "Prometheus could not be unpacked, see above" "apt-get download prometheus"
    fi
}

# ---------------------------------------------------------------- package managers

# apt_install "WHAT TO TYPE BY HAND" PACKAGE...
apt_install() {
    local by_hand=$1
    shift
    has apt-get || stop "cannot install $by_hand: this machine has no apt-get. Install it with your package manager, \
PostgreSQL in version $OLDEST_POSTGRES or newer"
    may_be_root || stop "cannot install $by_hand: not root, and there is no sudo" \
        "su -c 'apt-get update && apt-get install $by_hand'"
    update_package_lists
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@" >&2 || stop "apt-get failed, see above" "apt-get install $by_hand"
}

package_lists_are_new=
update_package_lists() {
    [ -z "$package_lists_are_new" ] || return 0
    as_root apt-get update -q -o DPkg::Lock::Timeout=120 >&2 || stop "apt-get update failed, see above"
    package_lists_are_new=yes
}

brew_install() {
    has brew || stop "cannot install $1: Homebrew is missing (https://brew.sh)" "brew install $1"
    brew install "$1" || stop "brew failed, see above" "brew install $1"
}

may_be_root() { [ "$(id -u)" -eq 0 ] || has sudo; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

main "$@"
