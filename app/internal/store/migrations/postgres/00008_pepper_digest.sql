-- The SHA-256 of the pepper that keys the passwords of this database, so that no process uses another
-- one. It is NULL until a process of this release has started.

-- +goose Up
ALTER TABLE meta ADD COLUMN pepper_digest text CHECK (length(pepper_digest) = 64);
