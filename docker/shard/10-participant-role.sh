#!/usr/bin/env bash
# Run once by the PostgreSQL image, in the new and empty database: the participant's login role.
# It must not be called `gavel`: PostgreSQL's search_path begins with the schema of the role's name.
# psql reads the password itself, so that it is on no command line.
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat /run/secrets/participant`
CREATE ROLE participant LOGIN PASSWORD :'password';
GRANT USAGE, CREATE ON SCHEMA public TO participant;
SQL
