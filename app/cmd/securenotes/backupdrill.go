package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/store"
)

func backupDrillCommand() *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:   config.CommandDrill,
		Short: "Restore the newest backup into a database of its own, to test it",
		Long: `Restore the newest backup into a database of its own, to test it.

The command verifies the newest backup of this SecureNotes, restores it into an embedded database in
backup.drill.directory, unwraps every owner key, opens a value of each table under every key, and deletes the
database. It opens the archive with an identity in Vault that the operator created. It writes nothing to Vault,
to the destination or to the database of the service, and does not check the peppers, which it may not read.

A backup that needs retired versions of the master key is reported as such, and is no failure.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadBackupConfig(file)
			if err != nil {
				return err
			}
			if c.Backup.Drill == nil {
				return fmt.Errorf("%w: backup.drill: is required", errConfiguration)
			}
			return runDrill(cmd.Context(), c, cmd.OutOrStdout())
		},
	}
	requireConfig(command, &file)
	return command
}

func runDrill(ctx context.Context, c *config.Config, out io.Writer) (err error) {
	from, err := destination.New(c.Backup.Destination)
	if err != nil {
		return fmt.Errorf("%w: %w", errConfiguration, err)
	}
	// The drill uses another database.
	c.Database.Postgres = nil
	t, err := newTrust(ctx, c)
	if err != nil {
		return err
	}
	directory, err := os.MkdirTemp(c.Backup.Drill.Directory, "drill-")
	if err != nil {
		return fmt.Errorf("backup.drill.directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	db, err := store.Open(ctx, config.Database{SQLite: &config.SQLite{Path: filepath.Join(directory, config.DatabaseFile)}}, nil, store.RoleJob)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }() // before the directory is removed
	run := &backup.Drill{
		Target: db, Source: from, Living: t, Versions: t.versions, Identities: t, Settings: *c.Backup.Drill, SecureNotesUID: c.Backup.SecureNotesUID,
		Provider: t.provider, MasterKey: t.masterKey, Deployment: c.Deployment, Phase: phases(c), Log: newLog(c.Log, os.Stderr),
	}
	drilled, err := run.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, drilled)
	return writeTermination(config.Termination{Reason: config.ReasonComplete, Message: drilled.String(), Drill: drilled.Report()})
}
