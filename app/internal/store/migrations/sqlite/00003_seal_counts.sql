-- The same schema as PostgreSQL's; see there.

-- +goose Up
CREATE TABLE owner_key_seals (
    owner  TEXT NOT NULL,
    key_id TEXT NOT NULL,
    seals  INTEGER NOT NULL CHECK (seals >= 0),
    PRIMARY KEY (owner, key_id),
    CONSTRAINT owner_key_seals_owner_key FOREIGN KEY (owner, key_id) REFERENCES owner_keys (owner, id) ON DELETE CASCADE
) WITHOUT ROWID;
