-- Creates what Vault and the notes services need in a PostgreSQL database "notes"; see
-- docs/database-credentials.md. A superuser runs it once, connected to the database, and keeps
-- owning the database.

-- The role that owns the tables. No one logs in as it.
CREATE ROLE notes NOLOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO notes;

-- With this right, rotations see the requests of users and yield to them. Grant it only if the
-- server has no databases of others, because it shows what all sessions do:
-- GRANT pg_read_all_stats TO notes;

-- Vault's own login. `vault write -force database/rotate-root/...` replaces the password by one
-- that only Vault knows.
CREATE ROLE vault LOGIN CREATEROLE PASSWORD 'replace-me';
-- Vault's statements then use PostgreSQL's own functions, even if someone has created functions of
-- the same name in the database.
ALTER ROLE vault SET search_path = pg_catalog, pg_temp;
GRANT notes TO vault WITH ADMIN OPTION;
GRANT pg_signal_backend TO vault;
