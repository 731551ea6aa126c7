-- A rotation reads the notes under a key in the order of their ids. With the id in the index, a batch
-- reads only its own rows, however many are left. The index is built while users write, and again if
-- an earlier attempt was interrupted.

-- +goose NO TRANSACTION
-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS notes_by_key;
CREATE INDEX CONCURRENTLY notes_by_key ON notes (owner, key_id, id);
DROP INDEX CONCURRENTLY IF EXISTS notes_owner_key;
