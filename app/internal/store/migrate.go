package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrationFiles embed.FS

// Migrate brings the schema to this program's version, in one process at a time. Migrations only
// go forward; each leaves the previous release able to work. It returns how many it applied.
func (s *Store) Migrate(ctx context.Context) (int, error) {
	provider, err := s.goose()
	if err != nil {
		return 0, err
	}
	if p, ok := s.dialect.(postgres); ok {
		release, err := p.lockMigrations(ctx, s)
		if err != nil {
			return 0, fmt.Errorf("migrate: %w", err)
		}
		defer release()
	}
	results, err := provider.Up(ctx)
	if err != nil {
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			return len(partial.Applied), fmt.Errorf("migration %s: %w", partial.Failed.Source.Path, s.dialect.classify(partial.Err))
		}
		return 0, fmt.Errorf("migrate: %w", s.dialect.classify(err))
	}
	return len(results), nil
}

// CheckSchema shows that every migration that this program knows has been applied.
func (s *Store) CheckSchema(ctx context.Context) error {
	provider, err := s.goose()
	if err != nil {
		return err
	}
	pending, err := provider.HasPending(ctx)
	if err != nil {
		return fmt.Errorf("schema version: %w", s.dialect.classify(err))
	}
	if pending {
		return fmt.Errorf("%w: migrations are pending: run `securenotes migrate`", ErrSchema)
	}
	return nil
}

func (s *Store) goose() (*goose.Provider, error) {
	files, err := fs.Sub(migrationFiles, s.dialect.migrations())
	if err != nil {
		return nil, err
	}
	kind := goose.DialectSQLite3 // one writer at a time is lock enough
	if _, ok := s.dialect.(postgres); ok {
		kind = goose.DialectPostgres // Migrate holds the lock
	}
	provider, err := goose.NewProvider(kind, s.db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return provider, nil
}
