-- Counters of rate limits, shared by all replicas.

-- +goose Up
CREATE TABLE limits (
    key        text PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 128),
    count      bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX limits_expires_at ON limits (expires_at);
