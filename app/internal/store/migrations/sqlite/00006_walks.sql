-- The same schema as PostgreSQL's; see there.

-- +goose Up
CREATE INDEX notes_by_key ON notes (owner, key_id, id);
DROP INDEX notes_owner_key;
