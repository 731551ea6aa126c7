-- What Vault and the notes services need of a PostgreSQL database "notes"; see docs/database-credentials.md.
-- A superuser runs it once, connected to the database, which stays the superuser's.

-- The role that owns the tables. Nobody logs in as it.
CREATE ROLE notes NOLOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO notes;

-- Rotations make way for users whom they see at work. Only where nobody else's databases are on this server, because it
-- shows what all sessions do:
-- GRANT pg_read_all_stats TO notes;

-- Vault's own login. `vault write -force database/rotate-root/...` replaces the password by one that only Vault knows.
CREATE ROLE vault LOGIN CREATEROLE PASSWORD 'replace-me';
-- Whatever is planted in a database, Vault's statements find PostgreSQL's own functions.
ALTER ROLE vault SET search_path = pg_catalog, pg_temp;
GRANT notes TO vault WITH ADMIN OPTION;
GRANT pg_signal_backend TO vault;
