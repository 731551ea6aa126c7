-- The same schema as PostgreSQL's; see there.

-- +goose Up
ALTER TABLE users ADD COLUMN second_factor TEXT;

CREATE TABLE second_factors (
    owner      TEXT NOT NULL,
    id         TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    revision   INTEGER NOT NULL CHECK (revision >= 1),
    seed       SEALED_BLOB NOT NULL CHECK (typeof(seed) = 'blob' AND length(seed) >= 29),
    last_step  INTEGER NOT NULL CHECK (last_step >= 0),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (owner, id),
    CONSTRAINT second_factors_owner_key FOREIGN KEY (owner, key_id) REFERENCES owner_keys (owner, id) ON DELETE RESTRICT
);
CREATE UNIQUE INDEX second_factors_one ON second_factors (owner);
CREATE INDEX second_factors_owner_key ON second_factors (owner, key_id);

CREATE TABLE recovery_codes (
    owner  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest TEXT NOT NULL CHECK (length(digest) BETWEEN 1 AND 128),
    PRIMARY KEY (owner, digest)
) WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER owner_keys_needed_by_second_factors BEFORE DELETE ON owner_keys
WHEN EXISTS (SELECT 1 FROM second_factors WHERE second_factors.owner = OLD.owner AND second_factors.key_id = OLD.id)
BEGIN
    SELECT RAISE(ABORT, 'securenotes: FOREIGN KEY constraint failed: second factors need this owner key');
END;
-- +goose StatementEnd
