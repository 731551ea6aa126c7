package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/config/truncate"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/store"
)

// flagEscrowIdentity names a file with the age identities that open the escrow file.
const flagEscrowIdentity = config.FlagEscrowIdentity

// restoreOptions are the flags of restore.
type restoreOptions struct {
	config, publicKeys, identity, escrowIdentity, endedSHA256 string
	older, acceptDamaged, overwrite                           bool
}

func restoreCommand() *cobra.Command {
	var o restoreOptions
	command := &cobra.Command{
		Use:   config.CommandRestore + " ID|MANIFEST",
		Short: "Restore a backup into an empty database",
		Long: `Restore a backup into an empty database.

ID names a backup in the configured destination. MANIFEST is the path of a file ID.manifest.json, with the
other files of the backup beside it. Stop every pod of the API first.

The command verifies everything before it writes, and again while it writes. It can be killed at any time
and run again: it then starts over. Until it has finished, the database is marked, and no release serves it.

Without --escrow-identity, the owner keys stay wrapped by the master key of the backup: Vault must have it,
with the versions that the backup needs, and the pepper. That works only under the same cluster id, namespace
and name. With --escrow-identity, nothing of the previous Vault is needed: the owner keys are wrapped again by
the configured master key, and the peppers get a new entry in Vault. The output says what to configure then.
A run that fails after the entry was created leaves an entry that nothing uses, and the next run creates another.

With --overwrite, everything that the database has is deleted once the backup is verified. Nothing but another
backup brings it back.

A backup in which owner keys do not unwrap or values do not open is refused: from the escrow before anything
is written, and otherwise at the end. With --accept-damaged, all the rest is restored.

Sessions are not restored: users log in again, with their old passwords.`,
		Args: backupArguments(1, wantedBackup),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRestore(cmd.Context(), o, args[0], cmd.OutOrStdout())
		},
	}
	requireConfig(command, &o.config)
	addPublicKeys(command, &o.publicKeys)
	flags := command.Flags()
	flags.StringVar(&o.identity, flagIdentity, "", "file with the age identity that opens the archive")
	flags.StringVar(&o.escrowIdentity, flagEscrowIdentity, "", "restore from the escrow: file with the age identity that opens the escrow file; may be the file of --identity")
	flags.BoolVar(&o.overwrite, config.FlagOverwrite, false, "delete every account and every note that the database has")
	flags.BoolVar(&o.older, config.FlagOlder, false, "restore the backup although there is a newer one")
	flags.BoolVar(&o.acceptDamaged, config.FlagAcceptDamaged, false, "restore the backup although owner keys do not unwrap or values do not open; they stay unreadable")
	addAccepted(command, &o.endedSHA256)
	return command
}

func runRestore(ctx context.Context, o restoreOptions, name string, out io.Writer) error {
	c, err := loadConfig(o.config)
	if err != nil {
		return err
	}
	if err := checkAccepted(o.endedSHA256); err != nil {
		return err
	}
	from, id, err := backupToRestore(c, name)
	if err != nil {
		return err
	}
	publicKeys, err := readBackupKeys(o.publicKeys)
	if err != nil {
		return err
	}
	identities, err := readIdentities(flagIdentity, o.identity)
	if err != nil {
		return err
	}
	escrow, err := readIdentities(flagEscrowIdentity, o.escrowIdentity)
	if err != nil {
		return err
	}
	t, err := newTrust(ctx, c)
	if err != nil {
		return err
	}
	// Not openStore: the database may be lost, which is why it is restored.
	db, err := store.Open(ctx, c.Database, t.logins, store.RoleJob)
	if err != nil {
		return err
	}
	defer db.Close()
	existing := store.RefuseExisting
	if o.overwrite {
		existing = store.DeleteExisting
	}
	run := &backup.Restore{
		Target: db, TargetName: databaseName(c.Database), Source: from, ID: id, PublicKeys: publicKeys, Living: t,
		Identities: append(identities, escrow...), FromEscrow: o.escrowIdentity != "", Older: o.older, EndedSHA256: o.endedSHA256,
		AcceptDamaged: o.acceptDamaged, Existing: existing,
		Provider: t.provider, MasterKey: t.masterKey, Peppers: t, NewPeppers: t,
		Deployment: c.Deployment, Phase: phases(c), Log: newLog(c.Log, os.Stderr),
	}
	restored, err := run.Run(ctx)
	if err != nil {
		return nameIdentityFlag(err)
	}
	if err := printRestored(out, c, restored); err != nil {
		return err
	}
	return writeTermination(config.Termination{
		Reason: config.ReasonComplete, Message: truncate.Bytes(restoredMessage(restored), maxTermination), Restore: restored.Report(),
	})
}

// nameIdentityFlag names the flag of the identity that does not open a file.
func nameIdentityFlag(err error) error {
	refusal, refused := errors.AsType[*archive.Refusal](err)
	if !refused || !errors.Is(err, archive.ErrWrongIdentity) {
		return err
	}
	flag := flagIdentity
	id, _, _ := archive.SplitName(refusal.Object)
	if refusal.Object == archive.Name(id, archive.KindEscrow, false) || refusal.Object == archive.Name(id, archive.KindEscrow, true) {
		flag = flagEscrowIdentity
	}
	named := *refusal
	named.Next = "give --" + flag + " with the file of age-keygen that belongs to one of its recipients"
	return &named
}

// backupToRestore returns where the backup is, and its id.
func backupToRestore(c *config.Config, name string) (destination.Destination, string, error) {
	if !archive.IsID(name) {
		return manifestFile(name, wantedBackup)
	}
	if c.Backup == nil {
		return nil, "", fmt.Errorf("%w: backup.destination: is required to find %s; or give the path of its manifest", errConfiguration, name)
	}
	from, err := destination.New(c.Backup.Destination)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errConfiguration, err)
	}
	return from, name, nil
}

func restoredMessage(r *backup.Restored) string {
	message := fmt.Sprintf("Backup %s is restored: %d rows of deployment %s; %d owner keys and %d values were decrypted.",
		r.Manifest.ID, r.Rows, r.Manifest.Deployment.ID, r.Verified.Keys, r.Verified.Values)
	if r.Before {
		message = fmt.Sprintf("Backup %s was restored by an earlier run: the database has exactly its %d rows, of deployment %s; %d owner keys and %d values were decrypted.",
			r.Manifest.ID, r.Rows, r.Manifest.Deployment.ID, r.Verified.Keys, r.Verified.Values)
	}
	if r.FromEscrow {
		message += fmt.Sprintf(" The peppers are in the new entry %s with SHA-256 %s.", r.PepperEntry, r.PepperDigest)
	}
	if r.Damaged.Total > 0 {
		message += fmt.Sprintf(" It is as it was backed up, so %s. These stay unreadable.", &r.Damaged)
	}
	return message
}
