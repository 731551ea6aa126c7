package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/config"
)

// What the arguments of the commands for backups should be.
const (
	wantedID       = "the id of a backup, such as 20261130T013000Z-k3v7m2qx5jd4w6ra"
	wantedManifest = "the path of the manifest of a backup, such as backups/20261130T013000Z-k3v7m2qx5jd4w6ra.manifest.json, with the other files beside it"
	wantedBackup   = wantedID + ", or the path of its manifest, ID.manifest.json"
)

// backupArguments checks that there is an argument, and not more than most. wanted is what each
// should be.
func backupArguments(most int, wanted string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 || len(args) > most {
			return fmt.Errorf("%w: there are %d arguments: give %s", errConfiguration, len(args), wanted)
		}
		return nil
	}
}

// flagAccepted names the SHA-256 of a manifest that is accepted after a Compromise.
const flagAccepted = config.FlagAcceptSHA256

func addAccepted(command *cobra.Command, sha256 *string) {
	command.Flags().StringVar(sha256, flagAccepted, "", "accept the manifest file with this SHA-256, although a Compromise ended the version of the key that signed it")
}

func checkAccepted(sha256 string) error {
	if sha256 != "" && !config.IsDigest(sha256) {
		return fmt.Errorf("%w: --%s: must be a SHA-256 in 64 hexadecimal digits", errConfiguration, flagAccepted)
	}
	return nil
}
