-- users.second_factor is the second factor that the user has confirmed. Any other row of
-- second_factors is only a proposal. A login compares users.second_factor with what it read, so that
-- it fails if a factor was confirmed in between.

-- +goose Up
ALTER TABLE users ADD COLUMN second_factor uuid;

CREATE TABLE second_factors (
    owner      uuid NOT NULL,
    id         uuid NOT NULL,
    key_id     text NOT NULL,
    revision   bigint NOT NULL CHECK (revision >= 1),
    seed       sealed_blob NOT NULL,
    last_step  bigint NOT NULL CHECK (last_step >= 0),
    created_at bigint NOT NULL,
    PRIMARY KEY (owner, id),
    CONSTRAINT second_factors_owner_key FOREIGN KEY (owner, key_id) REFERENCES owner_keys (owner, id) ON DELETE RESTRICT
);
CREATE UNIQUE INDEX second_factors_one ON second_factors (owner);
CREATE INDEX second_factors_owner_key ON second_factors (owner, key_id);

CREATE TABLE recovery_codes (
    owner  uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest text NOT NULL CHECK (length(digest) BETWEEN 1 AND 128),
    PRIMARY KEY (owner, digest)
);
