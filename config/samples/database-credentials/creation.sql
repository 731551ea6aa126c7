CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE notes;
ALTER ROLE "{{name}}" SET role = 'notes';
