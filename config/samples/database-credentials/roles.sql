-- What Vault and the notes services need of a PostgreSQL database "notes"; see docs/database-credentials.md.
-- A superuser runs it once, connected to the database.

-- The role that owns the tables. Nobody logs in as it.
CREATE ROLE notes NOLOGIN;
ALTER DATABASE notes OWNER TO notes;
-- Rotations make way for users: the role must see that other logins of the service are at work.
GRANT pg_read_all_stats TO notes;

-- Vault's own login. `vault write -force database/rotate-root/notes` replaces the password by one that only Vault knows.
CREATE ROLE vault LOGIN CREATEROLE PASSWORD 'replace-me';
GRANT notes TO vault WITH ADMIN OPTION;
GRANT pg_signal_backend TO vault;
