-- How many values an owner key may have sealed. Processes reserve blocks of seals here before they use
-- them. A key is replaced before it seals too many values (NIST SP 800-38D, section 8.3).

-- +goose Up
CREATE TABLE owner_key_seals (
    owner  uuid NOT NULL,
    key_id text NOT NULL,
    seals  bigint NOT NULL CHECK (seals >= 0),
    PRIMARY KEY (owner, key_id),
    CONSTRAINT owner_key_seals_owner_key FOREIGN KEY (owner, key_id) REFERENCES owner_keys (owner, id) ON DELETE CASCADE
);
