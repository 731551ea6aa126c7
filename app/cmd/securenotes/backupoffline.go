package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
)

// flagIdentity names a file with age identities.
const flagIdentity = config.FlagIdentity

// identityMark is in each age identity.
const identityMark = "AGE-SECRET-KEY-"

// manifestFile returns the directory and the id in the path of a manifest. wanted is what the
// argument should be.
func manifestFile(path, wanted string) (destination.Destination, string, error) {
	id, isManifest, ok := archive.SplitName(filepath.Base(path))
	if !ok || !isManifest {
		return nil, "", fmt.Errorf("%w: %q is not the name of a backup: give %s", errConfiguration, path, wanted)
	}
	from, err := destination.New(config.Destination{Directory: &config.Directory{Path: filepath.Dir(path)}})
	return from, id, err
}

// readIdentities reads the identities in the file that a flag names; an empty path has none.
func readIdentities(flag, path string) ([]age.Identity, error) {
	if path == "" {
		return nil, nil
	}
	if strings.Contains(strings.ToUpper(path), identityMark) { // which no message may quote
		return nil, fmt.Errorf("%w: --%s: a path is expected, and an age identity was given: write the identity to a file that only you can read, and give its path; "+
			"the identity is now in the history of your shell, so delete it there, or replace it", errConfiguration, flag)
	}
	identities, err := archive.ReadIdentities(path)
	if err != nil {
		return nil, fmt.Errorf("%w: --%s: %w", errConfiguration, flag, err)
	}
	return identities, nil
}

// offlineFlags are the flags of commands that work without Vault.
type offlineFlags struct{ publicKeys, identity, endedSHA256 string }

// add adds the flags. identity is what the identities are for.
func (o *offlineFlags) add(command *cobra.Command, identity string) {
	flags := command.Flags()
	flags.StringVar(&o.publicKeys, flagPublicKeys, "", "file that `securenotes backup public-keys` printed (required)")
	cobra.CheckErr(command.MarkFlagRequired(flagPublicKeys))
	flags.StringVar(&o.identity, flagIdentity, "", identity)
	addAccepted(command, &o.endedSHA256)
}

// read reads the files that the flags name.
func (o *offlineFlags) read() (keys *config.BackupKeys, identities []age.Identity, err error) {
	if keys, err = readBackupKeys(o.publicKeys); err != nil {
		return nil, nil, err
	}
	if identities, err = readIdentities(flagIdentity, o.identity); err != nil {
		return nil, nil, err
	}
	return keys, identities, checkAccepted(o.endedSHA256)
}

func backupVerifyCommand() *cobra.Command {
	var o offlineFlags
	command := &cobra.Command{
		Use:   "verify MANIFEST...",
		Short: "Check backups offline: without Vault, cluster or database",
		Long: `Check backups offline: without Vault, cluster or database.

MANIFEST is the path of a file ID.manifest.json, with the other files of the backup beside it. The command
checks the signature and the digests of all files. With --identity, it also decrypts the archive, and the
escrow file if the identity opens it, and checks everything in them as a restore does. With both it opens
every value, such as the text of a note, and names those that are damaged. A backup that is not valid does
not keep it from checking the others; then it fails at the end.`,
		Args: backupArguments(math.MaxInt, wantedManifest),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, identities, err := o.read()
			if err != nil {
				return err
			}
			verification := backup.Verification{PublicKeys: keys, EndedSHA256: o.endedSHA256, Identities: identities, Phase: phases(&config.Config{})}
			return verifyFiles(cmd.Context(), args, verification, cmd.OutOrStdout())
		},
	}
	o.add(command, "file with age identities, of archive and escrow file; without it, nothing is decrypted")
	return command
}

// notValid are the errors of several backups, which have been printed.
type notValid struct {
	of   int
	errs []error
}

// Error says how many there are.
func (n notValid) Error() string {
	return fmt.Sprintf("%d of %d backups are not valid or have damaged values: restore another one", len(n.errs), n.of)
}

// Unwrap returns the errors.
func (n notValid) Unwrap() []error { return n.errs }

// verifyFiles verifies backups one after the other.
func verifyFiles(ctx context.Context, paths []string, verification backup.Verification, out io.Writer) error {
	var errs []error
	for _, path := range paths {
		err := verifyFile(ctx, path, verification, out)
		if err == nil {
			continue
		}
		if len(paths) == 1 || ctx.Err() != nil {
			return err
		}
		what := "not valid"
		if errors.Is(err, backup.ErrDamagedRows) {
			what = "has damaged values"
		}
		fmt.Fprintf(out, "%s: %s: %s\n", path, what, err)
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return notValid{len(paths), errs}
	}
	return nil
}

func verifyFile(ctx context.Context, path string, verification backup.Verification, out io.Writer) (err error) {
	if verification.Source, verification.ID, err = manifestFile(path, wantedManifest); err != nil {
		return err
	}
	verified, err := verification.Run(ctx)
	if err != nil {
		return err
	}
	what := "signature and digests are valid; nothing was decrypted"
	switch {
	case verified.Opened && verified.EscrowOpened:
		what = fmt.Sprintf("signature and digests are valid; archive and escrow file were read completely, and all %d values were opened", verified.Values)
	case verified.EscrowMissing:
		what = "signature and digests are valid; the archive's copy for other recipients was read completely, and that of the escrow file is missing, so no value was opened"
	case verified.Opened && verified.Manifest.Escrow != nil:
		what = "signature and digests are valid; the archive was read completely, and the identity does not open the escrow file, so no value was opened"
	case verified.Opened:
		what = "signature and digests are valid; the archive was read completely; no value was opened, which needs an escrow file"
	}
	fmt.Fprintf(out, "%s: %s.\n", verified.Manifest.ID, what)
	printManifest(out, verified.Manifest, verified.SHA256)
	return nil
}

func backupRekeyCommand() *cobra.Command {
	var (
		o          offlineFlags
		output     string
		recipients []string
	)
	command := &cobra.Command{
		Use:   "rekey MANIFEST",
		Short: "Encrypt a copy of a backup to other recipients, such as a one-time identity",
		Long: `Encrypt a copy of a backup to other recipients, such as a one-time identity.

Run it where the long-lived identity is, so that this need not enter a cluster for a restore: create a
one-time identity with age-keygen, rekey the backup to its recipient, copy the files in the output
directory beside the backup's manifest, and restore with the one-time identity. The signature stays valid:
the manifest has the digest of what is encrypted.

The escrow file is included if an identity opens it; otherwise the command says that it is left out.`,
		Args: backupArguments(1, wantedManifest),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, identities, err := o.read()
			if err != nil {
				return err
			}
			to, err := archive.ParseRecipients(recipients)
			if err != nil {
				return fmt.Errorf("%w: --recipient: %w", errConfiguration, err)
			}
			from, id, err := manifestFile(args[0], wantedManifest)
			if err != nil {
				return err
			}
			target, err := destination.New(config.Destination{Directory: &config.Directory{Path: output}})
			if err != nil {
				return err
			}
			rekeying := &backup.Rekeying{
				Source: from, ID: id, PublicKeys: keys, EndedSHA256: o.endedSHA256, Identities: identities,
				Recipients: to, Output: target, Phase: phases(&config.Config{}),
			}
			written, err := rekeying.Run(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Written to %s: %s.\n", output, strings.Join(written.Files, ", "))
			if written.EscrowLeftOut {
				fmt.Fprintf(cmd.OutOrStdout(), "The escrow file was left out: no identity in %s opens it. So the copy can be restored only with the Vault that has the master key.\n", o.identity)
			}
			return nil
		},
	}
	o.add(command, "file with the age identities that open the backup (required)")
	flags := command.Flags()
	flags.StringArrayVar(&recipients, "recipient", nil, "age recipient of the copy; may be repeated (required)")
	flags.StringVar(&output, "output", "", "existing directory to write the copy to (required)")
	for _, name := range []string{flagIdentity, "recipient", "output"} {
		cobra.CheckErr(command.MarkFlagRequired(name))
	}
	return command
}
