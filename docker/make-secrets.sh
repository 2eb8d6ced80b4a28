#!/usr/bin/env bash
# Makes the secrets that docker/compose.yaml uses, with fresh random passwords, in docker/secrets/.
# What is there already is kept: the databases remember their passwords.
set -euo pipefail
cd "$(dirname "$0")"

# The folder keeps other users of this machine out. The files must be readable for the containers'
# unprivileged users, because Compose mounts them with the owner and mode that they have here.
mkdir -p secrets
chmod 700 secrets

secret() {
    local file=secrets/$1
    [ -s "$file" ] || printf '%s' "$2" >"$file"
    chmod 444 "$file"
}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

for shard in alpha beta gamma; do
    secret "$shard.superuser" "$(random)"
    secret "$shard.participant" "$(random)"
    secret "$shard.admin_url" "postgres://postgres:$(cat "secrets/$shard.superuser")@db-$shard:5432/bank?sslmode=disable"
    secret "$shard.database_url" "postgres://participant:$(cat "secrets/$shard.participant")@db-$shard:5432/bank?sslmode=disable"
done
secret grafana.admin "$(random)"
echo "docker/secrets/ is ready"
