package main

import (
	"context"
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
const flagIdentity = "identity"

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
	identities, err := archive.ReadIdentities(path)
	if err != nil {
		return nil, fmt.Errorf("%w: --%s: %w", errConfiguration, flag, err)
	}
	return identities, nil
}

// requirePublicKeys is addPublicKeys for commands that work without Vault.
func requirePublicKeys(command *cobra.Command, file *string) {
	command.Flags().StringVar(file, flagPublicKeys, "", "file that `securenotes backup public-keys` printed (required)")
	cobra.CheckErr(command.MarkFlagRequired(flagPublicKeys))
}

func backupVerifyCommand() *cobra.Command {
	var publicKeys, identity, endedSHA256 string
	command := &cobra.Command{
		Use:   "verify MANIFEST...",
		Short: "Check backups offline: without Vault, cluster or database",
		Long: `Check backups offline: without Vault, cluster or database.

MANIFEST is the path of a file ID.manifest.json, with the other files of the backup beside it. The command
checks the signature and the digests of all files. With --identity, it also decrypts the archive, and the
escrow file if the identity opens it, and checks everything in them as a restore does. A backup that is
not valid does not keep it from checking the others; then it fails at the end.`,
		Args: backupArguments(math.MaxInt, wantedManifest),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := readBackupKeys(publicKeys)
			if err != nil {
				return err
			}
			identities, err := readIdentities(flagIdentity, identity)
			if err == nil {
				err = checkAccepted(endedSHA256)
			}
			if err != nil {
				return err
			}
			verification := backup.Verification{PublicKeys: keys, EndedSHA256: endedSHA256, Identities: identities, Phase: phases(&config.Config{})}
			return verifyFiles(cmd.Context(), args, verification, cmd.OutOrStdout())
		},
	}
	addAccepted(command, &endedSHA256)
	requirePublicKeys(command, &publicKeys)
	command.Flags().StringVar(&identity, flagIdentity, "", "file with age identities; without it, nothing is decrypted")
	return command
}

// notValid are the errors of several backups, which have been printed.
type notValid struct {
	of   int
	errs []error
}

// Error says how many there are.
func (n notValid) Error() string {
	return fmt.Sprintf("%d of %d backups are not valid: do not use those that are printed as not valid", len(n.errs), n.of)
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
		fmt.Fprintf(out, "%s: not valid: %s\n", path, err)
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
		what = "signature and digests are valid; archive and escrow file were read completely"
	case verified.EscrowMissing:
		what = "signature and digests are valid; the archive's copy for other recipients was read completely, and that of the escrow file is missing"
	case verified.Opened && verified.Manifest.Escrow != nil:
		what = "signature and digests are valid; the archive was read completely, and the identity does not open the escrow file"
	case verified.Opened:
		what = "signature and digests are valid; the archive was read completely"
	}
	fmt.Fprintf(out, "%s: %s.\n", verified.Manifest.ID, what)
	printManifest(out, verified.Manifest, verified.SHA256)
	return nil
}

func backupRekeyCommand() *cobra.Command {
	var (
		publicKeys, identity, output, endedSHA256 string
		recipients                                []string
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
			keys, err := readBackupKeys(publicKeys)
			if err != nil {
				return err
			}
			identities, err := readIdentities(flagIdentity, identity)
			if err == nil {
				err = checkAccepted(endedSHA256)
			}
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
				Source: from, ID: id, PublicKeys: keys, EndedSHA256: endedSHA256, Identities: identities,
				Recipients: to, Output: target, Phase: phases(&config.Config{}),
			}
			written, err := rekeying.Run(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Written to %s: %s.\n", output, strings.Join(written.Files, ", "))
			if written.EscrowLeftOut {
				fmt.Fprintf(cmd.OutOrStdout(), "The escrow file was left out: no identity in %s opens it. So the copy can be restored only with the Vault that has the master key.\n", identity)
			}
			return nil
		},
	}
	requirePublicKeys(command, &publicKeys)
	addAccepted(command, &endedSHA256)
	flags := command.Flags()
	flags.StringVar(&identity, flagIdentity, "", "file with the age identities that open the backup (required)")
	flags.StringArrayVar(&recipients, "recipient", nil, "age recipient of the copy; may be repeated (required)")
	flags.StringVar(&output, "output", "", "existing directory to write the copy to (required)")
	for _, name := range []string{flagIdentity, "recipient", "output"} {
		cobra.CheckErr(command.MarkFlagRequired(name))
	}
	return command
}
