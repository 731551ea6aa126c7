ALTER ROLE "{{name}}" NOLOGIN;
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{{name}}';
DROP ROLE "{{name}}";
