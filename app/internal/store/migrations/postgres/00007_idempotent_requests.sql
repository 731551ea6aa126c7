-- A keyed digest of the request that was sent with the key, and the id of the pepper that the digest's
-- key is derived from. Both are NULL in the rows of the previous release.

-- +goose Up
ALTER TABLE idempotency_keys ADD COLUMN request text, ADD COLUMN pepper_id text;
