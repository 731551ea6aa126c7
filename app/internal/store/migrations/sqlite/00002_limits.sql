-- Counters of rate limits, shared by all replicas.

-- +goose Up
CREATE TABLE limits (
    key        TEXT PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 128),
    count      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX limits_expires_at ON limits (expires_at);
