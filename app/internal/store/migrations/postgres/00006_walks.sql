-- A rotation walks the notes under a key by their ids: with the id in the index, a batch reads its rows and no others,
-- however many are left. Built beside users' writes, and again when an earlier try was broken off.

-- +goose NO TRANSACTION
-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS notes_by_key;
CREATE INDEX CONCURRENTLY notes_by_key ON notes (owner, key_id, id);
DROP INDEX CONCURRENTLY IF EXISTS notes_owner_key;
