-- The same schema as PostgreSQL's; see there.

-- +goose Up
ALTER TABLE meta ADD COLUMN pepper_digest TEXT CHECK (length(pepper_digest) = 64);
