-- The SHA-256 of the pepper that the passwords of this database are keyed with, so that no process uses another one. NULL:
-- no process of this release has started yet.

-- +goose Up
ALTER TABLE meta ADD COLUMN pepper_digest text CHECK (length(pepper_digest) = 64);
