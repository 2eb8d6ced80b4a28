#!/usr/bin/env bash
# What of the official PostgreSQL image's entry point docker/compose.yaml needs: a first start makes the cluster,
# the database and the roles, on a Unix socket only; whatever is not PostgreSQL is run as it is.
set -euo pipefail

if [ "${1:-}" != postgres ]; then exec "$@"; fi

export PGDATA=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
    chown postgres:postgres "$PGDATA"
    # Secrets and scripts are mounted readable; nothing more needs root.
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Made beside its place: a first start that was killed leaves nothing that looks finished.
    rm -rf "$PGDATA/new"
    # shellcheck disable=SC2086  # several arguments, as in the official image
    initdb --pgdata "$PGDATA/new" --username postgres --auth-local=trust --pwfile "$POSTGRES_PASSWORD_FILE" \
        ${POSTGRES_INITDB_ARGS:-} >/dev/null
    printf 'host all all all scram-sha-256\n' >>"$PGDATA/new/pg_hba.conf"
    printf "listen_addresses = '*'\n" >>"$PGDATA/new/postgresql.conf"
    pg_ctl --pgdata "$PGDATA/new" --wait --options "-c listen_addresses='' -c unix_socket_directories=/tmp" start
    export PGHOST=/tmp POSTGRES_USER=postgres
    createdb --username postgres "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sh; do bash "$script"; done
    unset PGHOST
    pg_ctl --pgdata "$PGDATA/new" --wait --mode fast stop
    # PG_VERSION comes last: it says that the rest is there.
    find "$PGDATA/new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
    mv "$PGDATA/new/PG_VERSION" "$PGDATA/"
    rmdir "$PGDATA/new"
fi
exec "$@" -c unix_socket_directories=/tmp
