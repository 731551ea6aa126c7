-- The same schema as PostgreSQL's; see there.

-- +goose Up
ALTER TABLE idempotency_keys ADD COLUMN request TEXT;
ALTER TABLE idempotency_keys ADD COLUMN pepper_id TEXT;
