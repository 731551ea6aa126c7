-- Times are microseconds since 1970 UTC, in both databases.
-- The domains sealed_blob and wrapped_text mark every column with sealed values or wrapped keys.
-- Rotation and verification find the columns by these types, so they include later columns.

-- +goose Up
CREATE DOMAIN sealed_blob AS bytea CHECK (length(VALUE) >= 29 AND get_byte(VALUE, 0) = 1);
CREATE DOMAIN wrapped_text AS text CHECK (VALUE ~ '^[a-z]{1,16}:v[1-9][0-9]{0,8}:[A-Za-z0-9+/]+=*$' AND length(VALUE) <= 512);

CREATE TABLE fence (
    id              integer PRIMARY KEY CHECK (id = 1),
    min_kek_version integer NOT NULL CHECK (min_kek_version >= 0)
);
INSERT INTO fence VALUES (1, 0);

CREATE TABLE meta (
    id             integer PRIMARY KEY CHECK (id = 1),
    deployment_id  text NOT NULL CHECK (length(deployment_id) BETWEEN 1 AND 64),
    belongs_to     text NOT NULL CHECK (length(belongs_to) BETWEEN 1 AND 512),
    canary_id      text NOT NULL,
    canary_version integer NOT NULL,
    canary_wrapped wrapped_text NOT NULL,
    canary         sealed_blob NOT NULL,
    CONSTRAINT meta_canary_version CHECK (canary_version = substring(canary_wrapped from ':v([0-9]+):')::integer)
);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    username      text NOT NULL CONSTRAINT users_username UNIQUE CHECK (length(username) BETWEEN 1 AND 256),
    password_hash text NOT NULL CHECK (length(password_hash) BETWEEN 1 AND 128),
    pepper_id     text NOT NULL CHECK (length(pepper_id) BETWEEN 1 AND 64),
    created_at    bigint NOT NULL
);

CREATE TABLE sessions (
    owner      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id         uuid NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (owner, id)
);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE owner_keys (
    owner        uuid NOT NULL REFERENCES users (id),
    id           text NOT NULL CHECK (length(id) BETWEEN 16 AND 64),
    kek_version  integer NOT NULL,
    born_version integer NOT NULL,
    wrapped      wrapped_text NOT NULL,
    state        text NOT NULL CHECK (state IN ('active', 'retiring')),
    created_at   bigint NOT NULL,
    PRIMARY KEY (owner, id),
    CONSTRAINT owner_keys_kek_version CHECK (kek_version = substring(wrapped from ':v([0-9]+):')::integer),
    CONSTRAINT owner_keys_born_version CHECK (born_version BETWEEN 1 AND kek_version)
);
CREATE UNIQUE INDEX owner_keys_one_active ON owner_keys (owner) WHERE state = 'active';
CREATE INDEX owner_keys_by_kek_version ON owner_keys (kek_version);
CREATE INDEX owner_keys_by_born_version ON owner_keys (born_version);

CREATE TABLE notes (
    owner      uuid NOT NULL,
    id         uuid NOT NULL,
    key_id     text NOT NULL,
    revision   bigint NOT NULL CHECK (revision >= 1),
    content    sealed_blob NOT NULL,
    title      sealed_blob,
    tags       sealed_blob,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (owner, id),
    CONSTRAINT notes_owner_key FOREIGN KEY (owner, key_id) REFERENCES owner_keys (owner, id) ON DELETE RESTRICT
);
CREATE INDEX notes_owner_key ON notes (owner, key_id);

-- The fence: no owner key may be written under a master key version below it. FOR SHARE, because with
-- a plain read an old wrapping could be committed after the fence was raised. A key below the fence
-- may still be marked as retiring, so that it can be deleted.
-- +goose StatementBegin
CREATE FUNCTION owner_keys_fence() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    least integer;
BEGIN
    SELECT min_kek_version INTO least FROM fence WHERE id = 1 FOR SHARE;
    IF NEW.kek_version < least
       AND NOT (TG_OP = 'UPDATE' AND NEW.state = 'retiring' AND NEW.wrapped = OLD.wrapped) THEN
        RAISE EXCEPTION 'securenotes: master key version % is below the fence at %', NEW.kek_version, least
            USING ERRCODE = 'SN001';
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER owner_keys_fence BEFORE INSERT OR UPDATE ON owner_keys
    FOR EACH ROW EXECUTE FUNCTION owner_keys_fence();
