-- A random value that a restore renews. Pods that used the database before the restore compare it and
-- end, and entity tags contain it. It is NULL until the first restore.

-- +goose Up
ALTER TABLE meta ADD COLUMN epoch text CHECK (length(epoch) BETWEEN 16 AND 64);
