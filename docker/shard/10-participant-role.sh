#!/usr/bin/env bash
# Run once by the PostgreSQL image, in the new and empty database: the participant's login role.
# psql reads the password itself, so that it is on no command line.
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat /run/secrets/participant`
CREATE ROLE gavel LOGIN PASSWORD :'password';
GRANT USAGE, CREATE ON SCHEMA public TO gavel;
SQL
