DO $$
BEGIN
  ALTER ROLE "{{name}}" NOLOGIN PASSWORD NULL;
  REVOKE notes FROM "{{name}}";
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = 'notes' AND (usename = '{{name}}' OR usename IS NULL AND usesysid IS NOT NULL);
  BEGIN
    DROP ROLE "{{name}}";
  EXCEPTION WHEN dependent_objects_still_exist THEN
    RAISE WARNING 'role % is kept without rights, because it owns objects', '{{name}}';
  END;
EXCEPTION WHEN undefined_object THEN
  NULL; -- the role was dropped earlier
END $$;
