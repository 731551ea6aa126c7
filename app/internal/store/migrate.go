package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrationFiles embed.FS

// migrate applies the pending migrations and returns how many it applied.
func (c *core) migrate(ctx context.Context, provider *goose.Provider) (int, error) {
	results, err := provider.Up(ctx)
	if err != nil {
		if partial, ok := errors.AsType[*goose.PartialError](err); ok {
			return len(partial.Applied), fmt.Errorf("migration %s: %w", partial.Failed.Source.Path, c.dialect.classify(partial.Err))
		}
		return 0, fmt.Errorf("migrate: %w", c.dialect.classify(err))
	}
	return len(results), nil
}

// CheckSchema implements Administration.
func (c *core) CheckSchema(ctx context.Context) error {
	provider, err := c.migrations(c.db)
	if err != nil {
		return err
	}
	pending, err := provider.HasPending(ctx)
	if err != nil {
		return fmt.Errorf("schema version: %w", c.dialect.classify(err))
	}
	if pending {
		return fmt.Errorf("%w: migrations are pending: run `securenotes migrate`", ErrSchema)
	}
	return nil
}

// migrations returns the database's migrations, which use the pool db. They take no lock: see
// Migrate of each database.
func (c *core) migrations(db *sql.DB) (*goose.Provider, error) {
	kind, directory := c.dialect.migrations()
	files, err := fs.Sub(migrationFiles, directory)
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(kind, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return provider, nil
}
