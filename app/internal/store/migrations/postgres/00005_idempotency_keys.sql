-- Requests that a client may retry, and the note that each created. The key is a digest of the client's.

-- +goose Up
CREATE TABLE idempotency_keys (
    owner      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key        text NOT NULL CHECK (length(key) = 64),
    note       uuid NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at);
