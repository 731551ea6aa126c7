package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/progress"
	"github.com/securenotes/securenotes/app/internal/store"
)

func backupCommand() *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:   config.CommandBackup,
		Short: "Back up the database: an encrypted archive with a signed manifest",
		Long: `Back up the database: an encrypted archive with a signed manifest.

The archive has every account and note as they were when the backup began. Users keep writing meanwhile.
Values in it stay encrypted under the master key, and the archive itself is encrypted to the age recipients
in backup.recipients. With backup.escrow.recipients, a second file has the keys and peppers: a person with the
identity of one of its recipients restores without Vault, and can read every note.

The command can be killed at any time and run again. A backup exists once its manifest is written, which is
last. What a failed run has written is removed by a later one, after two days.

With backup.keep, the command then deletes the backups that are neither among the newest count nor younger than
age: at most 100, and only those of this SecureNotes with a valid signature. If that fails, the new backup is
complete nevertheless. The command creates the directory of the destination if it is missing on its volume.

To try it without a cluster: "make serve" writes .dev/config.yaml, with backups to .dev/backups, and
.dev/backup-identity.txt. The commands backup and restore take that configuration while the server runs
or is stopped.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadBackupConfig(file)
			if err != nil {
				return err
			}
			return runBackup(cmd.Context(), c, cmd.OutOrStdout())
		},
	}
	requireConfig(command, &file)
	command.AddCommand(backupVerifyCommand(), backupListCommand(), backupShowCommand(), backupKeysCommand(), backupRekeyCommand(), backupDrillCommand())
	return command
}

// loadBackupConfig loads a configuration that says where backups are.
func loadBackupConfig(file string) (*config.Config, error) {
	c, err := loadConfig(file)
	switch {
	case err != nil:
		return nil, err
	case c.Backup == nil:
		return nil, fmt.Errorf("%w: backup: is required", errConfiguration)
	case c.Keys.Vault != nil && c.Keys.Vault.BackupKey == "":
		return nil, fmt.Errorf("%w: keys.vault.backupKey: is required", errConfiguration)
	}
	return c, nil
}

// runBackup makes a backup and prints what it is.
func runBackup(ctx context.Context, c *config.Config, out io.Writer) error {
	log := newLog(c.Log, os.Stderr)
	to, err := destination.New(c.Backup.Destination)
	if err != nil {
		return fmt.Errorf("%w: %w", errConfiguration, err)
	}
	if err := destination.Prepare(c.Backup.Destination); err != nil {
		return err
	}
	t, err := newTrust(ctx, c)
	if err != nil {
		return err
	}
	// What is backed up has been in use, also where no operator says so. An empty database is lost.
	claimed := *c
	claimed.Claimed = true
	db, err := openStore(ctx, &claimed, t, store.RoleJob)
	if err != nil {
		return err
	}
	defer db.Close()
	run := &backup.Backup{
		Store: db, Destination: to, Signer: t, MasterKey: t.masterKey, Versions: t.versions,
		Keys: envelope.NewKeyring(c.Deployment.ID, t.provider), Peppers: t,
		Deployment: c.Deployment, Settings: *c.Backup, Program: config.Version(), Phase: phases(c), Now: time.Now, Log: log,
	}
	made, err := run.Run(ctx)
	if err != nil {
		return err
	}
	m := made.Manifest
	fmt.Fprintf(out, "Backup %s is in %s.\n", m.ID, to)
	printManifest(out, m, made.SHA256)
	printDestination(out, made, c.Backup.Keep)
	return writeTermination(madeTermination(made))
}

// madeTermination returns what Kubernetes and the operator read about a backup.
func madeTermination(made *backup.Made) config.Termination {
	m := made.Manifest
	return config.Termination{
		Reason: config.ReasonComplete,
		Message: fmt.Sprintf("Backup %s is complete: sequence %d, %d rows, archive of %d bytes with SHA-256 %s, manifest with SHA-256 %s.",
			m.ID, m.Sequence, rowsOf(m), m.Archive.Size, m.Archive.SHA256, made.SHA256),
		Backup: made.Report(),
	}
}

// printDestination prints what was deleted, and what the destination has afterwards.
func printDestination(out io.Writer, made *backup.Made, keep *config.Keep) {
	has := made.Destination
	if has == nil {
		fmt.Fprintln(out, "The destination could not be listed afterwards, so no backup was deleted. The log says why.")
		return
	}
	for _, id := range made.Deleted {
		fmt.Fprintf(out, "Backup %s was deleted: %s no longer keeps it.\n", id, keepText(keep))
	}
	if has.DeletionError != "" {
		fmt.Fprintf(out, "A backup that %s no longer keeps was not deleted: %s\n", keepText(keep), has.DeletionError)
	}
	fmt.Fprintf(out, "Backups of this SecureNotes in the destination: %d, %d bytes", has.Backups, has.Bytes)
	if has.Backups > 0 {
		fmt.Fprintf(out, ", the oldest of %s. The least version of the master key that they need is %d", has.OldestAt.Format(time.RFC3339), has.OldestKeyVersion)
	}
	fmt.Fprintln(out, ".")
	if has.Invalid > 0 {
		fmt.Fprintf(out, "Manifests that are not valid, have an impossible time or size, or are not of this SecureNotes: %d. `securenotes backup list` says why.\n", has.Invalid)
	}
}

// keepText returns the setting that decides which backups are kept.
func keepText(keep *config.Keep) string {
	var set []string
	if keep.Count > 0 {
		set = append(set, fmt.Sprintf("count %d", keep.Count))
	}
	if keep.Age > 0 {
		set = append(set, "age "+time.Duration(keep.Age).String())
	}
	return "backup.keep (" + strings.Join(set, ", ") + ")"
}

// phases shows the progress of a run: a bar on a terminal, lines in a log.
func phases(c *config.Config) backup.Phase {
	return func(ctx context.Context, what string, work func(context.Context, backup.Report) error) error {
		tracker := progress.NewTracker(progressSink(c, what), progressInterval)
		return tracker.During(ctx, func(ctx context.Context) error { return work(ctx, tracker.Report) })
	}
}
