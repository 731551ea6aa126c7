SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'notes' AND usename IS NULL AND usesysid IS NOT NULL;
CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE notes;
ALTER ROLE "{{name}}" SET role = 'notes';
