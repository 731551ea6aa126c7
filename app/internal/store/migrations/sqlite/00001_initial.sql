-- The same schema as PostgreSQL's; see there. The type names SEALED_BLOB and WRAPPED_TEXT have the
-- affinities BLOB and TEXT, and mark the columns for rotation and verification.

-- +goose Up
CREATE TABLE fence (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    min_kek_version INTEGER NOT NULL CHECK (min_kek_version >= 0)
);
INSERT INTO fence VALUES (1, 0);

CREATE TABLE meta (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    deployment_id  TEXT NOT NULL CHECK (length(deployment_id) BETWEEN 1 AND 64),
    belongs_to     TEXT NOT NULL CHECK (length(belongs_to) BETWEEN 1 AND 512),
    canary_id      TEXT NOT NULL,
    canary_version INTEGER NOT NULL,
    canary_wrapped WRAPPED_TEXT NOT NULL CHECK (length(canary_wrapped) <= 512),
    canary         SEALED_BLOB NOT NULL CHECK (typeof(canary) = 'blob' AND length(canary) >= 29),
    CONSTRAINT meta_canary_version CHECK (canary_wrapped GLOB '*:v' || canary_version || ':?*')
);

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    username      TEXT NOT NULL CHECK (length(username) BETWEEN 1 AND 256),
    password_hash TEXT NOT NULL CHECK (length(password_hash) BETWEEN 1 AND 128),
    pepper_id     TEXT NOT NULL CHECK (length(pepper_id) BETWEEN 1 AND 64),
    created_at    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX users_username ON users (username);

CREATE TABLE sessions (
    owner      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id         TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (owner, id)
) WITHOUT ROWID;
CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE owner_keys (
    owner        TEXT NOT NULL REFERENCES users (id),
    id           TEXT NOT NULL CHECK (length(id) BETWEEN 16 AND 64),
    kek_version  INTEGER NOT NULL,
    born_version INTEGER NOT NULL,
    wrapped      WRAPPED_TEXT NOT NULL CHECK (length(wrapped) <= 512),
    state        TEXT NOT NULL CHECK (state IN ('active', 'retiring')),
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (owner, id),
    CONSTRAINT owner_keys_kek_version CHECK (wrapped GLOB '*:v' || kek_version || ':?*'),
    CONSTRAINT owner_keys_born_version CHECK (born_version BETWEEN 1 AND kek_version)
) WITHOUT ROWID;
CREATE UNIQUE INDEX owner_keys_one_active ON owner_keys (owner) WHERE state = 'active';
CREATE INDEX owner_keys_by_kek_version ON owner_keys (kek_version);
CREATE INDEX owner_keys_by_born_version ON owner_keys (born_version);

CREATE TABLE notes (
    owner      TEXT NOT NULL,
    id         TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    revision   INTEGER NOT NULL CHECK (revision >= 1),
    content    SEALED_BLOB NOT NULL CHECK (typeof(content) = 'blob' AND length(content) >= 29),
    title      SEALED_BLOB CHECK (title IS NULL OR (typeof(title) = 'blob' AND length(title) >= 29)),
    tags       SEALED_BLOB CHECK (tags IS NULL OR (typeof(tags) = 'blob' AND length(tags) >= 29)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (owner, id),
    CONSTRAINT notes_owner_key FOREIGN KEY (owner, key_id) REFERENCES owner_keys (owner, id) ON DELETE RESTRICT
);
CREATE INDEX notes_owner_key ON notes (owner, key_id);

-- +goose StatementBegin
CREATE TRIGGER owner_keys_fence_insert BEFORE INSERT ON owner_keys
WHEN NEW.kek_version < (SELECT min_kek_version FROM fence WHERE id = 1)
BEGIN
    SELECT RAISE(ABORT, 'securenotes: fence');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER owner_keys_fence_update BEFORE UPDATE ON owner_keys
WHEN NEW.kek_version < (SELECT min_kek_version FROM fence WHERE id = 1)
     AND NOT (NEW.state = 'retiring' AND NEW.wrapped = OLD.wrapped)
BEGIN
    SELECT RAISE(ABORT, 'securenotes: fence');
END;
-- +goose StatementEnd
-- SQLite enforces foreign keys only if a connection enables them. This trigger always applies.
-- +goose StatementBegin
CREATE TRIGGER owner_keys_still_needed BEFORE DELETE ON owner_keys
WHEN EXISTS (SELECT 1 FROM notes WHERE notes.owner = OLD.owner AND notes.key_id = OLD.id)
BEGIN
    SELECT RAISE(ABORT, 'securenotes: FOREIGN KEY constraint failed: notes need this owner key');
END;
-- +goose StatementEnd
