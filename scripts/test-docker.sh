#!/usr/bin/env bash
# docker/compose.yaml from nothing to nothing: builds the image, starts everything, moves money while a participant, a
# coordinator and a database are killed, checks the books twice, and takes everything away again. Ends with 0 only if
# all of it went well.
#
#   scripts/test-docker.sh            with the public images, or those that the variables of docs/docker.md name
#   BASES=local scripts/test-docker.sh  with bases that it makes from Debian's packages (debootstrap; as root)
#
# It installs nothing on this machine. PROFILE=release builds as one would ship; the default here is quick.
set -euo pipefail
cd "$(dirname "$0")/.."

export PROFILE=${PROFILE:-quick}
export COMPOSE_PROJECT_NAME=gavel-test
export BASES=${BASES:-public}
# Of the local bases: which Debian, and from where.
readonly SUITE=${SUITE:-bookworm}
readonly MIRROR=${MIRROR:-http://deb.debian.org/debian}
readonly DEMO=http://127.0.0.1:7500
readonly TRANSFERS=60
work=$(mktemp -d)

main() {
    need docker "apt-get install docker.io"
    need curl "apt-get install curl"
    docker info >/dev/null 2>&1 || stop "no Docker engine answers: start it (systemctl start docker), or see whether you may use it"
    find_compose
    trap take_away EXIT
    if [ "$BASES" = local ]; then make_bases; fi
    say "building the image (profile $PROFILE)"
    docker build --network host -f docker/Dockerfile -t "${GAVEL_IMAGE:-gavel}" --build-arg "PROFILE=$PROFILE" \
        --build-arg "RUST_IMAGE=${RUST_IMAGE:-rust:1.95-bookworm}" \
        --build-arg "RUNTIME_IMAGE=${RUNTIME_IMAGE:-debian:bookworm-slim}" .
    docker/make-secrets.sh
    say "starting everything"
    compose up --detach
    for service in $(compose config --services); do
        # Behind a profile: --services names it, `up` leaves it out.
        [ "$service" = grafana ] || until_healthy "$service"
    done
    transfer_and_kill
    check_books
    check_prometheus
    say "all is well"
}

say() { printf 'test-docker: %s\n' "$*"; }
stop() { printf 'test-docker: %s\n' "$*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || stop "there is no $1; on Debian: $2"; }

find_compose() {
    if docker compose version >/dev/null 2>&1; then
        compose() { docker compose -f docker/compose.yaml "$@"; }
    elif command -v docker-compose >/dev/null; then
        compose() { docker-compose -f docker/compose.yaml "$@"; }
    else
        stop "there is no Compose; on Debian: apt-get install docker-compose"
    fi
}

# ---------------------------------------------------------------- bases without a registry

make_bases() {
    need debootstrap "apt-get install debootstrap"
    need cargo "see https://rustup.rs"
    [ "$(id -u)" = 0 ] || stop "debootstrap wants root: run this as root, or without BASES=local"
    if ! docker image inspect gavel-local/debian >/dev/null 2>&1; then
        say "making a base with debootstrap"
        debootstrap --variant=minbase "$SUITE" "$work/base" "$MIRROR" >"$work/debootstrap.log" \
            || { tail -20 "$work/debootstrap.log" >&2; stop "debootstrap failed"; }
        tar -C "$work/base" -c . | docker import - gavel-local/debian >/dev/null
        rm -rf "$work/base"
    fi
    docker build --network host -f docker/local/services.Dockerfile -t gavel-local/services .
    make_rust
    export RUST_IMAGE=gavel-local/rust RUNTIME_IMAGE=gavel-local/debian
    export POSTGRES_IMAGE=gavel-local/services HAPROXY_IMAGE=gavel-local/services PROMETHEUS_IMAGE=gavel-local/services
}

make_rust() {
    local context=$work/rust home=${CARGO_HOME:-$HOME/.cargo}
    say "collecting this machine's toolchain and crates"
    cargo fetch --locked --quiet
    mkdir -p "$context/toolchain" "$context/cargo/registry"
    cp -a "$(rustc --print sysroot)"/{bin,lib} "$context/toolchain/"
    cp -a "$home"/registry/{index,cache} "$context/cargo/registry/"
    # Where crates come from is part of the registry's folder names.
    if [ -e "$home/config.toml" ]; then cp "$home/config.toml" "$context/cargo/"; fi
    docker build --network host -f docker/local/rust.Dockerfile -t gavel-local/rust "$context"
    rm -rf "$context"
}

# ---------------------------------------------------------------- waiting

# until_ok SECONDS WHAT COMMAND... : again and again until it succeeds.
until_ok() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $end ] || stop "not within its time: $what"
        sleep 0.5
    done
}

container() { compose ps -q "$1"; }
is_healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]; }
until_healthy() { until_ok 120 "$1 is healthy" is_healthy "$1"; }

# ---------------------------------------------------------------- money

json() { curl -sS --max-time 30 -H 'content-type: application/json' "$@"; }
id_of() { sed -n 's/.*"id":"\([^"]*\)".*/\1/p'; }

open_account() {
    local id
    id=$(json "$DEMO/accounts" -d '{"owner": "somebody", "initial_balance": 1000}' | id_of)
    [ -n "$id" ] || stop "an account could not be opened"
    printf '%s' "$id"
}

# is_done KEY FROM TO : whether the transfer is; called again under the same key until it is, as a careful client does.
is_done() {
    local status
    status=$(json -o "$work/answer" -w '%{http_code}' "$DEMO/transfers" -H "idempotency-key: $1" \
        -d "{\"from\": \"$2\", \"to\": \"$3\", \"amount\": 1}" 2>/dev/null) || return 1
    case $status in
        201) return 0 ;;
        202 | 429 | 5??) return 1 ;;
        *) stop "transfer $1 was answered with $status: $(cat "$work/answer")" ;;
    esac
}

transfer_and_kill() {
    local accounts=() id step victim killed from to
    for _ in 1 2 3 4 5 6; do
        id=$(open_account)
        accounts+=("$id")
    done
    for ((step = 0; step < TRANSFERS; step++)); do
        case $step in
            10) victim=participant-alpha ;;
            25) victim=coordinator-one ;;
            40) victim=db-beta ;;
            *) victim= ;;
        esac
        if [ -n "$victim" ]; then
            say "killing $victim"
            # From the outside: Docker then does not start it again by itself.
            # Its name is asked for first: Compose does not list what does not run.
            killed=$(container "$victim")
            docker kill "$killed" >/dev/null
            (until_ok 60 "$victim starts" docker start "$killed" >/dev/null) &
        fi
        from=${accounts[step % 6]} to=${accounts[(step * 5 + 1 + step / 6) % 6]}
        [ "$from" != "$to" ] || to=${accounts[(step + 1) % 6]}
        until_ok 90 "transfer $step" is_done "step-$step" "$from" "$to"
    done
    wait
    for victim in participant-alpha coordinator-one db-beta; do until_healthy "$victim"; done
    say "$TRANSFERS transfers are done"
}

check_books() {
    until_ok 60 "nothing is in doubt and the books are right" books_are_right
    compose exec -T coordinator-two gavel audit || stop "gavel audit found damage"
}

# The demo's own count over all shards: 6 accounts with 1000 each, whatever moved between them.
books_are_right() {
    json "$DEMO/audit" -o "$work/audit" -f || return 1
    grep -q '"balanced":true' "$work/audit" && grep -q '"total":{[^}]*"balance":6000[,}]' "$work/audit"
}

check_prometheus() {
    all_up() { json -G http://127.0.0.1:9090/api/v1/query --data-urlencode 'query=sum(up{job="gavel"})' | grep -qF '"5"'; }
    until_ok 60 "Prometheus sees five processes" all_up
    json -f -o /dev/null http://127.0.0.1:9090/consoles/gavel.html || stop "Prometheus does not serve the dashboard"
}

take_away() {
    local code=$?
    trap - EXIT
    if [ $code -ne 0 ]; then compose ps || true; compose logs --tail 30 || true; fi
    compose down --volumes --remove-orphans >/dev/null 2>&1 || code=1
    rm -rf "$work"
    exit $code
}

main "$@"
