-- The same schema as PostgreSQL's; see there.

-- +goose Up
ALTER TABLE meta ADD COLUMN epoch TEXT CHECK (length(epoch) BETWEEN 16 AND 64);
